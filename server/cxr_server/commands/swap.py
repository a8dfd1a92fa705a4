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
        "--cert-file",
        type=Path,
        metavar="PEM",
        help="certificate to show to a server with --tls-client-ca",
    )
    parser.add_argument("--key-file", type=Path, metavar="PEM", help="key of --cert-file")
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
    if bool(args.cert_file) != bool(args.key_file):
        raise SettingsError("--cert-file and --key-file belong together")
    if args.cert_file and not args.ca_file:
        raise SettingsError("--cert-file needs --ca-file as well")
    files = {"ca": args.ca_file, "cert": args.cert_file, "key": args.key_file}
    pem = {name: file.read_bytes() for name, file in files.items() if file}
    token = args.token_file.read_text().strip() if args.token_file else ""
    print(swap_model(args.admin, args.name, args.bundle, **pem, token=token))
    return 0
