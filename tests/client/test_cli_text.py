"""What `cxr` makes of text and numbers before it prints them."""

import os

import pytest

from cxr_client.cli.text import aligned, duration, printable, shortest


def test_untrusted_text_cannot_control_the_terminal() -> None:
    assert printable("a\x1b[2Jb\r\nc\u202ed") == "a [2Jb  c d"
    assert printable(os.fsdecode(b"\xff.png")) == "\\udcff.png"
    assert aligned([["x", "n"], ["\x1b[31mred", "1"]]) == ["x         n", " [31mred  1"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.9957862496376038, "0.99578625"),  # The float32 next to 0.99578625.
        (0.10000000149011612, "0.1"),
        (16777216.0, "16777216.0"),
        (1e-45, "1e-45"),  # No float32: kept.
        (0.1, "0.1"),
        (-1.5, "-1.5"),
    ],
)
def test_a_number_gets_the_digits_that_tell_it_from_other_float32(number: float, text: str) -> None:
    assert str(shortest(number)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1:01"), (3723, "1:02:03")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
