"""Decode processes: the same results as threads, and limits that hold whatever a decoder does."""

import errno
import gc
import mmap
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import pytest
from pydicom import uid

from cxr_server.errors import (
    DeadlineExpired,
    DecoderUnavailable,
    Draining,
    ImageDecoderFailed,
    ImageError,
    ImageTooManyPixels,
)
from cxr_server.imaging.codecs import CODECS
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.decode_processes.forking import DecodeProcessesUnavailable
from cxr_server.inference.decode_processes.messages import Task
from cxr_server.inference.decode_processes.pool import DecodeProcesses
from cxr_server.inference.decode_processes.process import DecodeProcess, RaisedInProcess
from cxr_server.inference.decode_processes.sizes import SMALL_BYTES
from cxr_server.inference.model_input import ModelInput
from cxr_server.inference.preprocess import XRV, Hold, Job, XRVPreprocessing, preprocess
from cxr_server.observability.metrics import Metrics
from dicom_files import dicom
from hostile_codecs import DECODE_BYTES, HostileCodec, hostile
from images import chest_like, jpeg, png
from process_memory import peak_pss, pss_mib
from process_tree import descendants, is_running, is_zombie, wait_until

MIB = 2**20
JOB = Job(preprocessing=XRV, side_px=224, limits=DecodeLimits())
WHOLE = Job(preprocessing=XRV, side_px=224, limits=DecodeLimits(), keep_whole=True)
GOOD = png()
TWELVE_BITS = chest_like(200, 180).astype(np.uint16) * 16


def check() -> None:
    """Nobody ends the work."""


def hold(decode_bytes: int, beside_bytes: int) -> AbstractContextManager[None]:
    """There is memory for everything."""
    return nullcontext()


class Decoders(DecodeProcesses):
    """Processes that know the hostile codec, and what was counted of them."""

    def __init__(self, limit: int = 2, **limits: float) -> None:
        self.metrics = Metrics()
        super().__init__(limit, arena_bytes=64 * MIB, metrics=self.metrics, **limits)

    def decode(
        self, image: bytes, job: Job = JOB, *, check: Callable[[], None] = check
    ) -> ModelInput:
        return self.preprocess(image, job, hold=hold, check=check)

    def ended(self, cause: str) -> float:
        """How many processes ended for this cause."""
        name, labels = "cxr_decode_processes_ended_total", {"cause": cause}
        return self.metrics.registry.get_sample_value(name, labels) or 0


@contextmanager
def decoders(limit: int = 2, **limits: float) -> Iterator[Decoders]:
    with patch.dict(CODECS, {"HOSTILE": HostileCodec()}):
        made = Decoders(limit, **limits)
        try:
            made.decode(GOOD)
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[Decoders]:
    """Processes whose limits of time are not reached by the tests that share them."""
    with decoders() as made:
        yield made


IMAGES = {
    "png": png,
    "png of 16 bits": lambda: png(chest_like(300, 260).astype(np.uint16) * 257),
    "png in colour": lambda: png(
        np.stack([chest_like(120, 100)] * 2 + [chest_like(120, 100, 1)], -1)
    ),
    "jpeg": lambda: jpeg(chest_like(500, 400)),
    "dicom": lambda: dicom(TWELVE_BITS),
    "jpeg 2000": lambda: dicom(TWELVE_BITS, syntax=uid.JPEG2000Lossless),
    "larger than what is retained": lambda: png(chest_like(2600, 2400), compress_level=1),
}


@pytest.mark.parametrize("job", [JOB, WHOLE], ids=["input", "whole"])
@pytest.mark.parametrize("name", IMAGES)
def test_processes_give_what_threads_give_bit_for_bit(
    processes: Decoders, name: str, job: Job
) -> None:
    image = IMAGES[name]()
    ours = processes.decode(image, job)
    theirs = preprocess(image, job, hold=hold, check=check)
    assert (ours.facts, ours.warnings) == (theirs.facts, theirs.warnings)
    for field in ("image_chw", "picture_hw", "whole_hw"):
        mine, thine = getattr(ours, field), getattr(theirs, field)
        assert (mine is None) is (thine is None) is (field == "whole_hw" and job is JOB)
        if mine is not None:
            assert mine.dtype == thine.dtype
            assert np.array_equal(mine, thine)


