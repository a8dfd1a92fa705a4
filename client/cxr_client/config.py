"""Options of a client: frozen, checked dataclasses. Next: channel."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypedDict, get_args

import grpc

from cxr_client.address import DEFAULT_SERVER, check_address, is_loopback
from cxr_client.errors import REQUEST_ID_KEY, ConfigError

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MAX_REQUEST_BYTES = 32 * 2**20
DEFAULT_MAX_RESPONSE_BYTES = 256 * 2**20

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

TLS_SWITCH = "CXR_TLS"
HEALTH_CHECK_SWITCH = "CXR_HEALTH_CHECK"
TLS_VARIABLES = {
    "ca": "CXR_CA_FILE",
    "cert": "CXR_CERT_FILE",
    "key": "CXR_KEY_FILE",
    "server_name": "CXR_TLS_SERVER_NAME",
}
"""The environment variable of each option of `TLSConfig`."""

StrPath = str | os.PathLike[str]

Priority = Literal["interactive", "bulk"]
"""Bulk calls give way to interactive ones."""

_PRIORITY_KEY = "x-priority"
_METADATA_NAME = re.compile(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)")
_OWN_METADATA = frozenset(
    {
        REQUEST_ID_KEY,
        _PRIORITY_KEY,
        "authorization",
        "traceparent",
        "tracestate",
        "x-request-bytes",
    }
)
"""Metadata that other options set, or the client by itself."""

BalancingPolicy = Literal["round_robin", "pick_first"]
"""The policies of gRPC that need no configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """TLS of a connection. `TLSConfig()` trusts the certificate authorities that gRPC ships.

    Raises:
        ConfigError: Only one of `cert` and `key` is given.
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
        for given, missing in (("cert", "key"), ("key", "cert")):
            if getattr(self, given) is not None and getattr(self, missing) is None:
                raise ConfigError(f"tls.{given}", "is given alone", (f"tls.{missing}",))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self | None:
        """Read the environment; the clients themselves never do.

        `CXR_CA_FILE`, `CXR_CERT_FILE` and `CXR_KEY_FILE` are paths of PEM files,
        `CXR_TLS_SERVER_NAME` is a name. Each of them turns TLS on, and so does `CXR_TLS=1`;
        `CXR_TLS=0` turns it off. An empty variable counts as unset.

        Returns:
            The configuration; None where the environment does not ask for TLS.

        Raises:
            ConfigError: `CXR_TLS` is neither true nor false, or only one of certificate and key
                is given.
        """
        environ = os.environ if environ is None else environ
        given = {option: environ.get(name) or None for option, name in TLS_VARIABLES.items()}
        switch = _switch(environ, TLS_SWITCH, "tls")
        wanted = any(given.values()) if switch is None else switch
        return cls(**given) if wanted else None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            ConfigError: A file is not PEM.
            OSError: A file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_pem("ca", self.ca),
            private_key=_pem("key", self.key),
            certificate_chain=_pem("cert", self.cert),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """Retries of a call. Predict and Explain are idempotent: sending them again is safe.

    A refusal that states when to retry, of a server that is full or still loading, is retried at
    that time or later until the deadline. A lost or failed connection is retried after the
    backoff, and counts as an attempt.

    Raises:
        ConfigError: A value is out of range.
    """

    max_attempts: int = 5
    """Attempts of a call whose connection fails. 1 turns all retries off, those of refusals too."""

    initial_backoff_s: float = 0.2
    """Mean wait before the first retry, in seconds. The defaults survive a server restart."""

    backoff_multiplier: float = 3.0
    """Factor by which the wait grows from one retry to the next."""

    max_backoff_s: float = 5.0
    """Longest wait before a retry, in seconds, unless a refusal states a longer one."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigError("retry.max_attempts", "is below 1")
        for name in ("initial_backoff_s", "backoff_multiplier", "max_backoff_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"retry.{name}", f"is not a positive number: {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancingConfig:
    """How calls are spread over the addresses that the name of the server stands for.

    Raises:
        ConfigError: The policy does not exist, or does not check the health of servers.
    """

    policy: BalancingPolicy = "round_robin"
    """"round_robin" takes the addresses in turn, "pick_first" keeps to the first that answers."""

    health_check: bool = False
    """Watch the health of each server by `grpc.health.v1`, and send calls only to those that are
    SERVING. For names with several addresses: where no server is SERVING, every call, `health`
    included, fails without the reason that the server itself would give."""

    def __post_init__(self) -> None:
        if self.policy not in get_args(BalancingPolicy):
            policies = ", ".join(get_args(BalancingPolicy))
            raise ConfigError("balancing.policy", f"is not one of {policies}")
        if self.health_check and self.policy != "round_robin":
            raise ConfigError("balancing.health_check", f"has no effect with {self.policy}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment; the clients themselves never do.

        `CXR_HEALTH_CHECK=1` turns the health check on. An empty variable counts as unset.

        Raises:
            ConfigError: The variable is neither true nor false.
        """
        environ = os.environ if environ is None else environ
        wanted = _switch(environ, HEALTH_CHECK_SWITCH, "balancing.health_check")
        return cls(health_check=bool(wanted))


class Options(TypedDict, total=False):
    """The options of both clients, all but the server; `Client` documents them."""

    timeout_s: float
    max_request_bytes: int
    max_response_bytes: int
    tls: TLSConfig | None
    retry: RetryConfig
    balancing: BalancingConfig
    token: str | None
    insecure: bool
    priority: Priority
    model: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options of one client; `Client` documents them.

    Raises:
        ConfigError: An option is invalid, or would send images or tokens unencrypted.
    """

    server: str = DEFAULT_SERVER
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES
    tls: TLSConfig | None = None
    retry: RetryConfig = RetryConfig()
    balancing: BalancingConfig = BalancingConfig()
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    priority: Priority = "interactive"
    model: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_address(self.server)
        check_timeout(self.timeout_s)
        for name in ("max_request_bytes", "max_response_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(name, "is below 1")
        if not isinstance(self.tls, TLSConfig | None):
            raise ConfigError("tls", f"is a {type(self.tls).__name__}; give a TLSConfig")
        if self.token is not None:
            # A token from a file or a mounted secret often ends in a newline.
            object.__setattr__(self, "token", self.token.strip())
            if not re.fullmatch(r"[!-~]+", self.token):
                raise ConfigError(
                    "token", "is empty or contains characters other than visible ASCII"
                )
        if self.priority not in get_args(Priority):
            raise ConfigError("priority", f"is not one of {', '.join(get_args(Priority))}")
        for name, text in self.metadata.items():
            if not _METADATA_NAME.fullmatch(name) or not re.fullmatch(r"[ -~]+", text):
                raise ConfigError("metadata", f"{name!r} is not a text with a name in lower case")
            if name in _OWN_METADATA:
                raise ConfigError("metadata", f"{name!r} is set by the client itself")
        object.__setattr__(self, "metadata", dict(self.metadata))
        if self.tls is not None and self.insecure:
            raise ConfigError("insecure", "contradicts TLS")
        if self.tls is None and not self.insecure and not is_loopback(self.server):
            raise ConfigError(
                "server",
                f"{self.server!r} is another machine: radiographs would be sent unencrypted",
                ("tls", "insecure"),
            )

    def metadata_of_call(
        self, request_id: str, priority: Priority | None = None
    ) -> tuple[tuple[str, str], ...]:
        """Return the metadata of one call, of the client's priority unless another is given.

        Raises:
            ValueError: The request id is invalid.
        """
        if not _REQUEST_ID.fullmatch(request_id):
            raise ValueError("a request id has 1 to 64 of A-Z, a-z, 0-9, '.', '_', ':' and '-'")
        metadata = [*self.metadata.items(), (REQUEST_ID_KEY, request_id)]
        if self.token is not None:
            metadata.append(("authorization", f"Bearer {self.token}"))
        if (priority or self.priority) != "interactive":
            metadata.append((_PRIORITY_KEY, priority or self.priority))
        return tuple(metadata)


def check_timeout(timeout_s: float) -> float:
    """Return the timeout, in seconds.

    Raises:
        ConfigError: It is not positive or not finite.
    """
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ConfigError("timeout_s", f"is not a positive number of seconds: {timeout_s}")
    return timeout_s


def _switch(environ: Mapping[str, str], variable: str, option: str) -> bool | None:
    """Return whether a variable is true; None where it is unset or empty."""
    text = (environ.get(variable) or "").lower()
    if text not in ("", *_TRUE, *_FALSE):
        raise ConfigError(option, f"{variable}={text} is neither 1 nor 0")
    return text in _TRUE if text else None


def _pem(option: str, source: bytes | StrPath | None) -> bytes | None:
    data = source if source is None or isinstance(source, bytes) else Path(source).read_bytes()
    if data is not None and b"-----BEGIN " not in data:
        raise ConfigError(f"tls.{option}", "is not in the PEM format")
    return data
