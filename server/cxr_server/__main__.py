"""The `cxr-server` command: serve, prepare, models, doctor, token, phantom-samples."""

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Sequence

from cxr_server import __version__, settings

COMMANDS = {
    "prepare": "download or read a model's weights and convert them to a bundle",
    "models": "list the models that can be prepared and the bundles that exist",
    "doctor": "check this machine, the engines and the bundles",
    "token": "create a bearer token and its line for the tokens file",
    "phantom-samples": "copy synthetic radiographs to try the service with",
}
"""Subcommands besides `serve`: each a module in `commands/`, imported on demand."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="cxr-server",
        description="Chest X-ray inference as a gRPC service. For research use only.",
    )
    parser.add_argument("--version", action="version", version=f"cxr-server {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    settings.add_arguments(subparsers.add_parser("serve", help="serve a model"))
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text)
        if name in words[:1]:  # other commands are not imported
            _module(name).add_arguments(subparser)
    args = parser.parse_args(words)
    if args.command == "serve":
        return _serve(args)
    return int(_module(args.command).run(args))


def _serve(args: argparse.Namespace) -> int:
    # Requests share the cores already, so numpy needs no threads of its own. Must be set before
    # numpy is first imported, which happens below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from cxr_server.app import serve
    from cxr_server.bundles.load import BundleError
    from cxr_server.inference.engines.registry import EngineUnavailable
    from cxr_server.observability import logs

    try:
        chosen = settings.from_arguments(args)
        logs.configure(chosen.log_format, chosen.log_level)
        return asyncio.run(serve(chosen))
    except settings.SettingsError as error:
        print(f"cxr-server: {error}", file=sys.stderr)
        return 2
    except (BundleError, EngineUnavailable, OSError) as error:
        print(f"cxr-server: {error}", file=sys.stderr)
        return 1


def _module(command: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"cxr_server.commands.{command.removeprefix('phantom-')}")


if __name__ == "__main__":
    sys.exit(main())
