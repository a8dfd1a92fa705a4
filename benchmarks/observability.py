"""What metrics, logs and tracing cost the server: processor time of a call, in alternating windows.

`make bench-observability`: on loopback, against a collector in this process. DescribeModel and
Explain (of an image whose evidence is cached, without a picture) do little themselves, so that
little is hidden; Predict is of images that differ, with the small phantom model, and needs many
windows: `BENCH_ARGS='--methods Predict --modes nothing "metrics, logs, tracing at 1 %"'`.
"""

import argparse
import itertools
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import grpc
import numpy as np

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.bundles.store import SAMPLES_PATH
from images import chest_like, png
from otlp_receiver import Receiver
from serving import PROGRAM, ServerProcess
from trust.ports import free_port

FLAGS = ("--decode-processes", "0", "--engine-threads", "1", "--log-format", "json")
WITHOUT_LOGS = ("--log-level", "error")
METHODS = ("DescribeModel", "Explain", "Predict")
IMAGES = 64
EXPORT_S, PAUSE_S = 0.2, 0.3
"""Spans leave after `EXPORT_S`, and each window ends with a pause for them: each has an export of
its own, which is more often than in practice, where the delay is 5 s."""
SCRAPES = 20
UNCOUNTED = """
import sys
from cxr_server.__main__ import main
from cxr_server.observability.metrics import Metrics
for name in ("started", "finished", "answered"):
    setattr(Metrics, name, lambda *_: None)
sys.exit(main())
"""
"""A server that counts nothing."""


class Mode(NamedTuple):
    """What a server does: its flags, and OpenTelemetry's variables; None: no tracing."""

    flags: tuple[str, ...] = ()
    env: dict[str, str] | None = None
    program: tuple[str, ...] = PROGRAM
    has_metrics: bool = True


MODES = {
    "nothing": Mode(WITHOUT_LOGS, None, (sys.executable, "-c", UNCOUNTED), has_metrics=False),
    "metrics": Mode(WITHOUT_LOGS),
    "metrics, logs": Mode(),
    "metrics, logs, tracing at 0 %": Mode(env={"OTEL_TRACES_SAMPLER": "always_off"}),
    "metrics, logs, tracing at 1 %": Mode(
        env={"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    ),
    "metrics, logs, tracing at 100 %": Mode(env={"OTEL_TRACES_SAMPLER": "always_on"}),
}
Ask = Callable[[ChestXrayServiceStub], object]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=100, help="calls in a window")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    arguments = parser.parse_args()
    # Differences are from the first one.
    modes = {name: mode for name, mode in MODES.items() if name in arguments.modes}
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        delay = str(round(1000 * EXPORT_S))
        collector = {**receiver.env, "OTEL_BSP_SCHEDULE_DELAY": delay}
        servers, stubs, pages = {}, {}, {}
        for name, mode in modes.items():
            flags = (*FLAGS, *mode.flags)
            if mode.has_metrics:
                pages[name] = f"127.0.0.1:{free_port()}"
                flags = (*flags, "--metrics-listen", pages[name])
            env = None if mode.env is None else collector | mode.env
            server = ServerProcess(*flags, env=env, program=mode.program)
            servers[name] = stack.enter_context(server)
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            stubs[name] = ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
        print(f"{arguments.rounds} windows of {arguments.calls} calls; median (quartiles)\n")
        print(f"| Call | | CPU ms | more than {next(iter(modes))}, ms |\n|---|---|---|---|")
        for kind, ask in asks(arguments.methods).items():
            found: dict[str, list[float]] = {name: [] for name in modes}
            for round_number in range(arguments.rounds + 1):
                first = round_number % len(modes)  # what comes after what is noise, too
                for name, stub in (*list(stubs.items())[first:], *list(stubs.items())[:first]):
                    before_s = processor_s(servers[name].process.pid)
                    for _ in range(arguments.calls):
                        ask(stub)
                    time.sleep(PAUSE_S)
                    spent_s = processor_s(servers[name].process.pid) - before_s
                    if round_number:  # the first one warms up
                        found[name].append(1000 * spent_s / arguments.calls)
            least = next(iter(found.values()))
            for name, values in found.items():
                low, more, high = np.quantile(np.subtract(values, least), (0.25, 0.5, 0.75))
                cost = f"{more:+.3f} ({low:+.3f} to {high:+.3f})"
                print(f"| {kind} | {name} | {statistics.median(values):.3f} | {cost} |")
        for name, page in list(pages.items())[-1:]:
            before_s = processor_s(servers[name].process.pid)
            for _ in range(SCRAPES):
                urllib.request.urlopen(f"http://{page}/metrics").read()
            spent_s = processor_s(servers[name].process.pid) - before_s
            print(f"\na scrape: {1000 * spent_s / SCRAPES:.1f} ms")


def asks(methods: Sequence[str]) -> dict[str, Ask]:
    """Return the calls of these methods."""
    image = min(SAMPLES_PATH.glob("*.png")).read_bytes()
    no_picture = pb.RenderOptions(kind=pb.RENDER_KIND_NONE)
    explain = pb.ExplainRequest(image=image, render=no_picture)
    films = [chest_like(256, 256, seed=number) for number in range(IMAGES)]
    numbers = itertools.count()

    def predict(stub: ChestXrayServiceStub) -> object:
        number = next(numbers)
        film = films[number % IMAGES].copy()
        film.flat[number % film.size] ^= 1  # never one that the cache knows
        return stub.Predict(pb.PredictRequest(image=png(film)))

    calls: dict[str, Ask] = {
        "DescribeModel": lambda stub: stub.DescribeModel(pb.DescribeModelRequest()),
        "Explain": lambda stub: stub.Explain(explain),
        "Predict": predict,
    }
    return {method: calls[method] for method in METHODS if method in methods}


def processor_s(pid: int) -> float:
    """Return the processor time of all threads of a process."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) returns on Linux


if __name__ == "__main__":
    main()
