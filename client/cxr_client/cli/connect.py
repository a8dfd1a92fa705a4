"""Connect: the options of the connection -> a client. Next: the commands."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr_client.address import DEFAULT_SERVER
from cxr_client.async_client import AsyncClient
from cxr_client.cli.files import os_message
from cxr_client.cli.usage import Parser, UsageError, pair, seconds, whole
from cxr_client.config import (
    DEFAULT_TIMEOUT_S,
    HEALTH_CHECK_SWITCH,
    TLS_SWITCH,
    TLS_VARIABLES,
    BalancingConfig,
    Priority,
    RetryConfig,
    TLSConfig,
)
from cxr_client.errors import ConfigError

_MAX_ATTEMPTS = RetryConfig().max_attempts

_OPTIONS = {
    "server": "--server",
    "timeout_s": "--timeout",
    "retry.max_attempts": "--max-attempts",
    "balancing.health_check": "--health-check",
    "max_request_bytes": "--max-request-mib",
    "metadata": "--metadata",
    "tls": "--tls",
    "tls.ca": "--ca-file",
    "tls.cert": "--cert-file",
    "tls.key": "--key-file",
    "tls.server_name": "--tls-server-name",
    "token": "--token-file",
    "insecure": "--insecure",
}
"""The option of each setting of a client."""

_VARIABLES = {
    "server": "CXR_SERVER",
    "token": "CXR_TOKEN",
    "balancing.health_check": HEALTH_CHECK_SWITCH,
    "tls": TLS_SWITCH,
} | {f"tls.{name}": variable for name, variable in TLS_VARIABLES.items()}


def add_options(parser: Parser) -> None:
    """Add the options of the connection to a command."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"environment: CXR_SERVER (default: {DEFAULT_SERVER})",
    )
    group.add_argument(
        "--model",
        default="",
        metavar="NAME",
        help="which of the server's models to ask; `cxr model` lists them (default: the first)",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"deadline of each call over all attempts (default: {DEFAULT_TIMEOUT_S:g})",
    )
    group.add_argument(
        "--max-attempts",
        type=whole,
        default=_MAX_ATTEMPTS,
        metavar="N",
        help=f"most attempts to reach the server; 1: never retry (default: {_MAX_ATTEMPTS})",
    )
    group.add_argument(
        "--health-check",
        action="store_true",
        help="with several servers behind one name, use only those that are SERVING"
        f" (environment: {HEALTH_CHECK_SWITCH}=1)",
    )
    group.add_argument(
        "--metadata",
        type=pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="metadata to send with every call, for what routes it on its way; may be repeated",
    )
    group.add_argument(
        "--max-request-mib",
        type=whole,
        default=32,
        metavar="N",
        help="largest image, MiB (default: 32)",
    )
    group.add_argument(
        "--max-response-mib",
        type=whole,
        default=256,
        metavar="N",
        help="largest answer, MiB (default: 256)",
    )
    group = parser.add_argument_group(
        "security",
        "Environment: CXR_TLS (1 or 0), CXR_CA_FILE, CXR_CERT_FILE, CXR_KEY_FILE,"
        " CXR_TLS_SERVER_NAME, CXR_TOKEN (the token itself).",
    )
    group.add_argument(
        "--tls", action="store_true", help="encrypt; implied by the next four options"
    )
    files = {
        "--ca-file": "certificate authorities to trust",
        "--cert-file": "own certificate, for mutual TLS",
        "--key-file": "private key of that certificate",
    }
    for option, purpose in files.items():
        group.add_argument(option, type=Path, metavar="PEM", help=purpose)
    group.add_argument(
        "--tls-server-name",
        metavar="NAME",
        help="name to verify in the server's certificate (default: the host)",
    )
    group.add_argument("--token-file", type=Path, metavar="FILE", help="file with the bearer token")
    group.add_argument(
        "--insecure",
        action="store_true",
        help="allow plaintext to another machine, in a trusted network",
    )


def connect(arguments: argparse.Namespace, *, priority: Priority = "interactive") -> AsyncClient:
    """Return a client of the server that the options or the environment name.

    Raises:
        UsageError: They contradict each other, or a file of theirs cannot be read.
    """
    try:
        return AsyncClient(
            server_of(arguments),
            max_in_flight=getattr(arguments, "jobs", 1),
            timeout_s=arguments.timeout,
            max_request_bytes=arguments.max_request_mib * 2**20,
            max_response_bytes=arguments.max_response_mib * 2**20,
            tls=tls_of(arguments),
            retry=RetryConfig(max_attempts=arguments.max_attempts),
            balancing=_balancing(arguments),
            token=_token(arguments),
            insecure=arguments.insecure,
            priority=priority,
            model=arguments.model,
            metadata=dict(arguments.metadata),
        )
    except ConfigError as error:
        give = " or ".join(_OPTIONS[remedy] for remedy in error.remedies)
        problem = f"{error.problem}; give {give}" if give else error.problem
        raise UsageError(f"{_given(arguments, error.option)[0]}: {problem}") from None
    except OSError as error:
        files = [_given(arguments, name) for name in ("token", "tls.ca", "tls.cert", "tls.key")]
        path = Path(error.filename)
        given = next((name for name, value in files if value and Path(value) == path), "")
        raise UsageError(f"{given} {path}: {os_message(error)}".lstrip()) from None


def server_of(arguments: argparse.Namespace) -> str:
    """Return the address of the server."""
    return str(_given(arguments, "server")[1] or DEFAULT_SERVER)


def tls_of(arguments: argparse.Namespace) -> TLSConfig | None:
    """Return what is typed, and for the rest the environment, unless plaintext is asked for.

    Raises:
        UsageError: They contradict each other.
    """
    options = {name: _typed(arguments, f"tls.{name}") for name in TLS_VARIABLES}
    typed = {name: value for name, value in options.items() if value}
    wanted = arguments.tls or bool(typed)
    if arguments.insecure:
        if wanted:
            raise UsageError("--insecure contradicts --tls and its files")
        return None
    environment = TLSConfig.from_env()
    return replace(environment or TLSConfig(), **typed) if wanted or environment else None


def _balancing(arguments: argparse.Namespace) -> BalancingConfig:
    typed = BalancingConfig(health_check=True) if arguments.health_check else None
    return typed or BalancingConfig.from_env()


def _token(arguments: argparse.Namespace) -> str | None:
    if arguments.token_file:
        token: bytes = arguments.token_file.read_bytes()
        return token.decode("ascii", "replace")
    return os.environ.get("CXR_TOKEN") or None


def _given(arguments: argparse.Namespace, name: str) -> tuple[str, Any]:
    """Return the option or the variable by which a value is given, and the value."""
    typed = _typed(arguments, name)
    variable = _VARIABLES.get(name, "")
    if not typed and (value := os.environ.get(variable)):
        return variable, value
    return _OPTIONS[name], typed


def _typed(arguments: argparse.Namespace, name: str) -> Any:
    return getattr(arguments, _OPTIONS[name].removeprefix("--").replace("-", "_"))
