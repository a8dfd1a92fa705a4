"""Fidelity: films, and a model in two precisions -> how their answers differ."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.manifest import Description, Manifest
from cxr_server.bundles.quantization import Differences, PlantedFindings
from cxr_server.convert.films import Film
from cxr_server.inference.engines import Engine
from cxr_server.inference.scoring import op_norms, sigmoids

DIGITS = 6
Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The evidence [K, h, w] of an image [1, S, S]."""


def differences(
    manifest: Manifest,
    films: Sequence[Film],
    *,
    float32: Infer,
    reduced: Infer,
    margin: float,
) -> Differences:
    """Return the differences of answers over films.

    A finding is far from its operating point if its probability differs from it by more than
    `margin`. Fields that are named after int8 hold what was found in the reduced precision.
    """
    pairs = [(float32(film.image_chw), reduced(film.image_chw)) for film in films]
    before_nkhw, after_nkhw = (np.array(each, np.float64) for each in zip(*pairs, strict=True))
    logits_nk = [
        each.mean(axis=(2, 3)) + np.array(manifest.bias) for each in (before_nkhw, after_nkhw)
    ]
    before_nk, after_nk = map(sigmoids, logits_nk)
    points = np.array(manifest.thresholds)
    probability_nk = np.abs(after_nk - before_nk)
    score_nk = np.abs(op_norms(after_nk, points) - op_norms(before_nk, points))
    changed_nk = (before_nk > points) != (after_nk > points)
    correlation_nk = _correlation(before_nkhw, after_nkhw)
    return Differences(
        film_count=len(films),
        max_probability=_rounded(probability_nk.max()),
        mean_probability=_rounded(probability_nk.mean()),
        max_score=_rounded(score_nk.max()),
        mean_score=_rounded(score_nk.mean()),
        changed_side_count=int(changed_nk.sum()),
        far_changed_side_count=int((changed_nk & (np.abs(before_nk - points) > margin)).sum()),
        evidence_correlation=_rounded(correlation_nk.mean()),
        low_evidence_correlation=_rounded(np.quantile(correlation_nk, 0.05)),
        planted=_planted(manifest, films, (before_nkhw, after_nkhw), (before_nk, after_nk)),
        **_of_calibrated(manifest, *logits_nk),
    )


def infer_by(engine: Engine) -> Infer:
    """Return the evidence of one image by an engine."""

    def infer(image_chw: NDArray[np.float32]) -> NDArray[np.float32]:
        evidence_khw: NDArray[np.float32] = engine.evidence(image_chw[None])[0]
        return evidence_khw

    return infer


def told(found: Differences, tolerance: float) -> list[str]:
    """Return what was measured, as lines of text. `tolerance` is that of a probability."""
    lines = [
        f"probability: differs by {found.max_probability:.4f} at most, "
        f"{found.mean_probability:.5f} in the mean (allowed: {tolerance:g})",
        *_told_of_calibrated(found, tolerance),
        f"score: differs by {found.max_score:.4f} at most, {found.mean_score:.5f} in the mean",
        f"changed side of their operating point: {found.changed_side_count} findings, "
        f"{found.far_changed_side_count} of them further than {tolerance:g} from it",
        f"evidence: correlation {found.evidence_correlation:.4f} in the mean, "
        f"{found.low_evidence_correlation:.4f} at the 5 % quantile",
    ]
    if planted := found.planted:
        lines.append(
            f"{planted.count} planted findings: AUC {planted.auc_float32:.4f} -> "
            f"{planted.auc_int8:.4f}, pointing {planted.pointing_float32:.3f} -> "
            f"{planted.pointing_int8:.3f}"
        )
    return lines


def _told_of_calibrated(found: Differences, tolerance: float) -> list[str]:
    if found.max_calibrated_probability is msgspec.UNSET:
        return []
    return [
        f"calibrated probability: differs by {found.max_calibrated_probability:.4f} at most, "
        f"{found.mean_calibrated_probability:.5f} in the mean (allowed: {tolerance:g})"
    ]


def auc(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the AUC of values [n] and labels [n]: Mann-Whitney, ties count half."""
    above = values[positive][:, None] - values[~positive]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def points_at(evidence_hw: NDArray[np.float64], mask_hw: NDArray[np.bool_]) -> bool:
    """Whether the centre of the largest cell is within one cell of the mask.

    Both cover the same square: evidence [h, w] and mask [side, side].
    """
    cell_px = np.array(mask_hw.shape) / evidence_hw.shape
    cell = np.unravel_index(int(evidence_hw.argmax()), evidence_hw.shape)
    away = (np.argwhere(mask_hw) + 0.5) / cell_px - (np.array(cell) + 0.5)
    return bool((np.hypot(*away.T) <= 1).any())


def _of_calibrated(
    manifest: Manifest, before_nk: NDArray[np.float64], after_nk: NDArray[np.float64]
) -> dict[str, float]:
    """Return the differences that logits make to calibrated probabilities; none without a curve.

    A curve may be so steep that a small difference of a logit is a large one of its probability.
    """
    curves = [(manifest.labels.index(label), curve) for label, curve in manifest.curves.items()]
    if not curves:
        return {}
    differences_kn = np.array(
        [
            [
                abs(curve.probability(after) - curve.probability(before))
                for before, after in zip(before_nk[:, k], after_nk[:, k], strict=True)
            ]
            for k, curve in curves
        ]
    )
    return {
        "max_calibrated_probability": _rounded(differences_kn.max()),
        "mean_calibrated_probability": _rounded(differences_kn.mean()),
    }


def _planted(
    description: Description,
    films: Sequence[Film],
    evidence_nkhw: tuple[NDArray[np.float64], ...],
    probability_nk: tuple[NDArray[np.float64], ...],
) -> PlantedFindings | None:
    """Return figures of a phantom model on phantoms, None of any other."""
    names = [label.lower() for label in description.labels]
    planted_nk = np.array([[name in film.masks for name in names] for film in films])
    known = [k for k in range(len(names)) if 0 < planted_nk[:, k].sum() < len(films)]
    if not description.phantom or not known:
        return None
    pairs = [(int(n), k) for k in known for n in np.flatnonzero(planted_nk[:, k])]
    aucs = [
        _rounded(np.mean([auc(each[:, k], planted_nk[:, k]) for k in known]))
        for each in probability_nk
    ]
    pointing = [
        _rounded(np.mean([points_at(each[n, k], films[n].masks[names[k]]) for n, k in pairs]))
        for each in evidence_nkhw
    ]
    return PlantedFindings(
        count=len(pairs),
        auc_float32=aucs[0],
        auc_int8=aucs[1],
        pointing_float32=pointing[0],
        pointing_int8=pointing[1],
    )


def _correlation(a_nkhw: NDArray[np.float64], b_nkhw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's r over the grid [N, K]; 1 where both maps are flat, 0 where one is."""
    a, b = (each - each.mean(axis=(2, 3), keepdims=True) for each in (a_nkhw, b_nkhw))
    norms = np.sqrt((a**2).sum(axis=(2, 3)) * (b**2).sum(axis=(2, 3)))
    flat = ((a == 0).all(axis=(2, 3)) & (b == 0).all(axis=(2, 3))).astype(np.float64)
    found: NDArray[np.float64] = np.divide(
        (a * b).sum(axis=(2, 3)), norms, out=flat, where=norms > 0
    )
    return found


def _rounded(value: np.floating | float) -> float:
    return round(float(value), DIGITS)
