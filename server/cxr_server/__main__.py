"""The `cxr-server` command: serve, prepare, models, doctor, token, phantom-samples."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from cxr_server import __version__
from cxr_server.errors import OperatorError

COMMANDS = {
    "serve": "serve a model",
    "prepare": "download or read a model's weights and convert them to a bundle",
    "models": "list the models that can be prepared and the bundles that exist",
    "doctor": "check this machine, the engines and the bundles",
    "token": "create a bearer token and its line for the tokens file",
    "phantom-samples": "copy synthetic radiographs to try the service with",
}
"""Subcommands, each a module in `commands/` that is imported on demand."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="cxr-server",
        description="Chest X-ray inference as a gRPC service. For research use only.",
    )
    parser.add_argument("--version", action="version", version=f"cxr-server {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text)
        if name in words[:1]:  # other commands are not imported
            _module(name).add_arguments(subparser)
    args = parser.parse_args(words)
    try:
        return int(_module(args.command).run(args))
    except (OperatorError, OSError) as error:
        print(f"cxr-server: {error}", file=sys.stderr)
        return error.exit_status if isinstance(error, OperatorError) else 1


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"cxr_server.commands.{command.removeprefix('phantom-')}")


if __name__ == "__main__":
    sys.exit(main())
