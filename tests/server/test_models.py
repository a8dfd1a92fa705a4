"""Several models on one server: asked for by name, and swapped while calls go on."""

import asyncio
import math
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from cxr.v1 import admin_pb2
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.admin_pb2_grpc import AdminServiceStub
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import AsyncClient, UnknownModelError
from cxr_server import resources
from cxr_server.__main__ import main
from cxr_server.access import new_token
from cxr_server.app import App
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import BundleError, Manifest
from cxr_server.explanation.methods import explain
from cxr_server.inference import bulk_turns
from cxr_server.rpc.servicer import PREDICT
from cxr_server.rpc.swap import NotSwapped, swap_model
from cxr_server.settings import SettingsError, parse
from images import chest_like, png
from trust.certificates import Authority
from trust.ports import free_port

IMAGE = png(chest_like(seed=3))


@pytest.fixture(scope="module")
def second(phantom_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle as another version of itself."""
    folder = tmp_path_factory.mktemp("bundles") / "second"
    shutil.copytree(phantom_bundle.path, folder)
    manifest = msgspec.structs.replace(phantom_bundle.manifest, version="second")
    (folder / "model.json").write_text(manifest.to_json())
    return folder


@asynccontextmanager
async def serving(*flags: str, admin: str = "") -> AsyncIterator[tuple[Any, Any, App]]:
    """Stubs of the contract and of the admin port, and their app."""
    listen = ["--listen", "127.0.0.1:0", *(["--admin-listen", admin] if admin else [])]
    app = App(parse([*listen, *flags], env={}))
    await app.start()
    try:
        await app.load()
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel,
            grpc.aio.insecure_channel(admin or "unix:none") as operator,
        ):
            yield (
                ChestXrayServiceStub(channel),  # type: ignore[no-untyped-call]
                AdminServiceStub(operator),  # type: ignore[no-untyped-call]
                app,
            )
    finally:
        await app.drain()


async def test_a_bulk_image_does_not_begin_while_an_interactive_call_of_another_model_is_in_flight(
    second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_turns, "TURN_S", 1000.0)
    async with (
        serving("--model", "phantom", "--model", f"canary={second}") as (stub, _, app),
        grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel,
        asyncio.timeout(60),
    ):
        upload = channel.stream_unary(f"/{PREDICT}")()  # sends nothing
        while not app.admission.calls:
            await asyncio.sleep(0.01)
        request = pb.PredictRequest(image=IMAGE, model="canary")
        bulk = stub.Predict(request, metadata=(("x-priority", "bulk"),))
        while not app.service.health().queue_depth:
            await asyncio.sleep(0.01)
        assert (await stub.Predict(pb.PredictRequest(image=IMAGE))).model.version != "second"
        assert app.service.health().queue_depth == 1
        upload.cancel()
        assert (await bulk).model.version == "second"


async def test_images_of_all_models_beyond_the_decode_threads_wait_and_are_counted_so(
    second: Path,
) -> None:
    flags = ("--model", "phantom", "--model", f"canary={second}", "--decode-processes", "1")
    metrics = ("--metrics-listen", f"127.0.0.1:{free_port()}")
    async with serving(*flags, *metrics) as (stub, _, app), asyncio.timeout(60):
        read = app.metrics.registry.get_sample_value
        model = app.service.models.get("")
        assert model
        budget = model.resources.decode_budget
        with budget.hold(budget.limit_bytes, lambda: None):  # no image gets on
            calls = [
                stub.Predict(pb.PredictRequest(image=IMAGE, model=name))
                for name in ("phantom", "canary")
            ]
            while not app.service.health().queue_depth:
                await asyncio.sleep(0.01)
            assert read("cxr_decode_workers_busy") == read("cxr_decode_workers_limit") == 1
            assert read("cxr_queue_depth", {"queue": "decode"}) == 1
        await asyncio.gather(*calls)
        assert read("cxr_decode_workers_busy") == 0


async def test_each_model_answers_by_its_name_with_a_cache_of_its_own(
    second: Path,
) -> None:
    flags = ("--model", "phantom", "--model", f"canary={second}")
    metrics = ("--metrics-listen", f"127.0.0.1:{free_port()}")
    async with serving(*flags, *metrics) as (stub, _, app):
        default = await stub.Predict(pb.PredictRequest(image=IMAGE))
        canary = await stub.Predict(pb.PredictRequest(image=IMAGE, model="canary"))
        again = await stub.Explain(pb.ExplainRequest(image=IMAGE, model="phantom"))
        assert (canary.model.name, canary.model.version) == ("phantom", "second")
        assert default.model.version != "second"
        assert again.model == default.model
        assert not canary.timing.evidence_cached
        assert again.timing.evidence_cached
        described = await stub.DescribeModel(pb.DescribeModelRequest(model="canary"))
        assert described.model == canary.model
        assert {each.name: each.model for each in described.served_models} == {
            "phantom": default.model,
            "canary": canary.model,
        }
        async with AsyncClient(f"127.0.0.1:{app.port}", model="canary") as client:
            assert (await client.predict(IMAGE)).model.version == canary.model.version
            served = (await client.describe_model()).served_models
            assert [each.name for each in served] == ["phantom", "canary"]
        async with AsyncClient(f"127.0.0.1:{app.port}", model="nosuch") as client:
            with pytest.raises(UnknownModelError, match="there are: phantom, canary"):
                await client.predict(IMAGE)
        for name in ("phantom", "canary"):  # one each was from the cache
            counted = partial(app.metrics.registry.get_sample_value, labels={"served_as": name})
            assert counted("cxr_evidence_cache_hits_total") == 1
            assert counted("cxr_evidence_cache_misses_total") == 1
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Predict(pb.PredictRequest(image=b"no image", model="canary"))
        calls = {"rpc_method": "cxr.v1.ChestXrayService/Predict"}
        for name, refused, answered in (("phantom", 0, 1), ("canary", 1, 2)):
            of_model = partial(app.metrics.registry.get_sample_value, labels={"served_as": name})
            for status, count in (("INVALID_ARGUMENT", refused), ("OK", answered)):
                labels = {"served_as": name, "rpc_response_status_code": status, **calls}
                sample = app.metrics.registry.get_sample_value("cxr_model_calls_total", labels)
                assert sample == count
            # Explain asked the default once.
            assert of_model("cxr_answered_images_total") == 2
            warned = {"served_as": name, "code": "PHANTOM_MODEL"}
            assert app.metrics.registry.get_sample_value("cxr_warnings_total", warned) == 2


async def test_two_bundles_of_one_name_need_another_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="two models are called phantom"):
        async with serving("--model", "phantom", "--model", "phantom"):
            pass


@pytest.mark.slow
async def test_a_swap_loses_no_call_and_can_be_undone(
    second: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    async with serving("--model", "chest=phantom", admin="unix:admin.sock") as (stub, admin, app):
        answered: list[str] = []
        running = True

        async def call(number: int) -> None:
            while running:
                image = IMAGE + number.to_bytes(4, "big") + len(answered).to_bytes(4, "big")
                response = await stub.Predict(pb.PredictRequest(image=image, model="chest"))
                answered.append(response.model.version)

        callers = [asyncio.create_task(call(number)) for number in range(4)]
        swap = admin_pb2.SwapModelRequest(name="chest", bundle=str(second))
        swapped = await admin.SwapModel(swap)
        versions = swapped.previous_model.version, swapped.model.version
        assert swapped.previous_model.precision == swapped.model.precision == "float32"
        before = len(answered)
        while len(answered) < before + 10:
            await asyncio.sleep(0.01)
        text = await asyncio.to_thread(swap_model, "unix:admin.sock", "chest", "phantom")
        assert text.startswith(f"chest: phantom {versions[0]}, loaded in ")
        before = len(answered)
        while len(answered) < before + 10:
            await asyncio.sleep(0.01)
        running = False
        await asyncio.gather(*callers)  # none of which has failed
        assert set(answered) == set(versions)
        assert answered[-1] == versions[0]
        assert [name for name, _ in app.service.models] == ["chest"]


async def test_a_model_is_swapped_while_all_calls_are_drawing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, second: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    go_on, drawing = threading.Event(), threading.Semaphore(0)

    def held(*arguments: Any, check: Any, **options: Any) -> Any:
        # Calls are held, the warm-up is not: it has no deadline.
        if check.__self__.deadline < math.inf:
            drawing.release()
            go_on.wait(60)
        return explain(*arguments, check=check, **options)

    flags = ("--max-in-flight", "2", "--decode-threads", "3", "--decode-processes", "0")
    async with serving(*flags, admin="unix:admin.sock") as (stub, admin, _):
        monkeypatch.setattr("cxr_server.service.explain", held)
        calls = [stub.Explain(pb.ExplainRequest(image=IMAGE), timeout=100) for _ in range(2)]
        for _ in calls:
            await asyncio.to_thread(drawing.acquire)
        swap = admin_pb2.SwapModelRequest(name="phantom", bundle=str(second))
        swapped = asyncio.ensure_future(admin.SwapModel(swap))
        while (await stub.Health(pb.HealthRequest())).model.version != "second":
            assert not swapped.done(), swapped
            await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(*calls, swapped)


async def test_what_a_swap_under_load_takes_from_drawing_is_given_back_in_a_pause(
    second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beyond_mib, cacheable_bytes = 0, []

    def beyond_process_share(to_cache_bytes: int, share_bytes: int) -> int:
        cacheable_bytes.append(to_cache_bytes)
        return beyond_mib * 2**20

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resources, "beyond_process_share", beyond_process_share)
    flags = ("--memory-budget-mib", "1024", "--decode-processes", "0", "--cache-entries", "8")
    async with serving(*flags, admin="unix:admin.sock") as (stub, admin, app):
        model = app.service.models.get("")
        assert model
        whole_bytes = model.drawing_budget.limit_bytes
        beyond_mib = 20  # of calls in flight
        await admin.SwapModel(admin_pb2.SwapModelRequest(name="phantom", bundle=str(second)))
        assert model.drawing_budget.limit_bytes == whole_bytes - 20 * 2**20
        await stub.Predict(pb.PredictRequest(image=IMAGE))
        beyond_mib = 0
        app.service.models.settle()
        assert model.drawing_budget.limit_bytes == whole_bytes
        assert cacheable_bytes[-1] == cacheable_bytes[0] * 7 // 8  # one entry is in the process
        beyond_mib = 20
        app.service.models.settle()  # once is enough
        assert model.drawing_budget.limit_bytes == whole_bytes


async def test_a_swap_that_fails_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, second: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(second, broken)
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    wide = tmp_path / "wide"
    shutil.copytree(second, wide)
    manifest = Manifest.from_json((wide / "model.json").read_text())
    (wide / "model.json").write_text(msgspec.structs.replace(manifest, input_side_px=512).to_json())
    async with serving(admin="unix:admin.sock") as (stub, _, _app):
        before = await stub.Predict(pb.PredictRequest(image=IMAGE))
        for name, bundle, told in (
            ("phantom", str(broken), "nothing has changed"),
            ("phantom", str(wide), "takes inputs of 512 pixels a side, and .* started for 224"),
            ("phantom", "nosuch", "there is no bundle nosuch"),
            ("nosuch", "phantom", "no model is served as 'nosuch'; there are: phantom"),
            ("", "phantom", "name is required"),
        ):
            with pytest.raises(NotSwapped, match="(?i)" + told):
                await asyncio.to_thread(swap_model, "unix:admin.sock", name, bundle)
        assert (await stub.Predict(pb.PredictRequest(image=IMAGE))).model == before.model


def write_token() -> None:
    """Write an operator's token to the file token, and what accepts it to tokens."""
    token, line = new_token("operator")
    Path("tokens").write_text(line)
    Path("token").write_text(f"{token}\n")


@pytest.mark.slow
async def test_from_elsewhere_the_command_swaps_by_tls_and_with_a_token_of_the_admin_port(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    second: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_token()
    authority = Authority(tmp_path, "test CA")
    certificate, key = authority.sign(tmp_path / "server", "server")
    port = free_port()
    flags = ["--tls-cert", str(certificate), "--tls-key", str(key), "--admin-tokens-file", "tokens"]
    async with serving(*flags, admin=f"0.0.0.0:{port}") as (_, _, app):
        monkeypatch.setenv("CXR_ADMIN_LISTEN", f"127.0.0.1:{port}")
        words = ["swap", "phantom", str(second), "--ca-file", str(authority.certificate)]
        assert await asyncio.to_thread(main, words) == 1
        assert "valid bearer token is required" in capsys.readouterr().err
        assert await asyncio.to_thread(main, [*words[:3], "--token-file", "token"]) == 1
        assert capsys.readouterr().err.startswith("cxr-server: ")  # not by plaintext
        assert await asyncio.to_thread(main, [*words, "--token-file", "token"]) == 0
        assert capsys.readouterr().out.count("phantom: phantom second, loaded in ") == 1
        assert app.service.describe().model.version == "second"
        Path("tokens").write_text("no token\n")
        app.server.reload()
        assert app.server.reload_failures["admin tokens"] == 1


@pytest.mark.slow
async def test_the_command_shows_a_certificate_to_a_server_that_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, second: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_token()
    authority = Authority(tmp_path, "test CA")
    port, ca = free_port(), str(authority.certificate)
    certificate, key = map(str, authority.sign(tmp_path / "server", "server"))
    own = list(map(str, authority.sign(tmp_path / "operator", "operator")))
    flags = ["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", ca]
    flags += ["--admin-tokens-file", "tokens"]
    words = ["swap", "phantom", str(second), "--admin", f"127.0.0.1:{port}", "--ca-file", ca]
    words += ["--token-file", "token"]
    async with serving(*flags, admin=f"0.0.0.0:{port}") as (_, _, app):
        assert await asyncio.to_thread(main, words) == 1
        assert await asyncio.to_thread(main, [*words, "--cert-file", own[0]]) == 2
        shown = ["--cert-file", own[0], "--key-file", own[1]]
        assert await asyncio.to_thread(main, [*words, *shown]) == 0
        assert app.service.describe().model.version == "second"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--model", " "), "--model +names no model"),
        (("--admin-listen", "0.0.0.0:50053"), "could swap models: it needs --tls-cert"),
        (("--admin-tokens-file", "tokens"), "needs --admin-listen"),
        (("--admin-listen", "127.0.0.1:50051"), "are the same"),
    ],
)
def test_models_are_swapped_from_this_machine_or_with_a_token_and_tls(
    flags: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        parse(flags, env={})


def test_models_are_named_by_flags_or_by_one_variable() -> None:
    assert parse(["--model", "a", "--model", "b=c"], env={}).model == ("a", "b=c")
    assert parse([], env={"CXR_MODEL": "a, b=c"}).model == ("a", "b=c")
    assert parse([], env={}).model == ("phantom",)
    for blank in (" ", ",", " , "):
        with pytest.raises(SettingsError, match=r"CXR_MODEL=.* names no model"):
            parse([], env={"CXR_MODEL": blank})
