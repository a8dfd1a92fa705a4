"""Connection: the constructor and the channel that both clients share. Next: client."""

import threading
from types import ModuleType
from typing import Any

from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client.channel import open_channel
from cxr_client.config import (
    DEFAULT_MAX_REQUEST_BYTES,
    DEFAULT_SERVER,
    DEFAULT_TIMEOUT_S,
    RetryConfig,
    Settings,
    TLSConfig,
)
from cxr_client.errors import CallCancelledError


class Connection:
    """The settings and the channel of a client."""

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        tls: TLSConfig | None = None,
        retry: RetryConfig | None = None,
        token: str | None = None,
        insecure: bool = False,
    ) -> None:
        """Create a client. It connects with the first call, and reconnects as needed.

        Args:
            server: A gRPC target: "host:port", "dns:///host:port", "unix:/path".
            timeout_s: Deadline of calls that set none, over all attempts, in seconds.
            max_request_bytes: Largest request; the default equals the server's, 32 MiB.
            tls: Encryption and certificates; the default is plaintext, to this machine only.
            retry: How failed calls are retried; the default is `RetryConfig()`.
            token: Bearer token to send with every call.
            insecure: Allow plaintext, and the token over it, to another machine. Radiographs
                are patient data: use it only in a network that is itself trusted.

        Raises:
            ValueError: The options contradict each other, or require `insecure`.
            OSError: A TLS file cannot be read.
        """
        self._settings = Settings(
            server=server,
            timeout_s=timeout_s,
            max_request_bytes=max_request_bytes,
            tls=tls,
            retry=retry or RetryConfig(),
            token=token,
            insecure=insecure,
        )
        self._credentials = tls.credentials() if tls else None
        self._lock = threading.Lock()
        self._channel: Any = None
        self._stub: Any = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.server!r})"

    def _open(self, grpc_or_aio: ModuleType) -> Any:
        """Return the stub, on a channel that is opened by the first call.

        Not earlier: a channel of grpc.aio belongs to the event loop in which it is created.
        """
        with self._lock:
            if self._closed:
                raise CallCancelledError("the client is closed")
            if self._stub is None:
                self._channel = open_channel(grpc_or_aio, self._settings, self._credentials)
                self._stub = ChestXrayServiceStub(self._channel)  # type: ignore[no-untyped-call]
            return self._stub

    def _shut(self) -> Any:
        """Refuse further calls; return the channel to close, if there is one."""
        with self._lock:
            self._closed = True
            return self._channel
