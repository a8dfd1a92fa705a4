"""The interceptors serve any service, streams, and contexts that are not gRPC's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.access import Access, new_token
from cxr_server.admission import Admission, Slot
from cxr_server.app import App
from cxr_server.errors import InvalidField, MemoryFull, QueueFull
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc.hosted import CHECK, Hosted
from cxr_server.rpc.interceptors.call_context import CallContext, host_of
from cxr_server.rpc.interceptors.chain import Chain
from cxr_server.rpc.methods import Methods
from cxr_server.rpc.server import steps
from cxr_server.rpc.servicer import PREDICT, ChestXrayServicer
from cxr_server.settings import Settings, parse
from images import png
from trust.certificates import Authority
from trust.outcomes import reason_of

ECHO = "test.v1.Echo"
BOUNDED = frozenset(f"{ECHO}/{name}" for name in ("Unary", "Down", "Up", "Both"))


class Echo:
    """A service that is not ours, with a method of every shape."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def Unary(self, request: bytes, context: Any) -> bytes:
        if request == b"bad":
            raise InvalidField("bad is not allowed", field="word")
        if request == b"bug":
            raise ZeroDivisionError("a secret")
        return request

    async def Caller(self, request: bytes, context: Any) -> bytes:
        with CallContext.call_of(context, "") as call:
            return call.caller.encode()

    async def Down(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(3):
            if request == b"bad" and number == 2:
                raise InvalidField("bad is not allowed", field="word")
            yield request + str(number).encode()
            await self.goes_on.wait()

    async def Written(self, request: bytes, context: Any) -> None:
        for number in range(3):
            await context.write(request + str(number).encode())

    async def Up(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([each async for each in requests])

    async def Both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for each in requests:
            yield each

    def handlers(self) -> dict[str, Any]:
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.Unary),
            "Caller": grpc.unary_unary_rpc_method_handler(self.Caller),
            "Down": grpc.unary_stream_rpc_method_handler(self.Down),
            "Written": grpc.unary_stream_rpc_method_handler(self.Written),
            "Up": grpc.stream_unary_rpc_method_handler(self.Up),
            "Both": grpc.stream_stream_rpc_method_handler(self.Both),
        }


class Site:
    """The echo service behind the interceptors, for two calls at once."""

    def __init__(self, access: Access | None = None) -> None:
        self.echo = Echo()
        self.lifecycle = Lifecycle()
        self.lifecycle.enter(Phase.SERVING)
        self.metrics = Metrics()
        self.admission = Admission(
            most_calls=lambda: 2,
            max_bytes=2**20,
            max_request_bytes=2**20,
            retry_after_ms=lambda: 70,
        )
        self.steps = steps(
            Settings(), self.lifecycle, self.admission, self.metrics, access, BOUNDED
        )
        self.chain = Chain(self.steps, upload_timeout_s=30)

    def server(self) -> grpc.aio.Server:
        server = grpc.aio.server()
        Methods(server, self.chain).add(ECHO, self.echo.handlers())
        return server

    def counted(self, method: str, code: str) -> float:
        labels = {"rpc_system_name": "grpc", "rpc_method": f"{ECHO}/{method}"}
        labels |= {"rpc_response_status_code": code}
        name = "rpc_server_call_duration_seconds_count"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def empty(self) -> None:
        """Wait until no call holds a slot."""
        while self.admission.calls:
            await asyncio.sleep(0.01)


@pytest.fixture
async def site() -> Site:
    return Site()


@pytest.fixture
async def channel(site: Site) -> AsyncIterator[grpc.aio.Channel]:
    server = site.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


