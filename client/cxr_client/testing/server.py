"""Server: the fake server. Next: the client under test."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.errors import REQUEST_ID_KEY
from cxr_client.testing.answers import default_answer
from cxr_client.testing.steps import Step

Answer = Message | Callable[[Any], Message]
"""A response, or a function from request to response."""

_SERVICE = pb.DESCRIPTOR.services_by_name["ChestXrayService"]


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call as the server received it."""

    rpc: str
    """The method: "Predict", "Explain", "Health" or "DescribeModel"."""

    request: Any = field(repr=False)
    """The request message of `cxr.v1.chest_xray_pb2`."""

    metadata: dict[str, str] = field(repr=False)
    """The metadata of the call, `x-request-id` and `authorization` among others."""

    time_remaining_s: float
    """The time until the deadline, in seconds."""


class FakeServer:
    """A real gRPC server, by default on a free port of loopback, that answers as scripted.

    Without a script it answers every call with plausible values: `default_answer` makes them.
    Use it as a context manager, for example in a fixture of pytest. It is thread-safe.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        credentials: grpc.ServerCredentials | None = None,
        max_request_bytes: int = 32 * 2**20,
    ) -> None:
        """Create a server.

        Args:
            address: Where to serve, "host:port"; the default is a free port. With it, a server
                that restarts can be imitated.
            credentials: Serve TLS with these, on "localhost"; the default is plaintext.
            max_request_bytes: Largest request message to accept.
        """
        self.calls: list[RecordedCall] = []
        """The calls received so far, in order."""

        self._answers: dict[str, Answer] = {}
        self._steps: list[tuple[str | None, Step]] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(
            self._pool,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_request_bytes),
            ],
        )
        handlers = {method.name: self._handler(method.name) for method in _SERVICE.methods}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),)
        )
        host = "127.0.0.1" if credentials is None else "localhost"
        wanted = address or f"{host}:0"
        if credentials is None:
            port = self._server.add_insecure_port(wanted)
        else:
            port = self._server.add_secure_port(wanted, credentials)
        self.address = address or f"{host}:{port}"

    def answer(self, rpc: str, answer: Answer) -> None:
        """Answer all further calls of one method with this response, or by this function.

        Raises:
            KeyError: There is no such method; "Predict" is one.
            TypeError: The response is that of another method.
        """
        expected = _SERVICE.methods_by_name[rpc].output_type
        if isinstance(answer, Message) and answer.DESCRIPTOR is not expected:
            raise TypeError(f"{rpc} answers with a {expected.name}")
        self._answers[rpc] = answer

    def script(self, *steps: Step, rpc: str | None = None) -> None:
        """Run each step before one of the next calls is answered, in order.

        Args:
            steps: A `failure`, a `Hold`, or any function of the call's `grpc.ServicerContext`.
            rpc: The method whose calls take these steps; the default is any.

        Raises:
            KeyError: There is no such method; "Predict" is one.
        """
        if rpc is not None:
            _SERVICE.methods_by_name[rpc]
        with self._lock:
            self._steps.extend((rpc, step) for step in steps)

    def start(self) -> None:
        """Start serving."""
        self._server.start()

    def stop(self) -> None:
        """Stop serving and end the calls in progress."""
        self._server.stop(0).wait()
        self._pool.shutdown(wait=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _handler(self, rpc: str) -> "grpc.RpcMethodHandler[Any, Any]":
        request = GetMessageClass(_SERVICE.methods_by_name[rpc].input_type)
        return grpc.unary_unary_rpc_method_handler(
            partial(self._serve, rpc),
            request_deserializer=request.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    def _serve(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Message:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        request_id = metadata.get(REQUEST_ID_KEY, "")
        with self._lock:
            self.calls.append(RecordedCall(rpc, request, metadata, context.time_remaining()))
            step = self._next_step(rpc)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        if step is not None:
            step(context)
        answer = self._answers.get(rpc, default_answer)
        return answer if isinstance(answer, Message) else answer(request)

    def _next_step(self, rpc: str) -> Step | None:
        for index, (wanted, step) in enumerate(self._steps):
            if wanted in (None, rpc):
                del self._steps[index]
                return step
        return None