@pytest.mark.parametrize(
    "image", [b"", b"GIF89a", GOOD[:-40], png(np.zeros((8, 90), np.uint8))], ids=range(4)
)
def test_processes_refuse_what_threads_refuse_in_the_same_words(
    processes: Decoders, image: bytes
) -> None:
    refusals = []
    for decode in (processes.decode, lambda file: preprocess(file, JOB, hold=hold, check=check)):
        with pytest.raises(ImageError) as caught:
            decode(image)
        refusals.append((type(caught.value), caught.value.message, caught.value.field))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("deed", ["abort", "segfault", "exit", "lie", "abort in the header"])
def test_a_decoder_that_crashes_costs_its_call_and_one_process(
    processes: Decoders, deed: str
) -> None:
    before, crashes = set(processes.pids), processes.ended("crashed")
    with pytest.raises(ImageDecoderFailed, match="crashed"):
        processes.decode(hostile(deed))
    assert processes.ended("crashed") == crashes + 1
    assert processes.decode(GOOD).facts.height_px == 256
    (gone,) = before - set(processes.pids)
    assert not is_running(gone)


def test_a_signal_without_a_name_that_ends_a_decoder_costs_no_place() -> None:
    with decoders(limit=1) as processes:
        with pytest.raises(ImageDecoderFailed, match="crashed"):
            processes.decode(hostile("end by a signal without a name"))
        assert processes.ended("crashed") == 1
        assert _is_decoded(processes)


def test_a_process_that_cannot_be_cleared_up_costs_no_place() -> None:
    def clear_up(process: DecodeProcess) -> None:
        close(process)
        raise OSError("it cannot be released")

    close = DecodeProcess.close
    with decoders(limit=1) as processes:
        with patch.object(DecodeProcess, "close", clear_up), pytest.raises(OSError, match="rele"):
            processes.decode(hostile("abort"))
        assert _is_decoded(processes)


def _is_decoded(processes: Decoders) -> bool:
    """Whether an image is decoded, without waiting for a place for ever."""

    def check() -> None:
        if time.monotonic() > until_s:
            raise DeadlineExpired("no place")

    until_s = time.monotonic() + 30
    return processes.decode(GOOD, check=check).facts.height_px == 256


@pytest.mark.parametrize("deed", ["sleep", "spin"])
def test_a_decoder_that_hangs_is_ended(deed: str) -> None:
    with decoders(time_limit_s=1.0) as processes:
        with pytest.raises(ImageDecoderFailed, match="longer than 1 s"):
            processes.decode(hostile(deed))
        assert processes.ended("time") == 1
        assert processes.decode(GOOD).facts.height_px == 256


@pytest.mark.parametrize("deed", ["allocate 8 GB", "allocate slowly", "allocate 100 MB"])
def test_a_decoder_gets_no_more_memory_than_its_header_states(
    processes: Decoders, deed: str
) -> None:
    before_mib = pss_mib(os.getpid())
    with (
        peak_pss(os.getpid()) as peak_mib,
        pytest.raises(ImageDecoderFailed, match="more memory"),
    ):
        processes.decode(hostile(deed))
    assert peak_mib[0] - before_mib < 80
    assert processes.decode(GOOD).facts.height_px == 256


def test_an_exception_that_is_no_fault_of_the_image_arrives_with_its_traceback(
    processes: Decoders,
) -> None:
    before = processes.pids
    with pytest.raises(RaisedInProcess, match=r"(?s)Traceback.*hostile_codecs.*KeyError"):
        processes.decode(hostile("fail"))
    assert processes.pids == before