async def failed(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_another_service_on_the_port_is_answered_counted_and_given_ids(
    site: Site, channel: grpc.aio.Channel
) -> None:
    call = channel.unary_unary(f"/{ECHO}/Unary")(b"hello", metadata=(("x-request-id", "my-1"),))
    assert await call == b"hello"
    assert dict(await call.trailing_metadata())["x-request-id"] == "my-1"
    assert site.counted("Unary", "OK") == 1


async def test_its_domain_errors_become_statuses_and_other_errors_say_nothing(
    site: Site, channel: grpc.aio.Channel
) -> None:
    unary = channel.unary_unary(f"/{ECHO}/Unary")
    error = await failed(unary(b"bad"))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert dict(error.trailing_metadata())["x-error-reason"] == "INVALID_FIELD"
    error = await failed(unary(b"bug"))
    request_id = dict(error.trailing_metadata())["x-request-id"]
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == f"Internal error, request {request_id}."
    assert site.counted("Unary", "INVALID_ARGUMENT") == site.counted("Unary", "INTERNAL") == 1


async def test_streams_of_every_shape_pass(site: Site, channel: grpc.aio.Channel) -> None:
    down = channel.unary_stream(f"/{ECHO}/Down")
    assert [each async for each in down(b"n")] == [b"n0", b"n1", b"n2"]
    written = channel.unary_stream(f"/{ECHO}/Written")
    assert [each async for each in written(b"n")] == [b"n0", b"n1", b"n2"]
    assert await channel.stream_unary(f"/{ECHO}/Up")(iter([b"a", b"b"])) == b"ab"
    both = channel.stream_stream(f"/{ECHO}/Both")(iter([b"a", b"b"]))
    assert [each async for each in both] == [b"a", b"b"]
    for method in ("Down", "Written", "Up", "Both"):
        assert site.counted(method, "OK") == 1


async def test_a_stream_may_end_with_a_domain_error(site: Site, channel: grpc.aio.Channel) -> None:
    answers = aiter(channel.unary_stream(f"/{ECHO}/Down")(b"bad"))
    assert [await anext(answers), await anext(answers)] == [b"bad0", b"bad1"]
    assert reason_of(await failed(anext(answers))) == "INVALID_FIELD"
    assert site.counted("Down", "INVALID_ARGUMENT") == 1


async def test_a_stream_holds_its_slot_until_it_ends_or_its_caller_leaves(
    site: Site, channel: grpc.aio.Channel
) -> None:
    site.echo.goes_on.clear()
    down = channel.unary_stream(f"/{ECHO}/Down")
    calls = [down(b"n"), down(b"n")]
    answers = [aiter(call) for call in calls]
    assert [await anext(each) for each in answers] == [b"n0", b"n0"]
    error = await failed(channel.unary_unary(f"/{ECHO}/Unary")(b"hello"))
    assert reason_of(error) == "QUEUE_FULL"
    calls[0].cancel()
    async with asyncio.timeout(60):
        while site.admission.calls != 1:
            await asyncio.sleep(0.01)
    assert await channel.unary_unary(f"/{ECHO}/Unary")(b"hello") == b"hello"
    site.echo.goes_on.set()
    assert [each async for each in answers[1]] == [b"n1", b"n2"]
    async with asyncio.timeout(60):
        await site.empty()
    assert site.counted("Down", "CANCELLED") == site.counted("Down", "OK") == 1


async def test_a_streaming_request_is_refused_before_it_is_sent(
    site: Site, channel: grpc.aio.Channel
) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    site.lifecycle.enter(Phase.DRAINING)
    for shape, method in (
        (channel.stream_unary, "Up"),
        (channel.stream_unary, "Unary"),  # unary on the wire is a stream of one message
    ):
        error = await failed(shape(f"/{ECHO}/{method}")(nothing(), timeout=60))
        assert reason_of(error) == "DRAINING"
    error = await failed(channel.stream_stream(f"/{ECHO}/Both")(nothing(), timeout=60).read())
    assert reason_of(error) == "DRAINING"
    assert await channel.unary_unary(f"/{ECHO}/Caller")(b"") == b"host:127.0.0.1"  # not bounded


async def test_every_service_needs_a_token_and_the_token_is_the_caller(tmp_path: Path) -> None:
    token, line = new_token("ward-3")
    (tmp_path / "tokens").write_text(line)
    server = Site(Access(str(tmp_path / "tokens"))).server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        caller = channel.unary_unary(f"/{ECHO}/Caller")
        assert reason_of(await failed(caller(b""))) == "UNAUTHENTICATED"
        both = channel.stream_stream(f"/{ECHO}/Both")(iter([b"a"]))
        assert reason_of(await failed(both.read())) == "UNAUTHENTICATED"
        metadata = (("authorization", f"Bearer {token}"),)
        assert await caller(b"", metadata=metadata) == b"token:ward-3"
    await server.stop(0)


# --- priority ---


def held(admission: Admission, *callers: str | None) -> list[Slot]:
    return [admission.enter("0", bulk_caller=caller) for caller in callers]


def admission_of(max_calls: int) -> Admission:
    return Admission(
        most_calls=lambda: max_calls, max_bytes=100, max_request_bytes=60, retry_after_ms=lambda: 70
    )


def test_bulk_calls_take_half_of_the_slots_and_leave_the_rest() -> None:
    admission = admission_of(8)
    bulk = held(admission, *["a"] * 4)
    with pytest.raises(QueueFull, match="bulk"):
        held(admission, "a")
    interactive = held(admission, *[None] * 4)
    with pytest.raises(QueueFull):
        held(admission, None)
    for slot in bulk + interactive:
        slot.release()
    assert (admission.calls, admission.bulk_calls.total(), admission.held_bytes) == (0, 0, 0)


def test_callers_share_the_slots_for_bulk_calls() -> None:
    admission = admission_of(8)
    first = held(admission, "token:a", "token:a", "token:a")
    second = held(admission, "token:b")
    for caller in ("token:a", "token:b"):  # all four are taken
        with pytest.raises(QueueFull):
            held(admission, caller)
    first.pop().release()
    with pytest.raises(QueueFull, match="may have 2"):
        held(admission, "token:a")  # which has its part
    second += held(admission, "token:b")
    for slot in second:
        slot.release()
    first += held(admission, "token:a")  # alone again
    assert admission.bulk_calls == {"token:a": 3}


def test_bulk_calls_hold_half_of_the_bytes_and_a_single_one_any_number() -> None:
    admission = admission_of(8)
    only = admission.enter("60", bulk_caller="a")
    with pytest.raises(MemoryFull):
        admission.enter("1", bulk_caller="b")
    admission.enter("40").release()
    only.release()
    admission.enter("30", bulk_caller="a")
    admission.enter("20", bulk_caller="b")
    with pytest.raises(MemoryFull):
        admission.enter("1", bulk_caller="c")
    assert (admission.bulk_calls.total(), admission.bulk_bytes, admission.calls) == (2, 50, 2)


async def test_a_call_in_bulk_is_refused_while_another_is_taken(
    site: Site, channel: grpc.aio.Channel
) -> None:
    bulk = (("x-priority", "bulk"),)
    hold = channel.stream_stream(f"/{ECHO}/Both")(metadata=bulk)
    await hold.write(b"a")
    assert await hold.read() == b"a"
    refused = channel.unary_unary(f"/{ECHO}/Unary")(b"", metadata=bulk)
    assert reason_of(await failed(refused)) == "QUEUE_FULL"
    unknown = (("x-priority", "urgent"),)
    assert await channel.unary_unary(f"/{ECHO}/Unary")(b"b", metadata=unknown) == b"b"
    await hold.done_writing()
    assert await hold.read() is grpc.aio.EOF
    await site.empty()
    assert await channel.unary_unary(f"/{ECHO}/Unary")(b"c", metadata=bulk) == b"c"


async def test_an_interactive_call_counts_until_it_is_answered_refused_cancelled_or_expired(
    site: Site, channel: grpc.aio.Channel
) -> None:
    both, interactive = channel.stream_stream(f"/{ECHO}/Both"), site.admission.interactive
    bulk = both(metadata=(("x-priority", "bulk"),))
    await bulk.write(b"a")
    assert await bulk.read() == b"a"
    assert interactive.idle_s() > 0
    bulk.cancel()
    await site.empty()
    assert await channel.unary_unary(f"/{ECHO}/Unary")(b"a") == b"a"
    await failed(channel.unary_unary(f"/{ECHO}/Unary")(b"bad"))
    assert interactive.idle_s() > 0
    for deadline_s in (None, 0.2):
        call = both(timeout=deadline_s)
        await call.write(b"a")
        assert await call.read() == b"a"
        assert interactive.idle_s() == 0
        if deadline_s is None:
            call.cancel()
        await site.empty()
        assert interactive.idle_s() > 0


# --- who calls ---


async def test_two_connections_of_a_host_are_one_caller(site: Site) -> None:
    server = site.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    callers = []
    for _ in range(2):
        own = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own) as channel:
            callers.append(await channel.unary_unary(f"/{ECHO}/Caller")(b""))
    assert callers == [b"host:127.0.0.1"] * 2
    await server.stop(0)


