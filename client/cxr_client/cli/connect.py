"""Connect: arguments -> a client. Next: the commands."""

import argparse
import os
from pathlib import Path

from cxr_client.async_client import AsyncClient
from cxr_client.cli.files import os_message
from cxr_client.cli.usage import UsageError
from cxr_client.config import RetryConfig, TLSConfig


def connect(arguments: argparse.Namespace) -> AsyncClient:
    """Return a client of the server that the arguments name.

    Raises:
        UsageError: The options contradict each other, or a file of theirs cannot be read.
    """
    token = os.environ.get("CXR_TOKEN")
    if arguments.token_file:
        token = _content("--token-file", arguments.token_file).decode("ascii", "replace").strip()
    try:
        return AsyncClient(
            arguments.server,
            max_in_flight=getattr(arguments, "jobs", 1),
            timeout_s=arguments.timeout,
            max_request_bytes=arguments.max_request_mib * 2**20,
            tls=_tls(arguments),
            retry=RetryConfig(max_attempts=arguments.max_attempts),
            token=token or None,
            insecure=arguments.insecure,
        )
    except ValueError as error:
        raise UsageError(error) from None


def _tls(arguments: argparse.Namespace) -> TLSConfig | None:
    files = {"ca": arguments.ca_file, "cert": arguments.cert_file, "key": arguments.key_file}
    given = {name: _content(f"--{name}-file", path) for name, path in files.items() if path}
    if not (given or arguments.tls or arguments.tls_server_name):
        return None
    return TLSConfig(**given, server_name=arguments.tls_server_name)


def _content(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {path}: {os_message(error)}") from None
