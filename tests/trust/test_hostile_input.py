"""Hostile input ends with OK or a stable reason, within the deadline and in bounded memory."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from hostile_images import MIB, Case, cases
from images import png
from serving import ServerProcess
from trust.outcomes import outcome_of

DEADLINE_S = 60
MOST_GROWTH_MIB = 64
"""For files with few pixels, whatever size they claim; includes gRPC's buffers."""
MOST_GROWTH_LARGE_MIB = 768
"""For images of 49 million pixels, near the default limit."""

EXPLAIN = "/cxr.v1.ChestXrayService/Explain"
PREDICT = "/cxr.v1.ChestXrayService/Predict"


class Memory:
    """Peak resident memory of a process since the last `reset`, in MiB."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def reset(self) -> float:
        """Reset the peak. Returns the resident memory now."""
        (self._proc / "clear_refs").write_text("5")
        return self._read("VmRSS")

    def peak(self) -> float:
        return self._read("VmHWM")

    def _read(self, name: str) -> float:
        status = (self._proc / "status").read_text()
        return next(
            int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name)
        )


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return cases()


@pytest.fixture(scope="module")
def memory(plain_server: ServerProcess) -> Memory:
    memory = Memory(plain_server.process.pid)
    if not os.access(f"/proc/{plain_server.process.pid}/clear_refs", os.W_OK):
        pytest.skip("no /proc to read a process's peak memory from")
    return memory


@pytest.fixture
def good_answer_unchanged(plain_stub: ChestXrayServiceStub) -> Iterator[Callable[[], None]]:
    """A check that a good image scores exactly as it did before."""
    request = pb.PredictRequest(image=png(), top_k=100)
    before = plain_stub.Predict(request, timeout=DEADLINE_S)
    assert len(before.findings) > 3

    def check() -> None:
        now = plain_stub.Predict(request, timeout=DEADLINE_S)
        assert now.findings == before.findings
        assert now.image_info == before.image_info

    yield check
    check()


@pytest.mark.slow
def test_every_hostile_image_ends_as_expected_and_affects_no_other_call(
    plain_stub: ChestXrayServiceStub,
    corpus: list[Case],
    memory: Memory,
    good_answer_unchanged: Callable[[], None],
) -> None:
    assert len(corpus) >= 60
    wrong = []
    for case in corpus:
        before = memory.reset()
        large = "7000 x 7000" in case.name
        request = pb.PredictRequest(image=case.data)
        code, reason = outcome_of(lambda r=request: plain_stub.Predict(r, timeout=DEADLINE_S))
        if code not in ("OK", "INVALID_ARGUMENT") or (reason or "OK") not in case.ends:
            wrong.append((case, code, reason))
        bound = MOST_GROWTH_LARGE_MIB if large else MOST_GROWTH_MIB
        # gRPC holds a message up to three times while it arrives.
        growth = memory.peak() - before - 3 * len(case.data) / MIB
        if growth > bound:
            wrong.append((case, f"{growth:.0f} MiB", f"more than {bound}"))
        good_answer_unchanged()
    assert wrong == []


def test_explain_refuses_what_predict_refuses(
    plain_stub: ChestXrayServiceStub, corpus: list[Case]
) -> None:
    small = [case for case in corpus if len(case.data) < MIB and "7000" not in case.name]
    for case in small[::4]:
        request = pb.ExplainRequest(
            image=case.data, render=pb.RenderOptions(frame=pb.RENDER_FRAME_ORIGINAL)
        )
        code, reason = outcome_of(lambda r=request: plain_stub.Explain(r, timeout=DEADLINE_S))
        assert code in ("OK", "INVALID_ARGUMENT"), case
        assert (reason or "OK") in case.ends, case


def test_a_compression_bomb_is_refused_before_it_is_inflated(
    plain_server: ServerProcess, memory: Memory, good_answer_unchanged: Callable[[], None]
) -> None:
    before = memory.reset()
    with grpc.insecure_channel(plain_server.address) as channel:
        stub = ChestXrayServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(
                pb.PredictRequest(image=bytes(64 * MIB)),
                compression=grpc.Compression.Gzip,
                timeout=DEADLINE_S,
            )
    assert caught.value.code() in (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    )
    assert memory.peak() - before < 32 * 3


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


IMAGE = field(1, png())
EXPLAIN_LABELS = pb.ExplainRequest.LABELS_FIELD_NUMBER
EXPLAIN_RENDER = pb.ExplainRequest.RENDER_FIELD_NUMBER


@pytest.mark.parametrize(
    ("method", "message", "ends"),
    [
        (PREDICT, b"", {"IMAGE_EMPTY"}),
        (PREDICT, b"\x08\x96\x01", {"IMAGE_EMPTY"}),  # the image with the wrong wire type
        (PREDICT, field(1, b"x") + IMAGE, {""}),  # given twice: the last one counts
        (PREDICT, IMAGE + field(1, b"x"), {"IMAGE_FORMAT_UNSUPPORTED"}),
        (PREDICT, IMAGE + field(999, bytes(MIB)), {""}),
        (PREDICT, IMAGE + field(999, b"") * 100_000, {""}),
        (PREDICT, IMAGE[:-5], {"INVALID_FIELD"}),
        (PREDICT, b"\xff" * 11, {"INVALID_FIELD"}),
        (PREDICT, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + IMAGE, {"INVALID_FIELD"}),
        (PREDICT, b"\x00" + IMAGE, {"INVALID_FIELD"}),
        (PREDICT, b"\x0b" * 10_000, {"INVALID_FIELD"}),  # nested groups
        (PREDICT, IMAGE + b"\x0c", {"INVALID_FIELD"}),  # an end-group tag without its start
        (EXPLAIN, IMAGE + field(EXPLAIN_LABELS, b"\xff\xfe"), {"INVALID_FIELD", "UNKNOWN_LABEL"}),
        (EXPLAIN, IMAGE + field(EXPLAIN_LABELS, b"x" * MIB), {"UNKNOWN_LABEL"}),
        (EXPLAIN, IMAGE + field(EXPLAIN_LABELS, b""), {"UNKNOWN_LABEL"}),
        (EXPLAIN, IMAGE + field(EXPLAIN_LABELS, b"Effusion\0"), {"UNKNOWN_LABEL"}),
        (EXPLAIN, IMAGE + field(EXPLAIN_LABELS, b"a") * 10_000, {"INVALID_FIELD"}),
        (EXPLAIN, IMAGE + field(EXPLAIN_RENDER, b"\x0a"), {"INVALID_FIELD"}),
        (EXPLAIN, IMAGE + field(EXPLAIN_RENDER, b"\xff" * 20), {"INVALID_FIELD"}),
    ],
)
def test_a_crafted_message_is_the_callers_fault(
    plain_server: ServerProcess,
    good_answer_unchanged: Callable[[], None],
    method: str,
    message: bytes,
    ends: set[str],
) -> None:
    with grpc.insecure_channel(plain_server.address) as channel:
        call = channel.unary_unary(method)
        code, reason = outcome_of(lambda: call(message, timeout=DEADLINE_S))
    assert code == ("INVALID_ARGUMENT" if reason else "OK")
    assert reason in ends


@pytest.mark.parametrize("value", ["", "é" * 10, "a" * 6000, "../../etc", "{}\\n", "%s%n"])
def test_no_request_id_and_no_size_does_harm(plain_server: ServerProcess, value: str) -> None:
    text = value.encode()  # bytes bypass the checks of gRPC's client
    with grpc.insecure_channel(plain_server.address) as channel:
        call = channel.unary_unary(PREDICT)
        metadata = (("x-request-bytes", value if value.isascii() else "-1"),)
        code, _ = outcome_of(lambda: call(IMAGE, timeout=DEADLINE_S, metadata=metadata))
        assert code == "OK"
        if text.isascii():
            metadata = (("x-request-id", value), ("authorization", value))
            code, _ = outcome_of(lambda: call(IMAGE, timeout=DEADLINE_S, metadata=metadata))
            assert code in ("OK", "RESOURCE_EXHAUSTED")  # metadata of 16 KiB: gRPC's limit
