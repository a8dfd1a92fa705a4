"""A TCP proxy between a client and a server that injects faults.

A fault counts the bytes of one direction of one connection: "up" is from the client to the
server, "down" is back.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK = 16 * 1024
TURNS = 10
"""Turns of the event loop in which a connection that is accepted becomes known; it takes three."""


@dataclass
class Faults:
    """The faults; none by default.

    Attributes:
        delay_s: Delay of each chunk.
        up_bytes_per_s: Rate of uploads.
        stall_up_at: Bytes after which nothing more goes up.
        stall_down_at: Bytes after which nothing more comes down; 0 is a black hole.
        cut_up_at: Bytes up after which the connection is reset.
        cut_down_at: Bytes down after which the connection is reset.
        times: Number of connections with faults; later ones have none.
    """

    delay_s: float = 0.0
    up_bytes_per_s: float = float("inf")
    stall_up_at: float = float("inf")
    stall_down_at: float = float("inf")
    cut_up_at: float = float("inf")
    cut_down_at: float = float("inf")
    times: float = float("inf")


@dataclass
class FaultProxy:
    """A proxy on a free port. Use with `async with`; `faults` may be changed while it runs."""

    target: str
    faults: Faults = field(default_factory=Faults)
    address: str = ""
    connections: int = 0
    bytes_up: int = 0
    sent_down: bytearray = field(default_factory=bytearray)  # by all connections

    async def __aenter__(self) -> "FaultProxy":
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        # A connection that is accepted while the server is closed would be lost, and leak
        # (python/cpython#109564): accept no more first.
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _turn in range(TURNS):
            await asyncio.sleep(0)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Also of tasks that were cancelled before their first step.
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # closes the sockets

    def _connected(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        self._writers.add(near_out)
        self.connections += 1
        faults = self.faults if self.connections <= self.faults.times else Faults()
        task = asyncio.create_task(self._pass_on(near, near_out, faults))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter, faults: Faults
    ) -> None:
        host, _, port = self.target.rpartition(":")
        writers = [near_out]
        try:
            far, far_out = await asyncio.open_connection(host, int(port))
            writers.append(far_out)
            ways = {
                asyncio.ensure_future(self._up(near, far_out, faults)),
                asyncio.ensure_future(self._down(far, near_out, faults)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _up(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, faults: Faults
    ) -> None:
        passed = 0
        while data := await source.read(CHUNK):
            await asyncio.sleep(faults.delay_s + len(data) / faults.up_bytes_per_s)
            if passed + len(data) >= faults.stall_up_at:
                await asyncio.Event().wait()
            if passed + len(data) >= faults.cut_up_at:
                return
            passed += len(data)
            self.bytes_up += len(data)
            await _send(sink, data)

    async def _down(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, faults: Faults
    ) -> None:
        passed = 0
        while data := await source.read(CHUNK):
            await asyncio.sleep(faults.delay_s)
            if passed + len(data) >= faults.stall_down_at:
                await asyncio.Event().wait()
            if passed + len(data) >= faults.cut_down_at:
                await _send(sink, data[: int(faults.cut_down_at - passed)])
                return
            passed += len(data)
            self.sent_down += data
            await _send(sink, data)


async def _send(sink: asyncio.StreamWriter, data: bytes) -> None:
    with suppress(ConnectionError):
        sink.write(data)
        await sink.drain()
