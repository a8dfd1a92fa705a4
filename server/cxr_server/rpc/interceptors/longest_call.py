"""Longest call: end calls that take too long, also those whose answer nobody reads."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cxr_server.errors import DeadlineExpired
from cxr_server.rpc import connections
from cxr_server.rpc.interceptors.call_context import CallContext


@contextmanager
def limited(context: CallContext, *, max_call_s: float, bounded: frozenset[str]) -> Iterator[None]:
    """Give a call the deadline that it lacks. Raises DeadlineExpired when it passes.

    A call that is still being sent then has a caller that does not read. gRPC offers no way to
    cancel it, so its connection is closed. `bounded` is as in `admitted`.
    """
    call = context.call
    latest = call.started + max_call_s
    if call.method not in bounded or call.deadline <= latest:  # gRPC keeps the caller's deadline
        yield
        return
    call.deadline = latest
    task, method_ended, expired = asyncio.current_task(), False, False

    def expire() -> None:
        nonlocal expired
        expired = True
        if method_ended:
            connections.close(context.peer())
        elif task:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(max_call_s, expire)
    call.at_end(timer.cancel)
    try:
        yield
    except asyncio.CancelledError:
        if expired and task and not task.uncancel():
            message = f"the call took longer than {max_call_s:g} s"
            raise DeadlineExpired(message) from None
        raise
    finally:
        method_ended = True
