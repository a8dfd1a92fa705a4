"""Options of the commands `evaluate` and `drift`. Next: the command."""

import argparse
from pathlib import Path
from typing import Any

from cxr_client.cli.usage import whole, whole_from_0

FORMATS = ("nih", "chexpert", "mimic", "padchest", "rsna", "vindr", "siim", "folders", "csv")

REGION_FORMATS = ("nih", "rsna", "vindr", "siim", "chexlocalize", "csv")


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the journal of a finished run")
    parser.add_argument(
        "other", type=Path, nargs="?", metavar="OTHER", help="another run to compare it with"
    )
    group = parser.add_argument_group("labels")
    group.add_argument(
        "--labels", type=Path, required=True, metavar="FILE", help="the label file of the images"
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="format of the label file: that of a data set, or csv",
    )
    group.add_argument(
        "--blank",
        choices=("negative", "ignore"),
        help="how to read findings that are not mentioned (default: negative; csv: ignore)",
    )
    group.add_argument(
        "--uncertain",
        choices=("ignore", "positive", "negative"),
        default="ignore",
        help="how to read labels of -1 (default: ignore)",
    )
    group.add_argument(
        "--readers",
        choices=("majority", "any", "all"),
        default="majority",
        help="vindr: how many readers must name a finding (default: majority)",
    )
    group.add_argument(
        "--laterals",
        choices=("drop", "keep"),
        default="drop",
        help="whether to keep lateral images, where the file has the view (default: drop)",
    )
    group.add_argument(
        "--metadata",
        type=Path,
        metavar="FILE",
        help="mimic: mimic-cxr-2.0.0-metadata.csv, which has the view of each image",
    )
    group.add_argument(
        "--anonymous-names",
        type=Path,
        metavar="SECRET",
        help="file with the key of the run's hashed names",
    )
    group.add_argument(
        "--key-column", metavar="NAME", help="csv: column of image names (default: the first)"
    )
    group.add_argument("--patient-column", metavar="NAME", help="csv: column of patients")
    group.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="COLUMN=FINDING",
        help="csv: finding that a column stands for; repeatable",
    )
    group = parser.add_argument_group("localisation")
    group.add_argument(
        "--regions", type=Path, metavar="FILE", help="boxes or masks, for runs with --evidence"
    )
    group.add_argument("--regions-format", choices=REGION_FORMATS, help="format of that file")
    _add_figures(parser.add_argument_group("figures"))
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output",
        type=Path,
        default=Path("evaluation.html"),
        metavar="FILE",
        help="the report; a JSON file and a table of all images, without names, are written beside"
        " it (default: evaluation.html)",
    )
    group.add_argument(
        "--worst",
        type=whole,
        default=5,
        metavar="N",
        help="worst errors of each kind to list per finding (default: 5)",
    )
    group.add_argument(
        "--names", action="store_true", help="list the worst errors with their file names"
    )


def _add_figures(group: Any) -> None:
    group.add_argument(
        "--subgroup",
        action="append",
        default=[],
        metavar="COLUMN",
        help="column of the label file to split by; repeatable (default: sex, age, view, scanner)",
    )
    group.add_argument(
        "--prevalence",
        action="append",
        default=[],
        metavar="[FINDING=]X",
        help="also report predictive values at this prevalence; repeatable",
    )
    group.add_argument(
        "--replicates",
        type=whole,
        default=1000,
        metavar="N",
        help="bootstrap replicates (default: 1000)",
    )
    group.add_argument(
        "--seed",
        type=whole_from_0,
        default=0,
        metavar="N",
        help="seed of the bootstrap (default: 0)",
    )


def add_drift(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command `drift`."""
    journals = {"run": "the journal of a run", "other": "the journal of a later run"}
    for name, words in journals.items():
        parser.add_argument(name, type=Path, metavar=name.upper(), help=words)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
