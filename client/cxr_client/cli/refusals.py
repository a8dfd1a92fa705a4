"""Refusals: an error of the server that an option causes -> a usage error in its name."""

import argparse
import re

from cxr_client.cli.usage import UsageError
from cxr_client.errors import CxrError

_REASONS = {"INVALID_FIELD", "UNKNOWN_LABEL", "METHOD_UNAVAILABLE"}
_OPTIONS = {
    "top_k": "--top-k",
    "strict_input": "--strict",
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
    "max_request_bytes": "--max-request-mib",
    "max_response_bytes": "--max-response-mib",
}
"""The option of each field of a request, and of the client's limits."""

_FIELD = re.compile(
    rf"\brender\.({'|'.join(_OPTIONS)})\b|\b({'|'.join(f for f in _OPTIONS if '_' in f)})\b"
)
"""A field in a message; one of a single word is a word like others, unless its path is given."""


def with_options(message: object) -> str:
    """Return a message of the server with options in place of the fields of a request."""
    return _FIELD.sub(lambda found: _OPTIONS[found[1] or found[2]], str(message))


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