async def test_a_client_certificate_is_the_caller(site: Site, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "hospital CA")
    roots = authority.certificate.read_bytes()
    certificate, key = authority.sign(tmp_path / "server", "server")
    server = site.server()
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], roots, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    callers = []
    for name in ("viewer", "archive"):
        certificate, key = authority.sign(tmp_path / name, name)
        own = grpc.ssl_channel_credentials(roots, key.read_bytes(), certificate.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", own) as channel:
            callers.append((await channel.unary_unary(f"/{ECHO}/Caller")(b"")).decode())
    assert [caller.split(",")[0] for caller in callers] == [
        "certificate:viewer",
        "certificate:archive",
    ]
    await server.stop(0)


async def test_a_unix_socket_is_one_caller(site: Site, tmp_path: Path) -> None:
    server = site.server()
    server.add_insecure_port(f"unix:{tmp_path}/socket")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/socket") as channel:
        assert await channel.unary_unary(f"/{ECHO}/Caller")(b"") == b"unix"
    await server.stop(0)


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:10.0.0.7:51234", "host:10.0.0.7"),
        ("ipv6:%5B::1%5D:51234", "host:::1"),
        ("ipv6:[2001:db8::7]:443", "host:2001:db8::7"),
        ("ipv6:%5B::ffff:10.0.0.7%5D:51234", "host:10.0.0.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:51234", "host:fe80::1%eth0"),
        ("unix:", "unix"),
        ("unix:/run/cxr.sock", "unix"),
        ("unix-abstract:cxr", "unix"),
        ("gateway", "host:gateway"),
    ],
)
def test_a_peer_is_known_by_its_host(peer: str, caller: str) -> None:
    assert host_of(peer) == caller


