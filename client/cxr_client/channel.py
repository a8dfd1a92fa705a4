"""Channel: settings of a client -> channel arguments, credentials and metadata."""

import ipaddress
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from cxr_client.errors import REQUEST_ID_KEY

DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MAX_ATTEMPTS = 5
DEFAULT_MAX_REQUEST_BYTES = 32 * 2**20

_MAX_RESPONSE_BYTES = 256 * 2**20
_TRANSPORT_MAX_ATTEMPTS = 5  # gRPC's own ceiling; it lowers anything higher to this.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a client, checked. `Client` documents them."""

    server: str = DEFAULT_SERVER
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    tls: bool = False
    ca_file: StrPath | None = None
    cert_file: StrPath | None = None
    key_file: StrPath | None = None
    token: str | None = field(default=None, repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work, and what would send images or tokens in the clear."""
        if not self.server:
            raise ValueError("server is empty")
        check_timeout(self.timeout_s)
        if self.max_attempts < 0:
            raise ValueError("max_attempts is negative")
        if self.max_request_bytes < 1:
            raise ValueError("max_request_bytes is below 1")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise ValueError("the token has characters other than visible ASCII, or none")
        if self.encrypted:
            if self.insecure:
                raise ValueError("insecure=True contradicts the TLS settings")
        elif not self.insecure and not is_loopback(self.server):
            raise ValueError(
                f"{self.server} is not this machine: radiographs would go there unencrypted; "
                "set tls=True, or insecure=True where the network itself is trusted"
            )

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used: asked for, or implied by a file that only TLS needs."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read the TLS files; None for plaintext.

        Raises:
            OSError: A file cannot be read.
        """
        if not self.encrypted:
            return None
        return grpc.ssl_channel_credentials(
            root_certificates=_bytes_of(self.ca_file),
            private_key=_bytes_of(self.key_file),
            certificate_chain=_bytes_of(self.cert_file),
        )

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Return the metadata of one call."""
        if not _REQUEST_ID.fullmatch(request_id):
            raise ValueError("a request id has 1 to 64 letters, digits, '.', '_', ':' or '-'")
        metadata = [(REQUEST_ID_KEY, request_id)]
        if self.token is not None:
            metadata.append(("authorization", f"Bearer {self.token}"))
        return tuple(metadata)

    def arguments(self) -> list[tuple[str, str | int]]:
        """Return the channel arguments."""
        return [
            ("grpc.max_send_message_length", self.max_request_bytes),
            ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
            ("grpc.service_config", json.dumps(self._service_config())),
            ("grpc.enable_retries", int(self.max_attempts > 1)),
            # gRPC keeps a call's bytes for a retry only up to 256 KiB, and beyond that stops
            # retrying without a word. The margin is for what gRPC puts around a message.
            ("grpc.per_rpc_retry_buffer_size", self.max_request_bytes + 2**16),
            # A connection that swallows everything is noticed after 40 s.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # By default a channel may wait two minutes before it tries a restarted server.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 2_000),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # Without this, http_proxy applies to loopback as well.
            ("grpc.enable_http_proxy", int(not is_loopback(self.server))),
        ]

    def _service_config(self) -> dict[str, object]:
        config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
        if self.max_attempts > 1:
            config["methodConfig"] = [
                {
                    "name": [{"service": "cxr.v1.ChestXrayService"}],
                    "retryPolicy": {
                        # Waits of about 0.2, 0.6, 1.8 and 5 s outlast a server's restart.
                        "maxAttempts": min(self.max_attempts, _TRANSPORT_MAX_ATTEMPTS),
                        "initialBackoff": "0.2s",
                        "backoffMultiplier": 3,
                        "maxBackoff": "5s",
                        # A server of grpc that stops ends what it has not looked at CANCELLED.
                        # Not RESOURCE_EXHAUSTED: it is also gRPC's "message too large".
                        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                    },
                }
            ]
            # Retries stop while more than half of the tokens are gone: room for some fifty
            # callers that all see the same restart, none for a storm on a dead server.
            config["retryThrottling"] = {"maxTokens": 500, "tokenRatio": 1}
        return config


def check_timeout(timeout_s: float) -> float:
    """Return a timeout that is a positive, finite number of seconds."""
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ValueError(f"a timeout is a positive number of seconds, not {timeout_s}")
    return timeout_s


def is_loopback(server: str) -> bool:
    """Tell whether a gRPC target stays on this machine."""
    if server.startswith(("unix:", "unix-abstract:")):
        return True
    address = re.sub(r"^(dns|ipv4|ipv6):(//[^/]*/)?", "", server)
    addresses = address.split(",")
    return all(_is_loopback_host(_host(each)) for each in addresses)


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


def _bytes_of(path: StrPath | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
