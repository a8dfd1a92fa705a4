"""Admin: swaps models, on a port of its own for the operator."""

from typing import Any

import structlog
from google.protobuf import duration

from cxr.v1 import admin_pb2 as pb
from cxr.v1 import admin_pb2_grpc, chest_xray_pb2
from cxr_server.errors import InvalidField, ModelLoading, OperatorError, SwapFailed
from cxr_server.model import ServedModel
from cxr_server.models import Models
from cxr_server.rpc.interceptors.call_context import CallContext
from cxr_server.rpc.messages import model_fields

SERVICE: str = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
log = structlog.get_logger("cxr_server.admin")


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Adapts `Models`. `grace_s` is the time that the calls of a model have when it is replaced."""

    def __init__(self, models: Models, grace_s: float) -> None:
        self._models = models
        self._grace_s = grace_s

    async def SwapModel(self, request: pb.SwapModelRequest, context: Any) -> pb.SwapModelResponse:
        """Serve a bundle by a name in use."""
        with CallContext.call_of(context, f"{SERVICE}/SwapModel") as call:
            for field in ("name", "bundle"):
                if not getattr(request, field):
                    raise InvalidField(f"{field} is required", field=field)
            log.info("swap requested", name=request.name, caller=call.caller)
            if not self._models:
                raise ModelLoading("the models are not ready yet", retry_after_ms=500)
            try:
                swapped = await self._models.swap(request.name, request.bundle, self._grace_s)
            except OperatorError as error:
                raise SwapFailed(f"nothing has changed: {error}") from None
            return pb.SwapModelResponse(
                model=_model(swapped.now),
                previous_model=_model(swapped.before),
                load_duration=duration.from_milliseconds(round(1000 * swapped.load_s)),
            )


def _model(served: ServedModel) -> chest_xray_pb2.Model:
    return chest_xray_pb2.Model(**model_fields(served.manifest, served.precision))
