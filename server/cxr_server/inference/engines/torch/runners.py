"""Runners: images of a batch -> outputs of the network, on the CPU or as graphs on CUDA."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_server.inference.engines.torch.network import EvidenceNet

Images = Sequence[NDArray[np.float32]]
"""Images [1, S, S] of a batch."""

Outputs = tuple[NDArray[np.float32], ...]
"""Evidence and embeddings of a batch."""


def padded_size(count: int, sizes: Sequence[int]) -> int:
    """Return the smallest of the ascending `sizes` that holds `count` images."""
    return next(size for size in sizes if size >= count)


def run_on_cpu(net: EvidenceNet, sizes: Sequence[int], images: Images) -> Outputs:
    """Return evidence and embeddings of a batch, which is padded with zeros."""
    count = len(images)
    batch_nchw = np.zeros((padded_size(count, sizes), *images[0].shape), np.float32)
    np.stack(images, out=batch_nchw[:count])
    with torch.inference_mode():
        return tuple(output.numpy()[:count] for output in net(torch.from_numpy(batch_nchw)))


class CudaRunner:
    """Replays one captured graph for each batch size, on a CUDA stream of its own.

    A graph always reads and writes the same device memory. Images are written once on the host,
    into pinned memory; copies between that and the device overlap with the kernels of the other
    runner. Waiting does not occupy a core.
    """

    def __init__(
        self, net: EvidenceNet, device: str, sizes: Sequence[int], image_shape: tuple[int, ...]
    ) -> None:
        self._net = net  # the graphs use its weights without keeping a reference
        self._device = torch.device(device)
        self._sizes = tuple(sizes)
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

    def run(self, images: Images) -> Outputs:
        """Return evidence and embeddings of a batch. Images of the one before pad it."""
        count = len(images)
        graph, outputs = self._graphs[padded_size(count, self._sizes)]
        host_images = self._host_images[:count]
        np.stack(images, out=host_images.numpy())
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._images[:count].copy_(host_images, non_blocking=True)
            graph.replay()
            for host, output in zip(self._host_outputs, outputs, strict=True):
                host[:count].copy_(output[:count], non_blocking=True)
            self._done.record()
        self._done.synchronize()
        return tuple(host.numpy()[:count].copy() for host in self._host_outputs)

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
