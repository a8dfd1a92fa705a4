"""Pool: shares decode processes between threads, and replaces those that have ended."""

import signal
import threading
from collections.abc import Callable

import structlog

from cxr_server.errors import DecoderUnavailable, Draining, ImageDecoderFailed
from cxr_server.imaging.radiograph import ImageBytes
from cxr_server.inference.decode_processes.forking import DecodeProcessesUnavailable, ForkServer
from cxr_server.inference.decode_processes.process import (
    CHECK_INTERVAL_S,
    Cause,
    DecodeProcess,
    ProcessEnded,
)
from cxr_server.inference.model_input import ModelInput
from cxr_server.inference.preprocess import Hold, Job
from cxr_server.observability.metrics import Metrics

TIME_LIMIT_S = 60.0
"""For the header, and again for the pixels of an image. JPEG 2000 of 50 million pixels takes about
10 s of an idle core."""
GRACE_S = 0.5
"""Time for a process to end its work by itself once nobody waits for it."""

_TRIES = 2
_RETRY_AFTER_MS = 1000
_MESSAGES = {
    Cause.TIME: "The decoder took longer than {limit_s:g} s on this file, and was ended.",
    Cause.MEMORY: "The decoder took more memory than the file's header states, and was ended.",
}
_CRASHED = "The decoder crashed on this file."
log = structlog.get_logger("cxr_server")


class DecodeProcesses:
    """Up to `limit` processes, forked when they are needed, each for one image at a time.

    A process serves many images, and is replaced when it has ended. `arena_bytes` are the most
    that an image file takes, or its results.
    """

    def __init__(
        self,
        limit: int,
        *,
        arena_bytes: int,
        metrics: Metrics,
        time_limit_s: float = TIME_LIMIT_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self.limit = limit
        self._arena_bytes = arena_bytes
        self._metrics = metrics
        for cause in set(Cause) - {Cause.CLOSED}:
            metrics.decode_processes_ended.labels(cause.value)
        self._time_limit_s, self._grace_s = time_limit_s, grace_s
        self._fork_server: ForkServer | None = None
        self._idle: list[DecodeProcess] = []
        self._working: set[DecodeProcess] = set()
        self._taken = 0  # processes that work, or that are being started
        self._closed = False
        self._lock = threading.Lock()  # guards all of the above
        self._freed = threading.Condition(self._lock)

    def __len__(self) -> int:
        """Return the number of processes now."""
        return len(self._idle) + len(self._working)

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        with self._lock:
            return [process.pid for process in (*self._idle, *self._working)]

    @property
    def all_pids(self) -> list[int]:
        """The same, and that of the fork server if it runs."""
        fork_server = self._fork_server
        return [*self.pids, *([fork_server.pid] if fork_server else ())]

    def start(self) -> None:
        """Start the fork server, which takes a while, before the first image needs it.

        Raises DecodeProcessesUnavailable.
        """
        with self._lock:
            self._forking()

    def preprocess(
        self,
        image: ImageBytes,
        job: Job,
        *,
        hold: Hold,
        check: Callable[[], None],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> ModelInput:
        """Do the work of `preprocess.preprocess` in a process, and `meanwhile` in this thread.

        Raises ImageDecoderFailed, RaisedInProcess, DecoderUnavailable, and as that does.
        """
        cause: Cause | None = None
        for attempt in range(1, _TRIES + 1):
            try:
                process = self._take(check)
            except DecodeProcessesUnavailable as error:  # perhaps just the fork server was killed
                if attempt == _TRIES:
                    log.error("no decode process", error=str(error))
                    raise DecoderUnavailable(str(error), retry_after_ms=_RETRY_AFTER_MS) from None
                continue
            try:
                return process.run(image, job, hold, check, meanwhile)
            except ProcessEnded:
                cause = process.cause
                if cause is not Cause.KILLED:  # by another: perhaps not because of this image
                    break
            finally:
                self._give_back(process)
        if cause is Cause.CLOSED:
            raise Draining("the server is shutting down")
        message = _MESSAGES.get(cause, _CRASHED) if cause else _CRASHED
        raise ImageDecoderFailed(message.format(limit_s=self._time_limit_s))

    def close(self) -> None:
        """End all processes. Images that are being decoded fail with Draining."""
        with self._lock:
            self._closed = True
            self._freed.notify_all()
            idle, self._idle = self._idle, []
            for process in self._working:
                process.kill()
            fork_server, self._fork_server = self._fork_server, None
        for process in idle:
            process.close()
        if fork_server:
            fork_server.close()

    def _forking(self) -> ForkServer:
        if self._closed:
            raise Draining("the server is shutting down")
        if self._fork_server and self._fork_server.has_ended:
            log.error("fork server ended")
            self._fork_server.close()
            self._fork_server = None
        if self._fork_server is None:
            self._fork_server = ForkServer()
        return self._fork_server

    def _take(self, check: Callable[[], None]) -> DecodeProcess:
        """Return a process that works, alone, for the caller. Raises what `check` raises."""
        with self._lock:
            while not self._closed and self._taken >= self.limit:
                self._freed.wait(CHECK_INTERVAL_S)
                check()
            self._taken += 1
            process = self._next_idle()
        try:
            while process and process.has_ended:
                self._end(process)
                with self._lock:
                    process = self._next_idle()
            return process or self._fork(check)
        except BaseException:
            self._free_place()
            raise

    def _next_idle(self) -> DecodeProcess | None:
        process = self._idle.pop() if self._idle else None
        if process:
            self._working.add(process)
        return process

    def _fork(self, check: Callable[[], None]) -> DecodeProcess:
        with self._lock:
            fork_server = self._forking()
        process = DecodeProcess(
            fork_server,
            arena_bytes=self._arena_bytes,
            time_limit_s=self._time_limit_s,
            grace_s=self._grace_s,
            check=check,
        )
        with self._lock:
            self._working.add(process)
        return process

    def _give_back(self, process: DecodeProcess) -> None:
        with self._lock:
            is_usable = process.cause is None and not self._closed
            if is_usable:
                self._working.discard(process)
                self._idle.append(process)
        try:
            if not is_usable:
                self._end(process)
        finally:  # a place that is lost is lost for good
            self._free_place()

    def _free_place(self) -> None:
        with self._lock:
            self._taken -= 1
            self._freed.notify()

    def _end(self, process: DecodeProcess) -> None:
        """Close a process. Log and count it if it has ended, unless this has ended it."""
        with self._lock:
            self._working.discard(process)
        process.close()
        cause = process.cause or Cause.KILLED
        if cause is Cause.CLOSED:
            return
        self._metrics.decode_processes_ended.labels(cause.value).inc()
        code = process.exit_code
        by = _signal_name(-code) if code is not None and code < 0 else None
        log.warning("decode process ended", cause=cause.value, exit_code=code, signal=by)


def _signal_name(number: int) -> str:
    """Return a signal's name, or its number: most real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
