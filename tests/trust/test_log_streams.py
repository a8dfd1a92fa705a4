"""A server whose stderr or stdout is not read, full, closed or gone."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import png
from scrape import scrape
from serving import PROGRAM, ServerProcess
from trust.ports import free_port
from trust.test_process_life import held

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("decoding_in_threads")]
REQUEST = pb.PredictRequest(image=png())
LOST = "cxr_log_lines_dropped_total"


def shell(redirection: str) -> tuple[str, ...]:
    """Return a program that runs the server with a redirection such as `2>&-`."""
    return ("sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM)


@contextmanager
def running(
    *flags: str, program: tuple[str, ...] = PROGRAM, **streams: Any
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a server whose address is known before it says anything."""
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([*program, "serve", "--listen", address, *flags], **streams)
    try:
        yield process, address
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def answered(address: str, count: int = 1) -> None:
    """Wait until the server serves, then make calls."""
    with grpc.insecure_channel(address) as channel:
        stub = ChestXrayServiceStub(channel)
        serving = pb.SERVING_STATUS_SERVING
        while stub.Health(pb.HealthRequest(), wait_for_ready=True, timeout=90).status != serving:
            pass
        for _ in range(count):
            assert stub.Predict(REQUEST, timeout=90).findings


async def answered_during(server: subprocess.Popen[bytes], address: str, end: Callable[[], Any]):
    """Hold a call, end the server, and finish the call. Returns the exit status."""
    async with grpc.aio.insecure_channel(address) as channel:
        upload = await held(channel)
        end()
        await asyncio.sleep(0.1)  # the signal's line is written, or not, before the answer
        assert (await upload.finish()).findings
        return await asyncio.to_thread(server.wait, 90)


async def test_stderr_that_nobody_reads_costs_no_call_and_no_drain() -> None:
    with ServerProcess(stderr=subprocess.PIPE) as server:
        await asyncio.to_thread(answered, server.address, 1000)  # four times what a pipe holds
        stop = server.process.terminate
        assert await answered_during(server.process, server.address, stop) == 0


async def test_a_reader_of_stderr_that_has_gone_costs_no_call_and_no_drain() -> None:
    with ServerProcess("--drain-pause-s", "0.5", stderr=subprocess.PIPE) as server:
        assert server.process.stderr
        server.process.stderr.close()
        await asyncio.to_thread(answered, server.address, 10)
        stop = server.process.terminate
        assert await answered_during(server.process, server.address, stop) == 0


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
async def test_lines_that_stderr_does_not_take_are_counted(redirection: str) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    with ServerProcess("--metrics-listen", metrics, program=shell(redirection)) as server:
        await asyncio.to_thread(answered, server.address, 20)
        while scrape(metrics)[LOST] < 20:
            await asyncio.sleep(0.01)
        stop = server.process.terminate
        assert await answered_during(server.process, server.address, stop) == 0
    assert server.log == ""


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- 2>&-", ">/dev/full 2>/dev/full"])
async def test_stdout_that_takes_nothing_costs_nothing(redirection: str) -> None:
    with running(program=shell(redirection), stderr=subprocess.DEVNULL) as (process, address):
        await asyncio.to_thread(answered, address)
        assert await answered_during(process, address, process.terminate) == 0


def test_no_other_file_takes_the_place_of_streams_that_are_closed() -> None:
    with running(program=shell("<&- >&- 2>&-")) as (process, address):
        answered(address)
        files = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (0, 1, 2)]
    assert files[:2] == ["/dev/null", "/dev/null"]
    assert files[2].startswith("pipe:")


@pytest.mark.usefixtures("interruptible")
async def test_ctrl_c_at_a_pipeline_with_tee_answers_the_call_in_flight(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tee = subprocess.Popen(
        ["tee", str(log)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
    )
    streams = {"stdout": tee.stdin, "stderr": tee.stdin, "process_group": tee.pid}
    with running(**streams) as (process, address):
        assert tee.stdin
        tee.stdin.close()
        await asyncio.to_thread(answered, address)

        def ctrl_c() -> None:
            os.killpg(tee.pid, signal.SIGINT)
            assert tee.wait(90) == -signal.SIGINT

        assert await answered_during(process, address, ctrl_c) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert "serving" in [event["event"] for event in events]
