"""Logs: structured lines on stderr. Sizes, ids and reasons; never content."""

import logging
import sys

import structlog


def configure(log_format: str, level: str) -> None:
    """Set up structlog. "auto" writes for people on a terminal and JSON lines elsewhere."""
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "console" or (log_format == "auto" and sys.stderr.isatty()):
        traceback = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=traceback))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries, gRPC among them, log through the standard library: warnings and worse only.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
