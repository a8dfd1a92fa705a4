"""What a call takes is bounded until its answer is sent: pictures, pixels, and slow readers."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.convert.write import write_bundle
from images import png
from process_memory import peak_pss
from random_weights import described, random_weights
from serving import ServerProcess
from trust import raw_http2
from trust.fault_proxy import FaultProxy
from trust.outcomes import reason_of

BUDGET_MIB, SLOTS = 768, 4
EXPLAIN = "/cxr.v1.ChestXrayService/Explain"
LABELS = tuple(f"Finding {number}" for number in range(18))
ORIGINAL = pb.RENDER_FRAME_ORIGINAL
OWN = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))


def noise(side_px: int) -> bytes:
    """A PNG that is as large as one of its size can be, and so are the pictures of it."""
    chance = np.random.default_rng(side_px)
    pixels = chance.integers(0, 256, (side_px, side_px), dtype=np.uint8)
    return png(pixels, compress_level=1)


FILM = noise(2048)


@pytest.fixture(scope="module")
def many_findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with as many findings as the published models."""
    facts = {
        "labels": LABELS,
        "class_indices": tuple(range(len(LABELS))),
        "thresholds": (0.5,) * len(LABELS),
    }
    folder = tmp_path_factory.mktemp("bundles") / "many"
    return write_bundle(folder, random_weights(class_count=len(LABELS)), described(**facts))


@pytest.fixture(scope="module")
def server(many_findings: Path) -> Iterator[ServerProcess]:
    flags = ("--memory-budget-mib", str(BUDGET_MIB), "--max-in-flight", str(SLOTS))
    with ServerProcess(*flags, "--cache-entries", "0", model=str(many_findings)) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address, options=OWN) as channel:
        yield channel


@pytest.fixture
async def stub(channel: grpc.aio.Channel) -> ChestXrayServiceStub:
    return ChestXrayServiceStub(channel)


def asking(pictures: int, image: bytes = FILM, side_px: int = 2048) -> pb.ExplainRequest:
    render = pb.RenderOptions(frame=ORIGINAL, max_side_px=side_px)
    return pb.ExplainRequest(image=image, labels=LABELS[:pictures], render=render)


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def in_flight(stub: ChestXrayServiceStub, count: int) -> None:
    async with asyncio.timeout(100):
        while (await stub.Health(pb.HealthRequest())).in_flight_count != count:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def unread(
    address: str, stub: ChestXrayServiceStub, request: pb.ExplainRequest, count: int
) -> AsyncIterator[list[Any]]:
    """Hold calls whose answers nobody reads, each on a connection of its own."""
    channels = [grpc.aio.insecure_channel(address, options=OWN) for _ in range(count)]
    message = request.SerializeToString()
    # On the wire this is a unary call, but the client reads the answer only when told to.
    calls = [channel.unary_stream(EXPLAIN)(message) for channel in channels]
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()
        for channel in channels:
            await channel.close()
        await in_flight(stub, 0)


async def test_pictures_beyond_the_budget_are_refused_before_any_work(
    server: ServerProcess, stub: ChestXrayServiceStub
) -> None:
    limits = (await stub.DescribeModel(pb.DescribeModelRequest())).limits
    request = asking(18, noise(1024), side_px=1024)
    assert 0 < limits.max_drawn_pixels < 18 * 1024**2
    error = await failed(stub.Explain(request, timeout=60))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "EXPLANATION_TOO_LARGE"
    for word in (
        "18 pictures",
        "1024 x 1024",
        str(18 * 1024**2),
        str(limits.max_drawn_pixels),
        "heatmap_labels",
        "max_side_px",
    ):
        assert word in error.details()


