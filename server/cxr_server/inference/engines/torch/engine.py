"""Torch engine: the default on CUDA, and the only one with further saliency methods."""

import queue
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.torch.network import EvidenceNet, load_module
from cxr_server.inference.engines.torch.saliency import Saliency

CUDA_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
CUDA_STREAMS = 2
"""Concurrent batches on a GPU: one is computed while the other is copied."""


Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Computes the evidence of one batch at a time. The batch has one of the engine's sizes."""


class TorchEngine:
    """Runs a bundle's weights in torchxrayvision's own DenseNet class.

    Batches are padded to fixed sizes, all of which are warmed up at construction: no call
    waits for kernel selection, and CUDA graphs can be replayed.
    """

    name = "torch"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        half: bool | None = None,
        threads: int | None = None,
        batch_sizes: Sequence[int] | None = None,
    ) -> None:
        """Load the weights and warm up.

        Args:
            bundle: The model.
            device: "cpu" or a CUDA device such as "cuda:0".
            half: Run the feature layers in half precision; None for CUDA only.
            threads: Cores to use on the CPU; None for all that the process may use.
            batch_sizes: Ascending sizes that batches are padded to. None for (1,) on the CPU,
                where larger batches are no faster per image, and for up to 32 on CUDA.
        """
        manifest = bundle.manifest
        cuda = device.startswith("cuda")
        self.device = device
        self._sizes = tuple(batch_sizes or (CUDA_BATCH_SIZES if cuda else (1,)))
        self.max_batch = self._sizes[-1]
        self.max_in_flight = CUDA_STREAMS if cuda else 1
        self._image_shape = (1, manifest.input_side_px, manifest.input_side_px)
        module = load_module(bundle)
        features_type = torch.float16 if (cuda if half is None else half) else torch.float32
        net = exact_net = EvidenceNet(module, device, features_type)
        if features_type != torch.float32:
            exact_net = EvidenceNet(module, device)
        self._saliency = Saliency(exact_net, manifest.bias, device)
        self.saliency_methods = self._saliency.methods
        if cuda:
            torch.backends.cudnn.benchmark = True  # worthwhile, because all shapes are fixed
        else:
            torch.set_num_threads(threads or usable_cores())
        self._idle: queue.LifoQueue[Runner] = queue.LifoQueue()
        for _ in range(self.max_in_flight):
            self._idle.put(self._new_runner(net))

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w] in logits of images [N, 1, S, S] in [-1024, 1024]."""
        run = self._idle.get()
        try:
            evidence = []
            for start in range(0, len(batch_nchw), self.max_batch):
                part_nchw = batch_nchw[start : start + self.max_batch]
                evidence.append(run(padded(part_nchw, self._sizes))[: len(part_nchw)])
            return np.concatenate(evidence)
        finally:
            self._idle.put(run)

    def saliency(
        self, image_chw: NDArray[np.float32], row: int, method: str
    ) -> NDArray[np.float32]:
        """Return a saliency map: see `SaliencyEngine.saliency`."""
        return self._saliency.map(image_chw, row, method)

    def close(self) -> None:
        """Release the network and the device's memory. The engine must not be called after."""
        while not self._idle.empty():
            self._idle.get_nowait()
        del self._saliency
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _new_runner(self, net: EvidenceNet) -> Runner:
        if self.device.startswith("cuda"):
            from cxr_server.inference.engines.torch.cuda import CudaGraphRunner

            return CudaGraphRunner(net, self.device, self._sizes, self._image_shape).run

        def run(batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                evidence: NDArray[np.float32] = net(torch.from_numpy(batch_nchw)).numpy()
                return evidence

        for size in self._sizes:
            run(np.zeros((size, *self._image_shape), np.float32))
        return run


def padded(batch_nchw: NDArray[np.float32], sizes: Sequence[int]) -> NDArray[np.float32]:
    """Return the batch, padded with zero images to the next of the ascending `sizes`."""
    count = len(batch_nchw)
    size = next(size for size in sizes if size >= count)
    result = np.zeros((size, *batch_nchw.shape[1:]), np.float32)
    result[:count] = batch_nchw
    return result
