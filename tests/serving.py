"""A real server process for tests: started on a free port, stopped, its whole log kept."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType


class ServerProcess:
    """`cxr-server serve` with these flags. Use as a context manager.

    `program` is what Python runs: the server itself, or code that runs it.
    """

    def __init__(
        self,
        *flags: str,
        model: str = "phantom",
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "cxr_server"),
    ):
        self.program = program
        self.flags = ("--model", model, "--listen", "127.0.0.1:0", *flags)
        self.env = {**os.environ, **(env or {})}
        self.log_path = Path(tempfile.mkstemp(prefix="cxr-test-", suffix=".log")[1])
        self.address = ""
        self.banner = ""

    def __enter__(self) -> "ServerProcess":
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "serve", *self.flags],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.env,
                text=True,
            )
        assert self.process.stdout is not None
        timer = threading.Timer(100, self.process.kill)
        timer.start()
        self.banner = self.process.stdout.readline()  # printed once it serves
        timer.cancel()
        if not self.banner:
            self.__exit__(None, None, None)
            raise AssertionError(f"the server did not start: {self.log}")
        self.address = self.banner.split(" on ")[1].split()[0]
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
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 90) -> int:
        """Signal the process and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)
