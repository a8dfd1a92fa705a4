"""Run: image files -> rows in the journal, until all are answered or a signal ends it."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from cxr_client.bulk.journal import Journal
from cxr_client.bulk.rows import failure_row
from cxr_client.cli.bulk.again import Failures
from cxr_client.cli.bulk.answers import Answered, Answers, OtherModelError
from cxr_client.cli.bulk.meter import Meter
from cxr_client.cli.bulk.scan import Film, Scan
from cxr_client.cli.files import FileError
from cxr_client.cli.status import EXIT_FAILED, EXIT_OK
from cxr_client.cli.text import duration, printable
from cxr_client.cli.usage import UsageError
from cxr_client.errors import UnavailableError
from cxr_client.limiter import Limiter
from cxr_client.many import as_done

_SYNC_EVERY_S = 1.0
RESUME = "--resume continues the run"


async def run(
    journal: Journal,
    scan: Scan,
    answers: Answers,
    limiter: Limiter,
    again: Failures,
    *,
    quiet: bool,
) -> tuple[int, bool]:
    """Append a row for every file; return the exit status, and whether a signal ended the run.

    Rows take the place of those failures that are to be tried `again`.

    Raises:
        CxrError: The server is not reached, rejects the token, or is another service.
        FileError: A heatmap cannot be written, or the model has changed.
        JournalError: The journal cannot be written.
        UsageError: There are no images, or every image would be refused.
    """
    failed = journal.failed - len(again)
    meter = Meter(done=journal.answered + failed, failed=failed, quiet=quiet)
    syncing = asyncio.create_task(_keep_synced(journal))
    try:
        with _draining(scan, meter) as signals:
            try:
                await _answer_all(journal, scan, answers, limiter, again, meter, syncing)
                journal.sync()
            except asyncio.CancelledError:
                if not signals:  # The caller has cancelled it.
                    raise
    except OtherModelError as error:
        raise FileError("OTHER_MODEL", str(error)) from None
    except UnavailableError as error:
        error.message += f"; {RESUME}"
        raise
    finally:
        syncing.cancel()
        meter.close()
        if not quiet:
            _summarize(journal, scan, meter)
    if not (journal.answered or journal.failed or signals):
        raise UsageError(f"no DICOM, PNG or JPEG files; skipped: {scan.found.skipped_text() or 0}")
    if signals:
        print(f"cxr: {RESUME}", file=sys.stderr)
        return 128 + signals[0], True
    return EXIT_FAILED if journal.failed else EXIT_OK, False


async def _answer_all(
    journal: Journal,
    scan: Scan,
    answers: Answers,
    limiter: Limiter,
    again: Failures,
    meter: Meter,
    syncing: "asyncio.Task[None]",
) -> None:
    identity = answers.plan.identity
    async with aclosing(as_done(aiter(scan), answers.answer, limiter)) as outcomes:
        async for film, outcome in outcomes:
            if syncing.done():
                syncing.result()
            if outcome is None:
                scan.total -= 1
            meter.total = meter.done_before + scan.total if scan.complete else None
            if outcome is not None:
                again.replace(outcome.row, film, identity)
                _write(journal, meter, outcome)
    if scan.complete and not scan.stopped:
        for outcome in _folder_failures(scan, answers):
            again.replace(outcome.row, Film(outcome.row["file"], 0), identity)
            _write(journal, meter, outcome)


def _write(journal: Journal, meter: Meter, outcome: Answered) -> None:
    row = outcome.row
    journal.append(row, outcome.embedding)
    if row["kind"] == "failure":
        meter.failure(row["file"], row["reason"], row["message"])
    else:
        meter.answered()


def _folder_failures(scan: Scan, answers: Answers) -> Iterator[Answered]:
    """Yield a row for every folder that could not be searched and has none yet."""
    identity = answers.plan.identity
    for folder, failure in scan.found.failures:
        key = identity.key(folder, None, None)
        name = identity.name(folder, Film(folder, 0).relative)
        if scan.add_known(key) and not answers.known.take(key, name, moves=lambda _: False):
            yield Answered(failure_row(name, key, None, failure.reason, failure.message))


async def _keep_synced(journal: Journal) -> None:
    while True:
        await asyncio.sleep(_SYNC_EVERY_S)
        await asyncio.to_thread(journal.sync)


@contextmanager
def _draining(scan: Scan, meter: Meter) -> Iterator[list[int]]:
    """Let the first signal end the run after the calls in flight, and the second at once.

    Gives the signals that have come.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            meter.tell("waiting for the calls in flight; a second signal ends them")
            scan.stop()
        elif task is not None:
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        loop.add_signal_handler(number, end, number)
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _summarize(journal: Journal, scan: Scan, meter: Meter) -> None:
    parts = [f"{journal.answered} answered"]
    if journal.failed:
        parts.append(f"{journal.failed} failed")
    summary = [f"{', '.join(parts)} in {duration(meter.elapsed_s)}"]
    if meter.done_before:
        summary.append(f"{meter.done_before} of them before")
    if skipped := scan.found.skipped_text():
        summary.append(f"skipped: {skipped}")
    print(printable("; ".join(summary)), file=sys.stderr)
