"""`cxr view` as tests run it: a process on a free port, asked over HTTP."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from cxr_command import CXR


@dataclass(frozen=True)
class Answer:
    """An answer of the web server."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def explanation(self) -> tuple[Any, bytes]:
        """The JSON and the picture of the framed answer of an explanation."""
        assert self.headers["content-type"] == "application/octet-stream", self.body
        end = 4 + int.from_bytes(self.body[:4])
        return json.loads(self.body[4:end]), self.body[end:]

    @property
    def reason(self) -> str:
        """The reason of a failure."""
        reason = self.json["error"]["reason"]
        assert isinstance(reason, str)
        return reason


class ViewerProcess:
    """`cxr view` with these arguments, on a free port. Use as a context manager."""

    def __init__(
        self, server: str, *arguments: object, port: int = 0, env: dict[str, str] | None = None
    ) -> None:
        words = ["view", "--server", server, "--port", port, *arguments]
        self.command = [*CXR, *map(str, words)]
        self.env = {**os.environ, **(env or {})}
        self.url = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # `__exit__` closes it.

    def __enter__(self) -> "ViewerProcess":
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=self._log, env=self.env, text=True
        )
        assert self.process.stdout is not None
        timer = threading.Timer(100, self.process.kill)
        timer.start()
        self.url = self.process.stdout.readline().strip()  # printed once it listens
        timer.cancel()
        if not self.url:
            log = self.log
            self.__exit__()
            raise AssertionError(f"the page was not served: {log}")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    @property
    def log(self) -> str:
        """What it has printed to standard error."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        port = urlsplit(self.url).port
        assert port
        return port

    def connect(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """Return a connection; close it."""
        host = urlsplit(self.url).hostname or ""
        if tls:
            return http.client.HTTPSConnection(host, self.port, timeout=100, context=tls)
        return http.client.HTTPConnection(host, self.port, timeout=100)

    def ask(
        self,
        path: str = "",
        body: Any = None,
        *,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send a request, by default GET, or POST with a body."""
        connection = self.connect(tls)
        try:
            method = method or ("GET" if body is None else "POST")
            connection.request(method, f"/{path}", body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 90) -> int:
        """Signal the process and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)
