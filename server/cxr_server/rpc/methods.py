"""Methods: where generated code adds those of a service."""

from typing import Any

import grpc

from cxr_server.rpc.interceptors.chain import Chain


class Methods:
    """Adds methods to a server, each inside the steps of a chain.

    `grpc.aio` finds them by name when a call arrives. Generated code (1.75.1) also registers each
    of them: for every call, `grpc.aio` would then wait for all registered methods anew, which takes
    the event loop 1 to 2 us for each of them. Steps in a `grpc.aio.ServerInterceptor` would take it
    another 20 us a call.
    """

    def __init__(self, server: grpc.aio.Server, chain: Chain) -> None:
        self._server = server
        self._chain = chain

    def add(self, service: str, handlers: dict[str, Any]) -> None:
        """Add the methods of a service, by name."""
        inside = {
            name: self._chain.around(handler, f"{service}/{name}")
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, inside),)
        )

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Do nothing. Called by generated code, with the methods that it also registers."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Add the methods of a service. Called by generated code."""
        self.add(service, handlers)
