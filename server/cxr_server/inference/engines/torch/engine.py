"""Torch engine: the default on CUDA, and the only one with further saliency methods."""

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import FLOAT32, DeviceLost, Inferred
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import first_line
from cxr_server.inference.engines.torch.network import EvidenceNet, load_module
from cxr_server.inference.engines.torch.saliency import Saliency

CUDA_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
CUDA_STREAMS = 2  # concurrent batches on a GPU: one is computed while the other is copied

Outputs = tuple[NDArray[np.float32], ...]
"""Evidence and embeddings of a batch."""

Runner = Callable[[NDArray[np.float32]], Outputs]
"""Computes one batch at a time. The batch has one of the engine's sizes."""


class TorchEngine:
    """Runs a bundle's weights in torchxrayvision's own DenseNet class.

    Batches are padded to fixed sizes, all of which are run at construction, and captured as graphs
    on CUDA. There, float32 means no TF32, and a lost device is told apart from other failures.
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

        `precision` is that of the feature layers; saliency maps are always in float32. `threads`
        are the cores to use on the CPU. `batch_sizes` are the ascending sizes that batches are
        padded to, by default single images on the CPU and up to 32 images on CUDA.
        """
        manifest = bundle.manifest
        self._cuda = cuda = device.startswith("cuda")
        self.device, self.precision = device, precision
        # On CUDA, the host only copies: idle threads of a team would spin between batches.
        torch.set_num_threads(1 if cuda else threads or usable_cores())
        # TF32 has 10 bits of mantissa, and convolutions on CUDA use it by default.
        # Set for each operation: in torch 2.11 `cudnn.fp32_precision` does not reach convolutions
        # (pytorch/pytorch#179445).
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        self._sizes = tuple(batch_sizes or (CUDA_BATCH_SIZES if cuda else (1,)))
        self.max_batch = self._sizes[-1]
        self.max_in_flight = CUDA_STREAMS if cuda else 1
        module = load_module(bundle)
        net = exact_net = EvidenceNet(module, device)
        if precision != FLOAT32:
            net = EvidenceNet(module, device, getattr(torch, precision))
        self._saliency = Saliency(exact_net, manifest.bias)
        self.saliency_methods = self._saliency.methods
        image_shape = (1, manifest.input_side_px, manifest.input_side_px)
        self._idle: queue.LifoQueue[Runner] = queue.LifoQueue()
        if cuda:
            for _ in range(CUDA_STREAMS):
                self._idle.put(_CudaRunner(net, device, self._sizes, image_shape).run)
        else:
            for size in self._sizes:
                _run_on_cpu(net, np.zeros((size, *image_shape), np.float32))
            self._idle.put(partial(_run_on_cpu, net))

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w] in logits of images [N, 1, S, S] in [-1024, 1024]."""
        return self.infer(batch_nchw).evidence_nkhw

    def infer(self, batch_nchw: NDArray[np.float32]) -> Inferred:
        """Return evidence and embeddings: see `EmbeddingEngine`."""
        run = self._idle.get()
        try:
            with self._noticing_loss():
                parts = []
                for start in range(0, len(batch_nchw), self.max_batch):
                    part_nchw = batch_nchw[start : start + self.max_batch]
                    made = run(padded(part_nchw, self._sizes))
                    parts.append([output[: len(part_nchw)] for output in made])
                return Inferred(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        finally:
            self._idle.put(run)

    def saliency(
        self,
        image_chw: NDArray[np.float32],
        row: int,
        method: str,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float32]:
        """Return a saliency map: see `SaliencyEngine.saliency`."""
        with self._noticing_loss():
            return self._saliency.map(image_chw, row, method, check)

    def close(self) -> None:
        """Release the network and the device's memory: see `Engine.close`."""
        self._saliency.close()
        del self._idle
        if self._cuda:
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
                    torch.cuda.synchronize(self.device)
                except RuntimeError as again:
                    raise DeviceLost(f"{self.device} is lost: {first_line(again)}") from error
            raise


def padded(batch_nchw: NDArray[np.float32], sizes: Sequence[int]) -> NDArray[np.float32]:
    """Return the batch, padded with zero images to the next of the ascending `sizes`."""
    count = len(batch_nchw)
    size = next(size for size in sizes if size >= count)
    result = np.zeros((size, *batch_nchw.shape[1:]), np.float32)
    result[:count] = batch_nchw
    return result


def _run_on_cpu(net: EvidenceNet, batch_nchw: NDArray[np.float32]) -> Outputs:
    with torch.inference_mode():
        return tuple(output.numpy() for output in net(torch.from_numpy(batch_nchw)))


class _CudaRunner:
    """Replays one captured graph for each batch size, on a CUDA stream of its own.

    A graph always reads and writes the same device memory. Copies between pinned memory and
    the device overlap with the kernels of the other runner. Waiting does not occupy a core.
    """

    def __init__(
        self, net: EvidenceNet, device: str, sizes: Sequence[int], image_shape: tuple[int, ...]
    ) -> None:
        self._net = net  # the graphs use its weights without keeping a reference
        self._device = torch.device(device)
        self._stream: torch.cuda.Stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        shape = (max(sizes), *image_shape)
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._host_images = torch.empty(shape, dtype=torch.float32, pin_memory=True)
        self._images = torch.zeros(shape, device=self._device)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        pool = torch.cuda.graph_pool_handle()
        # Smaller graphs fit the memory of the largest.
        self._graphs = {size: self._capture(size, pool) for size in sorted(sizes, reverse=True)}
        largest = self._graphs[max(sizes)][1]
        self._host_outputs = [
            torch.empty(output.shape, dtype=torch.float32, pin_memory=True) for output in largest
        ]

    def run(self, batch_nchw: NDArray[np.float32]) -> Outputs:
        """Return evidence and embeddings of a batch whose size was captured."""
        size = len(batch_nchw)
        graph, outputs = self._graphs[size]
        host_images = self._host_images[:size]
        host_outputs = [host[:size] for host in self._host_outputs]
        host_images.copy_(torch.from_numpy(batch_nchw))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._images[:size].copy_(host_images, non_blocking=True)
            graph.replay()
            for host, output in zip(host_outputs, outputs, strict=True):
                host.copy_(output, non_blocking=True)
            self._done.record()
        self._done.synchronize()
        return tuple(host.numpy().copy() for host in host_outputs)

    def _capture(
        self, size: int, pool: Any
    ) -> tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...]]:
        """Return the graph of a batch size and the outputs that its replay writes."""
        images, graph = self._images[:size], torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.device(self._device):
            with torch.cuda.stream(self._stream):
                for _ in range(3):  # libraries allocate their workspaces before the capture
                    self._net(images)
            self._stream.synchronize()
            # Only this thread's calls can invalidate the capture.
            with torch.cuda.graph(
                graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                outputs: tuple[torch.Tensor, ...] = self._net(images)
        return graph, outputs
