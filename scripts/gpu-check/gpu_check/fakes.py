"""For GPU_CHECK_CPU=1 and tests: a fake torch.cuda, so that the CUDA path's lines run on a CPU.

It proves nothing about a GPU. A "captured graph" calls the network again when it is replayed.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from cxr_server.inference.engines.torch import engine, runners
from cxr_server.inference.engines.torch.network import EvidenceNet

_capturing: list["Graph"] = []


class Stream:
    """A stream that does nothing."""

    def __init__(self, device: object = None) -> None: ...

    def wait_stream(self, other: object) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Do nothing."""


class Event:
    """An event that remembers when it was recorded."""

    def __init__(self, **_: object) -> None:
        self.at = 0.0

    def record(self, *_: object) -> None:
        """Remember the time."""
        self.at = time.monotonic()

    def synchronize(self) -> None:
        """Do nothing."""

    def elapsed_time(self, other: "Event") -> float:
        """Return milliseconds."""
        return 1000 * (other.at - self.at)


class Graph:
    """A graph that calls what was captured."""

    outputs: tuple[torch.Tensor, ...]
    call: Callable[[], tuple[torch.Tensor, ...]]

    def replay(self) -> None:
        """Call the network again."""
        with torch.inference_mode():
            for output, made in zip(self.outputs, self.call(), strict=True):
                output.copy_(made)


@contextlib.contextmanager
def capture(graph: Graph, **_: object) -> Iterator[None]:
    """Let the next call of a network be the one that is captured."""
    _capturing.append(graph)
    try:
        yield
    finally:
        _capturing.pop()


class CapturedNet(EvidenceNet):
    """A network on the CPU, whatever device it is asked for."""

    def __init__(self, densenet: Any, device: str, *rest: Any) -> None:
        super().__init__(densenet, "cpu", *rest)

    def __call__(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run, and remember the call while a graph is captured."""
        outputs: tuple[torch.Tensor, ...] = super().__call__(image)
        if _capturing:
            call = super().__call__
            _capturing[-1].outputs, _capturing[-1].call = outputs, lambda: call(image)
        return outputs


class FakeTorch:
    """The torch of the engine: no pinned memory, and every device is the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, *args: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        """Return a tensor on the CPU."""
        return torch.empty(*args, **options)

    def zeros(self, *args: Any, device: object = None, **options: Any) -> torch.Tensor:
        """Return a tensor on the CPU."""
        return torch.zeros(*args, **options)


def install(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace the CUDA half of torch and of the torch engine: `replace(object, name, value)`."""

    def nothing(*_: object, **__: object) -> Any:
        return contextlib.nullcontext()

    replacements: dict[str, Any] = {
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": capture,
        "device": nothing,
        "stream": nothing,
        "current_stream": Stream,
        "graph_pool_handle": nothing,
        "empty_cache": nothing,
        "synchronize": nothing,
        "memory_allocated": lambda *_: 0,
        "mem_get_info": lambda *_: (0, 1),
    }
    for name, value in replacements.items():
        replace(torch.cuda, name, value)
    replace(runners, "torch", FakeTorch())
    replace(engine, "EvidenceNet", CapturedNet)
