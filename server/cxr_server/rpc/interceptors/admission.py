"""Admission: bound the calls and bytes in flight, before a call's body is read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cxr_server.admission import DECLARED_BYTES, Admission, declared_bytes
from cxr_server.lifecycle import Lifecycle
from cxr_server.rpc.interceptors.around import Around
from cxr_server.rpc.interceptors.call_context import CallContext


class AdmissionInterceptor(Around):
    """Refuses calls of the bounded methods while the model is not ready or the server is full.

    A call holds its slot until its method has ended; a streaming method, until its stream has.

    Args:
        admission: Counts calls and bytes.
        lifecycle: Knows whether calls for the model are answered.
        bounded_methods: Full names (`package.Service/Method`) of the methods that need the
            model, as declared by their servicers. All others pass.
        max_request_bytes: Upper limit on what a caller may declare.
    """

    def __init__(
        self,
        admission: Admission,
        lifecycle: Lifecycle,
        bounded_methods: frozenset[str],
        max_request_bytes: int,
    ) -> None:
        self._admission = admission
        self._lifecycle = lifecycle
        self._bounded_methods = bounded_methods
        self._max_request_bytes = max_request_bytes

    @asynccontextmanager
    async def around(self, context: CallContext) -> AsyncIterator[None]:
        """Hold a slot while the method runs. Raises Unavailable and Overloaded."""
        if context.call.method not in self._bounded_methods:
            yield
            return
        if refusal := self._lifecycle.refusal():
            raise refusal
        declared = declared_bytes(context.text(DECLARED_BYTES), self._max_request_bytes)
        with self._admission.slot(declared) as context.slot:
            yield
