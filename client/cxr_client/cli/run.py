"""Run: images -> outcomes, printed in the order of the images, and a summary. Next: output."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from cxr_client.cli.batch import in_order
from cxr_client.cli.files import FileError, Job, Search
from cxr_client.cli.output import Answer, Failure, Pictures, Writer
from cxr_client.cli.progress import Progress
from cxr_client.cli.refusals import with_options
from cxr_client.cli.status import EXIT_FAILED, EXIT_OK, EXIT_SERVER
from cxr_client.cli.text import duration, printable
from cxr_client.cli.usage import UsageError
from cxr_client.errors import CxrError, UnauthenticatedError, UnavailableError

Answered = tuple[Answer, Pictures]


async def run(
    found: Search,
    answer: Callable[[Job], Awaitable[Answered]],
    writer: Writer,
    *,
    refused: Callable[[Failure], UsageError | None],
    at_a_time: int,
    quiet: bool,
) -> int:
    """Answer all images; return the exit status. A failure is printed and stops no other image.

    Raises:
        UsageError: `refused` has returned it for a failure that all images would share.
    """

    async def outcome_of(job: Job) -> Answered | Failure:
        try:
            return await answer(job)
        except (CxrError, FileError) as error:
            return error

    report = _Report(found, writer, quiet=quiet)
    status = None
    try:
        for name, failure in found.failures:
            report.failed(name, failure)
        async with aclosing(in_order(found.jobs, outcome_of, at_a_time)) as outcomes:
            async for job, outcome in outcomes:
                if not isinstance(outcome, Exception):
                    report.answered(job.name, *outcome)
                    continue
                if usage_error := refused(outcome):
                    raise usage_error
                report.failed(job.name, outcome)
                # Continue through an outage only where the server has answered before.
                if not report.progress.answered and _is_outage(outcome):
                    status = EXIT_SERVER
                    break
    except asyncio.CancelledError:  # An interrupt.
        report.summarize()
        raise
    finally:
        report.progress.clear()
    if status is None:
        writer.end()
        status = EXIT_FAILED if report.progress.failed else EXIT_OK
    sys.stdout.flush()
    report.summarize()
    return status


class _Report:
    """Prints outcomes, keeps the progress line below them, and sums up."""

    def __init__(self, found: Search, writer: Writer, *, quiet: bool) -> None:
        self._found = found
        self._writer = writer
        self._quiet = quiet
        self._pictures = 0
        self._terminal = sys.stdout.isatty()
        total = len(found.jobs) + len(found.failures)
        self.progress = Progress(total, shown=not quiet)
        self.progress.draw()

    def answered(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print an answer and count it."""
        with self.progress.aside(terminal=self._terminal):
            self._writer.answer(name, answer, pictures)
            self.progress.answered += 1
            self._pictures += len(set(pictures) - {None})
        self.progress.draw()

    def failed(self, name: str, failure: Failure) -> None:
        """Print a failure and count it."""
        with self.progress.aside(terminal=True):
            self._writer.failure(name, failure)
            print(printable(f"cxr: {name}: {with_options(failure)}"), file=sys.stderr, flush=True)
            self.progress.failed += 1

    def summarize(self) -> None:
        """Print how many images were answered, failed and skipped."""
        progress, skipped = self.progress, self._found.skipped_text()
        if self._quiet or (progress.total == progress.done == 1 and not skipped):
            return
        parts = [f"{progress.answered} answered"]
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        if left := progress.total - progress.done:
            parts.append(f"{left} not answered")
        summary = [f"{', '.join(parts)} in {duration(progress.elapsed_s)}"]
        if self._pictures:
            summary.append(f"{self._pictures} pictures written")
        if skipped:
            summary.append(f"skipped: {skipped}")
        progress.clear()
        print("; ".join(summary), file=sys.stderr)


def _is_outage(failure: Failure) -> bool:
    return isinstance(failure, UnavailableError | UnauthenticatedError)
