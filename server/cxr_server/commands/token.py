"""`cxr-server token`: creates a bearer token and its line for the tokens file."""

import argparse
import sys

from cxr_server.access import new_token


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", help="name of the caller; labels its calls in the metrics")


def run(args: argparse.Namespace) -> int:
    """Print the token to stdout and its line for the tokens file to stderr. Returns 0."""
    token, line = new_token(args.name)
    print(token)
    print(f"add to the tokens file: {line}", file=sys.stderr)
    return 0
