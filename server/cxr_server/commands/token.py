"""token: a name -> a fresh bearer token, and its line for the tokens file."""

import argparse
import sys

from cxr_server.access import new_token
from cxr_server.settings import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of `cxr-server token`."""
    parser.add_argument("name", help="who will use the token; shown in the metrics")


def run(args: argparse.Namespace) -> int:
    """Print the token on stdout and the line for the file on stderr."""
    try:
        token, line = new_token(args.name)
    except SettingsError as error:
        print(f"cxr-server: {error}", file=sys.stderr)
        return 2
    print(token)
    print(f"add to the tokens file: {line}", file=sys.stderr)
    return 0
