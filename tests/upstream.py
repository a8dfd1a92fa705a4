"""A local HTTP server in place of the one that publishes the models, and files in its format."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cxr_server.bundles.architectures import DenseNet
from cxr_server.convert.catalog import OUTPUTS
from handmade_checkpoints import state_dict_file
from random_weights import TINY, random_weights

DENSENET121 = DenseNet(growth_rate=32, block_config=(6, 12, 24, 16), num_init_features=64)


@cache
def published_file(network: DenseNet = TINY) -> bytes:
    """A file as a model of the catalogue is published in, with random weights."""
    return state_dict_file(random_weights(network, class_count=len(OUTPUTS)))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def upstream(content: bytes) -> Iterator[str]:
    """Serve one file, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/weights.pt"
        finally:
            server.shutdown()
