"""OpenVINO engine: the default on CPUs. Imports numpy and openvino, nothing heavier."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines.compiled_cache import open_cache, seal_cache
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.openvino_runtime import openvino, properties

MODEL_NAME = "openvino/model.xml"


class OpenVINOEngine:
    """Runs a bundle's OpenVINO model, one image at a time, in as many threads as there are cores.

    The model is compiled twice: the latency model has one stream over all cores and serves a
    call that finds the engine idle; the throughput model has one stream per core and serves
    calls that run beside others.
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
            cache_dir: Folder for compiled models; None to compile at every start.
            threads: Cores to use; None for all that the process may use.

        Raises:
            BundleError: The bundle has no OpenVINO model.
        """
        self.device = device
        self.max_in_flight = cores = threads or usable_cores()
        path = bundle.file(MODEL_NAME)
        core = openvino.Core()
        cache = None if cache_dir is None else cache_dir / "openvino" / _content_id(bundle)
        if cache is not None and open_cache(cache):  # without a cache, only the start is slower
            core.set_property({properties.cache_dir: str(cache)})
        with ThreadPoolExecutor(2) as pool:  # reading a cached model keeps one core busy
            throughput = pool.submit(_CompiledModel, core, path, device, cores, streams=cores)
            latency = throughput
            if cores > 1:
                latency = pool.submit(_CompiledModel, core, path, device, cores, streams=1)
            self._throughput, self._latency = throughput.result(), latency.result()
        if cache is not None:
            seal_cache(cache)
        self._lock = threading.Lock()
        self._running = 0

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w] in logits of images [N, 1, S, S] in [-1024, 1024].

        Raises:
            ValueError: The images do not have the model's input shape.
        """
        with self._lock:
            model = self._throughput if self._running else self._latency
            self._running += 1
        try:
            return np.concatenate([model.infer(image_chw[None]) for image_chw in batch_nchw])
        finally:
            with self._lock:
                self._running -= 1

    def close(self) -> None:
        """Release the compiled models. The engine must not be called afterwards."""
        del self._latency, self._throughput


class _CompiledModel:
    """A compiled model with one infer request for each concurrent call so far."""

    def __init__(
        self, core: openvino.Core, path: Path, device: str, threads: int, *, streams: int
    ) -> None:
        config = {
            # On CPUs with bf16, OpenVINO would otherwise lower the precision by default.
            properties.hint.inference_precision: openvino.Type.f32,
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

    def infer(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        if image_nchw.shape != self._input_shape:
            raise ValueError(f"expected an image of {self._input_shape}, got {image_nchw.shape}")
        try:
            request = self._idle.pop()  # atomic, like append
        except IndexError:
            request = self._model.create_infer_request()
        try:
            evidence: NDArray[np.float32] = request.infer(image_nchw, share_inputs=True)[0]
            return evidence
        finally:
            self._idle.append(request)


def _content_id(bundle: Bundle) -> str:
    """Return a name of the model's content: OpenVINO's cache looks at path and time only."""
    names = (MODEL_NAME, str(Path(MODEL_NAME).with_suffix(".bin")))
    return "".join(bundle.manifest.files[name].sha256[:16] for name in names)
