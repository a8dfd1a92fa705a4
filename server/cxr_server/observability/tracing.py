"""Tracing: whether the environment asks for it, and what is in its way. Next: spans.

OpenTelemetry's own variables configure it, as they do for every program of a cluster. Nothing of
OpenTelemetry is imported while it is off.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from cxr_server.observability.call import Call

_EXPORTER = "OTEL_TRACES_EXPORTER"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_DEFAULT_ENDPOINT = "http://localhost:4317"
_DEFAULT_SAMPLER = "parentbased_always_on"
log = structlog.get_logger("cxr_server")


class Recorder(Protocol):
    """Records calls that have ended."""

    def record(self, call: Call, duration_s: float) -> str:
        """Record a call and its stages. Returns the trace's id, "" if the call is not sampled."""

    def stop(self) -> None:
        """Export what is left, for a short time. Blocks."""


def is_wanted(env: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces: an exporter or an endpoint is set."""
    exporter = _text(env, _EXPORTER)
    if exporter == "none" or _text(env, "OTEL_SDK_DISABLED") == "true":
        return False
    return bool(exporter or any(_text(env, name) for name in _ENDPOINTS))


def problem(env: Mapping[str, str]) -> str | None:
    """Return why calls are not traced although the environment asks for it, or None."""
    if not is_wanted(env):
        return None
    if (exporter := _text(env, _EXPORTER)) not in ("", "otlp"):
        return f"calls are not traced: {_EXPORTER}={exporter} is neither otlp nor none"
    for name in _PROTOCOLS:
        if protocol := _text(env, name):
            if protocol == "grpc":
                break
            return f"calls are not traced: {name}={protocol} is not grpc"
    if not _is_installed():
        return "calls are not traced: OpenTelemetry is missing; pip install 'cxr-server[otel]'"
    return None


def summary(env: Mapping[str, str]) -> str:
    """Say whether calls are traced, and where the spans go."""
    if not is_wanted(env):
        return f"off; {_ENDPOINTS[1]} turns it on"
    endpoint = next(filter(None, (env.get(name) for name in _ENDPOINTS)), _DEFAULT_ENDPOINT)
    host = urlsplit(endpoint).netloc.rpartition("@")[2] or endpoint  # without a password
    sampler = _text(env, "OTEL_TRACES_SAMPLER") or _DEFAULT_SAMPLER
    return f"on; spans go to {host}, sampler {sampler}"


def start(env: Mapping[str, str]) -> Recorder | None:
    """Return what records spans, or None where calls are not traced."""
    if not is_wanted(env) or problem(env):
        return None
    try:
        from cxr_server.observability.spans import Spans

        return Spans.exported()
    except Exception as error:  # a variable that OpenTelemetry cannot read
        log.warning("calls are not traced", error=f"{type(error).__name__}: {error}")
        return None


def _text(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").strip().lower()


def _is_installed() -> bool:
    try:
        return bool(
            find_spec("opentelemetry.sdk.trace")
            and find_spec("opentelemetry.exporter.otlp.proto.grpc")
        )
    except ModuleNotFoundError:
        return False
