"""Engines: batch of model inputs -> batch of evidence. Next: scoring.

An engine is one blocking method that any thread may call. Two numbers, `max_batch` and
`max_in_flight`, tell the scheduler how to use it. Optional capabilities are protocols of their
own: test for them with `isinstance`.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Engine(Protocol):
    """A network that turns images into evidence. All methods are thread-safe.

    Attributes:
        name: Name in the registry, such as "openvino".
        device: The runtime's name of the device, such as "CPU" or "cuda:0".
        max_batch: Largest number of images in one call of `evidence`.
        max_in_flight: Number of concurrent calls of `evidence` that keep the device busy.
    """

    name: str
    device: str
    max_batch: int
    max_in_flight: int

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w], in logits, of images [N, 1, S, S] in [-1024, 1024]."""

    def close(self) -> None:
        """Release the device. The engine must not be called afterwards."""


@runtime_checkable
class SaliencyEngine(Engine, Protocol):
    """An engine that also computes saliency maps, which need gradients or extra passes."""

    saliency_methods: tuple[str, ...]
    """Names of the methods that can be used here; empty when their package is missing."""

    def saliency(
        self, image_chw: NDArray[np.float32], row: int, method: str
    ) -> NDArray[np.float32]:
        """Return the saliency map [S, S] in [0, 1] of the finding with that row in the evidence.

        Raises:
            ValueError: The method or the row does not exist.
        """
