"""Images: the commands that answer images, `predict` and `explain`."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from cxr_client.async_client import AsyncClient
from cxr_client.cli import pictures
from cxr_client.cli.batch import DEFAULT_JOBS
from cxr_client.cli.bulk.options import check_none
from cxr_client.cli.connect import connect
from cxr_client.cli.explainer import Explainer
from cxr_client.cli.files import Job, Search, search
from cxr_client.cli.interrupts import interruptible
from cxr_client.cli.labels import resolve
from cxr_client.cli.names import names_of
from cxr_client.cli.output import CsvWriter, JsonWriter, Writer
from cxr_client.cli.refusals import usage_error
from cxr_client.cli.run import Answered, run
from cxr_client.cli.strip import reader
from cxr_client.cli.studies import Studies, group
from cxr_client.cli.table import LineWriter, TableWriter
from cxr_client.cli.usage import UsageError
from cxr_client.enums import CacheMode, RenderKind
from cxr_client.requests import RenderOptions


def find(arguments: argparse.Namespace) -> Search:
    """Return the images that the command line names.

    Raises:
        UsageError: There are none.
    """
    with names_of(arguments) as names, interruptible():
        max_bytes = arguments.max_request_mib * 2**20
        found = search(names, follow=arguments.follow, max_bytes=max_bytes)
    if not (found.jobs or found.failures):
        raise UsageError(_nothing_in(arguments.files or [arguments.files_from], found))
    return found


async def predict(arguments: argparse.Namespace) -> int:
    """Score every image."""
    if arguments.output:
        from cxr_client.cli.bulk.command import bulk  # locks files, which not every system can

        return await bulk(arguments)
    check_none(arguments)
    arguments.jobs = arguments.jobs or DEFAULT_JOBS
    _check(arguments)
    read = reader(arguments)
    async with connect(arguments) as client:

        async def answer(job: Job) -> Answered:
            image = await asyncio.to_thread(read, job)
            predicted = await client.predict(
                image,
                top_k=arguments.top_k,
                strict_input=arguments.strict or None,
                presentation=arguments.presentation,
                include_embedding=arguments.include_embedding or None,
                cache=_cache_mode(arguments),
            )
            return predicted, []

        return await _run(arguments, answer, explains=False)


async def explain(arguments: argparse.Namespace) -> int:
    """Explain findings in every image and write the pictures."""
    _check(arguments)
    read = reader(arguments)
    render = RenderOptions(
        kind=arguments.kind,
        frame=arguments.frame,
        color_map=arguments.color_map,
        opacity=arguments.opacity,
        legend=arguments.legend,
        max_side_px=arguments.max_side,
        scale=arguments.scale,
        format=arguments.format,
        fixed_scale_logits=arguments.fixed_scale,
        contours=arguments.contours,
    )
    if arguments.kind != RenderKind.NONE:
        pictures.prepare(arguments.output)
    async with connect(arguments) as client:
        labels, drawn = await _labels(client, arguments)
        explainer = Explainer(
            client=client,
            labels=labels,
            drawn=drawn,
            above_threshold=arguments.above_threshold,
            method=arguments.method,
            render=render,
            strict_input=arguments.strict or None,
            presentation=arguments.presentation,
            include_embedding=arguments.include_embedding or None,
            cache=_cache_mode(arguments),
        )

        async def answer(job: Job) -> Answered:
            image = await asyncio.to_thread(read, job)
            explained = await explainer.explain(image)
            return explained, await asyncio.to_thread(
                pictures.save, explained, arguments.output, job
            )

        return await _run(arguments, answer, explains=True)


def _cache_mode(arguments: argparse.Namespace) -> CacheMode | None:
    return CacheMode.BYPASS if arguments.no_cache else None


def _check(arguments: argparse.Namespace) -> None:
    if arguments.include_embedding and not arguments.json:
        raise UsageError("--include-embedding: only JSON has room for it; give --json")


async def _labels(
    client: AsyncClient, arguments: argparse.Namespace
) -> tuple[list[str], list[str]]:
    """Return the labels to explain and those of them to draw; none means the default."""
    if not (arguments.label or arguments.heatmap_label):
        return [], []
    described = await client.describe_model()
    known = [finding.label for finding in described.findings]
    chosen = resolve("--label", arguments.label, known)
    drawn = resolve("--heatmap-label", arguments.heatmap_label, known)
    for label in drawn:
        if label not in (chosen or (known if arguments.above_threshold else ())):
            raise UsageError(f'--heatmap-label: "{label}" is not explained; give --label, too')
    return chosen, drawn


async def _run(
    arguments: argparse.Namespace,
    answer: Callable[[Job], Awaitable[Answered]],
    *,
    explains: bool,
) -> int:
    """Answer all images; return the exit status."""
    found = find(arguments)
    with interruptible():
        studies = group(found) if arguments.by_study else Studies()
    return await run(
        found,
        answer,
        _writer(arguments, found, studies, explains=explains),
        refused=partial(usage_error, arguments=arguments),
        at_a_time=arguments.jobs,
        quiet=arguments.quiet,
    )


def _writer(
    arguments: argparse.Namespace, found: Search, studies: Studies, *, explains: bool
) -> Writer:
    if arguments.json:
        return JsonWriter(studies)
    if arguments.csv:
        return CsvWriter(explains=explains, verbose=arguments.verbose, studies=studies)
    if arguments.verbose or len(found.jobs) == 1:
        return TableWriter(studies, verbose=arguments.verbose)
    return LineWriter([job.name for job in found.jobs], studies)


def _nothing_in(names: list[str], found: Search) -> str:
    skipped = found.skipped_text()
    nothing = f"no DICOM, PNG or JPEG files in {', '.join(names)}"
    return f"{nothing}; skipped: {skipped}" if skipped else nothing
