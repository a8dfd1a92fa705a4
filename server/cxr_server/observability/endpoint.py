"""Endpoint: /metrics, /healthz and /readyz over HTTP, in plaintext, from threads of its own."""

import socket
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

IDLE_TIMEOUT_S = 30.0  # of a connection that sends nothing


class State(NamedTuple):
    """An answer to a probe: whether all is well, and the state in words."""

    is_well: bool
    text: str


Probe = Callable[[], State]


class _Handler(MetricsHandler):
    probes: dict[str, Probe]
    timeout = IDLE_TIMEOUT_S

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/metrics":
            super().do_GET()
        elif probe := self.probes.get(path):
            state = probe()
            self._say(200 if state.is_well else 503, state.text)
        else:
            self._say(404, f"there are /metrics, {' and '.join(self.probes)}")

    def _say(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a connection that sends nothing would delay the shutdown

    def __init__(self, host: str, port: int, handler: type[_Handler]) -> None:
        found, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.address_family = found[0]
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Listen. HTTPServer's asks a name server for the host's name, which may take long."""
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the other end has gone."""


def expose(
    host: str, port: int, registry: CollectorRegistry, *, alive: Probe, ready: Probe
) -> tuple[int, Callable[[], None]]:
    """Serve the metrics and two probes. Returns the port and what stops it. Raises OSError."""
    probes = {"/healthz": alive, "/readyz": ready}
    handler = type("Handler", (_Handler,), {"registry": registry, "probes": probes})
    server = _Server(host, port, handler)
    thread = threading.Thread(target=server.serve_forever, name="cxr-metrics", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_address[1]), stop
