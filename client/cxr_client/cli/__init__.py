"""The `cxr` command: arguments -> commands -> output.

Exit status: 0 success, 1 some images or the call failed, 2 usage error, 3 the server is
unreachable or rejected the credentials, 130 interrupted, 141 the output pipe was closed.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from cxr_client.cli.arguments import parse
from cxr_client.cli.commands import COMMANDS, EXIT_FAILED, EXIT_SERVER, EXIT_USAGE, UsageError
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
        # Python flushes stdout again at exit; the null device cannot fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (CxrError, OSError, UsageError) as error:
        print(f"cxr: {printable(error)}", file=sys.stderr)
        if isinstance(error, UnavailableError | UnauthenticatedError):
            return EXIT_SERVER
        return EXIT_FAILED if isinstance(error, CxrError) else EXIT_USAGE
    return status
