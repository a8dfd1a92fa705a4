"""Clients: `Client` performs the steps of `calls` by blocking, `AsyncClient` by awaiting."""

import asyncio
import time
from collections.abc import Sequence
from typing import Self, TypeVar, cast

import grpc
import grpc.aio

from cxr_client import calls
from cxr_client.calls import Outcome, Pause, Read, Reply, Send, Steps
from cxr_client.connection import Connection
from cxr_client.description import Health, ModelDescription
from cxr_client.enums import ExplanationMethod
from cxr_client.errors import CallCancelledError
from cxr_client.requests import ImageSource, RenderOptions, read_image
from cxr_client.results import ExplanationSet, Prediction

T = TypeVar("T")


class Client(Connection):
    """A client of cxr-serve. It is thread-safe; close it with `with` or `close`.

    Every call has a deadline. A call that fails raises a `CxrError` (see `cxr_client.errors`).

    >>> with Client("127.0.0.1:50051") as client:
    ...     prediction = client.predict("chest.png")
    """

    def predict(
        self,
        image: ImageSource,
        *,
        top_k: int | None = None,
        strict_input: bool | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Score a chest radiograph.

        Args:
            image: The bytes of a PNG or JPEG file, or the path of one.
            top_k: Number of findings to return. Default: 5.
            strict_input: Refuse an image that does not look like a chest radiograph
                (`ImageError`) instead of answering with warnings. Default: false.
            timeout_s: Deadline over all attempts, in seconds. Default: the client's.
            request_id: Id of the call in the server's log, 1 to 64 of the characters A-Z, a-z,
                0-9, '.', '_', ':' and '-'. Default: a random one.

        Raises:
            CxrError: The call failed.
            OSError: The file cannot be read.
            ValueError: An argument is invalid.
        """
        steps = calls.predict(self._settings, image, top_k, strict_input, timeout_s, request_id)
        return self._run(steps)

    def explain(
        self,
        image: ImageSource,
        *,
        labels: str | Sequence[str] = (),
        heatmap_labels: str | Sequence[str] = (),
        method: ExplanationMethod | str | None = None,
        render: RenderOptions | None = None,
        strict_input: bool | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> ExplanationSet:
        """Show where in a chest radiograph the evidence for findings lies.

        The reply also carries the scores of all findings.

        Args:
            image: As in `predict`.
            labels: The findings to explain. Default: the one with the highest score.
            heatmap_labels: Those of `labels` to draw; the others are returned as numbers only.
                Default: all of them.
            method: How the map is made. Default: GRAD_CAM.
            render: How the map is drawn.
            strict_input: As in `predict`.
            timeout_s: As in `predict`.
            request_id: As in `predict`.

        Raises:
            CxrError: The call failed.
            OSError: The file cannot be read.
            ValueError: An argument is invalid.
        """
        steps = calls.explain(
            self._settings,
            image,
            labels,
            heatmap_labels,
            method,
            render,
            strict_input,
            timeout_s,
            request_id,
        )
        return self._run(steps)

    def health(self, *, timeout_s: float | None = None, request_id: str | None = None) -> Health:
        """Return the state of the service."""
        return self._run(calls.health(self._settings, timeout_s, request_id))

    def describe_model(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> ModelDescription:
        """Return the loaded model, its findings, limits and options."""
        return self._run(calls.describe_model(self._settings, timeout_s, request_id))

    def wait_until_ready(self, timeout_s: float) -> Health:
        """Wait until the service is serving.

        Raises:
            DeadlineError: It is not serving within `timeout_s` seconds.
        """
        return self._run(calls.wait_until_ready(self._settings, timeout_s))

    def close(self) -> None:
        """Close the connection; calls in progress raise a `CallCancelledError`."""
        channel = self._shut()
        if channel is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        """Perform the steps of a call."""
        outcome: Outcome = None
        try:
            while True:
                match steps.send(outcome):
                    case Pause(seconds):
                        time.sleep(seconds)
                        outcome = None
                    case Read(image, max_bytes):
                        outcome = read_image(image, max_bytes)
                    case Send() as step:
                        outcome = self._send(step)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, step: Send) -> Reply | grpc.Call:
        method = getattr(self._open(grpc), step.rpc)
        try:
            message, call = method.with_call(
                step.request,
                timeout=step.timeout_s,
                metadata=step.metadata,
                wait_for_ready=step.wait_for_ready,
            )
        except grpc.RpcError as error:
            return cast(grpc.Call, error)
        except ValueError:  # gRPC raises it for a closed channel, among other causes.
            if self._closed:
                raise CallCancelledError("the client is closed") from None
            raise
        return Reply(message, call.trailing_metadata())


class AsyncClient(Connection):
    """`Client` for asyncio: the same methods, awaited. Close it with `async with` or `aclose`.

    >>> async with AsyncClient("127.0.0.1:50051") as client:
    ...     predictions = await asyncio.gather(*map(client.predict, paths))
    """

    async def predict(
        self,
        image: ImageSource,
        *,
        top_k: int | None = None,
        strict_input: bool | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Score a chest radiograph, as `Client.predict`."""
        steps = calls.predict(self._settings, image, top_k, strict_input, timeout_s, request_id)
        return await self._run(steps)

    async def explain(
        self,
        image: ImageSource,
        *,
        labels: str | Sequence[str] = (),
        heatmap_labels: str | Sequence[str] = (),
        method: ExplanationMethod | str | None = None,
        render: RenderOptions | None = None,
        strict_input: bool | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> ExplanationSet:
        """Show where the evidence for findings lies, as `Client.explain`."""
        steps = calls.explain(
            self._settings,
            image,
            labels,
            heatmap_labels,
            method,
            render,
            strict_input,
            timeout_s,
            request_id,
        )
        return await self._run(steps)

    async def health(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Health:
        """Return the state of the service."""
        return await self._run(calls.health(self._settings, timeout_s, request_id))

    async def describe_model(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> ModelDescription:
        """Return the loaded model, its findings, limits and options."""
        return await self._run(calls.describe_model(self._settings, timeout_s, request_id))

    async def wait_until_ready(self, timeout_s: float) -> Health:
        """Wait until the service is serving, as `Client.wait_until_ready`."""
        return await self._run(calls.wait_until_ready(self._settings, timeout_s))

    async def aclose(self) -> None:
        """Close the connection; calls in progress raise a `CallCancelledError`."""
        channel = self._shut()
        if channel is not None:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        """Perform the steps of a call."""
        outcome: Outcome = None
        try:
            while True:
                match steps.send(outcome):
                    case Pause(seconds):
                        await asyncio.sleep(seconds)
                        outcome = None
                    case Read(image, max_bytes):
                        outcome = await asyncio.to_thread(read_image, image, max_bytes)
                    case Send() as step:
                        outcome = await self._send(step)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, step: Send) -> Reply | grpc.aio.AioRpcError:
        method = getattr(self._open(grpc.aio), step.rpc)
        try:
            call = method(
                step.request,
                timeout=step.timeout_s,
                metadata=step.metadata,
                wait_for_ready=step.wait_for_ready,
            )
            return Reply(await call, tuple(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            return error
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # A closing channel cancels its calls in the same way as the caller's task is cancelled.
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise CallCancelledError("the client was closed") from None
            raise
