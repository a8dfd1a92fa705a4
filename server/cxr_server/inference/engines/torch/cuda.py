"""CUDA runner: one captured graph for each batch size, fed through pinned memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_server.inference.engines.torch.network import EvidenceNet

WARM_UP_RUNS = 3


class CudaGraphRunner:
    """Runs one batch at a time on its own CUDA stream.

    A replayed graph always reads and writes the same device memory. Copies between pinned
    memory and the device overlap with the kernels of the other runner.
    """

    def __init__(
        self, net: EvidenceNet, device: str, sizes: Sequence[int], image_shape: tuple[int, ...]
    ) -> None:
        self._net = net  # the graphs use its weights without keeping a reference
        self._device = torch.device(device)
        self._stream: torch.cuda.Stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._graphs: dict[int, _Graph] = {}
        pool = torch.cuda.graph_pool_handle()
        for size in sorted(sizes, reverse=True):  # smaller graphs fit the memory of the largest
            self._graphs[size] = _Graph(
                net, torch.zeros(size, *image_shape, device=self._device), self._stream, pool
            )

    def run(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence of a batch whose size was captured."""
        graph = self._graphs[len(batch_nchw)]
        graph.host_images.copy_(torch.from_numpy(batch_nchw))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            graph.images.copy_(graph.host_images, non_blocking=True)
            graph.graph.replay()
            graph.host_evidence.copy_(graph.evidence, non_blocking=True)
        self._stream.synchronize()
        evidence: NDArray[np.float32] = graph.host_evidence.numpy().copy()
        return evidence


class _Graph:
    """The network captured for one batch size, with its buffers on the host and the device."""

    def __init__(
        self,
        net: EvidenceNet,
        images: torch.Tensor,
        stream: torch.cuda.Stream,
        pool: Any,
    ) -> None:
        self.images = images
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.inference_mode(), torch.cuda.device(images.device):
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_RUNS):  # cuDNN selects its kernels before the capture
                    net(images)
            stream.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=pool, stream=stream):
                self.evidence: torch.Tensor = net(images)
        self.host_images = torch.empty(images.shape, dtype=torch.float32, pin_memory=True)
        self.host_evidence = torch.empty(self.evidence.shape, dtype=torch.float32, pin_memory=True)
