"""Names of files without the suffix of an image."""

import pytest

from cxr_client.evaluation.labels.label_set import stem_of
from cxr_client.suffixes import without_suffix


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film.png", "film"),
        ("a.b/film.PNG", "a.b/film"),
        ("film.v2.dcm", "film.v2"),
        ("1.2.840.99.10", "1.2.840.99.10"),
        ("1.2.840.99.10.dcm", "1.2.840.99.10"),
        ("study.dcm/7", "study.dcm/7"),
        (".png", ".png"),
        ("a/.png", "a/.png"),
        ("film", "film"),
    ],
)
def test_a_name_loses_the_suffix_of_an_image_and_nothing_else(name: str, expected: str) -> None:
    assert without_suffix(name) == expected
    assert stem_of(name) == expected.rpartition("/")[2]