async def test_one_picture_beyond_the_budget_is_not_advised_to_name_fewer_labels(
    stub: ChestXrayServiceStub,
) -> None:
    limits = (await stub.DescribeModel(pb.DescribeModelRequest())).limits
    side_px = math.isqrt(limits.max_drawn_pixels) + 10
    assert side_px**2 <= limits.max_pixel_count
    error = await failed(stub.Explain(asking(1, noise(side_px), side_px=4096), timeout=60))
    assert reason_of(error) == "EXPLANATION_TOO_LARGE"
    assert "1 picture of" in error.details()
    assert "max_side_px" in error.details()
    assert "labels" not in error.details()


async def test_fewer_pictures_smaller_ones_or_none_are_answered(
    stub: ChestXrayServiceStub,
) -> None:
    image = noise(1024)
    smaller = asking(18, image, side_px=128)
    fewer = asking(18, image)
    fewer.heatmap_labels.extend(LABELS[2:4])
    none = asking(18, image)
    none.render.kind = pb.RENDER_KIND_NONE
    for request, pictures in ((smaller, 18), (fewer, 2), (none, 0)):
        reply = await stub.Explain(request, timeout=200)
        assert [each.finding.label for each in reply.explanations] == list(LABELS)
        assert sum(bool(each.heatmap) for each in reply.explanations) == pictures


async def test_the_radiograph_counts_as_one_picture_however_many_labels_are_explained(
    stub: ChestXrayServiceStub,
) -> None:
    limits = (await stub.DescribeModel(pb.DescribeModelRequest())).limits
    fits = asking(18, noise(1024), side_px=1024)
    fits.render.kind = pb.RENDER_KIND_RADIOGRAPH
    reply = await stub.Explain(fits, timeout=200)
    assert len(reply.explanations) == 18
    assert reply.radiograph
    too_large = asking(18, noise(math.isqrt(limits.max_drawn_pixels) + 10), side_px=4096)
    too_large.render.kind = pb.RENDER_KIND_RADIOGRAPH
    error = await failed(stub.Explain(too_large, timeout=60))
    assert reason_of(error) == "EXPLANATION_TOO_LARGE"
    assert "1 picture of" in error.details()


async def test_large_explanations_side_by_side_stay_below_the_budget(
    server: ServerProcess, stub: ChestXrayServiceStub
) -> None:
    limits = (await stub.DescribeModel(pb.DescribeModelRequest())).limits
    pictures = limits.max_drawn_pixels // 1024**2
    request = asking(pictures, noise(1024), side_px=1024)
    with peak_pss(server.process.pid) as peak_mib:
        replies = await asyncio.gather(*(stub.Explain(request, timeout=300) for _ in range(SLOTS)))
    assert all(len(reply.explanations) == pictures for reply in replies)
    assert peak_mib[0] < BUDGET_MIB


