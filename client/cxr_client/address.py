"""Address: the `server` of a client, a gRPC target. Next: config."""

import ipaddress
import re

from cxr_client.errors import ConfigError

DEFAULT_PORT = 50051
DEFAULT_SERVER = f"127.0.0.1:{DEFAULT_PORT}"

_ON_THIS_MACHINE = ("unix:", "unix-abstract:")
_SCHEME = re.compile(r"(dns|ipv4|ipv6):(//[^/]*/)?")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)")


def check_address(server: str) -> None:
    """Check that gRPC will connect to the host and the port that the caller means.

    Raises:
        ConfigError: The address is empty or a URL, or has no valid port.
    """
    if not server:
        raise ConfigError("server", "is empty")
    if server.startswith((*_ON_THIS_MACHINE, "xds:")):
        return
    address = _SCHEME.sub("", server, count=1)
    if url := _URL.match(address):
        raise ConfigError("server", f"{server!r} is a URL; give {url[2] or DEFAULT_SERVER!r}")
    for each in address.split(","):
        host, port = _split(each)
        if not host:
            raise ConfigError("server", f"{each!r} has no host")
        if port is None:
            name = f"[{host}]" if ":" in host else host
            raise ConfigError("server", f"{each!r} has no port; give '{name}:{DEFAULT_PORT}'")
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
            raise ConfigError("server", f"the port {port!r} is not a number from 1 to 65535")


def is_loopback(server: str) -> bool:
    """Return whether a gRPC target stays on this machine."""
    if server.startswith(_ON_THIS_MACHINE):
        return True
    address = _SCHEME.sub("", server, count=1)
    return all(_is_loopback_host(_split(each)[0]) for each in address.split(","))


def _split(address: str) -> tuple[str, str | None]:
    """Split into host and port: "[::1]:50051" -> "::1", "50051"; the port is None without one."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest[1:] if rest.startswith(":") else None
    if address.count(":") == 1:
        host, _, port = address.partition(":")
        return host, port
    return address, None


def _is_loopback_host(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
