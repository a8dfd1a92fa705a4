"""OpenVINO engine: the default on CPUs. Imports numpy and openvino, nothing heavier."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import BFLOAT16, FLOAT32, INT8, Inferred, Interrupted
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.openvino_cache import opened
from cxr_server.inference.engines.openvino_runtime import openvino, properties

MODEL_FILES = ("openvino/model.xml", "openvino/model.bin")
PRECISIONS = {FLOAT32: openvino.Type.f32, BFLOAT16: openvino.Type.bf16}
"""What may be asked for."""
PRECISION_NAMES = {"f32": FLOAT32, "f16": "float16", "bf16": BFLOAT16}
"""OpenVINO's name -> ours, whose alphabetical order is that of their precision."""


class OpenVINOEngine:
    """Runs a bundle's OpenVINO model, one image at a time, in as many threads as there are cores.

    The model is compiled twice: the latency model has one stream over all cores and serves a
    call that finds the engine idle; the throughput model has one stream per core and serves
    calls that run beside others, those that may be interrupted, and those that ask for it.
    """

    name = "openvino"
    max_batch = 1

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "CPU",
        precision: str = FLOAT32,
        cache_dir: Path | None = None,
        threads: int | None = None,
    ) -> None:
        """Compile the model for `threads` cores, by default all, or read it from the cache.

        `precision` is one of `PRECISIONS`; layers that are in int8 stay in it.
        """
        self.device = device
        self.max_in_flight = cores = threads or usable_cores()
        path, _ = (bundle.file(name) for name in MODEL_FILES)
        # OpenVINO itself tells models apart by path and time only.
        digests = [bundle.manifest.files[name].sha256[:16] for name in MODEL_FILES]
        folder = cache_dir and cache_dir / "openvino" / "".join(digests)
        core = openvino.Core()
        compiled = partial(_CompiledModel, core, path, device, precision, cores)
        with opened(folder) as cache:
            if cache:
                core.set_property({properties.cache_dir: str(cache)})
            with ThreadPoolExecutor(2) as pool:  # reading a cached model keeps one core busy
                models = list(pool.map(compiled, sorted({1, cores})))
        self._latency, self._throughput = models[0], models[-1]
        self.precision = INT8 if bundle.manifest.quantization else self._throughput.precision
        self._lock = threading.Lock()
        self._running = 0

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return evidence: see `Engine`. Raises ValueError for images of another shape."""
        return self.infer([*batch_nchw]).evidence_nkhw

    def infer(self, images: Sequence[NDArray[np.float32]]) -> Inferred:
        """Return evidence and embeddings; bundles made before embeddings give none."""
        return self._infer(images, self._latency)

    def infer_for_throughput(self, images: Sequence[NDArray[np.float32]]) -> Inferred:
        """Return evidence and embeddings: see `ThroughputEngine`."""
        return self._infer(images, self._throughput)

    def infer_interruptibly(self, images: Sequence[NDArray[np.float32]]) -> Inferred:
        """Return evidence and embeddings: see `InterruptibleEngine`."""
        infer = self._throughput.infer_interruptibly
        return _inferred([infer(image_chw[None]) for image_chw in images])

    def interrupt(self) -> None:
        """End the running calls of `infer_interruptibly`, each after the layer that it computes."""
        self._throughput.interrupt()

    def _infer(
        self, images: Sequence[NDArray[np.float32]], model_if_idle: "_CompiledModel"
    ) -> Inferred:
        with self._lock:
            model = self._throughput if self._running else model_if_idle
            self._running += 1
        try:
            return _inferred([model.infer(image_chw[None]) for image_chw in images])
        finally:
            with self._lock:
                self._running -= 1

    def close(self) -> None:
        """Release the compiled models. The engine must not be called afterwards."""
        del self._latency, self._throughput


def _inferred(outputs: list[list[NDArray[np.float32]]]) -> Inferred:
    """Return the outputs of single images as those of a batch."""
    evidence, *embedding = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return Inferred(evidence, embedding[0] if embedding else None)


class _CompiledModel:
    """A compiled model with one infer request for each concurrent call so far."""

    def __init__(
        self,
        core: openvino.Core,
        path: Path,
        device: str,
        precision: str,
        threads: int,
        streams: int,
    ) -> None:
        config = {
            # On CPUs with bf16, OpenVINO would otherwise lower the precision by default.
            properties.hint.inference_precision: PRECISIONS[precision],
            properties.hint.execution_mode: properties.hint.ExecutionMode.ACCURACY,
            properties.num_streams: streams,
        }
        if device == "CPU":
            config[properties.inference_num_threads] = threads
            # Both models and the decoder threads share the cores: let the kernel place threads.
            config[properties.hint.enable_cpu_pinning] = False
        self._model = core.compile_model(path, device, config)
        self._input_shape = tuple(self._model.input().shape)
        self._idle = [self._model.create_infer_request()]
        self._lock = threading.Lock()  # a request that is idle again is not cancelled any more
        self._interruptible: set[openvino.InferRequest] = set()
        self._cancelled: set[openvino.InferRequest] = set()

    @property
    def precision(self) -> str:
        """The lowest precision in force on any device, whatever was asked for."""
        hint = properties.hint.inference_precision()
        if hint in self._model.get_property(properties.supported_properties):
            types = [self._model.get_property(hint)]
        else:  # AUTO and other names for several devices
            devices = self._model.get_property(properties.device.properties).values()
            types = [each[hint] for each in devices]
        return min(PRECISION_NAMES[each.to_string()] for each in types)

    def infer(self, image_nchw: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the outputs in the order of the graph: the evidence comes first."""
        if image_nchw.shape != self._input_shape:
            raise ValueError(f"expected an image of {self._input_shape}, got {image_nchw.shape}")
        request = self._request()
        outputs = list(request.infer(image_nchw, share_inputs=True).values())
        self._idle.append(request)
        return outputs

    def infer_interruptibly(self, image_nchw: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return what `infer` does, of an image of the right shape. Raises Interrupted."""
        request = self._request()
        with self._lock:
            self._interruptible.add(request)
        try:
            return list(request.infer(image_nchw, share_inputs=True).values())
        except RuntimeError:
            if request not in self._cancelled:
                raise
            raise Interrupted from None
        finally:
            with self._lock:
                self._interruptible.discard(request)
                self._cancelled.discard(request)
            self._idle.append(request)

    def interrupt(self) -> None:
        """Cancel the running calls of `infer_interruptibly`."""
        with self._lock:
            self._cancelled |= self._interruptible
            for request in self._interruptible:
                request.cancel()

    def _request(self) -> openvino.InferRequest:
        try:
            return self._idle.pop()  # atomic, like append
        except IndexError:
            return self._model.create_infer_request()
