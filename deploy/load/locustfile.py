"""Closed-loop load on cxr-serve with locust: users that wait for an answer before they ask again.

locust -f locustfile.py --host 127.0.0.1:50051 --images a.png b.png [--method explain]

Needs `cxr-client` beside locust. Errors appear by their reason, `QUEUE_FULL` for instance.
"""

import itertools
import time
from argparse import ArgumentParser
from pathlib import Path

from grpc.experimental import gevent  # before any other use of gRPC

gevent.init_gevent()

from gevent import get_hub  # noqa: E402
from locust import User, constant, events, task  # noqa: E402

from cxr_client import Client, CxrError, RetryConfig, TLSConfig  # noqa: E402

get_hub().loop.update_now()  # --run-time counts from here, not from before the imports
SERIAL = itertools.count(time.time_ns())


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    """Add what is asked, beside locust's own arguments."""
    parser.add_argument("--images", nargs="+", required=True, metavar="FILE", help="files to send")
    parser.add_argument("--method", choices=("predict", "explain"), default="predict")
    parser.add_argument("--token-file", help="file of a bearer token")
    parser.add_argument("--insecure", action="store_true", help="plaintext to another machine")


class Caller(User):
    """Asks again as soon as it has an answer. Without retries, so that refusals are seen."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Connect, with TLS where the environment says so (see `TLSConfig.from_env`)."""
        chosen = self.environment.parsed_options
        self.images = [Path(name).read_bytes() for name in chosen.images]
        self.client = Client(
            self.host or "",
            timeout_s=30,
            retry=RetryConfig(max_attempts=1),
            tls=TLSConfig.from_env(),
            token=Path(chosen.token_file).read_text().strip() if chosen.token_file else None,
            insecure=chosen.insecure,
        )

    def on_stop(self) -> None:
        """Close the connection."""
        self.client.close()

    @task
    def ask(self) -> None:
        """Send one image, which differs from all others so that no answer is cached."""
        number = next(SERIAL)
        # Behind the end of an image this changes nothing but the file's hash.
        image = self.images[number % len(self.images)] + number.to_bytes(8, "big")
        name = self.environment.parsed_options.method
        method = getattr(self.client, name)
        started, size, failure = time.perf_counter(), 0, None
        try:
            size = len(method(image).findings)
        except CxrError as error:
            failure = getattr(error, "reason", "") or type(error).__name__
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name.title(),
            response_time=1000 * (time.perf_counter() - started),
            response_length=size,  # number of findings: locust has no other column
            exception=failure,
            context={},
        )
