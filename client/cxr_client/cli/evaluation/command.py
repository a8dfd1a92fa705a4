"""Command: imports what evaluation needs only when it is asked for. Next: work."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from cxr_client.cli.interrupts import interruptible
from cxr_client.cli.usage import UsageError

_EXTRA = {"jinja2", "markupsafe", "matplotlib", "numpy", "scipy"}


async def evaluate(arguments: argparse.Namespace) -> int:
    """Hold a finished run to a label file.

    Raises:
        UsageError: The extra is not installed, or a file is not what the command line says.
        FileError: The report cannot be written.
    """
    with _extra():
        from cxr_client.cli.evaluation import work
    with interruptible():
        return work.evaluate(arguments)


async def drift(arguments: argparse.Namespace) -> int:
    """Compare two finished runs without labels.

    Raises:
        UsageError: The extra is not installed, or a file is no run.
    """
    with _extra():
        from cxr_client.cli.evaluation import drift as work
    with interruptible():
        return work.drift(arguments)


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise UsageError("evaluation needs an extra: pip install './client[evaluate]'") from None
