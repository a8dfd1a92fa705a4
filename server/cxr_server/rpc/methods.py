"""Methods: where generated code adds those of a service."""

from typing import Any

import grpc


class Methods:
    """Adds methods to a server, which then finds them by name when a call arrives.

    Generated code also registers each of them. For every call, `grpc.aio` would then wait for all
    registered methods anew, which takes the event loop 1 to 2 us for each of them.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add(self, service: str, handlers: dict[str, Any]) -> None:
        """Add the methods of a service, by name."""
        self.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Add the methods of a service. Called by generated code."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Do nothing. Called by generated code."""
