"""The `cxr-server` command: serve, health, prepare, refit, models, doctor, ..."""

import argparse
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn

from cxr_server import __version__
from cxr_server.errors import OperatorError, UsageError

COMMANDS = {
    "serve": "serve a model",
    "swap": "replace a model of a running server by another bundle",
    "health": "check whether a server on this machine is serving",
    "prepare": "convert a model's weights, downloaded or from a file, to a bundle",
    "refit": "make a bundle with operating points of your own, from an evaluation",
    "fit-reference": "fit a bundle's reference of typical images to a folder of films",
    "models": "list the models that can be prepared and the bundles that exist",
    "doctor": "check whether this machine can serve",
    "token": "create a bearer token and its line for the tokens file",
    "phantom-samples": "copy synthetic radiographs to try the service with",
}
"""Subcommands, each a module in `commands/` that is imported on demand."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    _reserve_standard_descriptors()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv is None:  # this is the process's command; `serve` handles signals later
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
        return _run(words)
    except OperatorError as error:
        _print_error(str(error), words)
        return error.exit_status
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _print_error(reason, words)
        return 1
    except _Stopped as stopped:
        _print_error(f"stopped at once by {stopped.signal.name}", words)
        return 128 + stopped.signal


def _run(words: list[str]) -> int:
    """Run the command. Raises OperatorError and OSError."""
    parser = _Parser(
        prog="cxr-server",
        description="Chest X-ray inference as a gRPC service. For research use only.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cxr-server {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=help_text,
            description=f"{help_text[0].upper()}{help_text[1:]}.",
            allow_abbrev=False,
        )
        if name in words[:1]:  # other commands are not imported
            _module(name).add_arguments(subparser)
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        parser.error(f"there is no command {words[0]}{_nearest(words[0], COMMANDS)}")
    args = parser.parse_args(words)
    return int(_module(args.command).run(args))


class _Stopped(BaseException):
    """A signal that ends the process. No Exception, which an interrupted import might catch."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


def _stop(number: int, _: object) -> NoReturn:
    raise _Stopped(number)


class _Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, and an unknown flag with the nearest one."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            kind = "flag" if flag.startswith("-") else "argument"
            self.error(f"there is no {kind} {flag}{_nearest(flag, self._option_string_actions)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _print_error(reason: str, words: Sequence[str]) -> None:
    """Print why a command failed; for `serve` in the format of the log."""
    if not sys.stderr:  # closed at the start
        return
    line = f"cxr-server: {reason}"
    if words[:1] == ["serve"]:
        from cxr_server.observability import logs

        options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        options.add_argument("--log-format", default=os.environ.get("CXR_LOG_FORMAT") or "auto")
        with suppress(argparse.ArgumentError):
            chosen, _ = options.parse_known_args(words)
            line = logs.failure(reason, as_json=logs.is_json(chosen.log_format))
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # the disk is full or the pipe is closed: Python's flush at exit would fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _reserve_standard_descriptors() -> None:
    """Open /dev/null as stdin, stdout and stderr if they are closed.

    Otherwise another file would get these descriptors, and native libraries would write to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _module(command: str) -> ModuleType:
    return importlib.import_module(
        f"cxr_server.commands.{command.removeprefix('phantom-').replace('-', '_')}"
    )


if __name__ == "__main__":
    sys.exit(main())
