"""Scores: labels and probabilities -> the same figures by scikit-learn, statsmodels and others.

Nothing here is of `cxr_client.evaluation`: labels are read by pandas, the run line by line.
"""

import json
from pathlib import Path
from typing import Any

import confidenceinterval
import numpy as np
import pandas
from numpy.typing import NDArray
from scipy.special import expit, logit
from scripts.prove_evaluation.table import Pair, interval, number
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
)
from statsmodels.api import Logit, add_constant
from statsmodels.stats.proportion import proportion_confint

EXACT = 1e-9
_REPLICATES = 1000
Frame = Any


def frame(journal: Path, labels: Path) -> Frame:
    """Return a row for each image with labels: probabilities and flags beside labels."""
    rows = []
    with journal.open() as lines:
        for line in list(lines)[1:]:
            row = json.loads(line)
            if row["kind"] == "image":
                scores = {f"p_{each['label']}": each["probability"] for each in row["findings"]}
                flags = {f"f_{each['label']}": each["above_threshold"] for each in row["findings"]}
                rows.append({"image": Path(row["file"]).stem, **scores, **flags})
    return pandas.DataFrame(rows).merge(pandas.read_csv(labels), on="image")


def with_patients(document: dict[str, Any], table: Frame) -> list[Pair]:
    """Compare an evaluation with a column of patients, intervals by drawing patients."""
    pairs = [Pair("Images", "", "pandas", document["images"], len(table), 0)]
    patients = table["patient"].nunique()
    pairs.append(Pair("Patients", "", "pandas", document["patients"], patients, 0))
    for found in document["findings"]:
        finding = found["finding"]
        known = table[table[finding].notna()]
        truth, scores = known[finding].to_numpy(int), known[f"p_{finding}"].to_numpy()
        pairs += _points(found, truth, scores, known[f"f_{finding}"].to_numpy(bool))
        pairs += _calibration(found, truth, scores, known["patient"].to_numpy())
        pairs += _bootstrap(found, known)
        for part in found["subgroups"]:
            if part["column"] == "Sex" and part["auroc"]["value"] is not None:
                those = known[known["sex"] == part["level"][0].upper()]
                value = roc_auc_score(those[finding], those[f"p_{finding}"])
                figure = f"AUROC, {part['level']}"
                ours = number(part["auroc"]["value"])
                pairs.append(Pair(figure, finding, "scikit-learn", ours, value, EXACT))
    return pairs


def without_patients(document: dict[str, Any], table: Frame) -> list[Pair]:
    """Compare DeLong's and Wilson's intervals, of an evaluation that takes images for patients."""
    pairs = []
    for found in document["findings"]:
        finding = found["finding"]
        known = table[table[finding].notna()]
        truth = known[finding].to_numpy(int)
        scores, flags = known[f"p_{finding}"].to_numpy(), known[f"f_{finding}"].to_numpy(bool)
        area, (low, high) = confidenceinterval.roc_auc_score(truth, scores)
        if 0 < area < 1:
            # Its interval is symmetric about the area; ours is in the logit of it.
            half = (high - low) / 2 / (area * (1 - area))
            ends = (float(expit(logit(area) - half)), float(expit(logit(area) + half)))
            pairs += interval(
                "AUROC, DeLong", finding, "confidenceinterval", found["auroc"], ends, 1e-4
            )
        for name, side, hit in (("Sensitivity", 1, flags), ("Specificity", 0, ~flags)):
            hits, of = int(hit[truth == side].sum()), int((truth == side).sum())
            ends = proportion_confint(hits, of, method="wilson")
            ours = found[name.lower()]
            pairs += interval(f"{name}, Wilson", finding, "statsmodels", ours, ends, EXACT)
    return pairs


def _points(
    found: dict[str, Any], truth: NDArray[Any], scores: NDArray[Any], flags: NDArray[np.bool_]
) -> list[Pair]:
    (tn, fp), (fn, tp) = confusion_matrix(truth, flags)
    values = {
        "AUROC": (found["auroc"]["value"], roc_auc_score(truth, scores)),
        "AUPRC": (found["average_precision"]["value"], average_precision_score(truth, scores)),
        "Brier": (found["calibration"]["brier"], brier_score_loss(truth, scores)),
        "TP": (found["true_positives"], tp),
        "FN": (found["false_negatives"], fn),
        "FP": (found["false_positives"], fp),
        "TN": (found["true_negatives"], tn),
        "Sensitivity": (found["sensitivity"]["value"], tp / (tp + fn)),
        "Specificity": (found["specificity"]["value"], tn / (tn + fp)),
        "PPV": (found["ppv"]["value"], tp / (tp + fp)),
        "NPV": (found["npv"]["value"], tn / (tn + fn)),
    }
    name = found["finding"]
    return [
        Pair(figure, name, "scikit-learn", number(ours), float(theirs), EXACT)
        for figure, (ours, theirs) in values.items()
    ]


def _calibration(
    found: dict[str, Any], truth: NDArray[Any], scores: NDArray[Any], patients: NDArray[Any]
) -> list[Pair]:
    ours, name = found["calibration"], found["finding"]
    share, mean = calibration_curve(truth, scores, n_bins=10, strategy="quantile")
    sizes = np.array([each["n"] for each in ours["bins"]])
    ece = float((sizes * np.abs(share - mean)).sum() / len(truth))
    pairs = [Pair("ECE", name, "scikit-learn", ours["ece"], ece, EXACT)]
    if ours["slope"]["value"] is None:
        return pairs
    design = add_constant(logit(scores.clip(1e-7, 1 - 1e-7)))
    fitted = Logit(truth.astype(float), design).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": patients}
    )
    for index, figure in enumerate(("intercept", "slope")):
        value, ends = float(fitted.params[index]), tuple(fitted.conf_int()[index])
        title = f"Calibration {figure}"
        pairs.append(Pair(title, name, "statsmodels", number(ours[figure]["value"]), value, 1e-5))
        # It also corrects for the number of parameters, by (n - 1) / (n - 2).
        tolerance = (ends[1] - ends[0]) / len(truth)
        pairs += interval(title, name, "statsmodels", ours[figure], ends, tolerance)
    return pairs


def _bootstrap(found: dict[str, Any], known: Frame) -> list[Pair]:
    """Draw patients anew, with other random numbers: the ends of intervals differ by chance."""
    finding = found["finding"]
    if found["auroc"]["low"] is None:
        return []
    random = np.random.default_rng(20261126)
    _, patient = np.unique(known["patient"], return_inverse=True)
    truth, scores = known[finding].to_numpy(int), known[f"p_{finding}"].to_numpy()
    areas, precisions = [], []
    for _ in range(_REPLICATES):
        drawn = np.bincount(random.integers(0, patient.max() + 1, patient.max() + 1))
        weights = np.pad(drawn, (0, patient.max() + 1 - len(drawn)))[patient]
        areas.append(roc_auc_score(truth, scores, sample_weight=weights))
        precisions.append(average_precision_score(truth, scores, sample_weight=weights))
    pairs = []
    for figure, ours, values in (
        ("AUROC, patients drawn", found["auroc"], areas),
        ("AUPRC, patients drawn", found["average_precision"], precisions),
    ):
        low, high = np.quantile(values, [0.025, 0.975])
        # Three standard errors of a 2.5 % point of 1000 draws are a tenth of the interval.
        tolerance = 0.15 * (high - low) + 1e-4
        pairs += interval(figure, finding, "scikit-learn", ours, (low, high), tolerance)
    return pairs
