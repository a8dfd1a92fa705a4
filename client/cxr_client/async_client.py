"""AsyncClient: performs the steps of `calls` by awaiting. Its twin is `client`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable, Sequence
from contextlib import aclosing
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio

from cxr_client import calls, forks
from cxr_client.address import DEFAULT_SERVER
from cxr_client.config import Options
from cxr_client.connection import Connection
from cxr_client.description import Health, ModelDescription
from cxr_client.enums import (
    CacheMode,
    CacheModeName,
    DicomPresentation,
    DicomPresentationName,
    ExplanationMethod,
    ExplanationMethodName,
)
from cxr_client.errors import CallCancelledError, ConfigError, CxrError
from cxr_client.images import ImageSource, read_image
from cxr_client.limiter import Limiter
from cxr_client.many import DEFAULT_OUTAGE_S, answer_many
from cxr_client.requests import RenderOptions
from cxr_client.results import ExplanationSet, Prediction
from cxr_client.session import Session, connect, send
from cxr_client.steps import Connect, Outcome, Pause, Read, Send, Step, Steps

# Half of the calls that a server takes by default: two such clients cause no refusals, and 32
# images keep every core busy.
DEFAULT_MAX_IN_FLIGHT = 32

T = TypeVar("T")


class AsyncClient(Connection):
    """`Client` for asyncio: the same methods, awaited. Close it with `async with` or `aclose`.

    Close it before the process is forked: gRPC hangs in processes that are forked while it is
    connected, and clients raise RuntimeError there.

    At most `max_in_flight` calls of `predict` and `explain` are in flight. The others wait in the
    client: their images are not read yet, and their deadlines have not started. So any number of
    images can be gathered:

    >>> async with AsyncClient("127.0.0.1:50051") as client:
    ...     predictions = await asyncio.gather(*map(client.predict, paths))

    One event loop may use it at a time: it reconnects in the next one.
    """

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        **options: Unpack[Options],
    ) -> None:
        """Create a client, as `Client` does.

        Args:
            server: As in `Client`.
            max_in_flight: Calls of `predict` and `explain` at a time. Default: 32, half of what a
                server takes by default.
            **options: As in `Client`.

        Raises:
            ConfigError: As in `Client`.
            OSError: As in `Client`.
            TypeError: As in `Client`.
        """
        if max_in_flight < 1:
            raise ConfigError("max_in_flight", "is below 1")
        super().__init__(server, **options)
        self._max_in_flight = max_in_flight
        self._session: Session | None = None

    async def predict(
        self,
        image: ImageSource,
        *,
        top_k: int | None = None,
        strict_input: bool | None = None,
        presentation: DicomPresentation | DicomPresentationName | None = None,
        include_embedding: bool | None = None,
        cache: CacheMode | CacheModeName | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Score a chest radiograph, as `Client.predict`."""
        steps = calls.predict(
            self._link,
            image,
            top_k,
            strict_input,
            presentation,
            include_embedding,
            cache,
            timeout_s,
            request_id,
        )
        del image  # or a traceback would keep it
        return await self._run_bounded(steps)

    async def predict_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        top_k: int | None = None,
        strict_input: bool | None = None,
        presentation: DicomPresentation | DicomPresentationName | None = None,
        include_embedding: bool | None = None,
        timeout_s: float | None = None,
        outage_s: float = DEFAULT_OUTAGE_S,
    ) -> AsyncGenerator[tuple[ImageSource, Prediction | CxrError | OSError], None]:
        """Score any number of images, each yielded with its outcome as soon as it is there.

        >>> async for path, outcome in client.predict_many(Path("films").rglob("*.png")):
        ...     print(path, outcome)

        The images are taken from `images` as they are needed, and no more of them are held than
        are in flight: as many as the server answers without long queueing, and at most
        `max_in_flight`. Calls are of the priority "bulk", whatever the client's. A server that is
        full or restarts is waited for.

        Args:
            images: Images as in `predict`; an iterator may go on for ever.
            top_k: As in `predict`.
            strict_input: As in `predict`.
            presentation: As in `predict`.
            include_embedding: As in `predict`.
            timeout_s: Deadline of each attempt, in seconds. Default: the client's.
            outage_s: How long a server that answers no call is waited for, in seconds.

        Yields:
            The image as given, and its prediction; or the error that its call or its file ended
            with, which stops no other image.

        Raises:
            UnavailableError: The server has answered no call for `outage_s`.
            UnauthenticatedError: The server has rejected the token.
            TypeError: An image is of another type.
            ValueError: An argument is invalid.
        """

        def ask(image: bytes) -> Awaitable[Prediction]:
            steps = calls.predict(
                self._link,
                image,
                top_k,
                strict_input,
                presentation,
                include_embedding,
                None,
                timeout_s,
                None,
                many=True,
            )
            return self._run_bounded(steps)

        max_bytes = self._settings.max_request_bytes
        limiter = Limiter(self._max_in_flight)
        outcomes = answer_many(images, max_bytes, ask, limiter, outage_s=outage_s)
        async with aclosing(outcomes):
            async for image, outcome in outcomes:
                yield image, outcome

    async def explain(
        self,
        image: ImageSource,
        *,
        labels: str | Sequence[str] = (),
        heatmap_labels: str | Sequence[str] = (),
        method: ExplanationMethod | ExplanationMethodName | None = None,
        render: RenderOptions | None = None,
        strict_input: bool | None = None,
        presentation: DicomPresentation | DicomPresentationName | None = None,
        include_embedding: bool | None = None,
        cache: CacheMode | CacheModeName | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> ExplanationSet:
        """Show where the evidence for findings lies, as `Client.explain`."""
        steps = calls.explain(
            self._link,
            image,
            labels,
            heatmap_labels,
            method,
            render,
            strict_input,
            presentation,
            include_embedding,
            cache,
            timeout_s,
            request_id,
        )
        del image  # or a traceback would keep it
        return await self._run_bounded(steps)

    async def health(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Health:
        """Return the state of the service."""
        return await self._run(calls.health(self._link, timeout_s, request_id))

    async def describe_model(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> ModelDescription:
        """Return the loaded model, its findings, limits and options."""
        return await self._run(calls.describe_model(self._link, timeout_s, request_id))

    async def wait_until_ready(self, timeout_s: float) -> Health:
        """Wait until the service is serving, as `Client.wait_until_ready`."""
        return await self._run(calls.wait_until_ready(self._link, timeout_s))

    async def aclose(self) -> None:
        """Close the connection; calls in progress or waiting raise a `CallCancelledError`."""
        self._closed = True
        session, self._session = self._session, None
        # The channel of another event loop, which has ended, is closed by the garbage collector.
        if session is not None and session.loop is asyncio.get_running_loop():
            session.closing.set()
            await session.channel.close()
            forks.closed(session.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _open(self) -> Session:
        """Return the session of the running event loop.

        Raises:
            RuntimeError: The client is in use in another event loop that is running.
        """
        loop = asyncio.get_running_loop()
        session = self._session
        if session is None or session.loop is not loop:
            if session is not None and session.loop.is_running():
                raise RuntimeError(
                    f"this {type(self).__name__} is in use in another event loop; "
                    "create one in each"
                )
            channel, stub = self._open_channel(grpc.aio)
            forks.opened(channel)
            slots = asyncio.Semaphore(self._max_in_flight)
            self._session = session = Session(loop, channel, stub, slots)
        return session

    async def _run_bounded(self, steps: Steps[T]) -> T:
        """Perform the steps of a call for the model in a slot; its deadline starts there."""
        async with self._open().slots:
            return await self._run(steps)

    async def _run(self, steps: Steps[T]) -> T:
        """Perform the steps of a call."""
        outcome: Outcome = None
        try:
            while True:
                outcome = await self._perform(steps.send(outcome))
        except StopIteration as end:
            result: T = end.value
            return result
        except CxrError as error:
            # A traceback keeps the variables of its frames: here, the image of the failed call.
            outcome = None
            raise error.with_traceback(None)  # noqa: B904

    async def _perform(self, step: Step) -> Outcome:
        session = self._open()
        try:
            match step:
                case Read(image, max_bytes):
                    return await asyncio.to_thread(read_image, image, max_bytes)
                case Pause(seconds):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await session.closing.wait()
                    return None
                case Connect(seconds):
                    return await connect(session.channel, seconds)
                case Send():
                    return await send(session.stub, step)
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # A closing channel cancels its calls in the same way as the caller's task is cancelled.
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise CallCancelledError("the client was closed") from None
            raise
