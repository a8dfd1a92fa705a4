"""Progress: the progress line of a command, on standard error."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

from cxr_client.cli.refusals import with_options
from cxr_client.cli.text import duration, printable

_REDRAW_S = 0.1


class Progress:
    """Counts images, and shows the counts in a line that stays at the bottom of a terminal."""

    def __init__(self, total: int, *, shown: bool) -> None:
        """Start the clock; the line is shown for more than one image, on a terminal alone."""
        self.total = total
        self.answered = self.failed = 0
        self._start_s = time.monotonic()
        self._drawn_s = 0.0
        self._shown = shown and total > 1 and sys.stderr.isatty()

    @property
    def done(self) -> int:
        """The number of images that have been answered or have failed."""
        return self.answered + self.failed

    @property
    def elapsed_s(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._start_s

    def draw(self) -> None:
        """Draw the line over itself, at most ten times a second."""
        if self._shown and time.monotonic() - self._drawn_s > _REDRAW_S:
            self._drawn_s = time.monotonic()
            self._write(f"\r{self._line()}\x1b[K")

    @contextlib.contextmanager
    def aside(self, *, terminal: bool) -> Iterator[None]:
        """Print something to a terminal: it replaces the line, which is drawn again below it."""
        if terminal:
            self.clear()
        yield
        if terminal:
            self._drawn_s = 0.0
            self.draw()

    def clear(self) -> None:
        """Erase the line."""
        if self._shown:
            self._write("\r\x1b[K")

    def _line(self) -> str:
        failures = f", {self.failed} failed" if self.failed else ""
        line = f"{self.done}/{self.total} images{failures}"
        if not self.done:
            return line
        rate = self.done / self.elapsed_s
        return f"{line}, {rate:.1f}/s, {duration((self.total - self.done) / rate)} left"

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


class NoticeHandler(logging.Handler):
    """Prints what the client logs of its connection, such as an outage, over the progress line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        erase = "\r\x1b[K" if sys.stderr.isatty() else ""
        text = printable(with_options(record.getMessage()))
        print(f"{erase}cxr: {text}", file=sys.stderr, flush=True)
