"""Options of a client: frozen, checked dataclasses. Next: channel."""

import ipaddress
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from cxr_client.errors import REQUEST_ID_KEY

DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MAX_REQUEST_BYTES = 32 * 2**20

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """TLS of a connection. `TLSConfig()` trusts the certificate authorities that gRPC ships.

    Raises:
        ValueError: Only one of `cert` and `key` is given.
    """

    ca: bytes | StrPath | None = None
    """Certificate authorities to trust: PEM bytes, or the path of a PEM file."""

    cert: bytes | StrPath | None = None
    """Certificate chain of this client, for mutual TLS: PEM bytes, or the path of a PEM file."""

    key: bytes | StrPath | None = field(default=None, repr=False)
    """Private key of `cert`: PEM bytes, or the path of a PEM file."""

    server_name: str | None = None
    """Name to verify in the server's certificate, where it is not the host of the address."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            OSError: A file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.ca),
            private_key=_pem(self.key),
            certificate_chain=_pem(self.cert),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """Retries of a call that cannot reach the server, or that the server refuses for load.

    A refusal for load states when to retry. The backoff is for everything else.

    Raises:
        ValueError: A value is out of range.
    """

    max_attempts: int = 5
    """How often a call is sent at most; 1 disables retries. For lost connections, at most 5."""

    initial_backoff_s: float = 0.2
    """Mean wait before the first retry, in seconds. The defaults survive a server restart."""

    backoff_multiplier: float = 3.0
    """Factor by which the wait grows from one retry to the next."""

    max_backoff_s: float = 5.0
    """Longest wait before a retry, in seconds."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts is below 1")
        for name in ("initial_backoff_s", "backoff_multiplier", "max_backoff_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is not a positive number: {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options of one client; `Client` documents them.

    Raises:
        ValueError: The options are invalid, or would send images or tokens unencrypted.
    """

    server: str = DEFAULT_SERVER
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    tls: TLSConfig | None = None
    retry: RetryConfig = RetryConfig()
    token: str | None = field(default=None, repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        if not self.server:
            raise ValueError("server is empty")
        check_timeout(self.timeout_s)
        if self.max_request_bytes < 1:
            raise ValueError("max_request_bytes is below 1")
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise ValueError("the token is empty or contains other than visible ASCII characters")
        if self.tls is not None and self.insecure:
            raise ValueError("insecure=True contradicts tls")
        if self.tls is None and not self.insecure and not is_loopback(self.server):
            raise ValueError(
                f"{self.server} is another machine: radiographs would be sent unencrypted; "
                "set tls, or insecure=True where the network itself is trusted"
            )

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Return the metadata of one call.

        Raises:
            ValueError: The request id is invalid.
        """
        if not _REQUEST_ID.fullmatch(request_id):
            raise ValueError("a request id has 1 to 64 of A-Z, a-z, 0-9, '.', '_', ':' and '-'")
        metadata = [(REQUEST_ID_KEY, request_id)]
        if self.token is not None:
            metadata.append(("authorization", f"Bearer {self.token}"))
        return tuple(metadata)


def check_timeout(timeout_s: float) -> float:
    """Return the timeout, in seconds.

    Raises:
        ValueError: It is not positive or not finite.
    """
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ValueError(f"a timeout is a positive number of seconds, not {timeout_s}")
    return timeout_s


def is_loopback(server: str) -> bool:
    """Return whether a gRPC target stays on this machine."""
    if server.startswith(("unix:", "unix-abstract:")):
        return True
    address = re.sub(r"^(dns|ipv4|ipv6):(//[^/]*/)?", "", server)
    return all(_is_loopback_host(_host(each)) for each in address.split(","))


def _host(address: str) -> str:
    """Drop the port and the brackets: "[::1]:50051" -> "::1"."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def _is_loopback_host(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pem(source: bytes | StrPath | None) -> bytes | None:
    return source if source is None or isinstance(source, bytes) else Path(source).read_bytes()
