"""A full server refuses calls for the model before their upload, and no other calls."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import AsyncClient, OverloadedError, RetryConfig
from images import chest_like, png
from scrape import scrape
from serving import ServerProcess
from trust.fault_proxy import FaultProxy, Faults
from trust.outcomes import reason_of, retry_after_s
from trust.ports import free_port

MIB = 2**20
SLOTS = 2
PREDICT = "/cxr.v1.ChestXrayService/Predict"
IMAGES = 'cxr_engine_batch_images_sum{served_as="random-densenet121"}'


@pytest.fixture(scope="module")
def small_server() -> Iterator[ServerProcess]:
    """Takes two calls and 4 MiB at once."""
    metrics = f"127.0.0.1:{free_port()}"
    flags = ("--max-in-flight", str(SLOTS), "--max-in-flight-mib", "4", "--metrics-listen", metrics)
    with ServerProcess(*flags, "--cache-entries", "0") as server:
        server.metrics = metrics  # type: ignore[attr-defined]
        yield server
        assert server.stop() == 0


@pytest.fixture
async def channel(small_server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(small_server.address) as channel:
        yield channel


async def in_flight(channel: grpc.aio.Channel, count: int) -> None:
    """Wait until `count` calls for the model are in flight."""
    stub = ChestXrayServiceStub(channel)
    async with asyncio.timeout(60):
        while (await stub.Health(pb.HealthRequest())).in_flight_count != count:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def stalled(
    channel: grpc.aio.Channel, count: int, *, declared_bytes: int = 0
) -> AsyncIterator[list[Any]]:
    """Hold `count` calls whose uploads never arrive; cancel them at the end."""

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    metadata = (("x-request-bytes", str(declared_bytes)),) if declared_bytes else ()
    await in_flight(channel, 0)
    calls = [channel.stream_unary(PREDICT)(nothing(), metadata=metadata) for _ in range(count)]
    await in_flight(channel, count)
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()
        await in_flight(channel, 0)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """Return the refusal that a call without a deadline ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(60):
            await call
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0.05 <= retry_after_s(caught.value) <= 5
    return caught.value


async def test_without_a_cache_an_image_is_inferred_again(
    channel: grpc.aio.Channel,
) -> None:
    request = pb.PredictRequest(image=png(chest_like(300, 300)))
    stub = ChestXrayServiceStub(channel)
    timings = [(await stub.Predict(request, timeout=60)).timing for _ in range(2)]
    assert [timing.evidence_cached for timing in timings] == [False, False]
    assert all(timing.HasField("inference_duration") for timing in timings)


async def test_a_refusal_does_not_wait_for_an_upload_that_never_begins(
    channel: grpc.aio.Channel,
) -> None:
    async with stalled(channel, SLOTS):

        async def nothing() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        call = channel.stream_unary(PREDICT)(nothing())
        assert reason_of(await refused(call)) == "QUEUE_FULL"


async def test_a_refusal_comes_before_a_slow_upload_has_gone(
    small_server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    image = bytes(8 * MIB)
    async with (
        stalled(channel, SLOTS),
        FaultProxy(small_server.address, Faults(up_bytes_per_s=60_000)) as proxy,
        grpc.aio.insecure_channel(proxy.address) as slow,
    ):
        call = ChestXrayServiceStub(slow).Predict(pb.PredictRequest(image=image))
        assert reason_of(await refused(call)) == "QUEUE_FULL"
        assert proxy.bytes_up < len(image) / 4


async def test_bytes_in_flight_are_bounded_by_what_callers_declare(
    channel: grpc.aio.Channel,
) -> None:
    async with stalled(channel, 1, declared_bytes=3 * MIB):
        predict = channel.unary_unary(PREDICT)
        message = pb.PredictRequest(image=png()).SerializeToString()
        much = (("x-request-bytes", str(3 * MIB)),)
        assert reason_of(await refused(predict(message, metadata=much))) == "MEMORY_FULL"
        little = (("x-request-bytes", str(len(message))),)
        assert await predict(message, metadata=little)


async def test_bytes_that_nobody_declared_count_when_they_have_arrived(
    channel: grpc.aio.Channel,
) -> None:
    async with stalled(channel, 1, declared_bytes=3 * MIB):
        call = ChestXrayServiceStub(channel).Predict(pb.PredictRequest(image=bytes(2 * MIB)))
        assert reason_of(await refused(call)) == "MEMORY_FULL"


@pytest.mark.slow
async def test_requests_of_unknown_size_are_not_received_all_at_once() -> None:
    window_bytes = 2 * MIB  # what gRPC receives of a request before anybody reads it
    request = pb.PredictRequest(image=png() + bytes(20 * MIB))
    flags = ("--max-request-mib", "24", "--max-in-flight-mib", "24", "--upload-timeout-s", "100")
    with ServerProcess(*flags) as server:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            stalled(channel, 1) as calls,
            FaultProxy(server.address) as proxy,
            grpc.aio.insecure_channel(proxy.address) as other,
        ):
            asking = asyncio.ensure_future(ChestXrayServiceStub(other).Predict(request))
            await in_flight(channel, 2)
            await asyncio.sleep(0.5)  # in which all of it could arrive
            assert proxy.bytes_up < 1.1 * window_bytes
            calls[0].cancel()
            assert (await asking).findings
            assert proxy.bytes_up > 20 * MIB


