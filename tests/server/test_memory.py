"""A call that has ended holds nothing: memory must not wait for the collector of cycles."""

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Iterator

import pytest

from cxr_server import settings
from cxr_server.app import App
from images import chest_like, png

MIB = 2**20
FILE_BYTES = 4 * MIB
GOOD = png(chest_like(300, 300)) + bytes(FILE_BYTES)
BROKEN = png(chest_like(300, 300))[:-40] + bytes(FILE_BYTES)
CALLER = """
import sys, grpc
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
data = sys.stdin.buffer.read()
with grpc.insecure_channel(sys.argv[1]) as channel:
    call = getattr(ChestXrayServiceStub(channel), sys.argv[2])
    for _ in range(int(sys.argv[3])):
        try:
            call(getattr(pb, sys.argv[2] + "Request")(image=data), timeout=100)
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name)
"""


async def send(address: str, method: str, file: bytes, count: int) -> list[str]:
    """Call from another process, whose own memory is not looked at."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CALLER, address, method, str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate(file)
    return printed.decode().split()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The collector of cycles does not run, and memory is traced."""
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
async def test_no_call_leaves_its_image_for_the_collector() -> None:
    app = App(settings.parse(["--listen", "127.0.0.1:0", "--cache-entries", "0"], env={}))
    await app.start()
    await app.load()
    address = f"127.0.0.1:{app.port}"
    held_bytes = {}
    for method in ("Predict", "Explain"):
        for file, end in ((GOOD, "OK"), (BROKEN, "INVALID_ARGUMENT")):
            assert await send(address, method, file, 1) == [end]
            gc.collect()
            tracemalloc.clear_traces()
            assert await send(address, method, file, 8) == [end] * 8
            held_bytes[method, end], _ = tracemalloc.get_traced_memory()
    await app.drain()
    assert max(held_bytes.values()) < FILE_BYTES
