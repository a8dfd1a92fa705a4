"""Auth: a bearer token for every service that is not open."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cxr_server.access import Access
from cxr_server.rpc.interceptors.around import Around
from cxr_server.rpc.interceptors.call_context import CallContext


class AuthInterceptor(Around):
    """Checks the token, whose name then identifies the caller.

    Args:
        access: Knows the tokens.
        open_services: Services that need no token, such as health probes.
    """

    def __init__(self, access: Access, open_services: frozenset[str] = frozenset()) -> None:
        self._access = access
        self._open_services = open_services

    @asynccontextmanager
    async def around(self, context: CallContext) -> AsyncIterator[None]:
        """Raise Unauthenticated before the method runs."""
        call = context.call
        if call.service not in self._open_services:
            call.token = self._access.check(context.text("authorization"))
            if call.token:
                call.caller = f"token:{call.token}"
        yield
