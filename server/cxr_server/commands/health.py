"""`cxr-server health`: asks the server with these settings whether it serves, as probes do."""

import argparse
import os

# gRPC would log the failure that is printed anyway.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from cxr_server import settings
from cxr_server.errors import OperatorError
from cxr_server.rpc.probe import check_health

TIMEOUT_S = 4.0
"""Below the five seconds that the container's health check may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: those of `serve` that say where and how to ask."""
    settings.add_arguments(
        parser, ("listen", "health_listen", "tls_cert", "tls_key", "tls_client_ca")
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help=f"how long to wait for the answer (default: {TIMEOUT_S:g})",
    )


def run(args: argparse.Namespace) -> int:
    """Print the answer. Returns 0 if the server serves, else 1."""
    try:
        print(check_health(settings.read(args, os.environ), args.timeout))
    except OperatorError as error:  # always 1: Docker reserves the other exit statuses
        print(f"cxr-server: {error}")
        return 1
    return 0
