"""Auth: a bearer token for every service that is not open."""

from collections.abc import Iterator
from contextlib import contextmanager

from cxr_server.access import Access
from cxr_server.rpc.interceptors.call_context import CallContext


@contextmanager
def authenticated(
    context: CallContext, *, access: Access, open_services: frozenset[str]
) -> Iterator[None]:
    """Check the token, whose name then identifies the caller. Raises Unauthenticated."""
    call = context.call
    if call.service not in open_services:
        call.token = access.check(context.text("authorization"))
        call.caller = f"token:{call.token}"
    yield
