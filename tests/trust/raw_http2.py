"""An HTTP/2 caller that can stop reading and hang up, as no gRPC client lets one do."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4  # a setting
CANCEL = struct.pack("!I", 8)
MAX_FRAME = 16_384
WINDOW = 65_535  # of the answer, and of the request until the server's settings are read


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = struct.pack("!I", len(payload))[1:] + bytes((kind, flags))
    return head + struct.pack("!I", stream) + payload


def headers(method: str, timeout: str = "") -> bytes:
    pairs = {
        ":method": "POST", ":scheme": "http", ":path": method, ":authority": "test",
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    if timeout:
        pairs["grpc-timeout"] = timeout
    words = [(name.encode(), value.encode()) for name, value in pairs.items()]
    return b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in words
    )


def ask(address: str, method: str, message: bytes, timeout: str = "") -> socket.socket:
    """Send a request, of less than 64 KiB, and read nothing. The timeout is such as "3S"."""
    assert len(message) < WINDOW - 5
    host, _, port = address.partition(":")
    connection = socket.create_connection((host, int(port)), 30)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
    connection.sendall(frame(HEADERS, END_HEADERS, 1, headers(method, timeout)))
    body = b"\0" + struct.pack("!I", len(message)) + message
    while len(body) > MAX_FRAME:
        connection.sendall(frame(DATA, 0, 1, body[:MAX_FRAME]))
        body = body[MAX_FRAME:]
    connection.sendall(frame(DATA, END_STREAM, 1, body))
    return connection


def announced_windows(sent: bytes) -> list[int]:
    """Return what a server has announced, by all that it sent, as the window of a stream."""
    windows, at = [], 0
    while at + 9 <= len(sent):
        size = int.from_bytes(sent[at : at + 3])
        if sent[at + 3] == SETTINGS:
            pairs = struct.iter_unpack("!HI", sent[at + 9 : at + 9 + size])
            windows += [value for setting, value in pairs if setting == INITIAL_WINDOW_SIZE]
        at += 9 + size
    return windows


def hang_up(connection: socket.socket) -> None:
    """Cancel the call, then close the connection."""
    connection.sendall(frame(RST_STREAM, 0, 1, CANCEL))
    connection.close()
