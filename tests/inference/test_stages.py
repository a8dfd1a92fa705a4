"""One recorder of spans for Timing, metrics and traces."""

import time

import pytest

from cxr_server.inference.stages import Span, Stage, Stages


def test_a_stage_that_ran_twice_counts_both_times() -> None:
    stages = Stages()
    stages.add(Stage.QUEUE, 1.0, 1.5)
    stages.add(Stage.DECODE, 1.5, 2.0)
    stages.add(Stage.QUEUE, 2.0, 2.25)
    assert stages.seconds() == {"queue": 0.75, "decode": 0.5}


def test_a_block_is_recorded_with_its_true_times_unless_it_fails() -> None:
    stages = Stages()
    before = time.time()
    with stages.span(Stage.RENDER):
        pass
    with pytest.raises(ZeroDivisionError), stages.span(Stage.DECODE):
        raise ZeroDivisionError
    (span,) = stages.spans
    assert isinstance(span, Span)
    assert span.stage is Stage.RENDER
    assert span.start_s <= span.end_s
    assert before - 1 <= stages.epoch_s + span.start_s <= time.time() + 1
