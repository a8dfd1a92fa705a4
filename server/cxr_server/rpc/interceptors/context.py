"""Context: return a call's id, and log, count and trace the call when it has ended."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import grpc
import structlog

from cxr_server.errors import RequestError
from cxr_server.observability.call import Call
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.tracing import Recorder
from cxr_server.rpc.interceptors.call_context import REQUEST_ID, CallContext

# gRPC gives codes as numbers, other hosts as StatusCode.
_NAMES = {key: code.name for code in grpc.StatusCode for key in (code, code.value[0])}
log = structlog.get_logger("cxr_server.calls")


@contextmanager
def observed(
    context: CallContext,
    *,
    metrics: Metrics,
    unobserved: frozenset[str],
    quiet: frozenset[str],
    tracing: Recorder | None = None,
) -> Iterator[None]:
    """See how a call ends.

    `unobserved` services are not logged, counted or traced; successful calls of `quiet` methods,
    full names, are logged at the level debug.
    """
    call, code = context.call, ""
    context.set_trailing_metadata([(REQUEST_ID, call.request_id)])  # Ray Serve needs a list
    if call.service in unobserved:
        yield
        return
    metrics.started(call)
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        code = "DEADLINE_EXCEEDED" if call.expired else "CANCELLED"
        raise
    except grpc.aio.AbortError:
        raise  # the method has set its status
    except Exception as error:
        failure = error if isinstance(error, RequestError) else RequestError
        code, call.reason = failure.status, failure.reason
        raise
    finally:
        call.code = code = code or _NAMES.get(context.code() or 0, "UNKNOWN")
        seconds = time.monotonic() - call.started
        # Metrics are updated before the status is sent, so that a caller who scrapes next sees
        # its own call. Spans and logging can wait until after.
        metrics.finished(call, code, seconds)
        tell = partial(_tell, call, seconds, quiet, tracing)
        asyncio.get_running_loop().call_soon(tell)


def _tell(call: Call, seconds: float, quiet: frozenset[str], tracing: Recorder | None) -> None:
    """Trace and log a call that has ended."""
    trace_id = tracing.record(call, seconds) if tracing else ""
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
    write = log.debug if call.method in quiet and call.code == "OK" else log.info
    write("call", **{key: value for key, value in facts.items() if value is not None})
