"""The `cxr` command: arguments -> commands -> output.

Exit status: 0 all done, 1 some of it failed, 2 wrong usage, 3 the server cannot be reached or
does not let us in, 130 interrupted, 141 the reader of the output went away.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from cxr_client.cli.arguments import parse
from cxr_client.cli.commands import COMMANDS, EXIT_SERVER, EXIT_USAGE
from cxr_client.cli.text import printable
from cxr_client.errors import CxrError, UnauthenticatedError, UnavailableError

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parse(argv)
    try:
        status = asyncio.run(COMMANDS[arguments.command](arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit, into what cannot fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (CxrError, OSError, ValueError) as error:
        print(f"cxr: {printable(error)}", file=sys.stderr)
        if isinstance(error, UnavailableError | UnauthenticatedError):
            return EXIT_SERVER
        return 1 if isinstance(error, CxrError) else EXIT_USAGE
    return status
