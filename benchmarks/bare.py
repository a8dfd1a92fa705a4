"""Bare server: the least that a Python gRPC server can do for a call. The yardstick of a goal.

A plain `grpc.aio` server on uvloop with this project's engine, decoder, checks and resizing, all in
one process. The request is the image file. The response is the probabilities, packed as float32,
or for Explain the overlay of the highest finding, a PNG. Threads decode, as many as this server has
for it, others run the engine, as many as it runs calls in parallel, and others draw. All else is
left out: protobuf, interceptors, metadata, limits, deadlines, hash and cache, decoders in processes
of their own, a Predict's scores and warnings, metrics and the log.

`--isolated` adds two of these: this server's decode processes, and the hash of a file. The rest is
left out as before. It is what a server can reach that must not crash with a decoder, and that is to
know a file again.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as this server does; read by numpy

import argparse
import asyncio
import secrets
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop
from blake3 import blake3
from numpy.typing import NDArray

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.explanation.methods import explain
from cxr_server.explanation.options import RenderOptions
from cxr_server.imaging import quality
from cxr_server.imaging.codecs import read
from cxr_server.imaging.radiograph import DecodeLimits, DecodeOptions
from cxr_server.inference import allocator, batch_policy, scoring
from cxr_server.inference.decode_processes.pool import DecodeProcesses
from cxr_server.inference.engine_calls import is_for_throughput
from cxr_server.inference.engines import Engine, infer
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.model_input import Evidence, ImageFacts
from cxr_server.inference.preprocess import XRV, Job
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.thread_name import name_this_thread
from cxr_server.rpc.server import FLOW_CONTROL

SERVICE = "bare.Bare"
Respond = Callable[[NDArray[np.float32]], bytes]
"""Evidence [K, h, w] -> the response."""
Decoded = tuple[NDArray[np.float32], Respond | None]
"""The network's input, and what draws if a picture is wanted."""
ARENA_BYTES = 64 * 2**20  # as in this server; touched as far as images need it


