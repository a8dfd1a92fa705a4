"""`cxr-server serve`: serves a model until SIGTERM or SIGINT."""

import argparse
import asyncio
import ctypes
import os
from contextlib import suppress

# Requests share the cores already, so numpy needs no threads of its own. Read at its import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import structlog

from cxr_server import app, settings
from cxr_server.inference import threads
from cxr_server.observability import logs
from cxr_server.preflight import PREFLIGHT

LEFT_BEHIND_AFTER_S = 0.5
log = structlog.get_logger("cxr_server")
add_arguments = settings.add_arguments


def run(args: argparse.Namespace) -> int:
    """Serve. Returns 0 after a clean shutdown, 1 after a failure."""
    chosen = settings.from_arguments(args)
    logs.configure(chosen.log_format, chosen.log_level)
    for check in PREFLIGHT:
        for warning in check.run(chosen):
            log.warning("doubtful setting", detail=warning)
    # glibc would return the memory of each image, and fault it in again for the next one.
    with suppress(AttributeError):  # another C library
        for parameter, limit_mib in ((-3, 8), (-1, 32)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            ctypes.CDLL(None).mallopt(parameter, limit_mib * settings.MIB)
    status = asyncio.run(app.serve(chosen))
    if left := threads.running(LEFT_BEHIND_AFTER_S):
        # The interpreter would end them inside of native code, which aborts the process.
        log.warning("threads left behind", threads=left)
        os._exit(status)
    return status
