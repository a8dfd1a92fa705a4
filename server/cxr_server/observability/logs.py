"""Logs: structured lines on stderr. Sizes, ids and reasons; never content."""

import json
import logging
import os
import sys
import threading
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter, add_logger_name
from structlog.typing import Processor

from cxr_server.observability import native_output
from cxr_server.observability.log_lines import LogLines

FLUSH_S = 1.0

_BEGIN: tuple[Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
_HEAD = ("timestamp", "level", "event")  # what every line has, first
_encode = json.JSONEncoder(default=repr).encode  # `json.dumps` makes an encoder for each line
_JSON: tuple[Processor, ...] = (
    structlog.processors.format_exc_info,
    lambda logger, method, line: _encode({key: line[key] for key in _HEAD} | dict(line)),
)
log = structlog.get_logger("cxr_server")
_lines: LogLines | None = None  # None until `configure`: structlog's defaults apply
_as_json = False


def configure(log_format: str, level: str, **facts: str) -> None:
    """Take over stderr for the rest of the process. Formats are those of `is_json`.

    `facts` are in every line.

    The standard library's logging, warnings, exceptions that end a thread, and native output take
    the same way as structlog's lines.
    """
    global _lines, _as_json
    _as_json = is_json(log_format)
    colors = os.isatty(2) and not os.environ.get("NO_COLOR")
    end = _JSON if _as_json else (_console(colors),)
    stderr, native = native_output.take_stderr()
    lines = LogLines(
        stderr, lambda count: _rendered(end, "warning", event="log lines dropped", count=count)
    )
    begin: tuple[Processor, ...] = (*_BEGIN, lambda _, __, line: {**line, **facts})
    structlog.configure(
        processors=[*begin, *end],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Logger(lines),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(lines)
    handler.setFormatter(
        ProcessorFormatter(
            processors=[ProcessorFormatter.remove_processors_meta, *end],
            foreign_pre_chain=[*begin, add_logger_name],
        )
    )
    # Libraries, gRPC among them, log through the standard library: warnings and worse only.
    lowest = max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()])
    logging.basicConfig(level=lowest, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.unraisablehook = threading.excepthook = _log_uncaught
    native_output.forward(native)
    _lines = lines


def is_json(log_format: str) -> bool:
    """Whether lines are JSON: always, with "auto" unless stderr is a terminal, else never."""
    return log_format == "json" or (log_format != "console" and not os.isatty(2))


def failure(reason: str, *, as_json: bool) -> str:
    """Return the line that says why a command ends: as JSON, or as commands print it."""
    if as_json:
        return _rendered(_JSON, "error", event="failed", error=reason)
    return f"cxr-server: {reason}"


def failed(reason: str) -> None:
    """Log why the server ends."""
    if _lines:
        _lines.put(failure(reason, as_json=_as_json))


def announce(text: str, **facts: Any) -> None:
    """Print a line on stdout: the text, or the facts as JSON if that is the log's format.

    A thread prints it, which ends with the process: stdout may be full, closed or not read.
    """
    line = json.dumps(facts) if _as_json else text
    threading.Thread(target=_print, args=(f"{line}\n".encode(),), daemon=True).start()


def dropped() -> int:
    """Return the number of lines that were dropped since the start."""
    return _lines.dropped if _lines else 0


def flush() -> None:
    """Wait until what was logged is written, for at most `FLUSH_S`."""
    if _lines:
        _lines.flush(FLUSH_S)


class _Logger:
    """The innermost logger of structlog; without a lock, so that a signal handler may log."""

    def __init__(self, lines: LogLines) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = lines.put


class _Handler(logging.Handler):
    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put(self.format(record))
        except Exception:
            self.handleError(record)


def _console(colors: bool) -> Processor:
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)


def _rendered(end: tuple[Processor, ...], level: str, **facts: Any) -> str:
    """Return a line as structlog would write it."""
    line: Any = facts
    for processor in (*_BEGIN, *end):
        line = processor(None, level, line)
    return str(line)


def _log_uncaught(uncaught: Any) -> None:
    """Log an exception that ended a thread, or that could not be raised at all."""
    log.error("uncaught exception", exc_info=tuple(uncaught[:3]))


def _print(data: bytes) -> None:
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        log.warning("stdout is closed or full")
