"""The `cxr` command: arguments -> a command -> output.

Exit status: 0 success, 1 some images or the call failed, 2 usage error, 3 the server is
unreachable or rejected the credentials, 130 interrupted, 141 the output pipe was closed.
"""

import asyncio
import io
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cxr_client.cli import images, server
from cxr_client.cli.arguments import parse
from cxr_client.cli.completion import completion
from cxr_client.cli.evaluation.command import drift, evaluate
from cxr_client.cli.files import FileError, os_message
from cxr_client.cli.progress import NoticeHandler
from cxr_client.cli.refusals import with_options
from cxr_client.cli.report.command import report
from cxr_client.cli.status import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_SERVER,
    EXIT_USAGE,
)
from cxr_client.cli.text import printable
from cxr_client.cli.usage import UsageError
from cxr_client.cli.view import view
from cxr_client.errors import CxrError, UnauthenticatedError, UnavailableError
from cxr_client.link import log

COMMANDS: dict[str, Callable[[Any], Coroutine[Any, Any, int]]] = {
    "predict": images.predict,
    "explain": images.explain,
    "view": view,
    "report": report,
    "evaluate": evaluate,
    "drift": drift,
    "health": server.health,
    "model": server.model,
    "version": server.version,
    "completion": completion,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A file name may have characters that the encoding of the output lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # The lines of gRPC about failed handshakes repeat what the error says.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    arguments = parse(argv)
    handler = NoticeHandler()
    log.addHandler(handler)
    try:
        status = asyncio.run(COMMANDS[arguments.command](arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except FileError as error:  # Of a report.
        return _end(error.message, EXIT_FAILED)
    except OSError as error:  # Of the output: those of files are errors of their own.
        _discard_output()
        return _end(f"standard output: {os_message(error)}", EXIT_FAILED)
    except UsageError as error:
        return _end(f"{error} (see cxr {arguments.command} --help)", EXIT_USAGE)
    except CxrError as error:
        refused = isinstance(error, UnavailableError | UnauthenticatedError)
        return _end(with_options(error), EXIT_SERVER if refused else EXIT_FAILED)
    finally:
        log.removeHandler(handler)
    return status


def _end(message: str, status: int) -> int:
    print(f"cxr: {printable(message)}", file=sys.stderr)
    return status


def _discard_output() -> None:
    """Send the rest of the output to the null device: Python flushes it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
