"""A served decoder that crashes, hangs or takes all memory costs its own call, and nothing else."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from pydicom import uid

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from dicom_files import dicom
from hostile_codecs import hostile
from images import chest_like, png
from process_memory import peak_pss
from process_tree import descendants, is_running, wait_until
from scrape import scrape
from serving import ServerProcess
from trust.outcomes import outcome_of
from trust.ports import free_port

FAILED = ("INVALID_ARGUMENT", "IMAGE_DECODER_FAILED")
BUDGET_MIB = 768
TWELVE_BITS = chest_like(400, 380).astype(np.uint16) * 16
PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from cxr_server.__main__ import main
from cxr_server.imaging.codecs import CODECS
from hostile_codecs import HostileCodec
CODECS["HOSTILE"] = HostileCodec()
raise SystemExit(main())
"""


def serving(*flags: str) -> ServerProcess:
    return ServerProcess("--cache-entries", "0", *flags, program=(sys.executable, "-c", PROGRAM))


def predict(address: str, image: bytes, **options: float) -> pb.PredictResponse:
    with grpc.insecure_channel(address) as channel:
        return ChestXrayServiceStub(channel).Predict(pb.PredictRequest(image=image), **options)


def is_answered(server: ServerProcess) -> bool:
    return bool(predict(server.address, png(), timeout=60).findings)


def workers(server: ServerProcess) -> list[int]:
    """The processes that decode, without their fork server."""
    return [pid for pid in descendants(server.process.pid) if not descendants(pid)]


@pytest.fixture(scope="module")
def metrics() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def server(metrics: str) -> Iterator[ServerProcess]:
    flags = ("--memory-budget-mib", str(BUDGET_MIB), "--decode-processes", "2")
    with serving("--metrics-listen", metrics, *flags) as server:
        yield server
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("deed", "cause"),
    [
        ("abort", "crashed"),
        ("segfault", "crashed"),
        ("allocate 8 GB", "memory"),
        ("allocate slowly", "memory"),
    ],
)
def test_a_decoder_that_fails_costs_its_own_call_and_is_counted(
    server: ServerProcess, metrics: str, deed: str, cause: str
) -> None:
    calls = 'cxr_calls_refused_total{reason="IMAGE_DECODER_FAILED"}'
    ended = f'cxr_decode_processes_ended_total{{cause="{cause}"}}'
    before = scrape(metrics)
    with ThreadPoolExecutor() as threads, peak_pss(server.process.pid) as peak_mib:
        beside = [threads.submit(is_answered, server) for _ in range(3)]
        bad = outcome_of(lambda: predict(server.address, hostile(deed), timeout=60))
        assert all(each.result() for each in beside)
    assert bad == FAILED
    assert peak_mib[0] < BUDGET_MIB
    assert is_answered(server)
    after = scrape(metrics)
    for name in (calls, ended):
        assert after[name] - before.get(name, 0) == 1
    assert after["cxr_decode_processes"] <= 2
    assert f'"cause": "{cause}"' in server.log


@pytest.mark.slow
def test_an_image_that_hangs_its_decoder_ends_at_the_deadline_and_so_does_its_process(
    server: ServerProcess, metrics: str
) -> None:
    is_answered(server)
    bad = outcome_of(lambda: predict(server.address, hostile("sleep"), timeout=1))
    assert bad[0] == "DEADLINE_EXCEEDED"
    ended = 'cxr_decode_processes_ended_total{cause="abandoned"}'
    wait_until(lambda: scrape(metrics).get(ended, 0) >= 1)
    assert is_answered(server)


def test_a_worker_that_is_killed_costs_no_call(server: ServerProcess) -> None:
    assert is_answered(server)
    for pid in workers(server):
        os.kill(pid, signal.SIGKILL)
    assert is_answered(server)


def test_the_log_says_where_images_are_decoded(server: ServerProcess) -> None:
    wait_until(lambda: '"decoding": "in 2 processes"' in server.log)


@pytest.mark.slow
def test_signals_to_every_process_of_the_server_do_not_end_calls_in_flight() -> None:
    with serving("--decode-processes", "1") as server:
        assert is_answered(server)
        below = descendants(server.process.pid)
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(predict, server.address, hostile("long nap"), timeout=60)
            wait_until(lambda: _in_flight(server) == 1)
            for number in (signal.SIGINT, signal.SIGTERM):
                for pid in below:
                    os.kill(pid, number)
            server.process.send_signal(signal.SIGTERM)
            assert answer.result(60).findings
        assert server.process.wait(60) == 0
        assert not any(is_running(pid) for pid in below)
        assert "Traceback" not in server.log


def _in_flight(server: ServerProcess) -> int:
    with grpc.insecure_channel(server.address) as channel:
        return ChestXrayServiceStub(channel).Health(pb.HealthRequest()).in_flight_count


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["nothing", "sleep", "spin"])
def test_no_process_outlives_a_server_that_is_killed(deed: str) -> None:
    with serving("--decode-processes", "1") as server, ThreadPoolExecutor() as threads:
        assert is_answered(server)
        below = descendants(server.process.pid)
        assert len(below) == 2
        threads.submit(outcome_of, lambda: predict(server.address, hostile(deed), timeout=60))
        wait_until(lambda: deed == "nothing" or _in_flight(server) == 1)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(is_running(pid) for pid in below))


@pytest.mark.slow
def test_jpeg_2000_is_decoded_in_a_process_though_the_rest_is_decoded_in_threads() -> None:
    with ServerProcess("--decode-processes", "0", "--cache-entries", "0") as server:
        assert is_answered(server)
        native = predict(server.address, dicom(TWELVE_BITS), timeout=60)
        assert descendants(server.process.pid) == []
        jpeg_2000 = dicom(TWELVE_BITS, syntax=uid.JPEG2000Lossless)
        reply = predict(server.address, jpeg_2000, timeout=60)
        assert reply.findings == native.findings
        assert len(workers(server)) == 1
        assert re.search(r'"decoding": "in \d+ threads, JPEG 2000 in a process"', server.log)
        assert server.stop() == 0


@pytest.mark.slow
def test_a_picture_of_the_whole_image_is_the_same_from_threads_and_processes() -> None:
    render = pb.RenderOptions(frame=pb.RENDER_FRAME_ORIGINAL)
    request = pb.ExplainRequest(image=png(chest_like(900, 700)), labels=["Mass"], render=render)
    pictures = []
    for count in ("0", "1"):
        with (
            ServerProcess("--decode-processes", count) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            (only,) = ChestXrayServiceStub(channel).Explain(request, timeout=60).explanations
            pictures.append(only.heatmap)
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 10_000


@pytest.mark.slow
def test_a_server_whose_codecs_cannot_be_imported_does_not_start_and_says_why() -> None:
    local = PROGRAM.replace("HostileCodec()", "type('Local', (HostileCodec,), {})()")
    command = [sys.executable, "-c", local, "serve", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "what is registered cannot be imported" in done.stderr
    assert "Local" in done.stderr
    assert "Traceback" not in done.stderr
