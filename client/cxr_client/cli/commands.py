"""Commands: arguments -> calls -> output and an exit status."""

import argparse
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

from cxr_client.cli.batch import Progress, in_order
from cxr_client.cli.files import Job, find_jobs, picture_path
from cxr_client.cli.output import (
    Answer,
    CsvWriter,
    Failure,
    JsonWriter,
    Pictures,
    TableWriter,
    Writer,
    aligned,
    os_message,
    plain,
)
from cxr_client.cli.text import printable
from cxr_client.client import AsyncClient
from cxr_client.config import RetryConfig, TLSConfig
from cxr_client.enums import Reliability
from cxr_client.errors import CxrError, UnauthenticatedError, UnavailableError
from cxr_client.requests import RenderOptions
from cxr_client.results import Explanation

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SERVER = 3


class UsageError(Exception):
    """The arguments contradict each other or name no images."""


Done = tuple[Answer, Pictures] | Failure


async def predict(arguments: argparse.Namespace) -> int:
    """Score every image."""
    writer = CsvWriter if arguments.csv else JsonWriter if arguments.json else TableWriter
    async with _client(arguments) as client:

        async def work(job: Job) -> Done:
            try:
                return await client.predict(
                    job.source, top_k=arguments.top_k, strict_input=arguments.strict or None
                ), []
            except (CxrError, OSError) as error:
                return error

        return await _run(arguments, work, writer(), skip=None)


async def explain(arguments: argparse.Namespace) -> int:
    """Explain findings in every image and write the pictures."""
    render = RenderOptions(
        kind=arguments.kind,
        frame=arguments.frame,
        color_map=arguments.color_map,
        opacity=arguments.opacity,
        legend=arguments.legend,
        max_side_px=arguments.max_side,
        scale=arguments.scale,
        format=arguments.format,
    )
    async with _client(arguments) as client:

        async def work(job: Job) -> Done:
            try:
                answer = await client.explain(
                    job.source,
                    labels=arguments.label,
                    heatmap_labels=arguments.heatmap_label,
                    method=arguments.method,
                    render=render,
                    strict_input=arguments.strict or None,
                )
                return answer, [_save(each, arguments.output, job) for each in answer.explanations]
            except (CxrError, OSError) as error:
                return error

        writer = JsonWriter() if arguments.json else TableWriter()
        return await _run(arguments, work, writer, skip=arguments.output)


async def health(arguments: argparse.Namespace) -> int:
    """Print the state of the server; the exit status is 1 unless it is serving."""
    async with _client(arguments) as client:
        state = await (
            client.wait_until_ready(arguments.wait) if arguments.wait else client.health()
        )
    if arguments.json:
        print(json.dumps(plain(state)))
    else:
        model = f"{state.model.name} {state.model.version}" if state.model else "no model yet"
        print(
            printable(
                f"{state.status}: {model} on {state.engine or 'no engine yet'} "
                f"({state.device or 'no device yet'}), server {state.server_version}, "
                f"up {state.uptime_s:.0f} s, {state.queue_depth} queued, "
                f"{state.in_flight_count} in flight"
            )
        )
    return EXIT_OK if state.serving else EXIT_FAILED


async def model(arguments: argparse.Namespace) -> int:
    """Print the description of the loaded model."""
    async with _client(arguments) as client:
        described = await client.describe_model()
    if arguments.json:
        print(json.dumps(plain(described)))
        return EXIT_OK
    limits = described.limits
    facts = [
        ["model", f"{described.model.name} {described.model.version}"],
        ["intended use", described.model.intended_use],
        ["architecture", described.architecture],
        ["weights sha256", described.model.weights_sha256],
        ["upstream sha256", described.upstream_sha256 or "none: trained for this bundle"],
        ["licence", described.license],
        ["input", f"{described.input_side_px} px square, {described.preprocessing_id}"],
        ["evidence grid", f"{described.evidence_side} x {described.evidence_side}"],
        ["methods", ", ".join(described.methods)],
        ["formats", ", ".join(described.image_formats)],
        [
            "limits",
            f"{limits.max_request_bytes} bytes, sides of {limits.min_side_px} to "
            f"{limits.max_side_px} px, {limits.max_pixel_count} pixels",
        ],
    ]
    print("\n".join(aligned(facts)) + "\n")
    rows = [["finding", "threshold", "reliability", ""]]
    for finding in described.findings:
        known = finding.reliability is not Reliability.UNSPECIFIED
        reliability = finding.reliability if known else ""
        note = finding.reliability_note
        rows.append([finding.label, f"{finding.threshold:.4f}", reliability, note])
    print("\n".join([*aligned(rows), "", *map(printable, described.notices)]))
    return EXIT_OK


COMMANDS: dict[str, Callable[[argparse.Namespace], Coroutine[Any, Any, int]]] = {
    "predict": predict,
    "explain": explain,
    "health": health,
    "model": model,
}


def _client(arguments: argparse.Namespace) -> AsyncClient:
    token = os.environ.get("CXR_TOKEN")
    if arguments.token_file:
        token = arguments.token_file.read_text(encoding="utf-8").strip()
    given = {
        "ca": arguments.ca_file,
        "cert": arguments.cert_file,
        "key": arguments.key_file,
        "server_name": arguments.tls_server_name,
    }
    try:
        tls = TLSConfig(**given) if arguments.tls or any(given.values()) else None
        return AsyncClient(
            arguments.server,
            timeout_s=arguments.timeout,
            max_request_bytes=arguments.max_request_mib * 2**20,
            tls=tls,
            retry=RetryConfig(max_attempts=arguments.max_attempts),
            token=token or None,
            insecure=arguments.insecure,
        )
    except ValueError as error:
        raise UsageError(error) from None


def _save(explanation: Explanation, folder: Path, job: Job) -> Path | None:
    """Write the picture of one explanation, where there is one."""
    if not explanation.heatmap:
        return None
    path = picture_path(folder, job, explanation.finding.label)
    path.parent.mkdir(parents=True, exist_ok=True)
    return explanation.save(path)


async def _run(
    arguments: argparse.Namespace,
    work: Callable[[Job], Awaitable[Done]],
    writer: Writer,
    *,
    skip: Path | None,
) -> int:
    """Process all images; a failure is printed and does not stop the others."""
    jobs = find_jobs(arguments.files, skip=skip, max_bytes=arguments.max_request_mib * 2**20)
    if not jobs:
        raise UsageError("there are no PNG or JPEG files in " + ", ".join(arguments.files))
    progress = Progress(len(jobs))
    answered = failed = 0
    try:
        async with aclosing(in_order(jobs, work, arguments.jobs)) as outcomes:
            async for job, done in outcomes:
                progress.clear()
                if isinstance(done, Exception):
                    failed += 1
                    writer.failure(job.name, done)
                    reason = os_message(done) if isinstance(done, OSError) else done
                    line = printable(f"cxr: {job.name}: {reason}")
                    print(line, file=sys.stderr, flush=True)
                    # Continue through an outage only where the server has answered before.
                    if not answered and isinstance(done, UnavailableError | UnauthenticatedError):
                        if failed < len(jobs):
                            print(f"cxr: {len(jobs) - failed} images not answered", file=sys.stderr)
                        return EXIT_SERVER
                else:
                    answered += 1
                    writer.answer(job.name, *done)
                progress.step(failed=isinstance(done, Exception))
    finally:
        progress.clear()
    writer.end()
    return EXIT_FAILED if failed else EXIT_OK
