"""Engines: batch of model inputs -> batch of evidence. Next: scoring.

An engine is one blocking method that any thread may call. Optional capabilities are protocols
of their own: test for them with `isinstance`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FLOAT32 = "float32"
TF32 = "tf32"
BFLOAT16 = "bfloat16"
INT8 = "int8"


class DeviceLost(Exception):
    """The device fails every later call of this process: no other engine can be started on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine is to run."""

    device: str  # as the runtime spells it
    precision: str = FLOAT32
    threads: int | None = None  # cores to use on the CPU; None for all that the process may use
    cache_dir: Path | None = None  # folder for compiled models


@runtime_checkable
class Engine(Protocol):
    """A network that turns images into evidence. All methods are thread-safe.

    `name` is that of the registry, and `device` the runtime's name, such as "CPU" or "cuda:0".
    `precision` is what the device computes the features in: "float32", "tf32", "float16",
    "bfloat16" or "int8", which a bundle chooses.
    The scheduler passes up to `max_batch` images to one call of `evidence`, and makes up to
    `max_in_flight` calls at once, which keep the device busy.
    """

    name: str
    device: str
    precision: str
    max_batch: int
    max_in_flight: int

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the evidence [N, K, h, w], in logits, of images [N, 1, S, S] in [-1024, 1024].

        Raises DeviceLost, and whatever the runtime raises.
        """

    def close(self) -> None:
        """Release the device, once no call of `evidence` runs. None may follow."""


@runtime_checkable
class EmbeddingEngine(Engine, Protocol):
    """An engine whose pass also gives the embedding."""

    def infer(self, images: Sequence[NDArray[np.float32]]) -> "Inferred":
        """Return the evidence, as `evidence` does, and the embedding of each image [1, S, S].

        The images are arrays of their own, so that nothing copies them before the engine does.
        """


@runtime_checkable
class ThroughputEngine(EmbeddingEngine, Protocol):
    """An engine whose `infer` spends more processor time for a sooner answer, if it is idle."""

    def infer_for_throughput(self, images: Sequence[NDArray[np.float32]]) -> "Inferred":
        """Do what `infer` does, in the least processor time."""


class Interrupted(Exception):
    """The call was ended by `interrupt`."""


@runtime_checkable
class InterruptibleEngine(EmbeddingEngine, Protocol):
    """An engine whose calls can be ended, since others are more urgent."""

    def infer_interruptibly(self, images: Sequence[NDArray[np.float32]]) -> "Inferred":
        """Do what `infer` does. Raises Interrupted."""

    def interrupt(self) -> None:
        """End the calls of `infer_interruptibly` that are running, soon. Does not wait."""


class Inferred(NamedTuple):
    """What one pass of a network gives."""

    evidence_nkhw: NDArray[np.float32]
    embedding_nc: NDArray[np.float32] | None
    """The features, averaged over the grid. None if the bundle's model does not give them."""


class Output(NamedTuple):
    """The same of one image."""

    evidence_khw: NDArray[np.float32]
    embedding_c: NDArray[np.float32] | None


def infer(
    engine: Engine,
    images: Sequence[NDArray[np.float32]],
    *,
    interruptibly: bool = False,
    for_throughput: bool = False,
) -> Inferred:
    """Run an engine of any kind on images [1, S, S]; as asked where it can."""
    if interruptibly and isinstance(engine, InterruptibleEngine):
        return engine.infer_interruptibly(images)
    if for_throughput and _has_throughput(engine):
        return engine.infer_for_throughput(images)
    if _gives_embeddings(engine):
        return engine.infer(images)
    return Inferred(engine.evidence(np.stack(images)), None)


# As `isinstance`, which takes 15 to 90 us in each call.


def _gives_embeddings(engine: Engine) -> TypeGuard[EmbeddingEngine]:
    return hasattr(engine, "infer")


def _has_throughput(engine: Engine) -> TypeGuard[ThroughputEngine]:
    return hasattr(engine, "infer_for_throughput")


@runtime_checkable
class SaliencyEngine(Engine, Protocol):
    """An engine that also computes saliency maps, which need gradients or extra passes."""

    saliency_methods: tuple[str, ...]
    """Names of the methods that can be used here; empty when their package is missing."""

    def saliency(
        self,
        image_chw: NDArray[np.float32],
        row: int,
        method: str,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float32]:
        """Return the saliency map [S, S] in [0, 1] of the finding with that row in the evidence.

        `check`, called between forward passes, raises to end the work. Raises ValueError if the
        method or the row does not exist, and RuntimeError once the engine is closed, which ends a
        map in the making.
        """