@pytest.mark.slow
def test_a_process_whose_caller_has_gone_is_ended_if_it_does_not_end_its_work_soon() -> None:
    gone = threading.Event()

    def check() -> None:
        if gone.is_set():
            raise DeadlineExpired("the caller has gone")

    with decoders(limit=1, grace_s=3.0) as processes:
        (pid,) = processes.pids
        for deed, is_kept in (("nap", True), ("sleep", False)):
            gone.clear()
            threading.Timer(0.1, gone.set).start()
            with pytest.raises(DeadlineExpired):
                processes.decode(hostile(deed), check=check)
            assert (processes.pids == [pid]) is is_kept
        assert processes.ended("abandoned") == 1
        assert processes.decode(GOOD).facts.height_px == 256


def test_a_process_that_is_killed_while_idle_costs_no_call() -> None:
    with decoders() as processes:
        (pid,) = processes.pids
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(pid))
        assert processes.decode(GOOD).facts.height_px == 256
        assert processes.ended("killed") == 1


@pytest.mark.slow
def test_an_image_whose_process_is_killed_from_outside_is_decoded_by_another() -> None:
    with decoders(limit=1) as processes, ThreadPoolExecutor() as threads:
        for kills, answered in ((1, True), (2, False)):
            answer = threads.submit(processes.decode, hostile("long nap"))
            for _ in range(kills):
                wait_until(lambda: len(processes.pids) == 1)
                (pid,) = processes.pids
                time.sleep(0.2)
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: pid not in processes.pids)  # noqa: B023 -- called here
            if answered:
                assert answer.result(60).facts.height_px == 64
            else:
                with pytest.raises(ImageDecoderFailed):
                    answer.result(60)
        assert processes.ended("killed") == 3


def test_a_fork_server_that_is_killed_is_replaced_and_its_workers_end_with_it() -> None:
    with decoders() as processes:
        (worker,) = processes.pids
        (fork_server,) = set(descendants(os.getpid())) - {worker} - {*_others(worker)}
        os.kill(fork_server, signal.SIGKILL)
        wait_until(lambda: not is_running(worker) or is_zombie(worker))
        assert processes.decode(GOOD).facts.height_px == 256


def _others(worker: int) -> Iterator[int]:
    """Descendants of this process that are not above the worker."""
    for pid in descendants(os.getpid()):
        if worker not in descendants(pid):
            yield pid


def test_closing_ends_every_process_also_one_that_works() -> None:
    with decoders() as processes, ThreadPoolExecutor() as threads:
        before = set(descendants(os.getpid())) | set(processes.pids)
        answer = threads.submit(processes.decode, hostile("sleep"))
        wait_until(lambda: len(processes) == 1)
        time.sleep(0.2)
        pids = processes.pids
        processes.close()
        with pytest.raises(Draining):
            answer.result(60)
        with pytest.raises(Draining):
            processes.decode(GOOD)
        assert not any(is_running(pid) for pid in pids)
        assert not [pid for pid in before if is_zombie(pid)]


def test_a_process_has_neither_grpc_nor_an_engine_and_leaves_no_core_dump(
    processes: Decoders,
) -> None:
    processes.decode(GOOD)
    for pid in processes.pids:
        libraries = Path(f"/proc/{pid}/maps").read_text()
        assert "imagecodecs" in libraries
        assert not re.search(r"cygrpc|openvino|libtorch|google/_upb", libraries)
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +1 +1 ", limits)


def test_signals_that_are_meant_for_the_server_do_not_end_a_process(processes: Decoders) -> None:
    processes.decode(GOOD)
    before = processes.pids
    for pid in before:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
    assert processes.decode(GOOD).facts.height_px == 256
    assert processes.pids == before


def test_what_decoding_takes_is_held_while_it_runs_and_may_be_refused(processes: Decoders) -> None:
    held: list[int] = []

    @contextmanager
    def counted(decode_bytes: int, beside_bytes: int) -> Iterator[None]:
        held.append(decode_bytes)
        yield
        held.append(-decode_bytes)

    def within(limit_bytes: int) -> Hold:
        def hold(decode_bytes: int, beside_bytes: int) -> AbstractContextManager[None]:
            if decode_bytes <= limit_bytes:
                return nullcontext()
            raise ImageTooManyPixels("too much")

        return hold

    before = processes.pids
    processes.preprocess(hostile("nothing"), JOB, hold=counted, check=check)
    assert held == [SMALL_BYTES, -SMALL_BYTES, DECODE_BYTES, -DECODE_BYTES]
    processes.preprocess(GOOD, JOB, hold=within(SMALL_BYTES), check=check)
    for limit_bytes in (SMALL_BYTES, 0):
        with pytest.raises(ImageTooManyPixels):
            processes.preprocess(hostile("nothing"), JOB, hold=within(limit_bytes), check=check)
    assert processes.decode(GOOD).facts.height_px == 256
    assert processes.pids == before


