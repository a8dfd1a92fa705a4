"""What the service has drawn is not scored."""

import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import png
from trust.outcomes import outcome_of


@pytest.mark.parametrize("file_format", [pb.RENDER_FORMAT_PNG, pb.RENDER_FORMAT_JPEG])
@pytest.mark.parametrize("kind", [pb.RENDER_KIND_OVERLAY, pb.RENDER_KIND_HEATMAP])
def test_a_picture_of_the_service_is_refused_as_input(
    phantom_stub: ChestXrayServiceStub, kind: pb.RenderKind, file_format: pb.RenderFormat
) -> None:
    render = pb.RenderOptions(kind=kind, format=file_format)
    (only,) = phantom_stub.Explain(pb.ExplainRequest(image=png(), render=render)).explanations
    for call, request in (
        (phantom_stub.Predict, pb.PredictRequest(image=only.heatmap)),
        (phantom_stub.Explain, pb.ExplainRequest(image=only.heatmap)),
    ):
        code, reason = outcome_of(lambda call=call, request=request: call(request))
        assert (code, reason) == ("INVALID_ARGUMENT", "IMAGE_IS_HEATMAP")
