"""Client: performs the steps of `calls` by blocking. Its twin is `async_client`."""

import threading
from collections.abc import Sequence
from typing import Any, Self, TypeVar, Unpack, cast

import grpc

from cxr_client import calls
from cxr_client.address import DEFAULT_SERVER
from cxr_client.channel import connect
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
from cxr_client.errors import CallCancelledError, CxrError
from cxr_client.images import ImageSource, read_image
from cxr_client.requests import RenderOptions
from cxr_client.results import ExplanationSet, Prediction
from cxr_client.steps import Connect, Outcome, Pause, Read, Reply, Send, Step, Steps

T = TypeVar("T")


class Client(Connection):
    """A client of cxr-serve. It is thread-safe; close it with `with` or `close`.

    Every call has a deadline. A call that fails raises a `CxrError` (see `cxr_client.errors`).
    Unlike `AsyncClient`, it does not limit the calls in flight: the caller's threads do.

    >>> with Client("127.0.0.1:50051") as client:
    ...     prediction = client.predict("chest.png")
    """

    def __init__(self, server: str = DEFAULT_SERVER, **options: Unpack[Options]) -> None:
        """Create a client. It connects with the first call, and reconnects as needed.

        Args:
            server: A gRPC target: "host:port", "dns:///host:port", "unix:/path", or several
                addresses, "ipv4:10.0.0.7:50051,10.0.0.8:50051".
            **options: Any of the following.

                timeout_s (float): Deadline over all attempts of a call that sets none. Default: 30.
                max_request_bytes (int): Largest request. Default: 32 MiB, as the server's.
                max_response_bytes (int): Largest answer. Default: 256 MiB.
                tls (TLSConfig): Encryption and certificates. Default: plaintext, to this machine
                    only. `TLSConfig.from_env()` reads the environment; a client never does.
                retry (RetryConfig): How failed calls are retried. Default: `RetryConfig()`.
                balancing (BalancingConfig): How calls are spread over several servers. Default:
                    in turn, over all addresses of the name; their health is not asked for.
                token (str): Bearer token to send with every call.
                insecure (bool): Allow plaintext, and the token over it, to another machine.
                    Radiographs are patient data: use it only in a network that is itself trusted.
                priority (str): "bulk" for background work: such calls give way to all others.
                    Default: "interactive".
                model (str): Which of the server's models to ask, by a name of
                    `ModelDescription.served_models`. Default: the server's default.
                metadata (Mapping[str, str]): Metadata to send with every call, for what routes
                    them on their way.

        Raises:
            ConfigError: An option is invalid, or requires `insecure`.
            OSError: A TLS file cannot be read.
            TypeError: There is no such option.
        """
        super().__init__(server, **options)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._opened: tuple[Any, Any] | None = None

    def predict(
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
        """Score a chest radiograph.

        Args:
            image: The bytes of a DICOM, PNG or JPEG file, its path, a binary file object, a data
                set of pydicom, a PIL image, or an array of uint8 or uint16 [height, width]. The
                last two are sent as PNG.
            top_k: Number of findings to return. Default: 5.
            strict_input: Refuse an image that does not look like a chest radiograph
                (`ImageError`) instead of answering with warnings. Default: false.
            presentation: How stored values of a DICOM image become grey. Default: AS_SHOWN, as a
                viewer shows the image at first. STORED is what torchxrayvision reads.
            include_embedding: Return the network's features, too (`embedding`). Default: false.
            cache: Whether evidence of an earlier call with this image may be used: USE or BYPASS.
                Default: USE. `timing.evidence_cached` says whether it was.
            timeout_s: Deadline over all attempts, in seconds. Default: the client's.
            request_id: Id of the call in the server's log, 1 to 64 of the characters A-Z, a-z,
                0-9, '.', '_', ':' and '-'. Default: a random one.

        Raises:
            CxrError: The call failed.
            OSError: The file cannot be read.
            TypeError: `image` or `render` is of another type.
            ValueError: An argument is invalid.
        """
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
        return self._run(steps)

    def explain(
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
            presentation: As in `predict`.
            include_embedding: As in `predict`.
            cache: As in `predict`.
            timeout_s: As in `predict`.
            request_id: As in `predict`.

        Raises:
            CxrError: The call failed.
            OSError: The file cannot be read.
            TypeError: `image` or `render` is of another type.
            ValueError: An argument is invalid.
        """
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
        return self._run(steps)

    def health(self, *, timeout_s: float | None = None, request_id: str | None = None) -> Health:
        """Return the state of the service."""
        return self._run(calls.health(self._link, timeout_s, request_id))

    def describe_model(
        self, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> ModelDescription:
        """Return the loaded model, its findings, limits and options."""
        return self._run(calls.describe_model(self._link, timeout_s, request_id))

    def wait_until_ready(self, timeout_s: float) -> Health:
        """Wait until the service is serving.

        Raises:
            DeadlineError: It is reached, but not serving within `timeout_s` seconds.
            UnavailableError: It is not reached within `timeout_s` seconds.
            CxrError: Waiting cannot help, for example without a valid token.
        """
        return self._run(calls.wait_until_ready(self._link, timeout_s))

    def close(self) -> None:
        """Close the connection; calls in progress raise a `CallCancelledError`."""
        with self._lock:
            self._closed = True
            self._closing.set()
        if self._opened is not None:
            self._opened[0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        """Perform the steps of a call."""
        outcome: Outcome = None
        try:
            while True:
                outcome = self._perform(steps.send(outcome))
        except StopIteration as end:
            result: T = end.value
            return result
        except CxrError as error:
            # A traceback keeps the variables of its frames: here, the image of the failed call.
            outcome = None
            raise error.with_traceback(None)  # noqa: B904

    def _perform(self, step: Step) -> Outcome:
        match step:
            case Read(image, max_bytes):
                return read_image(image, max_bytes)
            case Pause(seconds):
                self._closing.wait(seconds)
                return None
            case Connect(seconds):
                return connect(self._open()[0], seconds)
            case Send():
                return self._send(step)

    def _open(self) -> tuple[Any, Any]:
        """Return the channel and its stub."""
        with self._lock:
            if self._opened is None or self._closed:
                self._opened = self._open_channel(grpc)
            return self._opened

    def _send(self, step: Send) -> Reply | grpc.Call:
        method = getattr(self._open()[1], step.rpc)
        try:
            message, call = method.with_call(
                step.request, timeout=step.timeout_s, metadata=step.metadata
            )
        except grpc.RpcError as error:
            if self._closed:
                raise CallCancelledError("the client was closed") from None
            return cast(grpc.Call, error)
        except ValueError:  # gRPC raises it for a closed channel, among other causes.
            if self._closed:
                raise CallCancelledError("the client is closed") from None
            raise
        return Reply(message, call.trailing_metadata())
