"""Command: `cxr predict --output`. Options -> files -> rows in the journal -> a table."""

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from cxr_client.bulk.export import to_csv, to_parquet
from cxr_client.bulk.journal import Journal, JournalError
from cxr_client.bulk.rows import header
from cxr_client.cli.bulk.again import Failures
from cxr_client.cli.bulk.answers import Answers, ByContent
from cxr_client.cli.bulk.options import Plan, plan_of
from cxr_client.cli.bulk.run import RESUME, run
from cxr_client.cli.bulk.scan import Scan
from cxr_client.cli.connect import connect
from cxr_client.cli.files import FileError, os_message
from cxr_client.cli.names import names_of
from cxr_client.cli.pictures import sweep
from cxr_client.cli.refusals import usage_error
from cxr_client.cli.strip import reader
from cxr_client.cli.usage import UsageError
from cxr_client.description import Limits, ModelDescription
from cxr_client.limiter import Limiter
from cxr_client.many import Patience
from cxr_client.runs import Header, Run, RunError

NICENESS = 10  # of 19: a server on this machine and its other callers come first


async def bulk(arguments: argparse.Namespace) -> int:
    """Answer all images that have no row yet, and write the table; return the exit status."""
    with _giving_way():
        return await _bulk(arguments)


async def _bulk(arguments: argparse.Namespace) -> int:
    plan, read, began_s = plan_of(arguments), reader(arguments), time.time()
    with names_of(arguments) as names:
        async with connect(_with(arguments, jobs=1)) as asking:
            described = await asking.describe_model()
            version = (await asking.health()).server_version
        first = _header(plan, described, version)
        try:
            journal = Journal(plan.journal, first, resume=arguments.resume)
        except JournalError as error:
            raise UsageError(f"--output {error}") from None
        most = arguments.jobs or _most(described.limits)
        limiter = Limiter(most)
        # The client does not retry: the limiter needs to see refusals, and `Patience` waits.
        client = connect(_with(arguments, jobs=most, max_attempts=1), priority="bulk")
        with _told(plan), journal:
            again = Failures(journal.failures if arguments.retry_failed else {})
            before = _known(journal, failures=not arguments.retry_failed)
            by_content = plan.identity.by_content
            answers = Answers(
                plan=plan,
                header=first,
                client=client,
                patience=Patience(limiter, outage_s=arguments.outage),
                read=read,
                refused=partial(usage_error, arguments=arguments),
                known=ByContent(before if by_content else {}),
            )
            scan = Scan(
                names,
                plan.identity,
                set() if by_content else set(before),
                follow=arguments.follow,
                alone=len(arguments.files) == 1 and not arguments.files_from,
            )
            del before
            async with client:
                status, interrupted = await run(
                    journal, scan, answers, limiter, again, quiet=arguments.quiet
                )
            if plan.heatmaps:
                await asyncio.to_thread(sweep, plan.heatmaps, began_s)
    if plan.table and not interrupted:
        await asyncio.to_thread(_export, plan, plan.table)
    return status


@contextmanager
def _giving_way() -> Iterator[None]:
    """Lower the CPU priority of this thread, and of those that it starts."""
    if not hasattr(os, "setpriority"):  # Windows
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(before, NICENESS))
    try:
        yield
    finally:
        with suppress(PermissionError):  # users may lower their priority but not raise it again
            os.setpriority(os.PRIO_PROCESS, 0, before)


def _known(journal: Journal, *, failures: bool) -> dict[str, list[str]]:
    """Return the names of the rows that are kept, by key, and remove them from the journal."""
    before, journal.names = journal.names, {}
    if failures:
        for row in journal.failures.values():
            before.setdefault(row["key"], []).append(row["file"])
    journal.failures = {}
    return before


@contextmanager
def _told(plan: Plan) -> Iterator[None]:
    """Turn a JournalError into a FileError that says how to resume."""
    try:
        yield
    except JournalError as error:
        raise FileError("OUTPUT", f"{plan.journal}: {error}; {RESUME}") from None


def _header(plan: Plan, described: ModelDescription, server_version: str) -> Header:
    from cxr_client import __version__

    made = header(
        described, plan.recorded(), client_version=__version__, server_version=server_version
    )
    if plan.heatmap_label and plan.heatmap_label not in made["labels"]:
        raise UsageError(f'--heatmap-label: the model has no finding "{plan.heatmap_label}"')
    return made


def _most(limits: Limits) -> int:
    """Return how many calls the server takes in bulk; 1 from a server that does not say."""
    return max(1, limits.max_bulk_in_flight_count)


def _with(arguments: argparse.Namespace, **changed: int) -> argparse.Namespace:
    return argparse.Namespace(**(vars(arguments) | changed))


def _export(plan: Plan, table: Path) -> None:
    """Write the table.

    Raises:
        FileError: It cannot be written.
    """
    write = to_csv if table.suffix.lower() == ".csv" else to_parquet
    try:
        write(Run.read(plan.journal), table, wide=plan.wide)
    except OSError as error:
        raise FileError("OUTPUT", f"cannot write {table}: {os_message(error)}") from None
    except RunError as error:
        raise FileError("OUTPUT", f"{plan.journal}: {error}") from None
