"""Session: the channel that `AsyncClient` has in one event loop. Next: async_client."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from cxr_client.channel import READY, UNSETTLED
from cxr_client.steps import Reply, Send


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    channel: Any
    stub: Any
    slots: asyncio.Semaphore
    closing: asyncio.Event = field(default_factory=asyncio.Event)


async def connect(channel: grpc.aio.Channel, seconds: float) -> bool | None:
    """Return whether the channel is connected; None where connecting takes longer."""
    try:
        async with asyncio.timeout(seconds):
            while (state := channel.get_state(try_to_connect=True)) in UNSETTLED:
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return None
    return state is READY


async def send(stub: Any, step: Send) -> Reply | grpc.aio.AioRpcError:
    """Send a request once; return the reply, or the error of gRPC."""
    method = getattr(stub, step.rpc)
    try:
        call = method(step.request, timeout=step.timeout_s, metadata=step.metadata)
        return Reply(await call, tuple(await call.trailing_metadata()))
    except grpc.aio.AioRpcError as error:
        return error
