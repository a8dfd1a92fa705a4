"""Network faults: every call ends once, with a result or a clear error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import AsyncClient, Client, CxrError, DeadlineError, Prediction, UnavailableError
from images import chest_like, png
from serving import ServerProcess
from trust.fault_proxy import FaultProxy, Faults
from trust.outcomes import reason_of
from trust.ports import free_port

IMAGE = png(chest_like(640, 640, seed=9))
"""About 300 KB: many packets."""
TIMEOUT_S = 1.5


def same(one: Prediction, other: Prediction) -> bool:
    return one.findings == other.findings and one.image_info == other.image_info


@pytest.fixture
async def expected(plain_server: ServerProcess) -> AsyncIterator[Prediction]:
    """The correct result. Afterwards the server must have no call in flight."""
    async with AsyncClient(plain_server.address) as client:
        yield await client.predict(IMAGE)
        async with asyncio.timeout(60):
            while (await client.health()).in_flight_count:
                await asyncio.sleep(0.05)
        assert same(await client.predict(IMAGE), await client.predict(IMAGE))


TRANSIENT = {
    "nothing": Faults(),
    "a delay": Faults(delay_s=0.02),
    "a slow line": Faults(up_bytes_per_s=400_000),
    "one cut in mid-upload": Faults(cut_up_at=100_000, times=1),
    "one cut before the answer": Faults(cut_down_at=150, times=1),
    "one connection that is refused": Faults(cut_up_at=0, times=1),
}
LASTING = {
    "a stall in mid-upload": Faults(stall_up_at=100_000),
    "cuts in mid-upload": Faults(cut_up_at=100_000),
    "cuts in mid-answer": Faults(cut_down_at=700),
    "cuts before the answer": Faults(cut_down_at=150),
    "a stall in mid-answer": Faults(stall_down_at=700),
    "a black hole": Faults(stall_down_at=0),
    "a line that is far too slow": Faults(up_bytes_per_s=20_000),
}


@pytest.mark.parametrize("name", TRANSIENT)
async def test_a_client_recovers_from_transient_faults(
    plain_server: ServerProcess, expected: Prediction, name: str
) -> None:
    async with (
        FaultProxy(plain_server.address, TRANSIENT[name]) as proxy,
        AsyncClient(proxy.address, timeout_s=60) as client,
    ):
        assert same(await client.predict(IMAGE), expected)


@pytest.mark.parametrize("name", LASTING)
@pytest.mark.slow
async def test_lasting_faults_end_in_one_clear_error(
    plain_server: ServerProcess, expected: Prediction, name: str
) -> None:
    async with (
        FaultProxy(plain_server.address, LASTING[name]) as proxy,
        AsyncClient(proxy.address, timeout_s=TIMEOUT_S) as client,
    ):
        with pytest.raises((UnavailableError, DeadlineError)) as caught:
            async with asyncio.timeout(60):  # far beyond the client's deadline
                await client.predict(IMAGE)
        assert caught.value.request_id


@pytest.mark.parametrize("name", ["one cut in mid-upload", "a black hole"])
@pytest.mark.slow
async def test_the_blocking_client_behaves_alike(
    plain_server: ServerProcess, expected: Prediction, name: str
) -> None:
    def call(address: str) -> Prediction | CxrError:
        with Client(address, timeout_s=60 if name in TRANSIENT else TIMEOUT_S) as client:
            try:
                return client.predict(IMAGE)
            except CxrError as error:
                return error

    async with FaultProxy(plain_server.address, (TRANSIENT | LASTING)[name]) as proxy:
        end = await asyncio.to_thread(call, proxy.address)
    if name in TRANSIENT:
        assert isinstance(end, Prediction)
        assert same(end, expected)
    else:
        assert isinstance(end, DeadlineError | UnavailableError)


@pytest.mark.slow
async def test_a_stalled_upload_without_a_deadline_is_ended_by_the_server() -> None:

    with ServerProcess("--upload-timeout-s", "0.5") as server:
        async with (
            FaultProxy(server.address, Faults(stall_up_at=100_000)) as proxy,
            grpc.aio.insecure_channel(proxy.address) as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ChestXrayServiceStub(channel).Predict(pb.PredictRequest(image=IMAGE))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reason_of(caught.value) == "DEADLINE_EXPIRED"
        async with AsyncClient(server.address) as client:
            assert (await client.health()).in_flight_count == 0
        assert server.stop() == 0


@pytest.mark.slow
async def test_a_request_of_a_few_bytes_that_does_not_arrive_is_ended_soon() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    methods = ("/grpc.health.v1.Health/Check", "/cxr.v1.ChestXrayService/DescribeModel")
    with ServerProcess("--upload-timeout-s", "1000") as server:
        async with grpc.aio.insecure_channel(server.address) as channel, asyncio.timeout(100):
            for method in methods:
                with pytest.raises(grpc.aio.AioRpcError, match="took too long to arrive"):
                    await channel.stream_unary(method)(nothing())


@pytest.mark.slow
async def test_killing_and_restarting_a_server_under_load_loses_no_result() -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--cache-entries", "0")
    images = [png(chest_like(256, 256, seed=n)) for n in range(60)]
    found: dict[int, Prediction] = {}
    given_up = 0

    async def ask(client: AsyncClient, numbers: list[int]) -> None:
        nonlocal given_up
        while numbers:
            number = numbers.pop()
            try:
                found[number] = await client.predict(images[number])
            except UnavailableError:  # no other error: the client's retries are used up
                given_up += 1
                numbers.append(number)
                await client.wait_until_ready(90)

    first = ServerProcess(*listen)
    with first:
        async with AsyncClient(first.address, timeout_s=100) as client:
            todo = list(range(len(images)))
            asking = [asyncio.create_task(ask(client, todo)) for _ in range(6)]
            async with asyncio.timeout(60):
                while len(found) < 10:
                    await asyncio.sleep(0.01)
            first.process.kill()
            await asyncio.to_thread(first.process.wait)
            assert len(found) < len(images)
            with ExitStack() as stack:
                second = await asyncio.to_thread(stack.enter_context, ServerProcess(*listen))
                await asyncio.gather(*asking)
                assert sorted(found) == list(range(len(images)))
                for number, image in enumerate(images):
                    again = await client.predict(image)
                    assert same(again, found[number])
                answers = {tuple(f.probability for f in p.findings) for p in found.values()}
                assert len(answers) > len(images) / 2  # a mix-up would show
                assert second.stop() == 0
    assert given_up <= len(asking)
