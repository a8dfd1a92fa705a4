"""Servicer: the Open Inference Protocol's methods, each a translation to and from the service."""

import asyncio
from typing import Any

from cxr_server import __version__
from cxr_server.bundles.manifest import Manifest
from cxr_server.errors import InvalidField, ModelLoading, RequestError, UnknownModel
from cxr_server.imaging.radiograph import DecodeOptions, DicomPresentation
from cxr_server.lifecycle import Phase
from cxr_server.model import ServingModel
from cxr_server.observability.call import Call
from cxr_server.requests import PredictRequest
from cxr_server.resources import MAX_IMAGES_AT_ONCE
from cxr_server.results import PredictResult
from cxr_server.rpc.interceptors.call_context import CallContext
from cxr_server.rpc.open_inference import open_inference_pb2 as oip
from cxr_server.rpc.open_inference import open_inference_pb2_grpc as oip_grpc
from cxr_server.rpc.open_inference.tensors import OUTPUTS, images_of
from cxr_server.service import InferenceService

SERVICE: str = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
MODEL_INFER = f"{SERVICE}/ModelInfer"
PROBES = frozenset(f"{SERVICE}/{name}" for name in ("ServerLive", "ServerReady", "ModelReady"))


class OpenInferenceServicer(oip_grpc.GRPCInferenceServiceServicer):
    """Adapts an `InferenceService` to the protocol. Models go by the names they are served by.

    `parameters` of a request may hold `strict_input` (bool) and `presentation` (string), which
    mean what they do in the contract; others are for other servers, and ignored.
    """

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    async def ServerLive(
        self, request: oip.ServerLiveRequest, context: Any
    ) -> oip.ServerLiveResponse:
        """Tell that the process answers."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: oip.ServerReadyRequest, context: Any
    ) -> oip.ServerReadyResponse:
        """Tell whether requests are served."""
        return oip.ServerReadyResponse(ready=self._is_serving())

    async def ModelReady(
        self, request: oip.ModelReadyRequest, context: Any
    ) -> oip.ModelReadyResponse:
        """Tell whether requests are served, by the model of this name. Raises InvalidField."""
        try:
            self._model(request.name, request.version)
        except ModelLoading:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=self._is_serving())

    async def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: Any
    ) -> oip.ServerMetadataResponse:
        """Name this server and its version."""
        return oip.ServerMetadataResponse(name="cxr-serve", version=__version__)

    async def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: Any
    ) -> oip.ModelMetadataResponse:
        """Describe the input and the outputs."""
        model = self._model(request.name, request.version)
        tensor = oip.ModelMetadataResponse.TensorMetadata
        findings = len(model.labels)
        return oip.ModelMetadataResponse(
            name=request.name,
            versions=[model.version],
            platform=f"cxr-serve. {model.notice}",  # no other field is for people
            inputs=[tensor(name="image", datatype="BYTES", shape=[-1])],
            outputs=[
                tensor(name=each.name, datatype=each.datatype, shape=each.shape(-1, findings))
                for each in OUTPUTS.values()
            ],
        )

    async def ModelInfer(
        self, request: oip.ModelInferRequest, context: Any
    ) -> oip.ModelInferResponse:
        """Score every finding of one or more images. One that fails fails the call."""
        with CallContext.call_of(context, MODEL_INFER) as call:
            model = self._model(request.model_name, request.model_version)
            names = [output.name for output in request.outputs] or list(OUTPUTS)
            if unknown := set(names) - OUTPUTS.keys():
                message = f"outputs has no {min(unknown)[:64]!r}; there are {', '.join(OUTPUTS)}"
                raise InvalidField(message, field="outputs")
            if len(names) > len(set(names)):
                raise InvalidField("outputs must differ from each other", field="outputs")
            options = _options(request.parameters)
            images = images_of(request)
            response = oip.ModelInferResponse(
                model_name=request.model_name, model_version=model.version, id=request.id
            )
            with self._service.using(request.model_name, call) as serving:
                del request  # the message holds a copy of the images
                results = await self._predict_all(images, options, serving, call)
            call.cached = all(result.cached for result in results)
            call.finding_count = sum(len(result.findings) for result in results)
            for name in names:
                output = OUTPUTS[name]
                shape = output.shape(len(results), len(model.labels))
                response.outputs.add(name=name, datatype=output.datatype, shape=shape)
                response.raw_output_contents.append(output.pack(results, model.labels))
            response.parameters["notice"].string_param = model.notice
            response.parameters["request_id"].string_param = call.request_id
            response.parameters["weights_sha256"].string_param = model.weights_sha256
            response.parameters["precision"].string_param = results[0].precision
            return response

    async def _predict_all(
        self, images: list[bytes], options: dict[str, Any], model: ServingModel, call: Call
    ) -> list[PredictResult]:
        """Return a result for each image. The first error ends the others, and names its image."""
        places = asyncio.Semaphore(MAX_IMAGES_AT_ONCE)

        async def predict(index: int) -> PredictResult:
            async with places:
                image, images[index] = images[index], b""  # is freed once it is decoded
                asked = PredictRequest(image=image, top_k=len(model.manifest.labels), **options)
                del image
                try:
                    return await self._service.predict(asked, call, model)
                except RequestError as error:
                    if error.field == "image":
                        error.field = f"inputs[0].contents.bytes_contents[{index}]"
                    raise

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(predict(index)) for index in range(len(images))]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _is_serving(self) -> bool:
        return self._service.health().phase is Phase.SERVING

    def _model(self, name: str, version: str) -> Manifest:
        """Return the model of a name and, unless it is "", a version.

        Raises InvalidField, UnknownModel and ModelLoading.
        """
        if not name:
            raise InvalidField("model_name is required", field="model_name")
        try:
            model = self._service.describe(name).model
        except UnknownModel as error:
            error.field = "model_name"
            raise
        if version not in ("", model.version):
            raise InvalidField(f"model_version must be {model.version!r}", field="model_version")
        return model


def _options(parameters: Any) -> dict[str, Any]:
    """Return fields of PredictRequest from a request's parameters. Raises InvalidField."""
    options: dict[str, Any] = {}
    if "strict_input" in parameters:
        given = parameters["strict_input"]
        if given.WhichOneof("parameter_choice") != "bool_param":
            message = "strict_input must be a bool_param"
            raise InvalidField(message, field="parameters.strict_input")
        options["strict_input"] = given.bool_param
    if "presentation" in parameters:
        name = parameters["presentation"].string_param
        if name not in DicomPresentation.__members__:
            message = f"presentation must be one of {', '.join(DicomPresentation.__members__)}"
            raise InvalidField(message, field="parameters.presentation")
        options["dicom"] = DecodeOptions(presentation=DicomPresentation[name])
    return options
