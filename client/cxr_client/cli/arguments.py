"""Arguments: the command line -> a validated namespace. Next: commands."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxr_client.config import DEFAULT_SERVER, DEFAULT_TIMEOUT_S, RetryConfig
from cxr_client.enums import (
    ColorMap,
    ContractEnum,
    ExplanationMethod,
    HeatScale,
    RenderFormat,
    RenderFrame,
    RenderKind,
)

_EPILOG = """exit status: 0 success, 1 some images or the call failed, 2 usage error,
3 the server is unreachable or rejected the credentials

For research use only. Nothing that is printed or drawn is a diagnosis."""

_SPELLING = """Choices are spelled as in the contract and in all output (GRAD_CAM); lower case and
hyphens (grad-cam) are accepted."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; a usage error exits with status 2 and a message."""
    parser = argparse.ArgumentParser(
        prog="cxr",
        description="Ask a cxr-serve server about chest radiographs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, purpose: str, epilog: str | None = None) -> argparse.ArgumentParser:
        # With abbreviations, "--token SECRET" would be read as "--token-file SECRET".
        parser: argparse.ArgumentParser = commands.add_parser(
            name,
            help=purpose,
            description=purpose.capitalize() + ".",
            epilog=epilog,
            allow_abbrev=False,
        )
        _add_connection(parser)
        return parser

    predict = command("predict", "score radiographs")
    _add_files(predict)
    predict.add_argument(
        "--top-k", type=_positive, metavar="N", help="findings per image (default: 5)"
    )
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per image")
    form.add_argument("--csv", action="store_true", help="print one CSV row per finding")

    explain = command("explain", "draw where the evidence for findings lies", epilog=_SPELLING)
    _add_files(explain)
    _add_drawing(explain)
    explain.add_argument("--json", action="store_true", help="print one JSON object per image")

    health = command("health", "show the state of the server")
    health.add_argument(
        "--wait", type=_seconds, metavar="SECONDS", help="wait up to this long until it is serving"
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
        help="PNG or JPEG files, folders to search for them, or - for standard input",
    )
    parser.add_argument(
        "--jobs", type=_positive, default=4, metavar="N", help="concurrent calls (default: 4)"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse images that do not look like a chest radiograph instead of warning",
    )


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL",
        help="finding to explain; repeatable (default: the one with the highest score)",
    )
    parser.add_argument(
        "--heatmap-label",
        action="append",
        default=[],
        metavar="LABEL",
        help="explained finding to draw, the others as numbers only; repeatable (default: all)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("heatmaps"),
        metavar="DIR",
        help="folder for the pictures (default: heatmaps)",
    )
    parser.add_argument("--method", **_choice(ExplanationMethod), help="default: GRAD_CAM")
    parser.add_argument("--kind", **_choice(RenderKind), help="default: OVERLAY")
    parser.add_argument("--frame", **_choice(RenderFrame), help="default: MODEL_INPUT")
    parser.add_argument("--color-map", **_choice(ColorMap), help="default: INFERNO")
    parser.add_argument("--scale", **_choice(HeatScale), help="default: PER_MAP")
    parser.add_argument("--format", **_choice(RenderFormat), help="default: PNG")
    parser.add_argument(
        "--opacity",
        type=float,
        metavar="X",
        help="opacity of full heat, 0 to 1 (default: 0.5)",
    )
    parser.add_argument(
        "--max-side", type=int, metavar="PIXELS", help="longest side (default: 1024)"
    )
    parser.add_argument(
        "--legend", action="store_true", default=None, help="draw a colour bar beside the map"
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
        help=f"deadline of each call over all attempts (default: {DEFAULT_TIMEOUT_S:g})",
    )
    group.add_argument(
        "--max-attempts",
        type=_positive,
        default=RetryConfig().max_attempts,
        metavar="N",
        help="how often a call is sent at most; 1 disables retries (default: %(default)s)",
    )
    group.add_argument(
        "--max-request-mib", type=_positive, default=32, metavar="N", help="default: 32"
    )
    group.add_argument("--tls", action="store_true", help="encrypt; implied by the following")
    group.add_argument("--ca-file", metavar="PEM", help="certificate authorities to trust")
    group.add_argument("--cert-file", metavar="PEM", help="own certificate, for mutual TLS")
    group.add_argument("--key-file", metavar="PEM", help="private key of that certificate")
    group.add_argument(
        "--tls-server-name",
        metavar="NAME",
        help="name to verify in the server's certificate (default: the host)",
    )
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the bearer token (environment: CXR_TOKEN, the token itself)",
    )
    group.add_argument(
        "--insecure",
        action="store_true",
        help="allow plaintext to another machine, in a trusted network",
    )


def _choice(enum: type[ContractEnum]) -> dict[str, Any]:
    def spelled(text: str) -> str:
        return text.upper().replace("-", "_")

    return {"type": spelled, "choices": enum.choices()}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return seconds


class _Version(argparse.Action):
    """Print the version, which is imported only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from cxr_client import __version__

        print(f"cxr {__version__}")
        parser.exit()
