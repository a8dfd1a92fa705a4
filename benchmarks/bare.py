"""Bare server: the least that a Python gRPC server can do for a Predict. The yardstick of a goal.

A plain `grpc.aio` server on uvloop with this project's engine, decoder, checks and resizing, all in
one process. The request is the image file and the response the probabilities, packed as float32.
Threads decode, as many as this server has for it, and others run the engine, as many as it runs
calls in parallel. All else is left out: protobuf, interceptors, metadata, limits, deadlines, hash
and cache, decoders in processes of their own, scores and warnings, metrics and the log.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as this server does; read by numpy

import argparse
import asyncio
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop
from numpy.typing import NDArray

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.imaging import quality
from cxr_server.imaging.codecs import read
from cxr_server.imaging.radiograph import DecodeLimits, DecodeOptions
from cxr_server.inference import allocator, scoring
from cxr_server.inference.engine_calls import is_for_throughput
from cxr_server.inference.engines import Engine, infer
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.preprocess import XRV
from cxr_server.observability.thread_name import name_this_thread

SERVICE, METHOD = "bare.Bare", "Predict"


class Bare:
    """The method, and the threads that do its work. Create it on its event loop."""

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        self._engine, self._manifest = engine, manifest
        self._limits, self._options = DecodeLimits(), DecodeOptions()
        self._decoders = _threads(usable_cores(), "decode")
        self._engine_calls = _threads(engine.max_in_flight, "engine")
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0

    async def predict(self, image: bytes, context: Any) -> bytes:
        """Image file -> probabilities [K], float32."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._in_flight += 1
        try:
            self._decoders.submit(self._decode, image, answer)
            return await answer
        finally:
            self._in_flight -= 1

    def _decode(self, image: bytes, answer: "asyncio.Future[bytes]") -> None:
        """Make the network's input in a decode thread, and hand it to one of the engine's."""
        try:
            radiograph = read(image, self._limits).radiograph(self._options)
            side_px = self._manifest.input_side_px
            quality.inspect(radiograph, side_px)
            image_chw = XRV.image_chw(radiograph, side_px)
        except Exception as error:
            self._loop.call_soon_threadsafe(answer.set_exception, error)
        else:
            self._engine_calls.submit(self._infer, image_chw, answer)

    def _infer(self, image_chw: NDArray[np.float32], answer: "asyncio.Future[bytes]") -> None:
        try:
            throughput = is_for_throughput(self._engine.max_in_flight, self._in_flight - 1)
            found = infer(self._engine, [image_chw], for_throughput=throughput)
            evidence_khw = found.evidence_nkhw[0]
            logits = scoring.logits(evidence_khw, self._manifest.bias)
            packed = struct.pack(f"<{len(logits)}f", *map(scoring.sigmoid, logits))
        except Exception as error:
            self._loop.call_soon_threadsafe(answer.set_exception, error)
        else:
            self._loop.call_soon_threadsafe(answer.set_result, packed)


def _threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return threads that are counted under the names of this server's; see `processes`."""
    return ThreadPoolExecutor(count, initializer=partial(name_this_thread, f"cxr-{name}"))


async def serve(port: int, bundle_folder: Path, cache_dir: Path) -> None:
    """Load the model, then listen."""
    bundle = load_bundle(bundle_folder)
    with _threads(1, "loading") as loading:  # what the engine starts inherits the name
        engine = loading.submit(choose_engine, bundle, "openvino", cache_dir=cache_dir).result()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handler: Any = grpc.unary_unary_rpc_method_handler(Bare(engine, bundle.manifest).predict)
    service = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    args = parser.parse_args()
    allocator.keep_freed_memory()  # as this server does
    uvloop.run(serve(args.port, args.bundle, args.cache_dir))


if __name__ == "__main__":
    main()