def test_more_threads_than_processes_share_them() -> None:
    with decoders(limit=1) as processes, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(processes.decode, [hostile("nap")] * 4))
        assert [answer.facts.height_px for answer in answers] == [64] * 4
        assert len(processes) == 1


def test_a_server_with_more_than_1024_descriptors_starts_processes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with decoders(1) as processes:
            assert processes.preprocess(GOOD, JOB, hold=hold, check=check).facts.width_px
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("module", "name"),
    [(socket, "socketpair"), (os, "pipe2"), (os, "memfd_create"), (mmap, "mmap")],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_process_that_cannot_be_started_leaves_no_descriptors_and_the_call_may_be_repeated(
    processes: Decoders, module: ModuleType, name: str
) -> None:
    processes.decode(GOOD)
    for _ in processes.pids:
        with pytest.raises(ImageDecoderFailed):
            processes.decode(hostile("abort"))
    before = _descriptors()
    with (
        patch.object(module, name, side_effect=OSError(errno.EMFILE, "too many open files")),
        pytest.raises(DecoderUnavailable, match="too many open files") as refusal,
    ):
        processes.decode(GOOD)
    assert refusal.value.retry_after_ms
    assert _descriptors() == before
    assert processes.decode(GOOD).facts.height_px == 256


@pytest.mark.parametrize(
    ("module", "name"), [(socket, "socketpair"), (subprocess, "Popen")], ids=["socket", "process"]
)
def test_a_fork_server_that_cannot_be_started_leaves_no_descriptors(
    module: ModuleType, name: str
) -> None:
    processes, before = Decoders(), _descriptors()
    with (
        patch.object(module, name, side_effect=OSError(errno.EMFILE, "too many open files")),
        pytest.raises(DecodeProcessesUnavailable, match="too many open files"),
    ):
        processes.start()
    assert _descriptors() == before


def _descriptors() -> set[str]:
    """The open descriptors of this process."""
    gc.collect()  # closes what earlier tests have left
    return set(os.listdir("/proc/self/fd"))


def test_memory_of_a_large_image_is_given_back_also_if_nobody_waits_for_it(
    processes: Decoders,
) -> None:
    held: list[int] = []

    def counted(decode_bytes: int, beside_bytes: int) -> AbstractContextManager[None]:
        held.append(decode_bytes)
        return nullcontext()

    def gone_while_pixels_are_decoded() -> None:
        if len(held) == 2:
            raise DeadlineExpired("the caller has gone")

    processes.decode(IMAGES["larger than what is retained"](), WHOLE)
    unwanted = hostile("large image after a nap")
    with pytest.raises(DeadlineExpired):
        processes.preprocess(unwanted, WHOLE, hold=counted, check=gone_while_pixels_are_decoded)
    for pid in processes.pids:
        found = re.search(r"Pss_Shmem:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text())
        assert found
        assert int(found[1]) * 1024 <= 4 * MIB


@dataclass
class BrighterPreprocessing(XRVPreprocessing):
    """A class without a hash, as `dataclass` makes them."""

    gamma: float = 0.8


def test_a_preprocessing_needs_no_hash() -> None:
    task = Task(Job(preprocessing=BrighterPreprocessing(), side_px=224, limits=DecodeLimits()), 7)
    assert Task.unpacked(task.packed()) == task


def test_a_codec_that_cannot_be_imported_is_an_error_at_the_start() -> None:
    class LocalCodec(HostileCodec):
        pass

    with patch.dict(CODECS, {"LOCAL": LocalCodec()}):
        processes = Decoders()
        with pytest.raises(DecodeProcessesUnavailable, match="LocalCodec"):
            processes.start()
