"""Connections: close the connection of a caller, which gRPC offers no way to do."""

import ipaddress
import os
import re
import socket
from contextlib import closing, suppress
from urllib.parse import unquote

import structlog

log = structlog.get_logger("cxr_server.rpc")


def close(peer: str) -> None:
    """Shut down the TCP connection of a gRPC peer, such as `ipv4:10.0.0.7:51234`.

    gRPC then ends every call of that connection. Peers of Unix sockets have no address: their
    calls end with the age of the connection.
    """
    found = re.fullmatch(r"ipv[46]:\[?([^\]]*)\]?:(\d+)", unquote(peer))
    if found is None:
        return
    address = _address(found[1], found[2])
    try:
        names = os.listdir("/proc/self/fd")
    except OSError as error:  # no descriptor is left
        log.error("a connection cannot be closed", error=error.strerror)
        return
    for name in names:
        # Descriptors may be closed meanwhile, no sockets, or not connected.
        with suppress(OSError), closing(_copied(int(name))) as connection:
            is_tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
            if is_tcp and _address(*connection.getpeername()[:2]) == address:
                connection.shutdown(socket.SHUT_RDWR)
                log.warning("connection closed: its caller does not read")


def _copied(descriptor: int) -> socket.socket:
    """Return a socket on a copy of its descriptor. Raises OSError if it is none."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _address(host: str, port: str | int) -> tuple[str, int]:
    """Return an address in one form; IPv4 addresses in IPv6 form as IPv4."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), int(port)
