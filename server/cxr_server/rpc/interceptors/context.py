"""Context: return a call's id, and log, count and trace the call when it has ended."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from cxr_server.errors import RequestError
from cxr_server.observability.ended_calls import EndedCalls
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc.interceptors.call_context import REQUEST_ID, CallContext

# gRPC gives codes as numbers, other hosts as StatusCode.
_NAMES = {key: code.name for code in grpc.StatusCode for key in (code, code.value[0])}


@contextmanager
def observed(
    context: CallContext, *, metrics: Metrics, ended: EndedCalls, unobserved: frozenset[str]
) -> Iterator[None]:
    """See how a call ends. Calls of `unobserved` services are not logged, counted or traced."""
    call, code = context.call, ""
    context.set_trailing_metadata([(REQUEST_ID, call.request_id)])  # Ray Serve needs a list
    if call.service in unobserved:
        yield
        return
    metrics.started(call)
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        code = "DEADLINE_EXCEEDED" if call.given_up_at_deadline else "CANCELLED"
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
        # Noted before the status is sent, so that a caller who scrapes next sees its own call.
        # Spans and log can wait.
        metrics.finished(call, code, seconds)
        ended.add(call, seconds)
