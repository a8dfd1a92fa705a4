"""Threads: daemon threads in a registry, so that none delays the end of the process.

The event loop and the interpreter wait for threads of `asyncio.to_thread`.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar
from weakref import WeakSet

from cxr_server.inference.pending import complete
from cxr_server.observability.thread_name import name_this_thread

R = TypeVar("R")
_started: WeakSet[threading.Thread] = WeakSet()


def start(name: str, target: Callable[[], object]) -> threading.Thread:
    """Run a function in a new thread, which `running` lists. Raises RuntimeError at a limit."""
    full_name = f"cxr-{name}"

    def run_named() -> None:
        name_this_thread(full_name)
        target()

    thread = threading.Thread(target=run_named, name=full_name, daemon=True)
    thread.start()
    _started.add(thread)
    return thread


async def run(
    name: str, function: Callable[[], R], *, abandoned: Callable[[R], object] | None = None
) -> R:
    """Run a function in its own thread, which goes on if this is cancelled.

    In that case `abandoned` is called with the result, in a thread as well.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[R] = loop.create_future()

    def finish(outcome: object) -> None:
        if abandoned and answer.cancelled() and not isinstance(outcome, BaseException):
            start(name, partial(abandoned, outcome))  # type: ignore[arg-type]
        complete(answer, outcome)

    def job() -> None:
        outcome: object
        try:
            outcome = function()
        except BaseException as error:
            outcome = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(finish, outcome)

    start(name, job)
    try:
        return await answer
    except asyncio.CancelledError:
        if abandoned and not answer.cancelled() and not answer.exception():  # both at once
            start(name, partial(abandoned, answer.result()))
        raise


def running(wait_s: float) -> list[str]:
    """Return the names of the threads that are still running after at most `wait_s` seconds."""
    until = time.monotonic() + wait_s
    while names := [thread.name for thread in _started if thread.is_alive()]:
        if time.monotonic() >= until:
            break
        time.sleep(0.01)
    return names
