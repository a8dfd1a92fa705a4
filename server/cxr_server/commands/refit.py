"""`cxr-server refit`: an evaluation -> a bundle with operating points of one's own."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from cxr_server.bundles.fields import NAME_PATTERN
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.bundles.refit import CalibrationFigures, Estimate, PatientSplit
from cxr_server.bundles.store import PHANTOM, bundle_home, resolve
from cxr_server.convert.catalog import CATALOG
from cxr_server.errors import OperatorError, UsageError
from cxr_server.refit.criteria import AT_LEAST, BEST, Criterion, CriterionError
from cxr_server.refit.films import read_films
from cxr_server.refit.write import refit, write_refit

FOLDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("bundle", metavar="BUNDLE", help="name or folder of a prepared bundle")
    parser.add_argument(
        "--from",
        dest="file",
        type=Path,
        required=True,
        metavar="FILE",
        help="the JSON file of `cxr evaluate`; the table of films must be beside it",
    )
    parser.add_argument("--name", required=True, metavar="NAME", help="name of the new bundle")
    parser.add_argument(
        "--criterion",
        action="append",
        default=[],
        metavar="[FINDING=]CRITERION",
        help="how operating points are chosen: youden (the default), f1, sensitivity=X,"
        " specificity=X, ppv=X or npv=X; repeatable",
    )
    parser.add_argument(
        "--calibrate", choices=("platt", "isotonic"), help="also fit a calibrated probability"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help=f"cross-fit over N parts of the patients, then fit to all (default: {FOLDS})",
    )
    group.add_argument(
        "--fit-fraction",
        type=float,
        metavar="X",
        help="fit to this share of the patients and report on the others",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the division of the patients (default: 0)",
    )
    parser.add_argument("--bundle-home", type=Path, metavar="DIR", help="folder of bundles")


def run(args: argparse.Namespace) -> int:
    """Write the bundle. Returns 0. Raises OperatorError and OSError."""
    split = _split(args)
    home = args.bundle_home or bundle_home()
    if home is None:
        raise OperatorError("this user has no home folder: set CXR_BUNDLE_HOME or --bundle-home")
    if not re.match(NAME_PATTERN, args.name) or args.name in (PHANTOM, *CATALOG):
        raise UsageError(f"--name {args.name!r} is not a valid name, or that of a published model")
    parent = load_bundle(resolve(args.bundle, args.bundle_home))
    films = read_films(args.file)
    criteria = _criteria(args.criterion, films.findings, parent.manifest.labels)
    manifest = refit(
        parent, films, args.name, criteria=criteria, split=split, method=args.calibrate
    )
    written = write_refit(parent, manifest, home / args.name)
    print("\n".join(_lines(manifest)))
    what = "wrote" if written else "nothing to do: there already is"
    print(f"\n{what} {home / args.name}: serve it with `cxr-server serve --model {args.name}`")
    return 0


def _split(args: argparse.Namespace) -> PatientSplit:
    folds = FOLDS if args.folds is None else args.folds
    if not 2 <= folds <= 100:
        raise UsageError("--folds must be from 2 to 100")
    if args.fit_fraction is None:
        return PatientSplit(folds=folds, fit_fraction=None, seed=args.seed)
    if not 0 < args.fit_fraction < 1:
        raise UsageError("--fit-fraction must be between 0 and 1")
    return PatientSplit(folds=None, fit_fraction=args.fit_fraction, seed=args.seed)


def _criteria(
    texts: list[str], findings: Sequence[str], known: Sequence[str]
) -> dict[str, Criterion]:
    """Return the criterion of each finding. Of several for the same finding, the last counts."""
    general, own = Criterion("youden"), {}
    for text in texts:
        name, _, rest = text.partition("=")
        if name in (*BEST, *AT_LEAST):
            general = Criterion.parse(text)
        elif name in findings:
            own[name] = Criterion.parse(rest)
        elif name in known:
            raise CriterionError(f"--criterion {text}: the evaluation has no labels of {name}")
        else:
            raise CriterionError(f"--criterion {text}: this is neither a criterion nor a finding")
    return {finding: own.get(finding, general) for finding in findings}


def _lines(manifest: Manifest) -> list[str]:
    """Return what was fitted, as lines of text."""
    done = manifest.refit
    assert done
    patients = (
        "unknown patients" if done.patient_count is None else f"{done.patient_count} patients"
    )
    lines = [
        f"{manifest.name} {manifest.version}, of {done.parent_name} {done.parent_version}",
        f"{done.image_count} images of {patients}; labels: {done.labels_title}",
        done.split_sentence,
        "",
        "Operating points; sensitivity and specificity with 95 % intervals:",
    ]
    width = max(map(len, done.findings))
    thresholds = dict(zip(manifest.labels, manifest.thresholds, strict=True))
    for label, each in done.findings.items():
        counts = f"{each.positive_count} of {each.image_count} positive"
        was = f"{each.parent_threshold:.4g}"
        if each.kept_reason:
            text = f"kept at {was}: {each.kept_reason}"
        else:
            text = (
                f"{was} -> {thresholds[label]:.4g} ({each.criterion}): "
                f"sensitivity {_estimate(each.sensitivity)}, "
                f"specificity {_estimate(each.specificity)}"
            )
        lines.append(f"  {label:{width}}  {text}; {counts}")
    if done.calibration_method:
        lines += ["", f"Calibration ({done.calibration_method}), before -> after:"]
        for label, each in done.findings.items():
            text = "none"
            if fitted := each.calibration:
                text = f"{_figures(fitted.raw)} -> {_figures(fitted.calibrated)}"
            lines.append(f"  {label:{width}}  {text}")
    return lines


def _estimate(estimate: Estimate | None) -> str:
    assert estimate
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _figures(figures: CalibrationFigures) -> str:
    slope = "none" if figures.slope is None else f"{figures.slope:.2f}"
    error = figures.expected_calibration_error
    return f"Brier {figures.brier_score:.4f}, ECE {error:.4f}, slope {slope}"
