"""Lifecycle: the one truth about whether calls are answered, told to both health services."""

import time
from enum import StrEnum

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

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
    """Holds the phase, and `grpc.health.v1` for it. Health is earned: it starts LOADING."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.health = HealthServicer()
        self.started = time.monotonic()

    async def enter(self, phase: Phase) -> None:
        """Go to a phase, unless the server is on its way out and the phase is not."""
        leaving = (Phase.LEAVING, Phase.DRAINING)
        if self.phase in leaving and phase not in leaving:
            return
        self.phase = phase
        serving = phase is Phase.SERVING
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            await self.health.set(name, status.SERVING if serving else status.NOT_SERVING)

    def refusal(self) -> Unavailable | None:
        """Why a call for the model is refused now, or None when it is answered."""
        if self.phase in (Phase.SERVING, Phase.LEAVING):
            return None
        if self.phase is Phase.DRAINING:
            return Draining("the server is shutting down", retry_after_ms=100)
        return ModelLoading("the model is not ready yet", retry_after_ms=500)
