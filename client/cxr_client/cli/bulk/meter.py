"""Meter: the progress of a run over whole folders, on standard error."""

import sys
import time
from typing import Any

from cxr_client.cli.text import duration, printable

_LINE_EVERY_S = 60.0
_MOST_FAILURES = 20


class Meter:
    """A bar on a terminal, with the extra `bulk`; elsewhere a line a minute.

    Failures are printed as they come, the first twenty of them: all are in the journal.
    """

    def __init__(self, *, done: int, failed: int, quiet: bool) -> None:
        """Start the clock. `done` images are answered or have failed already, `failed` of them."""
        self.done_before = self.done = done
        self.failed = failed
        self.total: int | None = None
        """The number of all images, as soon as it is known."""

        self._quiet = quiet
        self._told_failures = 0
        self._start_s = self._line_s = time.monotonic()
        self._bar = None if quiet or not sys.stderr.isatty() else _bar(done)

    @property
    def elapsed_s(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._start_s

    def answered(self) -> None:
        """Count an image that was answered."""
        self.done += 1
        self._show()

    def failure(self, name: str, reason: str, message: str) -> None:
        """Count and print an image that has failed."""
        self.done += 1
        self.failed += 1
        self._told_failures += 1
        if self._told_failures <= _MOST_FAILURES:
            self.tell(f"{name}: {message} [{reason}]")
        elif self._told_failures == _MOST_FAILURES + 1:
            self.tell("further failures are only in the journal")
        self._show()

    def tell(self, text: str) -> None:
        """Print a line, above the bar."""
        line = printable(f"cxr: {text}")
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Erase the bar."""
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(f"{self.failed} failed", refresh=False)
            self._bar.update(self.done - self._bar.n)
        elif not self._quiet and time.monotonic() - self._line_s >= _LINE_EVERY_S:
            self._line_s = time.monotonic()
            self.tell(self._line())

    def _line(self) -> str:
        rate = (self.done - self.done_before) / self.elapsed_s
        rest = f"images, {self.failed} failed, {rate:.1f}/s"
        if self.total is None or not rate:
            return f"{self.done} {rest}"
        left = duration((self.total - self.done) / rate)
        return f"{self.done} of {self.total} {rest}, {left} left"


def _bar(done: int) -> Any:
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm(initial=done, unit="image", file=sys.stderr, leave=False, dynamic_ncols=True)
