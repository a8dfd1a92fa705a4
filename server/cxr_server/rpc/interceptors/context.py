"""Context: give a call its id and its caller, and log and count it when it has ended."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import structlog

from cxr_server.errors import RequestError
from cxr_server.observability.call import REQUEST_ID, Call
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc.interceptors.around import Around
from cxr_server.rpc.interceptors.call_context import CallContext

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
log = structlog.get_logger("cxr_server.calls")


class ContextInterceptor(Around):
    """Sees how every call ends, before its status is sent.

    Args:
        metrics: Counts the calls.
        unobserved: Services that are neither logged nor counted, such as health probes.
    """

    def __init__(self, metrics: Metrics, unobserved: frozenset[str] = frozenset()) -> None:
        self._metrics = metrics
        self._unobserved = unobserved

    @asynccontextmanager
    async def around(self, context: CallContext) -> AsyncIterator[None]:
        """Return the id in the trailing metadata; record the end of the call."""
        call = context.call
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        if call.service in self._unobserved:
            yield
            return
        code = "INTERNAL"
        try:
            with self._metrics.active(call.method):
                yield
            code = code_name(context.code())
        except (asyncio.CancelledError, GeneratorExit):
            code = "DEADLINE_EXCEEDED" if call.expired else "CANCELLED"
            raise
        except RequestError as error:
            code, call.reason = error.status, error.reason
            raise
        except grpc.aio.AbortError:
            code = code_name(context.code())
            raise
        except Exception:
            call.reason = code
            raise
        finally:
            seconds = time.monotonic() - call.started
            # Metrics are updated before the status is sent, so that a caller who scrapes next
            # sees its own call. Logging can wait until after.
            self._metrics.finished(call, code, seconds)
            asyncio.get_running_loop().call_soon(_log, call, code, seconds)


def code_name(code: object) -> str:
    """Return the name of a status code as gRPC (int) or other hosts (StatusCode, None) give it."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _NAMES.get(code or 0, "UNKNOWN")  # type: ignore[call-overload,no-any-return]


def _log(call: Call, code: str, seconds: float) -> None:
    log.info(
        "call",
        request_id=call.request_id,
        method=call.method,
        code=code,
        reason=call.reason or None,
        duration_ms=round(1000 * seconds, 1),
        request_bytes=call.request_bytes,
        cached=call.cached,
    )