class Bare:
    """The methods, and the threads that do their work. Create it on its event loop."""

    def __init__(
        self, engine: Engine, manifest: Manifest, processes: DecodeProcesses | None = None
    ) -> None:
        self._engine, self._manifest, self._processes = engine, manifest, processes
        self._limits, self._options = DecodeLimits(), DecodeOptions()
        self._hash_key = secrets.token_bytes(32)
        self._decoders = _threads(usable_cores(), "decode")
        self._engine_calls = _threads(engine.max_in_flight, "engine")
        self._drawers = _threads(usable_cores(), "drawing")
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0

    async def predict(self, image: bytes, context: Any) -> bytes:
        """Image file -> probabilities [K], float32."""
        return await self._answered(image, with_picture=False)

    async def explain(self, image: bytes, context: Any) -> bytes:
        """Image file -> overlay of the highest finding, PNG."""
        return await self._answered(image, with_picture=True)

    async def _answered(self, image: bytes, *, with_picture: bool) -> bytes:
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._in_flight += 1
        try:
            self._decoders.submit(self._decode, image, answer, with_picture)
            return await answer
        finally:
            self._in_flight -= 1

    def _decode(self, image: bytes, answer: "asyncio.Future[bytes]", with_picture: bool) -> None:
        """Make the network's input in a decode thread, and hand it to one of the engine's."""
        try:
            if self._processes is None:
                image_chw, draw = self._decoded(image, with_picture)
            else:
                image_chw, draw = self._decoded_in_process(self._processes, image, with_picture)
        except Exception as error:
            self._loop.call_soon_threadsafe(answer.set_exception, error)
        else:
            self._engine_calls.submit(self._infer, image_chw, answer, draw)

    def _decoded(self, image: bytes, with_picture: bool) -> Decoded:
        radiograph = read(image, self._limits).radiograph(self._options)
        height_px, width_px = radiograph.height_px, radiograph.width_px
        side_px = self._manifest.input_side_px
        quality.inspect(radiograph, side_px)
        image_chw = XRV.image_chw(radiograph, side_px)
        if not with_picture:
            return image_chw, None
        crop = XRV.crop(height_px, width_px)
        facts = ImageFacts(radiograph.file_format, radiograph.bit_depth, height_px, width_px, crop)
        return image_chw, partial(self._drawn, XRV.picture_hw(image_chw, radiograph), facts)

    def _decoded_in_process(
        self, processes: DecodeProcesses, image: bytes, with_picture: bool
    ) -> Decoded:
        made = processes.preprocess(
            image,
            Job(preprocessing=XRV, side_px=self._manifest.input_side_px, limits=self._limits),
            hold=lambda *_: nullcontext(),
            check=lambda: None,
            meanwhile=partial(blake3, image, key=self._hash_key),
        )
        draw = partial(self._drawn, made.picture_hw, made.facts) if with_picture else None
        return made.image_chw, draw

    def _infer(
        self, image_chw: NDArray[np.float32], answer: "asyncio.Future[bytes]", draw: Respond | None
    ) -> None:
        try:
            throughput = is_for_throughput(self._engine.max_in_flight, self._in_flight - 1)
            found = infer(self._engine, [image_chw], for_throughput=throughput)
            evidence_khw = found.evidence_nkhw[0]
        except Exception as error:
            self._loop.call_soon_threadsafe(answer.set_exception, error)
            return
        if draw:
            self._drawers.submit(self._respond, draw, evidence_khw, answer)
        else:
            self._respond(self._probabilities, evidence_khw, answer)

    def _respond(
        self,
        respond: Respond,
        evidence_khw: NDArray[np.float32],
        answer: "asyncio.Future[bytes]",
    ) -> None:
        try:
            response = respond(evidence_khw)
        except Exception as error:
            self._loop.call_soon_threadsafe(answer.set_exception, error)
        else:
            self._loop.call_soon_threadsafe(answer.set_result, response)

    def _probabilities(self, evidence_khw: NDArray[np.float32]) -> bytes:
        logits = scoring.logits(evidence_khw, self._manifest.bias)
        return struct.pack(f"<{len(logits)}f", *map(scoring.sigmoid, logits))

    def _drawn(
        self,
        picture_hw: NDArray[np.uint8],
        facts: ImageFacts,
        evidence_khw: NDArray[np.float32],
    ) -> bytes:
        manifest, options = self._manifest, RenderOptions()
        findings = scoring.ranked(scoring.findings(evidence_khw, manifest))
        evidence = Evidence(evidence_khw, findings, picture_hw, facts, ())
        found = explain(
            evidence, [findings[0].label], model=manifest, engine=self._engine, options=options
        )
        return next(found).heatmap


def _threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return threads that are counted under the names of this server's; see `processes`."""
    return ThreadPoolExecutor(count, initializer=partial(name_this_thread, f"cxr-{name}"))


async def serve(port: int, bundle_folder: Path, cache_dir: Path, *, isolated: bool) -> None:
    """Load the model, then listen."""
    processes = None
    if isolated:
        processes = DecodeProcesses(usable_cores(), arena_bytes=ARENA_BYTES, metrics=Metrics())
        processes.start()
    bundle = load_bundle(bundle_folder)
    with _threads(1, "loading") as loading:  # what the engine starts inherits the name
        engine = loading.submit(choose_engine, bundle, "openvino", cache_dir=cache_dir).result()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), *FLOW_CONTROL])
    bare = Bare(engine, bundle.manifest, processes)
    handlers: Any = {
        name: grpc.unary_unary_rpc_method_handler(method)
        for name, method in (("Predict", bare.predict), ("Explain", bare.explain))
    }
    service = grpc.method_handlers_generic_handler(SERVICE, handlers)
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
    parser.add_argument("--isolated", action="store_true")
    args = parser.parse_args()
    allocator.keep_freed_memory()  # as this server does
    batch_policy.wait_for_turns()  # likewise
    uvloop.run(serve(args.port, args.bundle, args.cache_dir, isolated=args.isolated))


if __name__ == "__main__":
    main()
