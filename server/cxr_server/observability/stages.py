"""Stages: when each stage of one call ran. One recorder feeds `Timing`, metrics and spans."""

import time
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Stage(StrEnum):
    """The stages of a call, named as the durations of the contract's `Timing`."""

    DECODE = "decode"  # file to network input: decoding and preprocessing
    QUEUE = "queue"  # waiting for a decode thread, and then for the engine
    INFERENCE = "inference"  # the engine's work on the batch that held the image
    RENDER = "render"  # making and drawing heat maps


Facts = Mapping[str, str | int]
"""What is known of the run of a stage beside its time, such as the size of its batch."""

NO_FACTS: Facts = MappingProxyType({})


class Span(NamedTuple):
    """One run of a stage, in seconds on the clock of `time.monotonic`."""

    stage: Stage
    start_s: float
    end_s: float
    facts: Facts = NO_FACTS


class Stages:
    """The spans of one call or image, in the order in which they ended. Threads may add to it.

    Those of an image are spans of the `whole` call as well.
    """

    def __init__(self, whole: "Stages | None" = None) -> None:
        self.spans: list[Span] = []
        self._whole = whole
        self.epoch_s = time.time() - time.monotonic()
        """Unix time at which `time.monotonic` was zero: turns a span's times into timestamps."""

    def add(self, stage: Stage, start_s: float, end_s: float, facts: Facts = NO_FACTS) -> None:
        """Record a run of a stage, which may have several."""
        self.spans.append(Span(stage, start_s, end_s, facts))
        if self._whole:
            self._whole.add(stage, start_s, end_s, facts)

    def seconds(self) -> dict[str, float]:
        """Return the total time of each stage that ran, by its name."""
        total_s: dict[str, float] = {}
        for stage, start_s, end_s, _ in self.spans:
            total_s[stage] = total_s.get(stage, 0.0) + end_s - start_s
        return total_s
