"""Document: figures and where they come from -> the JSON file. Next: report."""

import dataclasses
import hashlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cxr_client.evaluation.calibration import BINS
from cxr_client.evaluation.cohort import Cohort
from cxr_client.evaluation.comparison import FindingComparison
from cxr_client.evaluation.evaluate import Options
from cxr_client.evaluation.figures import FindingFigures
from cxr_client.evaluation.intervals import LEAST
from cxr_client.evaluation.labels.label_set import Choices, LabelSet
from cxr_client.evaluation.labels.registry import sha256_of
from cxr_client.evaluation.localisation.localise import LocalisationFigures
from cxr_client.evaluation.training_sets import overlap
from cxr_client.runs import Header, Run

FORMAT = "cxr-evaluation"
FORMAT_VERSION = 1

NOT_DONE = (
    "No reader study: nobody has read these images for this evaluation.",
    "No prospective use: the images were collected before, and nothing was decided by the scores.",
    "No check of the labels: they are taken as the file states them.",
    "No check for images that the model was trained on, beyond the names of the data sets.",
    "No correction for testing several findings and subgroups.",
    "No analysis of cost or benefit of acting on a score.",
)


def document(
    *,
    run: Run,
    label_path: Path,
    label_format: str,
    labels: LabelSet,
    choices: Choices,
    cohort: Cohort,
    options: Options,
    figures: Sequence[FindingFigures],
    localisation: LocalisationFigures | None,
    regions_path: Path | None,
    films: tuple[str, str],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return everything that the report shows, as JSON values.

    `films` are name and content of the table of all images, which lies beside the document.

    Raises:
        OSError: A file cannot be read for its hash.
    """
    header = run.header
    table, content = films
    trained = overlap(_trained_as(header), labels.datasets)
    facts = label_facts(labels, label_path, label_format, choices)
    fitted = fitted_to(header, facts["sha256"])
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "notice": header["notice"],
        "title": f"{header['model']['name']} {header['model']['version']} on {labels.title}",
        "run": run_facts(run),
        "labels": {
            **facts,
            "findings_without_labels": [
                each for each in header["labels"] if each not in cohort.labels
            ],
        },
        "cautions": [*filter(None, (trained, fitted, _unnamed(cohort))), *labels.cautions],
        "flow": [dataclasses.asdict(step) for step in cohort.flow],
        "images": len(cohort.rows),
        "patients": None if cohort.patients is None else int(cohort.patients.max()) + 1,
        "methods": _methods(cohort, options),
        "options": dataclasses.asdict(options),
        "findings": [dataclasses.asdict(each) for each in figures],
        "localisation": None if localisation is None else dataclasses.asdict(localisation),
        "regions_sha256": None if regions_path is None else file_sha256(regions_path),
        "rows": {
            "file": table,
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
            "findings": list(cohort.labels),
        },
        "not_done": list(NOT_DONE),
        "software": software(),
        "command": list(command),
    }


def comparison_document(
    *,
    runs: tuple[Run, Run],
    label_path: Path,
    label_format: str,
    labels: LabelSet,
    choices: Choices,
    cohorts: tuple[Cohort, Cohort],
    options: Options,
    findings: Sequence[FindingComparison],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return everything that the report of a comparison shows, as JSON values.

    `cohorts` are the images of each run that both have.

    Raises:
        OSError: A file cannot be read for its hash.
    """
    cohort = cohorts[0]
    names = [f"{run.header['model']['name']} {run.header['model']['version']}" for run in runs]
    drawn = "patients" if cohort.patients is not None else "images"
    trained = [overlap(_trained_as(run.header), labels.datasets) for run in runs]
    facts = label_facts(labels, label_path, label_format, choices)
    fitted = [fitted_to(run.header, facts["sha256"]) for run in runs]
    told = dict.fromkeys(filter(None, (*trained, *fitted, _unnamed(cohort))))
    return {
        "format": "cxr-comparison",
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "notice": runs[0].header["notice"],
        "title": f"A: {names[0]}, B: {names[1]} on {labels.title}",
        "run_a": run_facts(runs[0]),
        "run_b": run_facts(runs[1]),
        "labels": facts,
        "cautions": [*told, *labels.cautions],
        "flow": {
            name: [dataclasses.asdict(step) for step in each.flow]
            for name, each in zip("AB", cohorts, strict=True)
        },
        "images": len(cohort.rows),
        "patients": None if cohort.patients is None else int(cohort.patients.max()) + 1,
        "methods": [
            f"Intervals: bootstrap over {drawn} ({options.replicates} replicates, percentiles, "
            f"seed {options.seed}), in each of which both runs see the same {drawn}.",
            f"None is stated with fewer than {LEAST} positives or {LEAST} negatives, or where both "
            "runs have 0 or 1.",
            "There is no correction for the number of findings.",
        ],
        "options": dataclasses.asdict(options),
        "findings": [dataclasses.asdict(each) for each in findings],
        "not_done": list(NOT_DONE),
        "software": software(),
        "command": list(command),
    }


def run_facts(run: Run) -> dict[str, Any]:
    """Return what identifies a run.

    Raises:
        OSError: It cannot be read for its hash.
    """
    names = ("created", "model", "preprocessing_id", "options", "client_version", "server_version")
    facts = {name: dict(run.header)[name] for name in names}
    return {
        "sha256": file_sha256(run.path),
        **facts,
        "precision": _precision(run.header),
        "refit": run.header.get("refit"),
    }


def _precision(header: Header) -> str:
    """Return what the features were computed in."""
    return "int8" if "quantized_from" in header else header.get("precision", "float32")


def _trained_as(header: Header) -> str:
    """Return the name under which a model was trained: its parent's, if refitted or quantised."""
    if "refit" in header:
        return header["refit"]["parent_name"]
    return header.get("quantized_from", header["model"]["name"])


def fitted_to(header: Header, labels_sha256: str | None) -> str | None:
    """Return a sentence where a model was refitted with the labels that it is evaluated on."""
    if not labels_sha256 or "refit" not in header:
        return None
    if header["refit"]["labels_sha256"] != labels_sha256:
        return None
    return (
        f"The operating points of {header['model']['name']} were fitted with this label file: "
        "errors and calibration on films that they were fitted to are too favourable."
    )


def _unnamed(cohort: Cohort) -> str | None:
    """Return a sentence where the patient of some images is not known."""
    count = int(cohort.unnamed.sum())
    if not count:
        return None
    return (
        f"The label file states no patient for {count} of {len(cohort.rows)} images: each of them "
        "counts as a patient of its own."
    )


def label_facts(
    labels: LabelSet, path: Path, label_format: str, choices: Choices
) -> dict[str, Any]:
    """Return what identifies a label file, and how it was read.

    Raises:
        OSError: It cannot be read for its hash.
    """
    return {
        "format": label_format,
        "title": labels.title,
        "sha256": sha256_of(path),
        "unit": labels.unit,
        "units": len(labels.keys),
        "left_out": labels.left_out,
        "choices": list(labels.choices),
        "unmapped": list(labels.unmapped),
        "options": {
            **dataclasses.asdict(choices),
            "metadata": choices.metadata and choices.metadata.name,
        },
        "metadata_sha256": choices.metadata and sha256_of(choices.metadata),
    }


def software() -> dict[str, str]:
    """Return the versions of what has computed the figures, and the hash of its own code."""
    names = ("cxr-client", "numpy", "scipy")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "sha256": _code_sha256(),
    }


def _code_sha256() -> str:
    """Return the hash of the modules of the evaluation, names and contents: versions may not tell.

    An editable installation changes without its version.
    """
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hash of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _methods(cohort: Cohort, options: Options) -> list[str]:
    drawn = f"{options.replicates} replicates, percentiles, seed {options.seed}"
    return [
        "All intervals are 95 % intervals.",
        f"None is stated with fewer than {LEAST} positives or {LEAST} negatives"
        + ("." if cohort.patients is None else ", images or patients."),
        f"Intervals of discrimination: bootstrap over patients ({drawn})."
        if cohort.patients is not None
        else "AUROC: DeLong's interval on the logit; sensitivity and specificity: Wilson; average "
        f"precision and predictive values: bootstrap over images ({drawn}).",
        "Areas and rates of 0 or 1: Wilson's interval; predictive values of 0 or 1: from the "
        "intervals of sensitivity and specificity.",
        "Average precision is the step-wise area under the precision-recall curve (AUPRC).",
        f"Calibration: {BINS} bins between deciles; slope and "
        "intercept by logistic regression on the logit, with robust intervals"
        + ("." if cohort.patients is None else " clustered by patient."),
        "Errors with and without a warning: Wilson and Newcombe, every image independent.",
    ]
