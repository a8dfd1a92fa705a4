"""Drift: two runs without labels -> how far their scores, warnings and embeddings differ.

Images are assumed to be independent.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import ks_2samp, rankdata

from cxr_client.evaluation.intervals import LEAST, Estimate, delong, logit_interval, wilson
from cxr_client.evaluation.metrics import Ranking, measure
from cxr_client.evaluation.review import newcombe
from cxr_client.evaluation.scores import Scores
from cxr_client.runs import Header, Run, RunError

_MAX_EMBEDDINGS = 20_000
"""Of each run: more images tell nothing more, and the matrix stays in memory."""

_OPTIONS_OF_SCORES = ("presentation", "strict_input")
"""Options of a run on which scores, or which images are answered, depend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingDrift:
    """One finding. `higher` is the share of pairs in which the image of B scores higher."""

    finding: str
    mean_a: float
    mean_b: float
    higher: Estimate
    ks_distance: float
    """Kolmogorov-Smirnov: the largest distance of the distribution functions."""

    above_a: Estimate
    above_b: Estimate
    above_difference: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareDrift:
    """The share of images with a warning, or without an answer."""

    what: str
    share_a: Estimate
    share_b: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Both runs. `embeddings` is the AUROC of a linear classifier that tells them apart."""

    images_a: int
    images_b: int
    differing: tuple[str, ...]
    """What differs beside the images: "models", "operating points", "preprocessing", "options"."""

    findings: tuple[FindingDrift, ...]
    shares: tuple[ShareDrift, ...]
    embeddings: Estimate
    sentence: str


def drift(a: Run, b: Run, scores_a: Scores, scores_b: Scores, *, seed: int) -> Drift:
    """Compare two runs of at least ten images each.

    Raises:
        RunError: A run is too small, the runs share no finding, or embeddings are damaged.
        OSError: A file of embeddings cannot be read.
    """
    n = (len(scores_a.files), len(scores_b.files))
    findings = [each for each in a.header["labels"] if each in b.header["labels"]]
    if min(n) < LEAST or not findings:
        why = f"a run has fewer than {LEAST} images" if findings else "the runs share no finding"
        raise RunError(f"the runs cannot be compared: {why}")
    found = tuple(_finding(each, scores_a, scores_b) for each in findings)
    codes = sorted({*scores_a.warnings, *scores_b.warnings})
    shares = [
        _share(code, *(_count(each, code) for each in (scores_a, scores_b))) for code in codes
    ]
    failed = [sum(each.failures.values()) for each in (scores_a, scores_b)]
    if any(failed):
        pairs = [(count, count + of) for count, of in zip(failed, n, strict=True)]
        shares.append(_share("not answered", *pairs))
    differing = _differing(a.header, b.header, findings)
    embeddings = _embeddings((a, scores_a), (b, scores_b), seed)
    return Drift(
        images_a=n[0],
        images_b=n[1],
        differing=differing,
        findings=found,
        shares=tuple(shares),
        embeddings=embeddings,
        sentence=_sentence(found, shares, embeddings, differing),
    )


def _differing(a: Header, b: Header, findings: list[str]) -> tuple[str, ...]:
    facts_a, facts_b = (
        {
            # One in int8 has the hash of its parent's weights, and a version of its own.
            "models": [
                each["model"]["weights_sha256"],
                each["model"]["version"] if "quantized_from" in each else "",
            ],
            "precisions": each.get("precision", ""),
            "operating points": [each["thresholds"][finding] for finding in findings],
            "preprocessing": each["preprocessing_id"],
            "options": [each["options"].get(name) for name in _OPTIONS_OF_SCORES],
        }
        for each in (a, b)
    )
    return tuple(what for what in facts_a if facts_a[what] != facts_b[what])


def _finding(finding: str, a: Scores, b: Scores) -> FindingDrift:
    columns = [each.header["labels"].index(finding) for each in (a, b)]
    x, y = a.probabilities[:, columns[0]], b.probabilities[:, columns[1]]
    above = [
        wilson(int(each.flags[:, column].sum()), len(each.files))
        for each, column in zip((a, b), columns, strict=True)
    ]
    return FindingDrift(
        finding=finding,
        mean_a=float(x.mean()),
        mean_b=float(y.mean()),
        higher=_higher(x, y),
        ks_distance=float(ks_2samp(x, y).statistic),
        above_a=above[0],
        above_b=above[1],
        above_difference=newcombe(above[1], above[0]),
    )


def _higher(a: NDArray[np.float64], b: NDArray[np.float64]) -> Estimate:
    """Return the share of pairs in which b is higher, ties one half, with DeLong's interval."""
    values = np.concatenate([a, b])
    labels = np.concatenate([np.zeros(len(a), np.float32), np.ones(len(b), np.float32)])
    ranking = Ranking.of(values, labels, values > 0, np.arange(len(values)))
    share = float(measure(ranking, np.ones(len(values), np.int32))[0])
    return logit_interval(share, delong(ranking))


def _count(scores: Scores, code: str) -> tuple[int, int]:
    marked = scores.warnings.get(code)
    return 0 if marked is None else int(marked.sum()), len(scores.files)


def _share(what: str, a: tuple[int, int], b: tuple[int, int]) -> ShareDrift:
    shares = wilson(*a), wilson(*b)
    return ShareDrift(
        what=what, share_a=shares[0], share_b=shares[1], difference=newcombe(shares[1], shares[0])
    )


