"""Receive: read and parse a unary request inside the method, not before it."""

import asyncio
from typing import Any

import grpc
from google.protobuf import message

from cxr_server.errors import DeadlineExpired, InvalidField
from cxr_server.rpc.interceptors.call_context import CallContext


async def receive(context: CallContext, parse: Any, timeout_s: float) -> Any:
    """Return the request. Raises DeadlineExpired, InvalidField and MemoryFull."""
    call = context.call
    try:
        async with asyncio.timeout(timeout_s):
            # Not by iterating: gRPC's iterator keeps the message in a reference cycle.
            raw = await context.read()
    except TimeoutError:
        raise DeadlineExpired("the request took too long to arrive") from None
    if raw is grpc.aio.EOF:
        # Also the first sign of a cancelled or an oversized call, whose cancellation arrives
        # right after it.
        await asyncio.sleep(0.05)
        raise InvalidField("the call carried no request")
    call.request_bytes = len(raw)
    if context.hold:
        context.hold(call.request_bytes)
    if call.expired:
        raise DeadlineExpired("the deadline passed while the request was received")
    try:
        return parse(raw) if parse else raw
    except message.DecodeError:
        raise InvalidField("the request is not a valid message of this method") from None
