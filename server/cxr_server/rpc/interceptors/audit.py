"""Audit: record every call but those of probes and tools."""

from collections.abc import Iterator
from contextlib import contextmanager

from cxr_server.audit import Audit
from cxr_server.rpc.interceptors.call_context import CallContext


@contextmanager
def audited(
    context: CallContext, *, audit: Audit, unobserved: frozenset[str], quiet: frozenset[str]
) -> Iterator[None]:
    """Record how a call ends; around `observed`, which knows that. Names are as there."""
    call = context.call
    try:
        yield
    finally:
        if call.service not in unobserved and call.method not in quiet:
            audit.record(call, call.code)