# --- contexts of other hosts ---


class Aborted(Exception):
    """Ends a call of a `DocumentedContext`."""


class RayContext:
    """Only what Ray Serve's context has: no abort, no deadline, no reading and writing."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.metadata = metadata
        self.trailing: dict[str, Any] = {}
        self.ended: tuple[Any, str] = (None, "")

    def invocation_metadata(self) -> Any:
        return self.metadata

    def peer(self) -> str:
        return "ipv4:192.0.2.7:4711"

    def auth_context(self) -> dict[str, Any]:
        return {}

    def set_trailing_metadata(self, metadata: Any) -> None:
        assert isinstance(metadata, list)  # Ray appends it to one of its own
        self.trailing = dict(metadata)

    def set_code(self, code: Any) -> None:
        self.ended = (code, self.ended[1])

    def set_details(self, details: str) -> None:
        self.ended = (self.ended[0], details)

    def code(self) -> Any:
        return self.ended[0]


class DocumentedContext(RayContext):
    """The documented methods of ServicerContext that the interceptors may use."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self.request = request

    async def read(self) -> bytes:
        return self.request

    def time_remaining(self) -> float:
        return 30.0

    async def abort(self, code: Any, details: str, trailing_metadata: Any = ()) -> None:
        self.trailing = dict(trailing_metadata)
        self.ended = (code, details)
        raise Aborted


