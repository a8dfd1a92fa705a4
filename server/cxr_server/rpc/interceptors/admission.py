"""Admission: bound the calls and bytes in flight, before a call's body is read."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from cxr_server.admission import DECLARED_BYTES, Admission
from cxr_server.lifecycle import Lifecycle
from cxr_server.rpc.interceptors.call_context import CallContext


@contextmanager
def admitted(
    context: CallContext, *, admission: Admission, lifecycle: Lifecycle, bounded: frozenset[str]
) -> Iterator[None]:
    """Take a slot, which the call holds until it has ended. Raises Unavailable and Overloaded.

    `bounded` are the full names (`package.Service/Method`) of the methods that need the
    model, as declared by their servicers. All others pass.
    """
    if context.call.method not in bounded:
        yield
        return
    if refusal := lifecycle.refusal():
        raise refusal
    call = context.call
    slot = admission.enter(
        context.text(DECLARED_BYTES), bulk_caller=call.caller if call.bulk else None
    )
    call.at_end(slot.release)
    context.slot = slot
    try:
        with nullcontext() if call.bulk else admission.interactive.in_flight():
            yield
    finally:
        slot.hold(0)  # the request is not needed while the answer is sent
