"""Arguments: the command line -> a checked namespace. Next: commands."""

import argparse
import math
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from cxr_client.channel import DEFAULT_MAX_ATTEMPTS, DEFAULT_SERVER, DEFAULT_TIMEOUT_S
from cxr_client.enums import ColorMap, ExplanationMethod, HeatScale, RenderFrame, RenderKind

_EPILOG = """exit status: 0 all done, 1 some of it failed, 2 wrong usage,
3 the server cannot be reached or does not let us in

For research use only. Nothing that is printed or drawn is a diagnosis."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exits with status 2 and a usage line when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="cxr",
        description="Ask a cxr-serve server about chest radiographs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, purpose: str) -> argparse.ArgumentParser:
        # Abbreviations would take "--token SECRET" for "--token-file SECRET".
        parser: argparse.ArgumentParser = commands.add_parser(
            name, help=purpose, description=purpose.capitalize() + ".", allow_abbrev=False
        )
        _add_connection(parser)
        return parser

    predict = command("predict", "score radiographs")
    _add_files(predict)
    predict.add_argument(
        "--top-k", type=_at_least_one, metavar="N", help="findings per image (default: 5)"
    )
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per image")
    form.add_argument("--csv", action="store_true", help="print one CSV row per finding")

    explain = command("explain", "draw where the evidence for findings lies")
    _add_files(explain)
    _add_drawing(explain)
    explain.add_argument("--json", action="store_true", help="print one JSON object per image")

    health = command("health", "tell whether the server serves")
    health.add_argument(
        "--wait", type=_seconds, metavar="SECONDS", help="wait as long until it does"
    )
    health.add_argument("--json", action="store_true", help="print a JSON object")

    model = command("model", "describe the loaded model")
    model.add_argument("--json", action="store_true", help="print a JSON object")
    return parser.parse_args(argv)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="PNG or JPEG files; folders, which are searched for them; - for standard input",
    )
    parser.add_argument(
        "--jobs", type=_at_least_one, default=4, metavar="N", help="calls at a time (default: 4)"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse images that do not look like a chest radiograph, instead of warning",
    )


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL",
        help="finding to explain; may be repeated (default: the one with the highest score)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("heatmaps"),
        metavar="DIR",
        help="where the PNG files go (default: heatmaps)",
    )
    parser.add_argument("--method", **_choice(ExplanationMethod), help="default: grad_cam")
    parser.add_argument("--kind", **_choice(RenderKind), help="default: overlay")
    parser.add_argument("--frame", **_choice(RenderFrame), help="default: model_input")
    parser.add_argument("--color-map", **_choice(ColorMap), help="default: inferno")
    parser.add_argument("--scale", **_choice(HeatScale), help="default: per_map")
    parser.add_argument(
        "--opacity", type=float, metavar="X", help="of full heat, from 0 to 1 (default: 0.5)"
    )
    parser.add_argument(
        "--max-side", type=int, metavar="PIXELS", help="longest side (default: 1024)"
    )
    parser.add_argument(
        "--legend", action="store_true", default=None, help="draw a colour scale beside the map"
    )


def _add_connection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--server",
        default=os.environ.get("CXR_SERVER") or DEFAULT_SERVER,
        metavar="HOST:PORT",
        help=f"environment: CXR_SERVER (default: {DEFAULT_SERVER})",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"for each call, all attempts included (default: {DEFAULT_TIMEOUT_S:g})",
    )
    group.add_argument(
        "--max-attempts",
        type=int,
        default=DEFAULT_MAX_ATTEMPTS,
        metavar="N",
        help=f"how often a call is sent at most (default: {DEFAULT_MAX_ATTEMPTS})",
    )
    group.add_argument(
        "--max-request-mib", type=_at_least_one, default=32, metavar="N", help="default: 32"
    )
    group.add_argument("--tls", action="store_true", help="encrypt; implied by the files below")
    group.add_argument("--ca-file", metavar="PEM", help="certificates to trust")
    group.add_argument("--cert-file", metavar="PEM", help="own certificate, for mutual TLS")
    group.add_argument("--key-file", metavar="PEM", help="key of the own certificate")
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the bearer token; environment: CXR_TOKEN, the token itself",
    )
    group.add_argument(
        "--insecure",
        action="store_true",
        help="allow plaintext to another machine, where the network itself is trusted",
    )


def _choice(enum: type[StrEnum]) -> dict[str, Any]:
    names = [member.value for member in enum if member.name != "UNSPECIFIED"]
    return {"type": _underscored, "choices": names}


def _underscored(text: str) -> str:
    return text.lower().replace("-", "_")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return seconds


class _Version(argparse.Action):
    """Prints the version; only then is it asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from cxr_client import __version__

        print(f"cxr {__version__}")
        parser.exit()
