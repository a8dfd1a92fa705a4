"""A server process from start to exit: health, lame duck, drain and signals."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import png
from serving import ServerProcess
from trust.outcomes import reason_of, retry_after_s
from trust.ports import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PREDICT = "/cxr.v1.ChestXrayService/Predict"
GOOD = pb.PredictRequest(image=png())
EAGER = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 20))


class Upload:
    """A call whose request is sent by `finish`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._go = asyncio.Event()
        self.call = channel.stream_unary(PREDICT)(self._requests())

    async def _requests(self) -> AsyncIterator[bytes]:
        await self._go.wait()
        yield GOOD.SerializeToString()

    async def finish(self) -> pb.PredictResponse:
        self._go.set()
        return pb.PredictResponse.FromString(await self.call)


async def held(channel: grpc.aio.Channel) -> Upload:
    """Return an upload that the server is waiting for."""
    upload = Upload(channel)
    stub = ChestXrayServiceStub(channel)
    async with asyncio.timeout(60):
        while (await stub.Health(pb.HealthRequest())).in_flight_count != 1:
            await asyncio.sleep(0.01)
    return upload


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def answered_forever(stub: ChestXrayServiceStub) -> None:
    async with asyncio.timeout(60):
        while True:
            await stub.Predict(GOOD)


async def next_status(watch: Any) -> int:
    async with asyncio.timeout(90):
        return (await watch.read()).status


async def left(server: ServerProcess) -> int:
    return await asyncio.to_thread(server.process.wait, 90)


@pytest.mark.slow
async def test_health_follows_the_phases() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with grpc.aio.insecure_channel(address, options=EAGER) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="cxr.v1.ChestXrayService"), wait_for_ready=True
        )
        stub = ChestXrayServiceStub(channel)
        early = asyncio.ensure_future(stub.Health(pb.HealthRequest(), wait_for_ready=True))
        starting = asyncio.create_task(
            asyncio.to_thread(ServerProcess("--listen", address).__enter__)
        )
        assert await next_status(watch) == NOT_SERVING
        assert (await early).status == pb.SERVING_STATUS_LOADING
        error = await refusal(stub.Predict(GOOD))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(error) == "MODEL_LOADING"
        assert retry_after_s(error) > 0
        assert await next_status(watch) == SERVING
        server = await starting
        assert server.facts["model"] == "phantom"
        assert (await stub.Predict(GOOD)).findings
        server.process.send_signal(signal.SIGTERM)
        assert await next_status(watch) == NOT_SERVING
        assert await left(server) == 0
        server.__exit__(None, None, None)


@pytest.mark.slow
async def test_a_drain_loses_no_call() -> None:
    # Long enough for three calls on a busy machine; the test waits until it is over.
    with ServerProcess("--drain-pause-s", "5", "--cache-entries", "0") as server:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            grpc.aio.insecure_channel(
                server.address, options=(("grpc.use_local_subchannel_pool", 1),)
            ) as other,
        ):
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert await next_status(watch) == SERVING
            upload = await held(channel)
            server.process.send_signal(signal.SIGTERM)
            assert await next_status(watch) == NOT_SERVING
            stub = ChestXrayServiceStub(other)
            assert (await stub.Health(pb.HealthRequest())).status == pb.SERVING_STATUS_DRAINING
            assert (await stub.Predict(GOOD)).findings  # a lame duck still answers
            error = await refusal(answered_forever(stub))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(error) == "DRAINING"
            assert server.process.poll() is None
            assert not upload.call.done()
            assert (await upload.finish()).findings
            assert await left(server) == 0
            assert await watch.read() is grpc.aio.EOF  # a watcher does not block the drain
        assert '"stopped"' in server.log
        assert "internal error" not in server.log


@pytest.mark.slow
def test_sigint_drains_as_sigterm_does() -> None:
    with ServerProcess() as server:
        assert server.stop(signal.SIGINT) == 0
        assert '"stopped"' in server.log


@pytest.mark.slow
async def test_calls_that_outlast_the_grace_period_are_ended() -> None:
    with ServerProcess("--grace-s", "0.3") as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            upload = await held(channel)
            server.process.send_signal(signal.SIGTERM)
            error = await refusal(upload.call)
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert await left(server) == 0
        assert "Traceback" not in server.log


@pytest.mark.slow
async def test_a_second_signal_exits_immediately() -> None:
    with ServerProcess("--drain-pause-s", "1000") as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert await next_status(watch) == SERVING
            server.process.send_signal(signal.SIGTERM)
            assert await next_status(watch) == NOT_SERVING
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 90) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_modified_bundle_is_not_served(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "changed"
    shutil.copytree(tiny_bundle, bundle)
    weights = bundle / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    flags = ("--listen", "127.0.0.1:0", "--model", str(bundle))
    done = subprocess.run(
        [sys.executable, "-m", "cxr_server", "serve", *flags],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert "weights.safetensors" in done.stderr
