"""Command: `cxr report`. Next: run, with a `ReportWriter`."""

import argparse
import asyncio
from datetime import datetime
from functools import partial
from pathlib import Path

from cxr_client.cli.connect import connect
from cxr_client.cli.files import Job
from cxr_client.cli.images import find
from cxr_client.cli.refusals import usage_error
from cxr_client.cli.report.facts import Facts
from cxr_client.cli.report.writer import ReportWriter, prepare
from cxr_client.cli.run import Answered, run
from cxr_client.cli.strip import reader
from cxr_client.enums import RenderFormat, RenderFrame, RenderKind
from cxr_client.requests import RenderOptions

_THUMBNAIL = RenderOptions(
    kind=RenderKind.OVERLAY,
    frame=RenderFrame.ORIGINAL,
    format=RenderFormat.JPEG,
    max_side_px=256,
    legend=False,
)
"""About 10 kB as JPEG, sharp at 128 CSS pixels on a screen of twice that density."""


async def report(arguments: argparse.Namespace) -> int:
    """Explain the top finding of every image and write the report."""
    read = reader(arguments)
    found = find(arguments)
    prepare(arguments.output)
    async with connect(arguments) as client:

        async def answer(job: Job) -> Answered:
            explained = await client.explain(
                await asyncio.to_thread(read, job),
                render=_THUMBNAIL,
                strict_input=arguments.strict or None,
                presentation=arguments.presentation,
            )
            return explained, []

        facts = Facts(
            root=None if arguments.files_from else _folder(arguments.files),
            skipped=found.skipped_text(),
            start_time=datetime.now().astimezone(),
            model=await client.describe_model(),
        )
        with ReportWriter(arguments.output, facts) as writer:
            return await run(
                found,
                answer,
                writer,
                refused=partial(usage_error, arguments=arguments),
                at_a_time=arguments.jobs,
                quiet=arguments.quiet,
            )


def _folder(names: list[str]) -> Path | None:
    """Return the folder that is searched; None if there are several paths, or a file."""
    folder = Path(names[0])
    return folder if len(names) == 1 and folder.is_dir() else None
