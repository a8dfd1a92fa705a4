"""A real server process for tests: started on a free port, stopped, its whole log kept."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = (sys.executable, "-m", "cxr_server")

_WITH_ENGINE = """
import sys, time
from dataclasses import replace
from cxr_server.__main__ import main
from cxr_server.inference.engines.registry import ENGINES
def start(*arguments):
    BODY
ENGINES["openvino"] = replace(ENGINES["openvino"], open=start)
sys.exit(main())
"""


def with_engine(body: str) -> tuple[str, ...]:
    """Return a program, see `ServerProcess`, whose engine starts with this Python statement."""
    return (sys.executable, "-c", _WITH_ENGINE.replace("BODY", body))


class ServerProcess:
    """`cxr-server serve` with these flags. Use as a context manager.

    `program` are the words before "serve". `stderr` replaces the file that keeps the log.
    """

    def __init__(
        self,
        *flags: str,
        model: str = "phantom",
        env: dict[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        stderr: int | None = None,
    ):
        self.flags = ("--model", model, "--listen", "127.0.0.1:0", *flags)
        self.command = (*program, "serve", *self.flags)
        self.env = {**os.environ, **(env or {})}
        self.stderr = stderr
        self.log_path = Path(tempfile.mkstemp(prefix="cxr-test-", suffix=".log")[1])
        self.address = ""
        self.facts: dict[str, Any] = {}  # what the server announces on stdout

    def __enter__(self) -> "ServerProcess":
        # To append, as services do: what a crash writes has a descriptor of its own.
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=subprocess.PIPE,
                stderr=log if self.stderr is None else self.stderr,
                env=self.env,
                text=True,
            )
        assert self.process.stdout is not None
        timer = threading.Timer(100, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()  # printed once it serves
        timer.cancel()
        if not line:
            self.__exit__(None, None, None)
            raise AssertionError(f"the server did not start: {self.log}")
        self.facts = json.loads(line)
        self.address = self.facts["address"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of the log, each of which must be JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 90) -> int:
        """Signal the process and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)
