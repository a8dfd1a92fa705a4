"""Engine calls: those that are running, how long calls take, and whether one is stuck."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cxr_server.inference.bulk_turns import BulkTurns
from cxr_server.inference.engines import Engine, Inferred, infer
from cxr_server.inference.pending import PendingRequest

STUCK_AFTER_S = 60.0
STUCK_AFTER_CALLS = 50
"""A call is stuck after the longer of this time and this many calls of average length."""


class NotFinite(ArithmeticError):
    """The engine's evidence or embeddings have infinities or NaN."""


def is_for_throughput(max_in_flight: int, other_images: int) -> bool:
    """Return whether a call should leave the other cores to other images.

    An engine on the CPU runs `max_in_flight` calls on a core each, or one on all of them, whose
    parts then wait for one another if half of the cores are busy.
    """
    return other_images >= max(1, max_in_flight // 2)


@dataclass(slots=True, eq=False)
class EngineCall:
    """A call of the engine, on a batch of one priority."""

    batch: list[PendingRequest]
    for_throughput: bool = False
    start_s: float = field(default_factory=time.monotonic)

    @property
    def is_bulk(self) -> bool:
        """Whether its images are of bulk calls."""
        return self.batch[0].bulk

    @property
    def gives_way(self) -> bool:
        """Whether it may be interrupted."""
        return self.is_bulk and not any(request.gave_way for request in self.batch)

    def run(self, engine: Engine) -> Inferred:
        """Return the engine's answer. Raises NotFinite, Interrupted, and what the engine raises."""
        images = [request.prepared.image_chw for request in self.batch]
        made = infer(
            engine,
            images,
            interruptibly=self.gives_way,
            for_throughput=self.for_throughput,
        )
        for each in made:
            if each is not None and len(each) != len(images):
                raise ValueError(f"answers on {len(each)} images for {len(images)}")
            if each is not None and not np.isfinite(each).all():
                raise NotFinite("the engine's answer is not finite")
        return made


@dataclass(slots=True)
class EngineCalls:
    """The running calls of an engine that runs up to `max_in_flight` at once. Not thread-safe.

    Those on bulk images have their turns.
    """

    max_in_flight: int
    turns: BulkTurns
    batches_by_size: Counter[int] = field(default_factory=Counter)  # that were answered
    busy_s: float = 0.0  # sum of the time of all calls that have ended
    image_s: float = 0.1  # moving average of the engine's time for an image
    _call_s: float = 0.0  # moving average of the time of a call
    _running: set[EngineCall] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[EngineCall]:
        return iter(self._running)

    @property
    def stuck(self) -> bool:
        """Whether a call is running for so long that it may never return."""
        longest_s = max(STUCK_AFTER_S, STUCK_AFTER_CALLS * self._call_s)
        return any(time.monotonic() - call.start_s > longest_s for call in self._running)

    def begin(self, batch: list[PendingRequest], other_images: int = 0) -> EngineCall:
        """Note that a call begins now, while `other_images` are decoded or ready."""
        call = EngineCall(batch, is_for_throughput(self.max_in_flight, other_images))
        self._running.add(call)
        if call.is_bulk:
            self.turns.begin()
        return call

    def answered(self, call: EngineCall, end_s: float) -> None:
        """Note that a call has returned."""
        self._end(call)
        self.batches_by_size[len(call.batch)] += 1
        call_s = end_s - call.start_s
        self.busy_s += call_s
        self._call_s += 0.1 * (call_s - self._call_s)
        self.image_s += 0.1 * (call_s / len(call.batch) / self.max_in_flight - self.image_s)

    def failed(self, call: EngineCall) -> None:
        """Note that a call has raised."""
        self._end(call)
        self.busy_s += time.monotonic() - call.start_s

    def _end(self, call: EngineCall) -> None:
        self._running.remove(call)
        if call.is_bulk:
            self.turns.end(call.start_s)
