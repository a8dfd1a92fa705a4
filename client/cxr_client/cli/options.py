"""Options: groups of options, each added to the parsers of several commands. Next: arguments."""

import argparse
from pathlib import Path
from typing import Any

from cxr_client.cli.batch import DEFAULT_JOBS
from cxr_client.cli.usage import Parser, host_name, number, one_of, port, whole
from cxr_client.enums import (
    ColorMap,
    ContractEnum,
    DicomPresentation,
    ExplanationMethod,
    HeatScale,
    RenderFormat,
    RenderFrame,
    RenderKind,
)


def add_images(parser: Parser, jobs: int | None = DEFAULT_JOBS) -> None:
    """Add the images and how they are found, read and sent."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="DICOM, PNG or JPEG files, folders to search for them, patterns such as"
        " 'films/**/*.png', or - for standard input",
    )
    group = parser.add_argument_group("images")
    group.add_argument(
        "--files-from",
        metavar="LIST",
        help="file with further names, one per line or NUL-terminated; -: standard input",
    )
    group.add_argument(
        "--follow", action="store_true", help="also search folders behind symbolic links"
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse images that do not look like a chest radiograph instead of warning",
    )
    group.add_argument(
        "--presentation",
        **_choice(DicomPresentation),
        help="how stored values of DICOM become grey values (default: AS_SHOWN)",
    )
    group.add_argument(
        "--no-cache",
        action="store_true",
        help="run the network even if the server has cached evidence of the image",
    )
    group.add_argument(
        "--strip-header",
        action="store_true",
        help="remove everything about the patient from DICOM headers before sending; needs pydicom",
    )
    default = f"{DEFAULT_JOBS}"
    if jobs is None:
        default += "; with --output, as many as the server answers without queueing"
    group.add_argument(
        "--jobs",
        type=whole,
        default=jobs,
        metavar="N",
        help=f"concurrent calls (default: {default})",
    )


def add_output(parser: Parser) -> Any:
    """Add what is printed. Returns the group, for options of one command."""
    group = parser.add_argument_group("output")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per image")
    form.add_argument("--csv", action="store_true", help="print one CSV row per finding")
    group.add_argument(
        "--include-embedding",
        action="store_true",
        help="with --json: also print the network's features",
    )
    detail = group.add_mutually_exclusive_group()
    detail.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print a table per image, and whether its evidence was cached; in CSV, also the model"
        " and the request id",
    )
    add_quiet(detail)
    group.add_argument(
        "--by-study",
        action="store_true",
        help="order DICOM images by study and series, and add their UIDs to JSON and CSV",
    )
    return group


def add_quiet(group: Any) -> None:
    """Add `--quiet`."""
    group.add_argument(
        "-q", "--quiet", action="store_true", help="print no progress and no summary"
    )


def add_findings(parser: Parser) -> None:
    """Add which findings are explained."""
    group = parser.add_argument_group("findings")
    group.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL",
        help='finding to explain, or "all"; repeatable (default: the one with the highest score)',
    )
    group.add_argument(
        "--above-threshold",
        action="store_true",
        help="explain only findings above their operating point: of those of --label, or of all",
    )
    group.add_argument(
        "--heatmap-label",
        action="append",
        default=[],
        metavar="LABEL",
        help="explained finding to draw; others are printed only; repeatable (default: all)",
    )


def add_drawing(parser: Parser) -> None:
    """Add how maps are made and drawn."""
    group = parser.add_argument_group("drawing")
    group.add_argument("--method", **_choice(ExplanationMethod), help="default: GRAD_CAM")
    group.add_argument(
        "--kind",
        **_choice(RenderKind),
        help="what to draw; RADIOGRAPH: the image as the server reads it (default: OVERLAY)",
    )
    group.add_argument(
        "--frame", **_choice(RenderFrame), default="ORIGINAL", help="default: ORIGINAL"
    )
    group.add_argument("--color-map", **_choice(ColorMap), help="default: INFERNO")
    group.add_argument("--scale", **_choice(HeatScale), help="default: PER_MAP")
    group.add_argument(
        "--fixed-scale",
        type=number,
        metavar="LOGITS",
        help="evidence at the top of the colour map with --scale FIXED (default: 25)",
    )
    group.add_argument("--format", **_choice(RenderFormat), help="default: PNG")
    group.add_argument(
        "--opacity",
        type=number,
        metavar="X",
        help="opacity where the heat is highest, 0 to 1 (default: 0.5)",
    )
    group.add_argument(
        "--max-side",
        type=whole,
        metavar="PIXELS",
        help="longest side of a picture (default: 1024)",
    )
    group.add_argument(
        "--legend",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw a legend beside the map (default: --legend)",
    )
    group.add_argument(
        "--contours", action="store_true", default=None, help="outline the regions of the map"
    )


def add_page(parser: Parser) -> None:
    """Add what `cxr view` serves, where and to whom."""
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="folder whose images the page lists"
    )
    group = parser.add_argument_group("page")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen (default: 127.0.0.1, for this machine only)",
    )
    group.add_argument(
        "--port", type=port, default=3000, metavar="N", help="0: any free port (default: 3000)"
    )
    group.add_argument(
        "--https-cert", type=Path, metavar="PEM", help="certificate of the page, to serve HTTPS"
    )
    group.add_argument(
        "--https-key", type=Path, metavar="PEM", help="private key of that certificate"
    )
    group.add_argument(
        "--allow-http",
        action="store_true",
        help="allow plaintext from other machines, in a trusted network",
    )
    group.add_argument(
        "--allowed-host",
        type=host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="host name in the browser's address bar, such as a proxy's; repeatable",
    )
    group.add_argument(
        "--follow", action="store_true", help="also search folders behind symbolic links"
    )
    group.add_argument(
        "--jobs", type=whole, default=4, metavar="N", help="concurrent explanations (default: 4)"
    )


def _choice(enum: type[ContractEnum]) -> dict[str, Any]:
    return {"type": one_of(enum), "choices": enum.choices()}
