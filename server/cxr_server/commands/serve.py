"""`cxr-server serve`: serves a model until SIGTERM or SIGINT."""

import argparse
import os
import signal
from typing import Any

# Read when numpy and gRPC are imported. Requests share the cores already, so numpy needs no threads
# of its own; and gRPC would report each failed TLS handshake, such as those of port scanners.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import structlog
import uvloop

from cxr_server import __version__, settings
from cxr_server.errors import OperatorError
from cxr_server.inference import allocator, batch_policy, threads
from cxr_server.lifecycle import exit_at_once, exit_by_signal
from cxr_server.observability import logs
from cxr_server.preflight import PREFLIGHT

LEFT_BEHIND_AFTER_S = 0.5
log = structlog.get_logger("cxr_server")
add_arguments = settings.add_arguments


def run(args: argparse.Namespace) -> int:
    """Serve. Returns 0 after a clean shutdown, 1 after a failure. Raises OperatorError."""
    batch_policy.wait_for_turns()  # before there are threads
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    chosen = settings.from_arguments(args)
    doubts = [doubt for check in PREFLIGHT for doubt in check.run(chosen)]
    logs.configure(chosen.log_format, chosen.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: exit_by_signal(received))
    log.info("starting", version=__version__, settings=_not_default(chosen))
    for doubt in doubts:
        log.warning("doubtful setting", detail=doubt)
    status = _serve(chosen)
    if left := threads.running(LEFT_BEHIND_AFTER_S):
        # The interpreter would end these threads within native code, which aborts the process.
        log.warning("threads left behind", threads=left)
        exit_at_once(status)
    logs.flush()
    return status


def _serve(chosen: settings.Settings) -> int:
    """Serve, and log what prevents it. Returns the exit status."""
    try:
        allocator.keep_freed_memory()
        from cxr_server import app  # takes a while, so that signals and the log come first

        return uvloop.run(app.serve(chosen))
    except (OperatorError, OSError) as error:
        logs.failed(str(error))
        return error.exit_status if isinstance(error, OperatorError) else 1
    except Exception as error:
        log.exception("failed", error=f"{type(error).__name__}: {error}")
        return 1


def _not_default(chosen: settings.Settings) -> dict[str, Any]:
    """Return the settings that differ from their defaults. None of them holds a secret itself."""
    values = ((option, getattr(chosen, option.name)) for option in settings.options())
    return {option.name: value for option, value in values if value != option.default}
