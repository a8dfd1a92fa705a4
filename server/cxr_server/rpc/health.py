"""Health: `grpc.health.v1` for a lifecycle."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cxr_server.lifecycle import Lifecycle, Phase

SERVICE: str = health.SERVICE_NAME


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers for "" (the whole server) and for the services that it is given.

    grpcio-health-checking's servicer holds a lock while it writes to a watcher, so a watcher
    that does not read would block the drain; and its watches end only with the grace period.
    """

    def __init__(self, lifecycle: Lifecycle, *services: str) -> None:
        self._lifecycle = lifecycle
        self._services = ("", *services)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Return the status now; NOT_FOUND for an unknown service."""
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the status and each change of it, until the server drains."""
        sent = None
        while True:
            phase, change = self._lifecycle.phase, self._lifecycle.change
            if (status := self._status(request.service)) != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
            if phase is Phase.DRAINING:
                return
            await change.wait()  # set already if the phase changed during the write

    def _status(self, service: str) -> int:
        response = health_pb2.HealthCheckResponse
        if service not in self._services:
            return int(response.SERVICE_UNKNOWN)
        serving = self._lifecycle.phase is Phase.SERVING
        return int(response.SERVING if serving else response.NOT_SERVING)
