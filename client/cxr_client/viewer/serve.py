"""Serve: listens, answers until a signal, and ends calls in flight after two seconds."""

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

_GRACE_S = 2
_MAX_CONNECTIONS = 256
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REASONS = {
    errno.EADDRINUSE: "it is in use: stop what listens there, or choose another one",
    errno.EACCES: "this user may not open it: choose one above 1023",
    errno.EADDRNOTAVAIL: "the address is not one of this machine",
}


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is any free one.

    Raises:
        OSError: Its `strerror` says what is wrong.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror as error:
        raise OSError(error.errno, "the name cannot be resolved") from None
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, _REASONS.get(number, os.strerror(number))) from None


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    started: Callable[[], None],
    *,
    cert: Path | None,
    key: Path | None,
) -> None:
    """Answer until SIGINT or SIGTERM; a second SIGINT does not wait for calls in flight.

    Args:
        app: What answers.
        listener: A listening socket.
        started: Called as soon as requests are answered, and signals end it cleanly.
        cert: Certificate chain, PEM; None for plaintext.
        key: Private key of the certificate, PEM.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        # A line for each request would hold ids alone, and no name; errors are logged by the app.
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    server = _Server(config, started)
    before = {number: signal.signal(number, server.handle_exit) for number in _SIGNALS}
    try:
        await server.serve([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # `serve` handles signals; uvicorn would raise them again at the end.
        yield
