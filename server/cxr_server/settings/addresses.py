"""Addresses: "host:port", "[v6]:port" or "unix:path" -> Address, and why it cannot be used."""

import errno
import ipaddress
import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 107  # limit of the kernel's sockaddr_un
PORT_IN_USE = "it is in use: stop what listens there, or choose another port"
SOCKET_IN_USE = "it is in use by another server"
_REASONS = {
    errno.EADDRINUSE: PORT_IN_USE,
    errno.EACCES: "this user may not open it: choose a port above 1023",
    errno.EADDRNOTAVAIL: "it is not an address of this machine",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address. Raises ValueError, whose message says what is wrong and what to give."""
        if text.startswith("unix:"):
            path = re.sub(r"^unix:(//(?=/))?", "", text)
            if not path or path.startswith("//"):
                raise ValueError("a socket is written unix:relative/path or unix:/absolute/path")
            return cls("", 0, path)
        if "/" in text:
            raise ValueError("it is a URL or a path: give HOST:PORT or unix:PATH")
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]"):
            raise ValueError(f"the port is missing: {text or 'HOST'}:50051")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError(f"an IPv6 address is written in brackets: [{host}]:{port}")
        if not host:
            raise ValueError(
                f"the host is missing: 127.0.0.1:{port} is this machine alone, 0.0.0.0:{port} is"
                " all of its addresses"
            )
        if not (port.isascii() and port.isdigit()):
            raise ValueError(f"{port!r} is not a port: give a number from 0 to 65535")
        if int(port) > 65_535:
            raise ValueError(f"port {port} is above 65535")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        """The address as gRPC takes it."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.path:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name; names may start with "127." too
            return self.host == "localhost"

    def problem(self) -> str | None:
        """Return why nothing can listen on the address now, or None.

        gRPC writes the reason to stderr in a line of its own, and raises an error without it.
        """
        return _socket_problem(Path(self.path)) if self.path else self._port_problem()

    def _port_problem(self) -> str | None:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            return f"the name {self.host} cannot be resolved: {reason}"
        problems: list[OSError] = []
        for family, kind, protocol, _, where in found:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    # As servers do: a port with connections in TIME_WAIT is free.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(where)
            except OSError as error:
                problems.append(error)
        # A name may have addresses of a family that this machine lacks.
        absent = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
        serious = [error for error in problems if error.errno not in absent]
        if not serious and len(problems) < len(found):
            return None
        worst = (serious or problems)[0]
        return _REASONS.get(worst.errno or 0) or os.strerror(worst.errno or 0)


def _socket_problem(path: Path) -> str | None:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        return f"the path is longer than {MAX_SOCKET_PATH_BYTES} bytes"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"this user may not write to {path.parent}"
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return "it is a file, not a socket"
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                return None  # the socket of a server that has gone: gRPC replaces it
            except OSError as error:
                return error.strerror
        return SOCKET_IN_USE
    return None