async def test_a_context_with_the_documented_methods_passes(site: Site) -> None:
    handler = site.chain.around(site.echo.handlers()["Unary"], f"{ECHO}/Unary")
    context = DocumentedContext(b"hello")
    assert await handler.stream_unary(None, context) == b"hello"
    assert len(context.trailing["x-request-id"]) == 32
    context = DocumentedContext(b"bad")
    with pytest.raises(Aborted):
        await handler.stream_unary(None, context)
    assert context.ended == (grpc.StatusCode.INVALID_ARGUMENT, "Bad is not allowed.")
    assert context.trailing["x-error-reason"] == "INVALID_FIELD"
    assert site.counted("Unary", "INVALID_ARGUMENT") == site.counted("Unary", "OK") == 1
    assert site.admission.calls == 0


async def test_a_context_that_cannot_abort_gets_the_code(site: Site) -> None:
    """As on Ray Serve, which hands over whole messages: nothing is left to receive."""
    without_receive = Chain(site.steps, upload_timeout_s=None)
    handlers = site.echo.handlers()
    handler = without_receive.around(handlers["Unary"], f"{ECHO}/Unary")
    context = RayContext(("x-request-id", "ray-1"))
    assert await handler.unary_unary(b"hello", context) == b"hello"
    assert context.trailing == {"x-request-id": "ray-1"}
    context = RayContext()
    assert await handler.unary_unary(b"bad", context) is None
    assert context.ended == (grpc.StatusCode.INVALID_ARGUMENT, "Bad is not allowed.")
    assert context.trailing["x-error-reason"] == "INVALID_FIELD"
    stream = without_receive.around(handlers["Down"], f"{ECHO}/Down")
    answers = [each async for each in stream.unary_stream(b"n", RayContext())]
    assert answers == [b"n0", b"n1", b"n2"]
    caller = without_receive.around(handlers["Caller"], f"{ECHO}/Caller")
    assert await caller.unary_unary(b"", RayContext()) == b"host:192.0.2.7"


async def test_another_host_is_given_answers_statuses_and_probes() -> None:
    """As Ray Serve does, which calls a method of each name with whole messages."""
    app = App(parse(["--decode-processes", "0", "--max-request-mib", "1"], env={}))
    await app.load()
    hosted = Hosted(app.server)

    context = RayContext(("x-request-id", "ray-2"))
    request = pb.PredictRequest(image=png())
    answering = asyncio.create_task(hosted.answer(PREDICT, request, context))
    await asyncio.sleep(0)
    assert app.admission.held_bytes == 2 * request.ByteSize()  # the message and its image
    reply = await answering
    assert isinstance(reply, pb.PredictResponse)
    assert (reply.request_id, len(reply.findings), context.code()) == ("ray-2", 5, None)

    context = RayContext()
    assert await hosted.answer(PREDICT, pb.PredictRequest(), context) == pb.PredictResponse()
    assert context.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert context.trailing["x-error-reason"] == "IMAGE_EMPTY"

    context, large = RayContext(), pb.PredictRequest(image=bytes(2**20))
    assert await hosted.answer(PREDICT, large, context) == pb.PredictResponse()
    assert context.ended[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert context.ended[1].startswith("SERVER: Received message larger than max (1048")

    context = RayContext()
    check = health_pb2.HealthCheckRequest(service="other")
    await hosted.answer(CHECK, check, context)
    assert context.code() is grpc.StatusCode.NOT_FOUND
    watched = hosted.watch(health_pb2.HealthCheckRequest(), RayContext())
    assert (await anext(watched)).status == health_pb2.HealthCheckResponse.SERVING

    context, servicer = RayContext(), ChestXrayServicer(app.service)  # without the steps
    assert len((await servicer.Predict(request, context)).findings) == 5
    with pytest.raises(InvalidField):
        await servicer.Predict(pb.PredictRequest(image=png(), top_k=0), context)

    await app.drain()
    assert [each.status async for each in watched] == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert app.admission.calls == 0
