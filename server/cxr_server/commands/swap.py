"""`cxr-server swap`: replaces a model of a running server by another bundle."""

import argparse
import os
from pathlib import Path

# gRPC would log the failure that is printed anyway.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from cxr_server.rpc.swap import swap_model
from cxr_server.settings import SettingsError, env_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    variable = env_name("admin_listen")
    parser.add_argument(
        "name", metavar="NAME", help="name that the model is served by; `cxr model` lists them"
    )
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="name or folder of the bundle to serve instead"
    )
    parser.add_argument(
        "--admin",
        default=os.environ.get(variable, ""),
        metavar="HOST:PORT",
        help=f"address of the server's --admin-listen (env: {variable})",
    )
    parser.add_argument(
        "--ca-file", type=Path, metavar="PEM", help="certificate authority to trust; turns TLS on"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with a token that --admin-tokens-file accepts",
    )


def run(args: argparse.Namespace) -> int:
    """Swap the model, and print what has changed. Raises OperatorError and OSError."""
    if not args.admin:
        raise SettingsError(f"give --admin, or set {env_name('admin_listen')}")
    ca = args.ca_file.read_bytes() if args.ca_file else None
    token = args.token_file.read_text().strip() if args.token_file else ""
    print(swap_model(args.admin, args.name, args.bundle, ca=ca, token=token))
    return 0
