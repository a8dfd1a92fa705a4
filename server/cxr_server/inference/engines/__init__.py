"""Engines: batch of fitted images -> batch of evidence. Next: score.

The seam is one method. Everything that an engine knows of batching, threads and devices it
states as two numbers, which the scheduler keeps.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """A network that turns images into evidence. `evidence` is called from threads."""

    name: str
    """Name of the runtime: "openvino" or "torch"."""
    device: str
    """The device, such as "CPU" or "cuda:0"."""
    max_batch: int
    """Most images in one call of `evidence`."""
    max_in_flight: int
    """Most calls of `evidence` at the same time."""

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w] in logits of images [N, 1, H, W] in [-1024, 1024]."""
        ...

    def close(self) -> None:
        """Release the device. No call of `evidence` may follow."""
        ...
