"""Localise: a run with evidence and a region set -> figures by finding. Next: document."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.cohort import Cohort
from cxr_client.evaluation.intervals import LEAST, Estimate, at_the_edge, percentiles
from cxr_client.evaluation.labels.label_set import LabelError
from cxr_client.evaluation.localisation.maps import HEIGHTS, Measures, heat_map, measures
from cxr_client.evaluation.localisation.regions import RegionSet, Shape
from cxr_client.evaluation.paths import finder, path_of
from cxr_client.evaluation.scores import Scores
from cxr_client.runs import Run, RunError, row_of

MARGIN_PX = 15
"""Of the pointing game, in pixels of the network's input. Zhang et al., IJCV 2018."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Localisation:
    """One finding: n regions, one an image, compared with the evidence for it."""

    finding: str
    n: int
    above_operating_point: int
    pointing_game: Estimate
    chance: float
    """What a random point of the crop would reach in the pointing game."""

    energy: Estimate
    iou: tuple[Estimate, ...]
    outside_crop: float
    """Mean share of the region outside the crop, which counts as missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalisationFigures:
    """All findings, and what was left out."""

    title: str
    margin_px: int
    input_side_px: int
    heights: tuple[float, ...]
    findings: tuple[Localisation, ...]
    left_out: dict[str, int]


def localise(
    run: Run, scores: Scores, cohort: Cohort, regions: RegionSet, *, replicates: int, seed: int
) -> LocalisationFigures:
    """Return the figures of findings with regions; the run is read a second time.

    Raises:
        LabelError: No image of the cohort has a region, or the run has no evidence.
        RunError: A line of the run is damaged.
    """
    found: dict[str, list[tuple[int, bool, Measures]]] = defaultdict(list)
    left_out: dict[str, int] = defaultdict(int)
    index_of = {int(scores.lines[row]): index for index, row in enumerate(cohort.rows)}
    side = run.header["input_side_px"]
    labels = run.header["labels"]
    marks = _marks(regions, scores.files)
    for line, _, content in run.lines():
        row = row_of(content, line)
        index = index_of.get(line)
        if index is None or row["kind"] != "image":
            continue
        shapes_of, alone = marks.get(scores.files[cohort.rows[index]], ({}, True))
        for finding, shapes in shapes_of.items():
            if not alone:
                left_out["several images of the run have its name"] += 1
                continue
            if finding not in labels:
                left_out[f"{finding} is not a finding of the model"] += 1
                continue
            if finding in cohort.labels and cohort.labels[finding][index] == 0:
                left_out["the label file says negative"] += 1
                continue
            evidence = row.get("evidence", {}).get(finding)
            if evidence is None:
                left_out["the run has no evidence for it"] += 1
                continue
            try:
                grid = np.array(evidence["values"], np.float32)
                heat = heat_map(grid.reshape(evidence["rows"], evidence["columns"]), side)
                each = measures(heat, shapes, row["image_info"], MARGIN_PX)
            except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
                if isinstance(error, LabelError):
                    raise
                raise RunError(f"line {line} of the journal has damaged evidence") from None
            if each is None:
                left_out["the region lies outside the image: was it resized?"] += 1
                continue
            flagged = bool(scores.flags[cohort.rows[index], labels.index(finding)])
            found[finding].append((index, flagged, each))
    if not found:
        why = "; ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise LabelError(f"no region can be compared: {why or 'no image of the run has one'}")
    units = np.arange(len(cohort.rows)) if cohort.patients is None else cohort.patients
    return LocalisationFigures(
        title=regions.title,
        margin_px=MARGIN_PX,
        input_side_px=side,
        heights=HEIGHTS,
        findings=tuple(
            _figures(finding, found[finding], units, replicates, seed)
            for finding in labels
            if finding in found
        ),
        left_out=dict(left_out),
    )


def _marks(
    regions: RegionSet, files: Sequence[str]
) -> dict[str, tuple[dict[str, list[Shape]], bool]]:
    """Return the shapes of each marked file by finding, and whether they are of no other image."""
    find = finder(regions.regions, files, regions.key_of, by_path=regions.by_path)
    found = {file: keys[0] for file in files if len(keys := find(file)) == 1}
    images = Counter(key for key, _ in {(key, path_of(file)) for file, key in found.items()})
    return {
        file: (regions.regions[key], images[key] == 1 or not regions.by_path)
        for file, key in found.items()
    }


def _figures(
    finding: str,
    rows: list[tuple[int, bool, Measures]],
    units: NDArray[np.intp],
    replicates: int,
    seed: int,
) -> Localisation:
    own = units[[index for index, _, _ in rows]]
    all_measures = [each for _, _, each in rows]

    def mean(values: Iterable[float]) -> Estimate:
        return mean_estimate(np.array(list(values), np.float64), own, replicates, seed)

    return Localisation(
        finding=finding,
        n=len(rows),
        above_operating_point=sum(flagged for _, flagged, _ in rows),
        pointing_game=mean(float(each.hit) for each in all_measures),
        chance=float(np.mean([each.chance for each in all_measures])),
        energy=mean(each.energy for each in all_measures),
        iou=tuple(map(mean, zip(*(each.iou for each in all_measures), strict=True))),
        outside_crop=float(np.mean([each.outside for each in all_measures])),
    )


def mean_estimate(
    values: NDArray[np.float64], units: NDArray[np.intp], replicates: int, seed: int
) -> Estimate:
    """Return a mean with its interval, units (patients) drawn; none for fewer than ten units.

    Args:
        values: [n].
        units: The number of each value's unit, [n].
        replicates: How often the units are drawn.
        seed: Of the random numbers.
    """
    _, unit = np.unique(units, return_inverse=True)
    sums, sizes = np.bincount(unit, values), np.bincount(unit)
    if len(sums) < LEAST:
        return Estimate(float(values.mean()))
    if values.min() == values.max() and values[0] in (0, 1):
        return at_the_edge(float(values[0]), len(sums))
    random = np.random.default_rng(seed)
    means = np.empty(replicates)
    for index in range(replicates):
        drawn = random.integers(0, len(sums), len(sums))
        means[index] = sums[drawn].sum() / sizes[drawn].sum()
    return percentiles(float(values.mean()), means)
