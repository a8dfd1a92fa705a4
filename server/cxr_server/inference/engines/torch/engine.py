"""Torch engine: the default on CUDA, and the only one with further saliency methods."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import FLOAT32, TF32, DeviceLost, Inferred
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import first_line
from cxr_server.inference.engines.torch.network import EvidenceNet, load_module
from cxr_server.inference.engines.torch.runners import CudaRunner, Images, Outputs, run_on_cpu
from cxr_server.inference.engines.torch.saliency import Saliency

CUDA_BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
CUDA_STREAMS = 2  # concurrent batches on a GPU: one is computed while the other is copied

_ONE_AT_A_TIME = threading.RLock()
"""Of the process: held while graphs are captured, while maps are made, and for what CUDA forbids
during a capture: to wait for a whole device and to free its memory."""

Runner = Callable[[Images], Outputs]
"""Computes one batch at a time, of at most the engine's largest size."""


class TorchEngine:
    """Runs a bundle's weights in torchxrayvision's own DenseNet class.

    Batches are padded to fixed sizes, all of which are run at construction, and captured as graphs
    on CUDA. There, float32 means no TF32 unless that is asked for, and a lost device is told apart
    from other failures. cuDNN does not search for kernels, which it would do for each thread,
    network and batch size.
    """

    name = "torch"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        precision: str = FLOAT32,
        threads: int | None = None,
        batch_sizes: Sequence[int] | None = None,
    ) -> None:
        """Load the weights and warm up.

        `precision` is that of the feature layers, or TF32 for all convolutions; saliency maps are
        always in float32. `threads` are the cores to use on the CPU. `batch_sizes` are the
        ascending sizes that batches are padded to, by default single images on the CPU and up to
        64 images on CUDA.
        """
        manifest = bundle.manifest
        self._cuda = cuda = device.startswith("cuda")
        self.device, self.precision = device, precision
        # On CUDA, the host only copies: idle threads of a team would spin between batches.
        torch.set_num_threads(1 if cuda else threads or usable_cores())
        self._alone = _ONE_AT_A_TIME if cuda else nullcontext()
        with self._alone:
            # TF32 has 10 bits of mantissa, and convolutions on CUDA use it by default.
            _convolve_in("ieee")
            torch.backends.cuda.matmul.fp32_precision = "ieee"
        self._sizes = tuple(batch_sizes or (CUDA_BATCH_SIZES if cuda else (1,)))
        self.max_batch = self._sizes[-1]
        self.max_in_flight = CUDA_STREAMS if cuda else 1
        module = load_module(bundle)
        net = exact_net = EvidenceNet(module, device)
        if precision not in (FLOAT32, TF32):
            net = EvidenceNet(module, device, getattr(torch, precision))
        self._saliency = Saliency(exact_net, manifest.bias)
        self.saliency_methods = self._saliency.methods
        image_shape = (1, manifest.input_side_px, manifest.input_side_px)
        self._idle: queue.LifoQueue[Runner] = queue.LifoQueue()
        if cuda:
            with self._alone:  # graphs keep the kernels that they were captured with
                _convolve_in("tf32" if precision == TF32 else "ieee")
                try:
                    for _ in range(CUDA_STREAMS):
                        self._idle.put(CudaRunner(net, device, self._sizes, image_shape).run)
                finally:
                    _convolve_in("ieee")
        else:
            for size in self._sizes:
                run_on_cpu(net, self._sizes, [np.zeros(image_shape, np.float32)] * size)
            self._idle.put(partial(run_on_cpu, net, self._sizes))

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w] in logits of images [N, 1, S, S] in [-1024, 1024]."""
        return self.infer([*batch_nchw]).evidence_nkhw

    def infer(self, images: Images) -> Inferred:
        """Return evidence and embeddings: see `EmbeddingEngine`."""
        most = self.max_batch
        run = self._idle.get()
        try:
            with self._noticing_loss():
                parts = [run(images[at : at + most]) for at in range(0, len(images), most)]
        finally:
            self._idle.put(run)
        if len(parts) == 1:
            return Inferred(*parts[0])
        return Inferred(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def saliency(
        self,
        image_chw: NDArray[np.float32],
        row: int,
        method: str,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float32]:
        """Return a saliency map: see `SaliencyEngine.saliency`."""
        with self._alone, self._noticing_loss():
            return self._saliency.map(image_chw, row, method, check)

    def close(self) -> None:
        """Release the network and the device's memory: see `Engine.close`."""
        self._saliency.close()
        del self._idle
        if self._cuda:
            with self._alone:
                torch.cuda.empty_cache()

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """Raise DeviceLost for a failure after which CUDA fails every call of this process.

        CUDA reports such a failure (a failed assertion in a kernel, an illegal address, an
        uncorrectable memory error) again at every later call, and others once.
        """
        try:
            yield
        except Exception as error:
            if self._cuda:
                try:
                    with self._alone:
                        torch.cuda.synchronize(self.device)
                except RuntimeError as again:
                    raise DeviceLost(f"{self.device} is lost: {first_line(again)}") from error
            raise


def _convolve_in(precision: str) -> None:
    """Choose what cuDNN's convolutions of float32 are computed in: "ieee" or "tf32"."""
    # In torch 2.11 `cudnn.fp32_precision` does not reach convolutions (pytorch/pytorch#179445).
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
