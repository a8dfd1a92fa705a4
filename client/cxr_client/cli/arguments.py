"""Arguments: the command line -> a validated namespace. Next: the command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxr_client.cli.batch import DEFAULT_JOBS
from cxr_client.cli.bulk.options import add_bulk_options
from cxr_client.cli.connect import add_options
from cxr_client.cli.evaluation.options import add_drift, add_evaluation
from cxr_client.cli.usage import (
    Parser,
    host_name,
    nearest,
    number,
    one_of,
    port,
    refuse_unknown,
    seconds,
    whole,
    whole_or_all,
)
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

_EPILOG = """exit status: 0 success, 1 some images or the call failed, 2 usage error,
3 the server is unreachable or rejected the credentials, 130 interrupted

For research use only. Nothing that is printed or drawn is a diagnosis."""

_SPELLING = """Choices are spelled as in the contract and in all output (GRAD_CAM); lower case and
hyphens (grad-cam) are accepted."""

_COMPLETION = """Load it in the shell's start file:
  bash:  eval "$(cxr completion bash)"
  zsh:   autoload -U compinit && compinit; eval "$(cxr completion zsh)"
  fish:  cxr completion fish | source"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; a usage error exits with status 2 and one line."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser, commands = parsers()
    if words and words[0] not in (*commands, "--version", "--help", "-h"):
        kind = "global option" if words[0].startswith("-") else "command"
        known = ("--version", "--help") if words[0].startswith("-") else commands
        parser.error(f"there is no {kind} {words[0]}{nearest(words[0], known)}")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        refuse_unknown(commands[arguments.command], unknown)
    return arguments


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of `cxr` and that of each command."""
    purpose = "Ask a cxr-serve server about chest radiographs."
    parser = Parser(prog="cxr", description=purpose, epilog=_EPILOG)
    parser.add_argument("--version", action=_Version)
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands: dict[str, Parser] = {}

    def command(name: str, purpose: str, epilog: str = "") -> Parser:
        commands[name] = choices.add_parser(
            name, help=purpose, description=f"{purpose.capitalize()}.", epilog=epilog
        )
        return commands[name]

    predict = command("predict", "score radiographs")
    _add_images(predict, jobs=None)
    add_bulk_options(predict)
    output = _add_output(predict)
    output.add_argument(
        "--top-k",
        type=whole_or_all,
        metavar="N",
        help='findings per image, or "all" (default: 5)',
    )

    explain = command("explain", "draw where the evidence for findings lies", _SPELLING)
    _add_images(explain)
    _add_findings(explain)
    _add_output(explain).add_argument(
        "--output",
        type=Path,
        default=Path("heatmaps"),
        metavar="DIR",
        help="folder for the pictures (default: heatmaps)",
    )
    _add_drawing(explain)

    view = command("view", "serve a page to look at radiographs, findings and heatmaps")
    _add_page(view)

    report = command("report", "write an HTML page of many radiographs, with their findings")
    _add_images(report)
    group = report.add_argument_group("output")
    group.add_argument(
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page, which needs no other file (default: report.html)",
    )
    _add_quiet(group)

    health = command("health", "show the state of the server")
    health.add_argument(
        "--wait", type=seconds, metavar="SECONDS", help="wait up to this long until it is serving"
    )
    health.add_argument("--json", action="store_true", help="print a JSON object")

    model = command("model", "describe the loaded model")
    model.add_argument("--json", action="store_true", help="print a JSON object")

    command("version", "show the versions of this command and of the server")
    for each in commands.values():
        add_options(each)

    add_evaluation(command("evaluate", "hold a finished run to a label file: figures and a report"))
    add_drift(command("drift", "show how far two finished runs differ, without labels"))
    completion = command("completion", "print the completion script of a shell", _COMPLETION)
    completion.add_argument("shell", choices=["bash", "zsh", "fish"], help="bash, zsh or fish")
    return parser, commands


def _add_images(parser: Parser, jobs: int | None = DEFAULT_JOBS) -> None:
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
        help="file with further names, one a line or ended by NUL; -: standard input",
    )
    group.add_argument(
        "--follow", action="store_true", help="search linked folders inside a folder, too"
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse images that do not look like a chest radiograph instead of warning",
    )
    group.add_argument(
        "--presentation",
        **_choice(DicomPresentation),
        help="how stored values of DICOM become grey (default: AS_SHOWN)",
    )
    group.add_argument(
        "--no-cache",
        action="store_true",
        help="have the network look again, where the server would use its earlier evidence",
    )
    group.add_argument(
        "--strip-header",
        action="store_true",
        help="send nothing of a DICOM header that is about the patient; needs pydicom",
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


def _add_output(parser: Parser) -> Any:
    group = parser.add_argument_group("output")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per image")
    form.add_argument("--csv", action="store_true", help="print one CSV row per finding")
    group.add_argument(
        "--include-embedding",
        action="store_true",
        help="print the network's features, too; with --json",
    )
    detail = group.add_mutually_exclusive_group()
    detail.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print a table for each of several images, and which were cached; in CSV, the model"
        " and the request id too",
    )
    _add_quiet(detail)
    group.add_argument(
        "--by-study",
        action="store_true",
        help="order DICOM images by study and series; in JSON and CSV, with their UIDs",
    )
    return group


def _add_quiet(group: Any) -> None:
    group.add_argument(
        "-q", "--quiet", action="store_true", help="print no progress and no summary"
    )


def _add_findings(parser: Parser) -> None:
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
        help="of these, or of all, explain those above their operating point",
    )
    group.add_argument(
        "--heatmap-label",
        action="append",
        default=[],
        metavar="LABEL",
        help="explained finding to draw, the others as numbers only; repeatable (default: all)",
    )


def _add_drawing(parser: Parser) -> None:
    group = parser.add_argument_group("drawing")
    group.add_argument("--method", **_choice(ExplanationMethod), help="default: GRAD_CAM")
    group.add_argument(
        "--kind",
        **_choice(RenderKind),
        help="RADIOGRAPH: the radiograph as the server reads it, once (default: OVERLAY)",
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
        help="evidence of full colour with --scale FIXED (default: 25)",
    )
    group.add_argument("--format", **_choice(RenderFormat), help="default: PNG")
    group.add_argument(
        "--opacity", type=number, metavar="X", help="opacity of full heat, 0 to 1 (default: 0.5)"
    )
    group.add_argument(
        "--max-side", type=whole, metavar="PIXELS", help="longest side (default: 1024)"
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


def _add_page(parser: Parser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="folder whose images the page lists"
    )
    group = parser.add_argument_group("page")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen (default: 127.0.0.1, for this machine alone)",
    )
    group.add_argument(
        "--port", type=port, default=3000, metavar="N", help="0: any (default: 3000)"
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
        help="name under which a browser reaches the page, such as a proxy's; repeatable",
    )
    group.add_argument(
        "--follow", action="store_true", help="search linked folders inside the folder, too"
    )
    group.add_argument(
        "--jobs", type=whole, default=4, metavar="N", help="concurrent explanations (default: 4)"
    )


def _choice(enum: type[ContractEnum]) -> dict[str, Any]:
    return {"type": one_of(enum), "choices": enum.choices()}


class _Version(argparse.Action):
    """Print the version, which is imported only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from cxr_client import __version__

        print(f"cxr {__version__}")
        parser.exit()
