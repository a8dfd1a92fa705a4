"""Timing: the seconds of a network's calls on the card, eager and as a captured graph."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gpu_check.common import CPU

DEVICE = "cpu" if CPU else "cuda:0"
WINDOW_S = 0.05 if CPU else 0.25
WARM_UP_CALLS = 3
Net = Callable[[torch.Tensor], torch.Tensor]


def synchronize() -> None:
    """Wait for the card."""
    if not CPU:
        torch.cuda.synchronize()


def use_tf32(on: bool) -> None:
    """Let float32 arithmetic on the card use TF32, or not."""
    # `cudnn.fp32_precision` does not reach convolutions in torch 2.11 (pytorch/pytorch#179445).
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    convolutions.fp32_precision = "tf32" if on else "ieee"


def images(size: int, side_px: int = 224) -> torch.Tensor:
    """Return random images [N, 1, S, S] on the card."""
    return torch.rand(size, 1, side_px, side_px, device=DEVICE) * 2048 - 1024


def seconds_of(work: Callable[[], object]) -> float:
    """Return the median seconds of a call, timed in groups that end with the card idle."""
    for _ in range(WARM_UP_CALLS):
        work()
    synchronize()
    opened, times, group = time.perf_counter(), list[float](), 1
    while len(times) < 5 or time.perf_counter() - opened < WINDOW_S:
        started = time.perf_counter()
        for _ in range(group):
            work()
        synchronize()
        taken_s = time.perf_counter() - started
        times.append(taken_s / group)
        if taken_s < 0.004:
            group = min(64, 2 * group)
    return float(np.median(times))


def eager(net: Net, batch: torch.Tensor) -> Callable[[], object]:
    """Return a call of the network."""

    def work() -> object:
        with torch.inference_mode():
            return net(batch)

    return work


def graphed(net: Net, batch: torch.Tensor) -> Callable[[], Any]:
    """Capture a call of the network. Returns its replay, which gives the captured output."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode():
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                net(batch)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            output = net(batch)

    def replay() -> Any:
        graph.replay()
        return output

    return replay