def _embeddings(a: tuple[Run, Scores], b: tuple[Run, Scores], seed: int) -> Estimate:
    """Return how well the runs are told apart: discriminant analysis, fitted on the other half.

    Nothing without embeddings, or where there are too few films for two halves.
    """
    if not (a[0].embeddings_path.exists() and b[0].embeddings_path.exists()):
        return Estimate(None)
    random = np.random.default_rng(seed)
    (x, keys_x), (y, keys_y) = (_load(*each, random) for each in (a, b))
    if x.shape[1] != y.shape[1]:
        raise RunError("the embeddings of the two runs have different lengths")
    values = np.concatenate([x, y])
    film = _films(values, [*keys_x, *keys_y])
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    of_b = np.arange(len(values)) >= len(x)
    # Copies of a film share a half: else the other half's classifier would know them, as the wrong
    # run's, and a run against itself would score far below one half.
    fold = (random.permutation(int(film.max()) + 1) % 2 == 0)[film]
    if not all((half & run).any() for half in (fold, ~fold) for run in (of_b, ~of_b)):
        return Estimate(None)
    projected = np.empty(len(values))
    for fit in (fold, ~fold):
        projected[~fit] = values[~fit] @ _direction(values[fit & ~of_b], values[fit & of_b])
    # Each half has a classifier of its own: ranks within a half alone can be compared.
    for half in (fold, ~fold):
        projected[half] = rankdata(projected[half]) / half.sum()
    return _higher(projected[~of_b], projected[of_b])


def _films(values: NDArray[np.float64], keys: list[str]) -> NDArray[np.intp]:
    """Return the number of each row's film [n]: those with equal embeddings or keys are one.

    Args:
        values: Embeddings, [n, d].
        keys: What their runs know their files by, "" where unknown, [n].
    """
    n = len(values)
    marks: dict[bytes | str, int] = {}
    pairs = [
        (row, n + marks.setdefault(mark, len(marks)))
        for row, key in enumerate(keys)
        for mark in (values[row].tobytes(), key)
        if mark
    ]
    rows, columns = np.array(pairs).T
    size = n + len(marks)
    graph = coo_array((np.ones(len(pairs), np.int8), (rows, columns)), shape=(size, size))
    _, numbers = connected_components(graph, directed=False)
    return np.unique(numbers[:n], return_inverse=True)[1]


def _direction(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the direction of the linear discriminant with a ridge of one variance."""
    centred = np.concatenate([a - a.mean(axis=0), b - b.mean(axis=0)])
    within = centred.T @ centred / len(centred) + np.eye(a.shape[1])
    direction: NDArray[np.float64] = np.linalg.solve(within, b.mean(axis=0) - a.mean(axis=0))
    return direction


def _load(
    run: Run, scores: Scores, random: np.random.Generator
) -> tuple[NDArray[np.float64], list[str]]:
    """Return embeddings and the keys of their files, "" where the journal names none.

    Raises:
        RunError: The file is damaged, or holds too few.
    """
    try:
        table: Any = np.load(run.embeddings_path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        raise RunError(f"{run.embeddings_path.name} is not a file of embeddings") from None
    if table.ndim != 2 or len(table) < LEAST:
        raise RunError(f"{run.embeddings_path.name} holds too few embeddings")
    rows = np.sort(random.permutation(len(table))[:_MAX_EMBEDDINGS])
    key_of = dict(zip(scores.embeddings.tolist(), scores.keys, strict=True))
    keys = [key_of.get(row, "") for row in rows.tolist()]
    return np.asarray(table[rows], np.float64), keys


def _sentence(
    found: tuple[FindingDrift, ...],
    shares: list[ShareDrift],
    embeddings: Estimate,
    differing: tuple[str, ...],
) -> str:
    moved = [each for each in found if _apart(each.higher)]
    most = max(found, key=lambda each: abs((each.higher.value or 0.5) - 0.5))
    share = 100 * (most.higher.value or 0)
    text = (
        f"{len(moved)} of {len(found)} findings score differently (their intervals exclude 50 %; "
        f"by chance one of 20 would). The largest shift is that of {most.finding}: an image of "
        f"the second run scores higher in {share:.0f} % of pairs."
    )
    text += _sentence_of_shares(shares)
    if embeddings.value is not None:
        # Below one half, the halves contradict each other: they tell nothing apart.
        apart = embeddings.value > 0.5 and _apart(embeddings)
        told = "are told apart" if apart else "are not told apart"
        area = f"{embeddings.value:.2f}"
        if embeddings.low is not None:
            area += f", {embeddings.low:.2f} to {embeddings.high:.2f}"
        text += f" By their embeddings, the runs {told} (AUROC {area})."
    if differing:
        what = " and ".join(filter(None, (", ".join(differing[:-1]), differing[-1])))
        text += f" The runs have different {what}: what differs may be these, not the images."
    return text


def _sentence_of_shares(shares: list[ShareDrift]) -> str:
    """Return a sentence about warnings and failures whose differences exclude 0; "" for none."""
    words = []
    for each in shares:
        low, high = each.difference.low, each.difference.high
        if low is not None and high is not None and not low <= 0 <= high:
            points = 100 * (each.difference.value or 0)
            words.append(f"{each.what} by {points:+.0f} percentage points")
    return f" Shares of images differ: {', '.join(words)}." if words else ""


def _apart(estimate: Estimate) -> bool:
    """Whether one half is excluded; a share of 0 or 1 has no interval and is."""
    if estimate.low is None or estimate.high is None:
        return estimate.value is not None
    return not estimate.low <= 0.5 <= estimate.high