@pytest.mark.slow
@pytest.mark.parametrize("decode_processes", [0, -1])
async def test_callers_that_do_not_read_hold_their_slots_and_no_more_memory(
    many_findings: Path, decode_processes: int
) -> None:
    # An answer of 18 MiB: more than the windows and buffers on its way can take.
    request = asking(6, noise(1024), side_px=1024)
    # The budget is what 6 pictures need to be drawn at all; far less is taken.
    flags = ("--memory-budget-mib", "1280", "--max-in-flight", str(SLOTS))
    flags += ("--decode-processes", str(decode_processes), "--cache-entries", "0")
    with ServerProcess(*flags, model=str(many_findings)) as server:
        async with grpc.aio.insecure_channel(server.address, options=OWN) as channel:
            stub = ChestXrayServiceStub(channel)
            with peak_pss(server.process.pid) as peak_mib:
                async with unread(server.address, stub, request, 4 * SLOTS) as calls:
                    async with asyncio.timeout(200):
                        while sum(call.done() for call in calls) < 3 * SLOTS:
                            await asyncio.sleep(0.02)
                    await in_flight(stub, SLOTS)
                    ends = [await call.code() for call in calls if call.done()]
                    assert ends == [grpc.StatusCode.RESOURCE_EXHAUSTED] * (3 * SLOTS)
                    error = await failed(stub.Predict(pb.PredictRequest(image=png()), timeout=60))
                    assert reason_of(error) == "QUEUE_FULL"
                predicted = await stub.Predict(pb.PredictRequest(image=png()), timeout=60)
                assert predicted.findings
            assert peak_mib[0] < BUDGET_MIB
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.mark.slow
async def test_the_longest_call_ends_one_that_is_not_read_and_one_that_is_not_sent(
    many_findings: Path,
) -> None:
    flags = ("--max-call-s", "3", "--upload-timeout-s", "1000", "--max-in-flight", "2")
    with ServerProcess(*flags, model=str(many_findings)) as server:
        async with grpc.aio.insecure_channel(server.address, options=OWN) as channel:
            stub = ChestXrayServiceStub(channel)

            async def nothing() -> AsyncIterator[bytes]:
                await asyncio.Event().wait()
                yield b""

            request = asking(6, noise(1024), side_px=1024)
            async with unread(server.address, stub, request, 1) as calls:
                await in_flight(stub, 1)
                unsent = channel.stream_unary(EXPLAIN)(nothing())
                await in_flight(stub, 2)
                error = await failed(unsent)
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                assert reason_of(error) == "DEADLINE_EXPIRED"
                assert "3 s" in error.details()
                assert await calls[0].code() is grpc.StatusCode.UNAVAILABLE
                await in_flight(stub, 0)
            assert (await stub.Predict(pb.PredictRequest(image=png()), timeout=60)).findings
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.mark.slow
async def test_a_call_that_is_not_read_ends_at_the_deadline_of_its_caller(
    server: ServerProcess, stub: ChestXrayServiceStub
) -> None:
    message = asking(6, noise(200)).SerializeToString()
    with await asyncio.to_thread(raw_http2.ask, server.address, EXPLAIN, message, "8S"):
        await in_flight(stub, 1)
        await in_flight(stub, 0)


@pytest.mark.slow
async def test_a_shutdown_ends_answers_that_nobody_reads(many_findings: Path) -> None:
    with ServerProcess("--grace-s", "0.5", model=str(many_findings)) as server:
        async with grpc.aio.insecure_channel(server.address, options=OWN) as channel:
            message = asking(6, noise(1024), side_px=1024).SerializeToString()
            call = channel.unary_stream(EXPLAIN)(message)
            await in_flight(ChestXrayServiceStub(channel), 1)
            assert await asyncio.to_thread(server.stop, timeout_s=60) == 0
            call.cancel()
        assert "Traceback" not in server.log


async def test_an_image_whose_decoding_does_not_fit_is_refused_by_its_own_size(
    stub: ChestXrayServiceStub,
) -> None:
    # Eight bytes for a pixel: far more than a radiograph of this size takes.
    pixels = np.zeros((3000, 3000, 4), np.uint8)
    wide = png(pixels, compress_level=1)
    limits = (await stub.DescribeModel(pb.DescribeModelRequest())).limits
    assert limits.max_pixel_count > 3000**2
    error = await failed(stub.Predict(pb.PredictRequest(image=wide), timeout=60))
    assert reason_of(error) == "IMAGE_TOO_MANY_PIXELS"
    assert "MiB of memory" in error.details()


async def test_a_caller_may_send_2_mib_of_a_request_before_anybody_reads_it(
    server: ServerProcess,
) -> None:
    async with FaultProxy(server.address) as proxy:
        async with grpc.aio.insecure_channel(proxy.address, options=OWN) as channel:
            request = pb.PredictRequest(image=bytes(16 * 2**20))
            for _ in range(8):  # gRPC's default widens the window with each
                error = await failed(ChestXrayServiceStub(channel).Predict(request, timeout=60))
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert proxy.connections == 1
        windows = raw_http2.announced_windows(bytes(proxy.sent_down))
    assert set(windows) == {2 * 2**20}
