"""Connection: the constructor that both clients share. Next: client."""

import threading
from types import ModuleType
from typing import Any

from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client.channel import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_MAX_REQUEST_BYTES,
    DEFAULT_SERVER,
    DEFAULT_TIMEOUT_S,
    Settings,
    StrPath,
)
from cxr_client.errors import CallCancelledError


class Connection:
    """The settings and the channel that both clients share."""

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        tls: bool = False,
        ca_file: StrPath | None = None,
        cert_file: StrPath | None = None,
        key_file: StrPath | None = None,
        token: str | None = None,
        insecure: bool = False,
    ) -> None:
        """Prepare a client; it connects with the first call, and again whenever needed.

        Args:
            server: A gRPC target: "host:port", "dns:///host:port", "unix:/path".
            timeout_s: Deadline of calls that set none, over all attempts, in seconds.
            max_attempts: How often a call is sent at most when the server cannot be reached
                (there, gRPC's limit is 5) or refuses it for load; 0 or 1: once.
            max_request_bytes: Largest request; the server's default is the same 32 MiB.
            tls: Encrypt, trusting `ca_file` or else the roots that gRPC ships. Implied by the
                files below.
            ca_file: PEM file of the certificates to trust.
            cert_file: PEM file of this client's certificate chain, for mutual TLS.
            key_file: PEM file of that certificate's key.
            token: Bearer token to send with every call.
            insecure: Allow plaintext, and the token over it, to another machine. Radiographs
                are patient data: only for a network that is itself trusted.

        Raises:
            ValueError: The settings contradict each other, or need `insecure`.
            OSError: A TLS file cannot be read.
        """
        self._settings = Settings(
            server=server,
            timeout_s=timeout_s,
            max_attempts=max_attempts,
            max_request_bytes=max_request_bytes,
            tls=tls,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            token=token,
            insecure=insecure,
        )
        self._credentials = self._settings.credentials()
        self._opening = threading.Lock()
        self._channel: Any = None
        self._stub: Any = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.server!r})"

    def _open(self, grpc_or_aio: ModuleType) -> Any:
        """Return the stub, on a channel that is made with the first call.

        Not earlier: a channel of grpc.aio belongs to the event loop in which it is made.
        """
        with self._opening:
            if self._closed:
                raise CallCancelledError("the client is closed")
            if self._stub is None:
                server, arguments = self._settings.server, self._settings.arguments()
                self._channel = (
                    grpc_or_aio.insecure_channel(server, arguments)
                    if self._credentials is None
                    else grpc_or_aio.secure_channel(server, self._credentials, arguments)
                )
                self._stub = ChestXrayServiceStub(self._channel)  # type: ignore[no-untyped-call]
            return self._stub

    def _shut(self) -> Any:
        """Allow no further call; return the channel to close, if there is one."""
        with self._opening:
            self._closed = True
            return self._channel
