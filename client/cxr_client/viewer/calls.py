"""Calls: a limit on those in flight, and their cancellation when the browser disconnects."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from cxr_client.viewer.failures import Refusal

_RETRY_AFTER_S = 1.0

T = TypeVar("T")


class Slots:
    """Places for calls, each with an image in memory. A call without a place is refused."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Refusal: None is free.
        """
        if not self._free:
            raise Refusal(
                "OVERLOADED", f"{self._count} calls of this page are in flight.", _RETRY_AFTER_S
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of some work; the work is cancelled when the browser leaves.

    The body of the request must have been read: nothing else may receive meanwhile.

    Raises:
        ClientDisconnect: The browser has left.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        left.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
