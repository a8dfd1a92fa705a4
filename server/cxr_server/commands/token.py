"""`cxr-server token`: creates a bearer token and its line for the tokens file."""

import argparse
import sys

from cxr_server.access import append_token, new_token


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "name", metavar="NAME", help="name of the caller; labels its calls in the metrics"
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        help="append the line to this tokens file, which is created if it does not exist",
    )


def run(args: argparse.Namespace) -> int:
    """Print the token to stdout; append its line to the file, or print it to stderr. Returns 0.

    What is printed to stderr is itself a valid tokens file, so that it can be redirected to one.
    """
    token, line = new_token(args.name)
    if args.file:
        append_token(args.file, line)
        print(token)
        print(f"{args.name} was added to {args.file}", file=sys.stderr)
    else:
        print(token)
        print(f"# {args.name}: the line for the tokens file\n{line}", file=sys.stderr)
    return 0
