"""Ended calls: count them; a span and a line in the log for each."""

import threading
from collections import deque
from contextlib import suppress
from queue import SimpleQueue

import structlog

from cxr_server.observability.call import Call
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.thread_name import name_this_thread
from cxr_server.observability.tracing import Recorder

PAUSE_S = 0.1
"""For which calls wait to be told of together, after the first one."""

log = structlog.get_logger("cxr_server.calls")


class EndedCalls:
    """Counts, traces and logs calls that have ended, those of `PAUSE_S` together, in a thread.

    It would take the event loop 25 to 140 us a call. Nor does the loop wake the thread for each,
    since both would need the GIL. Those that wait need no bound: the thread takes less for a call
    than the loop does, and gets the GIL as often. It ends with the process.

    Successful calls of `quiet` methods, full names, are logged at the level debug.
    """

    def __init__(
        self, metrics: Metrics, quiet: frozenset[str], tracing: Recorder | None = None
    ) -> None:
        self._metrics = metrics
        self._quiet = quiet
        self._tracing = tracing
        self._untold: deque[tuple[Call, float]] = deque()
        self._telling = threading.Lock()  # so that lines are in the order in which calls ended
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._stopping = threading.Event()
        threading.Thread(target=self._work, name="calls", daemon=True).start()

    def add(self, call: Call, seconds: float) -> None:
        """Have a call told of, which took so long. May be called by destructors: takes no lock."""
        self._untold.append((call, seconds))
        if self._wake.empty():  # else the thread has yet to begin, and finds this call as well
            self._wake.put(None)

    def flush(self) -> None:
        """Tell of those that wait, and of later ones without delay: the server stops."""
        self._stopping.set()
        self._tell_all()

    def _work(self) -> None:
        name_this_thread("cxr-calls")
        while True:
            self._wake.get()
            self._stopping.wait(PAUSE_S)
            with suppress(Exception):  # of the log itself: the next calls are told of again
                self._tell_all()

    def _tell_all(self) -> None:
        with self._telling:
            while self._untold:
                call, seconds = self._untold.popleft()
                try:
                    self._metrics.count()  # what is noted of all calls so far
                    self._tell(call, seconds)
                except Exception:
                    log.exception("call not logged", request_id=call.request_id)

    def _tell(self, call: Call, seconds: float) -> None:
        trace_id = self._tracing.record(call, seconds) if self._tracing else ""
        facts = {
            "request_id": call.request_id,
            "trace_id": trace_id or None,
            "method": call.method,
            "caller": call.caller,
            "priority": "bulk" if call.bulk else None,
            "code": call.code,
            "reason": call.reason or None,
            "duration_ms": round(1000 * seconds, 1),
            "request_bytes": call.request_bytes,
            "cached": call.cached,
        }
        write = log.debug if call.method in self._quiet and call.code == "OK" else log.info
        write("call", **{key: value for key, value in facts.items() if value is not None})
