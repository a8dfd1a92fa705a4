"""Refusals: messages about fields and settings -> messages about options of the command line."""

import argparse
import re

from cxr_client.cli.usage import UsageError
from cxr_client.errors import CxrError

_REASONS = {"INVALID_FIELD", "UNKNOWN_LABEL", "UNKNOWN_MODEL", "METHOD_UNAVAILABLE"}
_OPTIONS = {
    "top_k": "--top-k",
    "strict_input": "--strict",
    "include_embedding": "--include-embedding",
    "cache": "--no-cache",
    "labels": "--label",
    "heatmap_labels": "--heatmap-label",
    "method": "--method",
    "kind": "--kind",
    "frame": "--frame",
    "color_map": "--color-map",
    "opacity": "--opacity",
    "legend": "--legend",
    "max_side_px": "--max-side",
    "scale": "--scale",
    "format": "--format",
    "fixed_scale_logits": "--fixed-scale",
    "contours": "--contours",
    "presentation": "--presentation",
    "max_request_bytes": "--max-request-mib",
    "max_response_bytes": "--max-response-mib",
    "tls.server_name": "--tls-server-name",
}
"""The option of each field of a request, and of the client's settings that messages name."""

_WORDS = "|".join(map(re.escape, _OPTIONS))
_NAMES = "|".join(re.escape(field) for field in _OPTIONS if not field.isalpha())
_FIELD = re.compile(
    rf"\b(?:render|dicom)\.({_WORDS})\b|\b({_NAMES})\b|\b({_WORDS}) (?=[A-Z][A-Z_]+\b)"
)
"""A field in a message. One of a single word is a word like others, unless its path precedes it or
a value follows it, as in "scale FIXED"."""


def with_options(message: object) -> str:
    """Return a message with options in place of the fields of a request and of settings."""

    def option(found: re.Match[str]) -> str:
        blank = " " if found[3] else ""
        return _OPTIONS[found[1] or found[2] or found[3]] + blank

    return _FIELD.sub(option, str(message))


def usage_error(error: Exception, arguments: argparse.Namespace) -> UsageError | None:
    """Return the usage error behind a failure, or None if it concerns its image alone."""
    if not isinstance(error, CxrError) or error.reason not in _REASONS:
        return None
    for field in (violation.field.rpartition(".")[2] for violation in error.violations):
        if option := _OPTIONS.get(field):
            value = getattr(arguments, option.removeprefix("--").replace("-", "_"), None)
            typed = f" {value}" if type(value) in (str, int, float) else ""
            problem = with_options(error.message.removeprefix(field).strip(" ."))
            return UsageError(f"{option}{typed}: {problem}")
    return None
