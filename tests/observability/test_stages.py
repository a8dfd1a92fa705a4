"""One recorder of spans for Timing, metrics and traces."""

import time

from cxr_server.observability.stages import Span, Stage, Stages


def test_a_stage_that_ran_twice_counts_both_times() -> None:
    stages = Stages()
    stages.add(Stage.QUEUE, 1.0, 1.5)
    stages.add(Stage.DECODE, 1.5, 2.0)
    stages.add(Stage.QUEUE, 2.0, 2.25)
    assert stages.seconds() == {"queue": 0.75, "decode": 0.5}


def test_spans_have_timestamps() -> None:
    stages = Stages()
    before, now = time.time(), time.monotonic()
    stages.add(Stage.RENDER, now, now)
    assert stages.spans == [Span(Stage.RENDER, now, now)]
    assert before - 1 <= stages.epoch_s + now <= time.time() + 1
