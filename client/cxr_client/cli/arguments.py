"""Arguments: the command line -> a validated namespace. Next: the command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cxr_client.cli.bulk.options import add_bulk_options
from cxr_client.cli.connect import add_options
from cxr_client.cli.evaluation.options import add_drift, add_evaluation
from cxr_client.cli.options import (
    add_drawing,
    add_findings,
    add_images,
    add_output,
    add_page,
    add_quiet,
)
from cxr_client.cli.usage import Parser, nearest, refuse_unknown, seconds, whole_or_all

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
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=epilog,
        )
        return commands[name]

    predict = command("predict", "score radiographs")
    add_images(predict, jobs=None)
    add_bulk_options(predict)
    output = add_output(predict)
    output.add_argument(
        "--top-k",
        type=whole_or_all,
        metavar="N",
        help='findings per image, or "all" (default: 5)',
    )

    explain = command("explain", "draw where the evidence for findings lies", _SPELLING)
    add_images(explain)
    add_findings(explain)
    add_output(explain).add_argument(
        "--output",
        type=Path,
        default=Path("heatmaps"),
        metavar="DIR",
        help="folder for the pictures (default: heatmaps)",
    )
    add_drawing(explain)

    view = command("view", "serve a web page that shows radiographs, findings and heatmaps")
    add_page(view)

    report = command("report", "write an HTML report on many radiographs")
    add_images(report)
    group = report.add_argument_group("output")
    group.add_argument(
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the report, a self-contained HTML file (default: report.html)",
    )
    add_quiet(group)

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

    add_evaluation(command("evaluate", "compare a finished run with labels, or with another run"))
    add_drift(command("drift", "show how much two finished runs differ, without labels"))
    completion = command("completion", "print the completion script of a shell", _COMPLETION)
    completion.add_argument("shell", choices=["bash", "zsh", "fish"], help="bash, zsh or fish")
    return parser, commands


class _Version(argparse.Action):
    """Print the version, which is imported on demand."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from cxr_client import __version__

        print(f"cxr {__version__}")
        parser.exit()
