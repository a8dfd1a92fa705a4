"""Many: any number of images -> calls that wait for a full or restarting server -> outcomes.

Only the images in flight are in memory. Next: async_client.
"""

import asyncio
import random
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing
from typing import TypeVar

from cxr_client.errors import (
    CallCancelledError,
    CxrError,
    DeadlineError,
    InternalError,
    OverloadedError,
    UnauthenticatedError,
    UnavailableError,
)
from cxr_client.images import ImageSource, read_image
from cxr_client.limiter import Limiter
from cxr_client.link import log
from cxr_client.results import ExplanationSet, Prediction

DEFAULT_OUTAGE_S = 600.0
"""How long a server that does not answer is waited for."""

_ATTEMPTS = {DeadlineError: 5, InternalError: 3}
"""After so many, the failure is the image's."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _GROWTH = 0.2, 5.0, 2.0

A = TypeVar("A", bound=Prediction | ExplanationSet)
T = TypeVar("T")
R = TypeVar("R")


class Patience:
    """Retries calls until they are answered, or refused because of their image.

    The client must not retry itself: `limiter` needs to see its refusals.
    """

    def __init__(self, limiter: Limiter, *, outage_s: float = DEFAULT_OUTAGE_S) -> None:
        """Wait `outage_s` for a server that no call reaches."""
        self._limiter = limiter
        self._outage_s = outage_s
        self._last_answer_s = time.monotonic()
        self._outage = False

    async def call(self, send: Callable[[], Awaitable[A]]) -> A:
        """Return the answer of a call.

        Raises:
            UnavailableError: The server has answered no call for `outage_s`.
            CxrError: The image or the request is refused.
        """
        attempts, pause_s, began_s = 0, _FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                async with self._limiter:
                    answer = await send()
                    self._limiter.answered(answer.timing)
            except CxrError as error:
                attempts += 1
                wait_s = self._wait_s(error, attempts, pause_s, began_s)
                if wait_s is None:
                    raise
            else:
                self._answered()
                return answer
            pause_s = min(pause_s * _GROWTH, _LONGEST_PAUSE_S)
            await asyncio.sleep(wait_s)

    def _wait_s(
        self, error: CxrError, attempts: int, pause_s: float, began_s: float
    ) -> float | None:
        """Return the wait before the next attempt, in seconds; None where there is none."""
        match error:
            case OverloadedError():
                self._answered()
                self._limiter.refused()
                return random.uniform(1, 2) * max(error.retry_after_s or 0.0, pause_s)
            case CallCancelledError() if error.code is None:  # the client was closed
                return None
            case UnavailableError() | CallCancelledError():
                if time.monotonic() - self._last_answer_s >= self._outage_s:
                    return None
                if not self._outage:
                    self._outage = True
                    log.warning("%s; trying again", error.message)
                return random.uniform(0.8, 1.2) * max(error.retry_after_s or 0.0, pause_s)
            case DeadlineError() if self._last_answer_s < began_s:  # no call has been answered
                if time.monotonic() - self._last_answer_s >= self._outage_s:
                    told = f"the server has answered no call for {self._outage_s:g} s"
                    raise UnavailableError(told, request_id=error.request_id) from None
                self._limiter.refused()
                return random.uniform(0.8, 1.2) * pause_s
            case DeadlineError() | InternalError() if attempts < _ATTEMPTS[type(error)]:
                self._limiter.refused()
                return random.uniform(0.8, 1.2) * pause_s
            case _:
                self._answered()
                return None

    def _answered(self) -> None:
        """Note an answer, which may be a refusal."""
        self._last_answer_s = time.monotonic()
        if self._outage:
            self._outage = False
            log.info("the server answers")


async def answer_many(
    images: Iterable[ImageSource] | AsyncIterable[ImageSource],
    max_bytes: int,
    ask: Callable[[bytes], Awaitable[Prediction]],
    limiter: Limiter,
    *,
    outage_s: float,
) -> AsyncGenerator[tuple[ImageSource, Prediction | CxrError | OSError], None]:
    """Yield every image with its prediction, or its error, as `AsyncClient.predict_many`."""
    patience = Patience(limiter, outage_s=outage_s)

    async def outcome_of(image: ImageSource) -> Prediction | CxrError | OSError:
        try:
            data = await asyncio.to_thread(read_image, image, max_bytes)
            return await patience.call(lambda: ask(data))
        except (CallCancelledError, UnavailableError, UnauthenticatedError):
            raise
        except (CxrError, OSError) as error:
            # A traceback keeps the variables of its frames: here, the image.
            return error.with_traceback(None)

    async with aclosing(as_done(each_of(images), outcome_of, limiter)) as outcomes:
        async for image, outcome in outcomes:
            yield image, outcome


async def as_done(
    items: AsyncIterator[T], work: Callable[[T], Awaitable[R]], limiter: Limiter
) -> AsyncGenerator[tuple[T, R], None]:
    """Yield every item with its outcome as soon as it is there.

    At most `limiter.limit` items are taken ahead; closing the generator cancels their work. What
    `work` raises ends it.
    """
    running: dict[asyncio.Task[R], T] = {}
    coming: asyncio.Task[T] | None = None
    ended = False
    try:
        while True:
            if not (ended or coming) and len(running) < limiter.limit:
                coming = asyncio.create_task(_next(items))
            waited = [*running, *([coming] if coming else [])]
            if not waited:
                return
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if coming and coming.done():
                try:
                    item = coming.result()
                    running[asyncio.create_task(_of(work, item))] = item
                except StopAsyncIteration:
                    ended = True
                coming = None
            for task in [task for task in running if task.done()]:
                yield running.pop(task), task.result()
    finally:
        left = [*running, *([coming] if coming else [])]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def each_of(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the items of any iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    for item in items:
        yield item


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _of(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)
