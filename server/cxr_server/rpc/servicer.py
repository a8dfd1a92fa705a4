"""Servicer: the contract's four methods, each a translation to and from the service."""

from typing import Any

import grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1 import chest_xray_pb2_grpc as pb_grpc
from cxr_server.rpc import messages
from cxr_server.rpc.interceptors.call_context import CallContext
from cxr_server.service import InferenceService

SERVICE: str = pb.DESCRIPTOR.services_by_name["ChestXrayService"].full_name
PREDICT, EXPLAIN, HEALTH, DESCRIBE_MODEL = (
    f"{SERVICE}/{name}" for name in ("Predict", "Explain", "Health", "DescribeModel")
)
BOUNDED_METHODS = frozenset({PREDICT, EXPLAIN})
"""Methods that need the model: refused while it is not ready, bounded in number and bytes."""


class ChestXrayServicer(pb_grpc.ChestXrayServiceServicer):
    """Adapts an `InferenceService` to gRPC.

    Works behind the interceptors, and behind any other host that calls it with a context which
    offers the documented methods of ServicerContext. Predict and Explain also take the bytes of
    their requests, and Explain then returns those of its answer: protobuf would copy each image and
    picture several times.
    """

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    def handlers(self) -> dict[str, Any]:
        """Return the methods by name, for a server that sends and receives bytes."""
        method = grpc.unary_unary_rpc_method_handler
        return {
            "Predict": method(self.Predict, None, pb.PredictResponse.SerializeToString),
            "Explain": method(self.Explain),
            "Health": method(
                self.Health, pb.HealthRequest.FromString, pb.HealthResponse.SerializeToString
            ),
            "DescribeModel": method(
                self.DescribeModel,
                pb.DescribeModelRequest.FromString,
                pb.DescribeModelResponse.SerializeToString,
            ),
        }

    async def Predict(self, request: pb.PredictRequest | bytes, context: Any) -> pb.PredictResponse:
        """Score every finding."""
        with CallContext.call_of(context, PREDICT) as call:
            asked = messages.predict_request(request)
            del request  # a message holds a copy of the image
            result = await self._service.predict(asked, call)
            call.cached, call.finding_count = result.cached, len(result.findings)
            return messages.predict_response(result, call.request_id)

    async def Explain(
        self, request: pb.ExplainRequest | bytes, context: Any
    ) -> pb.ExplainResponse | bytes:
        """Map the evidence of findings."""
        in_bytes = isinstance(request, bytes)
        with CallContext.call_of(context, EXPLAIN) as call:
            asked = messages.explain_request(request)
            del request  # a message holds a copy of the image
            result = await self._service.explain(asked, call)
            call.cached, call.finding_count = result.cached, len(result.findings)
            serialized = messages.explain_response(result, call.request_id)
            return serialized if in_bytes else pb.ExplainResponse.FromString(serialized)

    async def Health(self, request: pb.HealthRequest, context: Any) -> pb.HealthResponse:
        """Report the state, in every phase."""
        return messages.health_response(self._service.health())

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Any
    ) -> pb.DescribeModelResponse:
        """Describe a model, the limits and the options."""
        return messages.describe_model_response(self._service.describe(request.model))
