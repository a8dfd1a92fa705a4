"""Lifecycle: the one truth about whether calls are answered, told to both health services."""

import asyncio
import time
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.errors import Draining, ModelLoading, Unavailable

SERVICE = pb.DESCRIPTOR.services_by_name["ChestXrayService"].full_name
"""Name under which `grpc.health.v1` answers, besides "" for the whole server."""


class Phase(StrEnum):
    """Where the process is in its life. Only SERVING and LEAVING answer calls."""

    LOADING = "LOADING"
    SERVING = "SERVING"
    LEAVING = "LEAVING"
    """Reporting NOT_SERVING, so that load balancers look elsewhere, but still answering."""
    DRAINING = "DRAINING"
    FAILED = "FAILED"


class Lifecycle:
    """Holds the phase. Health is earned: it starts LOADING."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.started = time.monotonic()
        self._change = asyncio.Event()

    def enter(self, phase: Phase) -> None:
        """Go to a phase, unless the server is on its way out and the phase is not."""
        leaving = (Phase.LEAVING, Phase.DRAINING)
        if self.phase in leaving and phase not in leaving:
            return
        self.phase = phase
        self._change.set()
        self._change = asyncio.Event()

    async def changed(self) -> None:
        """Wait until the next phase is entered."""
        await self._change.wait()

    def refusal(self) -> Unavailable | None:
        """Why a call for the model is refused now, or None when it is answered."""
        if self.phase in (Phase.SERVING, Phase.LEAVING):
            return None
        if self.phase is Phase.DRAINING:
            return Draining("the server is shutting down", retry_after_ms=100)
        return ModelLoading("the model is not ready yet", retry_after_ms=500)


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """`grpc.health.v1` for a lifecycle, under "" and the service's name.

    grpc's own would hold a lock while it writes to a watcher, so that one watcher who does not
    read could keep the server from draining; and its watches last until the grace period ends.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Report the state now; NOT_FOUND for another service."""
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Report the state and each change of it, until the server drains."""
        told = None
        while True:
            phase, status = self._lifecycle.phase, self._status(request.service)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            if phase is Phase.DRAINING:
                return
            if phase is self._lifecycle.phase:  # nothing has changed during the write
                await self._lifecycle.changed()

    def _status(self, service: str) -> int:
        response = health_pb2.HealthCheckResponse
        if service not in ("", SERVICE):
            return int(response.SERVICE_UNKNOWN)
        serving = self._lifecycle.phase is Phase.SERVING
        return int(response.SERVING if serving else response.NOT_SERVING)
