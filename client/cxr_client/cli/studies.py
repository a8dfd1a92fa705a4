"""Studies: which images of a search belong to one study and series. Next: output.

Read from the DICOM files themselves, without a library: the two UIDs, and nothing about people.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from cxr_client.cli.files import FileError, Job, Search

_HEADER_BYTES = 2**18  # Far above where files have these elements.
_STUDY, _SERIES, _LAST_GROUP = 0x0020_000D, 0x0020_000E, 0x0020
_SYNTAX = 0x0002_0010
_ITEM_END, _SEQUENCE_END = 0xFFFE_E00D, 0xFFFE_E0DD
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNDEFINED = 0xFFFF_FFFF
_MAX_ELEMENTS = 10_000


class Series(NamedTuple):
    """The UIDs of an image's study and series; empty for what is not DICOM."""

    study_uid: str = ""
    series_uid: str = ""


@dataclass(slots=True)
class Studies:
    """The images of a search by study and series, and what to print of that."""

    series: dict[str, Series] = field(default_factory=dict)
    """By the name of the image; empty if nothing is to be grouped."""

    _headings: dict[str, str] = field(default_factory=dict)

    def columns(self, name: str) -> dict[str, str]:
        """Return the columns of an image: its UIDs, or none."""
        return self.series.get(name, Series())._asdict() if self.series else {}

    def heading(self, name: str) -> str:
        """Return the line above an image that begins a series; "" above others."""
        return self._headings.get(name, "")


def group(found: Search) -> Studies:
    """Order the jobs of a search by study and series, in the order of their first images."""
    series = {job.name: _series_of(job) for job in found.jobs}
    studies: dict[str, int] = {}
    all_series: dict[Series, int] = {}
    for each in series.values():
        studies.setdefault(each.study_uid, len(studies))
        all_series.setdefault(each, len(all_series))

    def place(job: Job) -> tuple[bool, int, int]:
        its = series[job.name]
        return not its.study_uid, studies[its.study_uid], all_series[its]

    found.jobs.sort(key=place)
    result = Studies(series)
    for number, (_, of_study) in enumerate(_runs(found.jobs, series, by_series=False), start=1):
        for count, (its, jobs) in enumerate(_runs(of_study, series, by_series=True), start=1):
            images = f"{len(jobs)} image{'s' if len(jobs) > 1 else ''}"
            text = f"study {number}, series {count}" if its.study_uid else "not DICOM"
            result._headings[jobs[0].name] = f"{text}: {images}"
    return result


def _runs(
    jobs: Sequence[Job], series: dict[str, Series], *, by_series: bool
) -> Iterator[tuple[Series, list[Job]]]:
    """Yield the jobs of each series, or of each study, with the series of the first."""
    length = 2 if by_series else 1
    for _, group_ in groupby(jobs, key=lambda job: series[job.name][:length]):
        run = list(group_)
        yield series[run[0].name], run


def _series_of(job: Job) -> Series:
    try:
        return series_of(job.read(_HEADER_BYTES))
    except FileError:
        return Series()


def series_of(data: bytes) -> Series:
    """Return the UIDs in the first part of a DICOM file; empty ones where they are not found."""
    if data[128:132] != b"DICM":
        return Series()
    values: dict[int, str] = {}
    with suppress(struct.error):  # cut short, or not what it seems
        _read(data, values)
    return Series(values.get(_STUDY, ""), values.get(_SERIES, ""))


def _read(data: bytes, values: dict[int, str]) -> None:
    """Keep the wanted elements up to group 0020. Sequences are walked through, not into."""
    at, depth = 132, 0
    for _ in range(_MAX_ELEMENTS):
        is_meta = data[at : at + 2] == b"\2\0"
        syntax = values.get(_SYNTAX, "1.2.840.10008.1.2")
        order = ">" if syntax == "1.2.840.10008.1.2.2" and not is_meta else "<"
        group_number, element = struct.unpack_from(order + "HH", data, at)
        tag = group_number << 16 | element
        if syntax.endswith(".99") and not is_meta:
            return  # Deflated: no UIDs without inflating.
        explicit = is_meta or syntax != "1.2.840.10008.1.2"
        start, length = _head(data, at, order, explicit and group_number != 0xFFFE)
        if depth == 0 and group_number != 0xFFFE and group_number > _LAST_GROUP:
            return
        if tag in (_ITEM_END, _SEQUENCE_END):
            depth -= 1
            at = start
        elif length == _UNDEFINED:
            depth += 1
            at = start
        else:
            if depth == 0 and tag in (_STUDY, _SERIES, _SYNTAX):
                values[tag] = data[start : start + length].decode("ascii", "replace").strip("\0 ")
            at = start + length


def _head(data: bytes, at: int, order: str, explicit: bool) -> tuple[int, int]:
    """Return the offset and the length of an element's value."""
    if not explicit:
        return at + 8, struct.unpack_from(order + "I", data, at + 4)[0]
    if data[at + 4 : at + 6] in _LONG:
        return at + 12, struct.unpack_from(order + "I", data, at + 8)[0]
    return at + 8, struct.unpack_from(order + "H", data, at + 6)[0]
