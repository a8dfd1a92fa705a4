"""Levels of subgroups: what means the same is one level, and none replaces another."""

import numpy as np

from cxr_client.evaluation.labels.label_set import AGE, SEX
from cxr_client.evaluation.subgroups import levels


def sizes(column: str, values: list[str]) -> dict[str, int]:
    found = levels(column, np.array(values, np.str_))
    assert sum(map(sum, found.values())) == len(values)
    return {name: int(mask.sum()) for name, mask in found.items()}


def test_spellings_of_a_sex_are_one_level() -> None:
    values = ["F"] * 5 + ["Female"] * 6 + ["f"] + ["M"] * 9 + ["male"] + ["O", "", "Unknown"]
    assert sizes(SEX, values) == {"female": 12, "male": 10, "other": 1, "unknown": 2}


def test_a_level_that_is_called_other_is_kept_with_the_rest() -> None:
    values = ["other"] * 9 + [f"ward {n}" for n in range(9) for _ in range(8 - n % 2)]
    found = sizes("ward", values)
    assert found["other"] == 9 + 2 * 7
    assert len(found) == 8


def test_blank_and_unknown_are_one_level_in_every_column() -> None:
    assert sizes("ward", ["a", "", "Unknown", "nan"]) == {"a": 1, "unknown": 3}
    assert sizes(AGE, ["057Y", "", "x", "17"]) == {"under 18": 1, "40 to 59": 1, "unknown": 2}
