"""Threads: pools for the scheduler's work, and how errors leave them. Used by schedule."""

import threading
from concurrent.futures import ThreadPoolExecutor


def started(count: int, name: str) -> ThreadPoolExecutor:
    """Return a pool whose threads run: that one cannot be started shows now, not in a call."""
    pool, go_on = ThreadPoolExecutor(count, thread_name_prefix=name), threading.Event()
    try:
        for _ in range(count):
            pool.submit(go_on.wait)
    finally:
        go_on.set()
    return pool


def as_exception(error: BaseException) -> Exception:
    """Return what a future takes, and the gate catches.

    StopIteration is nothing for futures; a panic of a library in Rust is no Exception.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    exception = RuntimeError(f"{type(error).__name__} was raised")
    exception.__cause__ = error
    return exception
