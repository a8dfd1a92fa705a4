"""OpenVINO engine: the default on CPUs. Imports numpy and openvino, nothing heavier."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines.compiled_cache import open_cache, seal_cache
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.openvino_runtime import openvino, properties

MODEL_NAME = "openvino/model.xml"
MOMENT_S = 0.02
"""Longer than it takes from an answer of the engine to the next call, if one waits."""
STAND_BACK = 4
"""How much nicer the engine's threads are than the server's others (nice(2)). Those have little to
do at a time, and hold the interpreter's lock meanwhile: to be done with it at once is better for
the next image than to share a core with this one."""


class OpenVINOEngine:
    """Runs a bundle's prepared OpenVINO model, one image at a time, several at once.

    The model is compiled twice. "alone": one stream over all cores, for a call that finds the
    engine idle, since then latency counts. "lane": one stream per core, for calls beside
    others, since then throughput counts and cores that need not meet work best. Where calls
    end together the engine is idle for a moment: what comes then is not taken for a lone call.

    `evidence` may be called from any number of threads; more than `max_in_flight` at a time
    queue up inside OpenVINO.
    """

    name = "openvino"
    max_batch = 1

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "CPU",
        cache_dir: Path | None = None,
        threads: int | None = None,
    ) -> None:
        """Compile the model, or read it from the cache.

        Args:
            bundle: The model.
            device: OpenVINO's name of the device.
            cache_dir: Where compiled models are kept, or None to compile at every start.
            threads: Cores to use; None for all that the process may use.

        Raises:
            BundleError: The bundle was prepared without an OpenVINO model.
        """
        self.device = device
        self.max_in_flight = threads or usable_cores()
        core = openvino.Core()
        model = bundle.file(MODEL_NAME)
        folder = None if cache_dir is None else cache_dir / "openvino" / _content_id(bundle)
        if folder is not None and open_cache(folder):  # without one, starting takes longer
            core.set_property({properties.cache_dir: str(folder)})
        cores = self.max_in_flight
        # Two, since reading a compiled model keeps one core busy. OpenVINO's threads are started
        # by them, and inherit their priority.
        with ThreadPoolExecutor(2, initializer=_stand_back) as compilers:
            lane = compilers.submit(_Compiled, core, model, device, cores, cores)
            alone = (
                compilers.submit(_Compiled, core, model, device, cores, 1) if cores > 1 else lane
            )
            self._lane, self._alone = lane.result(), alone.result()
        if folder is not None:
            seal_cache(folder)
        self._lock = threading.Lock()
        self._running = 0
        self._company = False  # whether the latest call to begin found another
        self._ended = 0.0

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w] in logits of images [N, 1, H, W] in [-1024, 1024]."""
        with self._lock:
            follows = self._company and time.monotonic() < self._ended + MOMENT_S
            compiled = self._lane if self._running or follows else self._alone
            self._company = self._running > 0
            self._running += 1
        try:
            evidence = [compiled.infer(image_chw[None]) for image_chw in batch_nchw]
            return evidence[0] if len(evidence) == 1 else np.concatenate(evidence)
        finally:
            with self._lock:
                self._running -= 1
                self._ended = time.monotonic()

    def close(self) -> None:
        """Release the compiled models. No call of `evidence` may follow."""
        del self._alone, self._lane


class _Compiled:
    """A compiled model with as many infer requests as were ever needed at once."""

    def __init__(self, core: openvino.Core, model: Path, device: str, threads: int, streams: int):
        config = {
            # On CPUs with bf16 OpenVINO would lower the precision by itself.
            properties.hint.inference_precision: openvino.Type.f32,
            properties.hint.execution_mode: properties.hint.ExecutionMode.ACCURACY,
            properties.num_streams: streams,
        }
        if device == "CPU":
            config[properties.inference_num_threads] = threads
            # Two compiled models, and decoding, share the cores: the kernel places threads best.
            config[properties.hint.enable_cpu_pinning] = False
        self._model = core.compile_model(model, device, config)
        self._idle: list[_Request] = [_Request(self._model)]
        self._lock = threading.Lock()

    def infer(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._lock:
            request = self._idle.pop() if self._idle else None
        request = request or _Request(self._model)
        try:
            return request.infer(image_nchw)
        finally:
            with self._lock:
                self._idle.append(request)


class _Request:
    """An infer request whose input and output are bound to arrays once and for all.

    `InferRequest.infer` would check and wrap both anew at every call, which takes half a
    millisecond of the interpreter's time. The arrays are read and written as plain bytes: NumPy
    would hand the interpreter's lock to other threads while it copies, and the engine stand idle
    until they give it back, which took 2 ms an image under load.
    """

    def __init__(self, model: openvino.CompiledModel) -> None:
        self._image_nchw, self._evidence_nkhw = (
            np.zeros(tuple(port.shape), np.float32) for port in (model.input(), model.output())
        )
        self._request = model.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._image_nchw, shared_memory=True))
        self._request.set_output_tensor(openvino.Tensor(self._evidence_nkhw, shared_memory=True))

    def infer(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        if image_nchw.shape != self._image_nchw.shape:
            raise ValueError(f"an image of {image_nchw.shape}, not {self._image_nchw.shape}")
        image_bytes = np.ascontiguousarray(image_nchw, np.float32).data.cast("B")
        self._image_nchw.data.cast("B")[:] = image_bytes
        self._request.start_async()
        self._request.wait()
        evidence_bytes = bytearray(self._evidence_nkhw.data)
        return np.frombuffer(evidence_bytes, np.float32).reshape(self._evidence_nkhw.shape)


def _stand_back() -> None:
    """Lower the priority of this thread, and so of those that it will start."""
    if sys.platform == "linux":  # elsewhere it would be the whole process's
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(STAND_BACK)


def _content_id(bundle: Bundle) -> str:
    """Name the model by its content: OpenVINO tells models apart by path and time."""
    names = (MODEL_NAME, str(Path(MODEL_NAME).with_suffix(".bin")))
    return "".join(bundle.manifest.files[name].sha256[:16] for name in names)
