"""A real gRPC server that answers as a test scripts it."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1 import chest_xray_pb2_grpc as pb_grpc

PNG = b"\x89PNG\r\n\x1a\n"
NOTICE = "For research use only."
Fault = Callable[[grpc.ServicerContext], None]
Ask = Callable[..., Any]
"""Calls a method of either client: `ask(server, method, *arguments, options={}, **named)`."""


def refusal(code: grpc.StatusCode, reason: str = "", *details: Message, message: str = "") -> Fault:
    """A fault that ends a call with a rich status."""
    packed = []
    for detail in (error_details_pb2.ErrorInfo(reason=reason, domain="cxr.v1"), *details):
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    status = status_pb2.Status(
        code=code.value[0], message=message or f"scripted {code.name}", details=packed
    )

    def abort(context: grpc.ServicerContext) -> None:
        trailers = (*context.trailing_metadata(), *rpc_status.to_status(status).trailing_metadata)
        context.abort_with_status(Ending(code, status.message, trailers))

    return abort


def overload(retry_after_s: float) -> Fault:
    """The refusal of a full server."""
    delay = Duration()
    delay.FromNanoseconds(round(retry_after_s * 1e9))
    info = error_details_pb2.RetryInfo(retry_delay=delay)
    return refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", info)


class Ending(NamedTuple):
    """A `grpc.Status`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Any


class Hold:
    """A fault that keeps a call until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._release = threading.Event()

    def __call__(self, context: grpc.ServicerContext) -> None:
        self.entered.set()
        self._release.wait(20)

    def release(self) -> None:
        self._release.set()


@dataclass
class Received:
    """One call as the server saw it."""

    rpc: str
    request: Any
    metadata: dict[str, str]
    time_remaining_s: float


@dataclass
class Script(pb_grpc.ChestXrayServiceServicer):
    """Answers every call right, after the faults that wait for it: one a call, first first."""

    faults: deque[Fault] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    replies: dict[str, Message] = field(default_factory=dict)
    echo_request_id: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def Predict(self, request: Any, context: Any) -> Any:
        finding = pb.Finding(
            label="Effusion",
            class_index=len(request.image),
            score=0.75,
            probability=0.5,
            threshold=0.25,
            above_threshold=True,
        )
        return self._answer(
            "Predict", request, context, pb.PredictResponse(findings=[finding], **_common(request))
        )

    def Explain(self, request: Any, context: Any) -> Any:
        explanations = [
            pb.Explanation(
                finding=pb.Finding(label=label, score=0.75, above_threshold=True),
                heatmap=b"" if request.render.kind == pb.RENDER_KIND_NONE else PNG + b"...",
                evidence=pb.EvidenceGrid(rows=2, columns=3, values=[0, 1, 2, 3, 4, 5]),
                logit=1.5,
                peak=pb.Peak(x_px=10.5, y_px=20.5, value=1.0),
                regions=[pb.Region(box=pb.Box(x_px=1, y_px=2, width_px=3, height_px=4))],
                method=pb.EXPLANATION_METHOD_GRAD_CAM,
            )
            for label in request.labels or ["Effusion"]
        ]
        response = pb.ExplainResponse(explanations=explanations, **_common(request))
        return self._answer("Explain", request, context, response)

    def Health(self, request: Any, context: Any) -> Any:
        response = pb.HealthResponse(status=pb.SERVING_STATUS_SERVING, engine="scripted")
        return self._answer("Health", request, context, response)

    def DescribeModel(self, request: Any, context: Any) -> Any:
        response = pb.DescribeModelResponse(
            model=pb.Model(name="scripted", version="1"),
            findings=[pb.FindingDescription(label="Effusion", threshold=0.25)],
            notices=[NOTICE],
        )
        return self._answer("DescribeModel", request, context, response)

    def _answer(self, rpc: str, request: Any, context: Any, response: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        with self.lock:
            self.received.append(Received(rpc, request, metadata, context.time_remaining()))
            fault = self.faults.popleft() if self.faults else None
        request_id = self.echo_request_id or metadata.get("x-request-id", "")
        context.set_trailing_metadata((("x-request-id", request_id),))
        if fault is not None:
            fault(context)
        return self.replies.get(rpc, response)


def _common(request: Any) -> dict[str, Any]:
    return {
        "model": pb.Model(name="scripted", version="1", weights_sha256="ab" * 32),
        "image_info": pb.ImageInfo(format=pb.IMAGE_FORMAT_PNG, width_px=64, height_px=48),
        "warnings": [pb.Warning(code=pb.WARNING_CODE_CROPPED, message="It was cropped.")],
        "timing": pb.Timing(decode_duration=Duration(nanos=1_500_000), evidence_cached=True),
        "notice": NOTICE,
    }


class ScriptedServer:
    """Serves a script on a free port of loopback, in plaintext or with TLS."""

    def __init__(
        self, script: Script, credentials: Any = None, max_request_bytes: int = 64 * 2**20
    ) -> None:
        self.script = script
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(
            self._pool,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_request_bytes),
            ],
        )
        pb_grpc.add_ChestXrayServiceServicer_to_server(script, self._server)
        port = (
            self._server.add_insecure_port("127.0.0.1:0")
            if credentials is None
            else self._server.add_secure_port("localhost:0", credentials)
        )
        self.address = f"127.0.0.1:{port}" if credentials is None else f"localhost:{port}"

    def __enter__(self) -> "ScriptedServer":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
        self._pool.shutdown(wait=False)