@pytest.mark.slow
async def test_uploads_of_unknown_size_that_do_not_arrive_do_not_keep_others_out() -> None:
    flags = ("--max-request-mib", "24", "--max-in-flight-mib", "24", "--upload-timeout-s", "1000")
    with ServerProcess(*flags) as server:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            stalled(channel, 2) as calls,
        ):
            request = pb.PredictRequest(image=png())
            assert (await ChestXrayServiceStub(channel).Predict(request, timeout=100)).findings
            ends = [call for call in calls if call.done()]
            assert ends  # of the uploads that were received before it
            for call in ends:
                assert reason_of(await refused(call)) == "MEMORY_FULL"


@pytest.mark.slow
async def test_the_client_declares_what_it_sends(
    small_server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    async with (
        stalled(channel, 1, declared_bytes=3 * MIB),
        FaultProxy(small_server.address, Faults(up_bytes_per_s=60_000)) as proxy,
        AsyncClient(proxy.address, retry=RetryConfig(max_attempts=1)) as client,
    ):
        with pytest.raises(OverloadedError) as caught:
            await client.predict(bytes(8 * MIB))
        assert caught.value.reason == "MEMORY_FULL"
        assert proxy.bytes_up < 2 * MIB


async def test_health_description_and_reflection_are_never_refused_for_load(
    channel: grpc.aio.Channel,
) -> None:
    async with stalled(channel, SLOTS):
        stub = ChestXrayServiceStub(channel)
        health = await stub.Health(pb.HealthRequest(), timeout=60)
        assert health.status == pb.SERVING_STATUS_SERVING
        assert (await stub.DescribeModel(pb.DescribeModelRequest(), timeout=60)).findings
        check = health_pb2_grpc.HealthStub(channel).Check
        status = await check(health_pb2.HealthCheckRequest(), timeout=60)
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        asking = reflection_pb2.ServerReflectionRequest(list_services="")
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        answers = [answer async for answer in reflect(iter([asking]), timeout=60)]
        names = {each.name for each in answers[0].list_services_response.service}
        assert "cxr.v1.ChestXrayService" in names


@pytest.mark.slow
async def test_a_caller_that_disconnects_frees_its_slot(
    small_server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    good = pb.PredictRequest(image=png())
    async with stalled(channel, SLOTS) as calls:
        await refused(ChestXrayServiceStub(channel).Predict(good))
        calls[0].cancel()
        await in_flight(channel, SLOTS - 1)
        assert (await ChestXrayServiceStub(channel).Predict(good)).findings
    async with (
        FaultProxy(small_server.address, Faults(stall_up_at=100_000)) as proxy,
        grpc.aio.insecure_channel(proxy.address) as other,
    ):
        call = ChestXrayServiceStub(other).Predict(pb.PredictRequest(image=bytes(MIB)))
        await in_flight(channel, 1)
        await proxy.__aexit__()  # the connection dies without a cancellation
        await in_flight(channel, 0)
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_the_client_retries_after_the_delay_it_was_given(
    small_server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    refusals = 'cxr_calls_refused_total{reason="QUEUE_FULL"}'

    async def count() -> float:
        values = await asyncio.to_thread(scrape, small_server.metrics)  # type: ignore[attr-defined]
        return values.get(refusals, 0)

    async with (
        AsyncClient(
            small_server.address, retry=RetryConfig(max_attempts=50), timeout_s=100
        ) as client,
        stalled(channel, SLOTS) as calls,
    ):
        before = await count()
        asking = asyncio.create_task(client.predict(png()))
        async with asyncio.timeout(60):
            while await count() < before + 2:
                await asyncio.sleep(0.02)
        assert not asking.done()
        calls[0].cancel()
        assert (await asking).findings


async def test_a_client_without_attempts_left_says_that_the_server_is_full(
    small_server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    async with (
        stalled(channel, SLOTS),
        AsyncClient(small_server.address, retry=RetryConfig(max_attempts=1)) as client,
    ):
        with pytest.raises(OverloadedError) as caught:
            await client.predict(png())
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after_s


async def test_expired_and_cancelled_calls_never_reach_the_engine(full_bundle: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    # One core on any machine, so that most calls still wait after 0.2 s.
    one_core = ("--decode-threads", "1", "--engine-threads", "1")
    flags = ("--cache-entries", "0", "--metrics-listen", metrics, *one_core)
    images = [png(chest_like(128, 128, seed=seed)) for seed in range(40)]

    async def ask(stub: ChestXrayServiceStub, number: int) -> str:
        call = stub.Predict(
            pb.PredictRequest(image=images[number]), timeout=0.25 if number % 2 else None
        )
        if number % 2 == 0:
            await asyncio.sleep(0.2)
            call.cancel()
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code().name
        except asyncio.CancelledError:
            return "CANCELLED"
        return "OK"

    with ServerProcess(*flags, model=str(full_bundle)) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = ChestXrayServiceStub(channel)
            await stub.Predict(pb.PredictRequest(image=images[0]))
            before = await asyncio.to_thread(scrape, metrics)
            ends = await asyncio.gather(*(ask(stub, number) for number in range(len(images))))
            await in_flight(channel, 0)
            # Its result comes after the batches that ran before.
            last = await stub.Predict(pb.PredictRequest(image=images[0]))
            assert last.findings
        after = await asyncio.to_thread(scrape, metrics)
        assert server.stop() == 0
    assert set(ends) <= {"OK", "DEADLINE_EXCEEDED", "CANCELLED"}
    lost = len(ends) - ends.count("OK")
    assert lost > len(images) / 2
    inferred = after[IMAGES] - before[IMAGES] - 1
    # Only calls that were being decoded or inferred when they ended may reach the engine.
    assert inferred <= ends.count("OK") + 6
    dropped = 'cxr_calls_dropped_total{cause="cancelled"}'
    assert after[dropped] > before.get(dropped, 0)
