"""Names: the command line and the list that it names -> the names of files and folders."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

from cxr_client.cli.files import names_in, os_message
from cxr_client.cli.usage import UsageError


@contextmanager
def names_of(arguments: argparse.Namespace) -> Iterator[Iterator[str]]:
    """Give the names on the command line, and then those in the list; it is read as they are.

    Raises:
        UsageError: There are neither, or the list cannot be read.
    """
    listed: str | None = arguments.files_from
    if not (arguments.files or listed):
        raise UsageError("nothing to read: give a FILE, or --files-from")
    if listed == "-" and "-" in arguments.files:
        raise UsageError("--files-from -: standard input is an image already")
    with ExitStack() as stack:
        lists: list[Iterator[str]] = [iter(arguments.files)]
        if listed == "-":
            # Unbuffered: a thread that holds the buffer's lock would abort the interpreter's exit.
            stdin = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
            lists.append(names_in(stdin))
        elif listed:
            try:
                lists.append(names_in(stack.enter_context(open(listed, "rb"))))
            except OSError as error:
                raise UsageError(f"--files-from {listed}: {os_message(error)}") from None
        yield chain.from_iterable(lists)
