"""The audit file: who asked what of which image, never what was found."""

import asyncio
import hmac
import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.app import App
from cxr_server.audit import Audit
from cxr_server.observability.call import Call
from cxr_server.rpc.open_inference import open_inference_pb2 as oip
from cxr_server.rpc.open_inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from cxr_server.settings import SettingsError
from cxr_server.settings.sources import parse
from images import chest_like, png

KEY = bytes(range(32))
IMAGE = png(chest_like(seed=5))


@asynccontextmanager
async def audited_app(folder: Path, *flags: str) -> AsyncIterator[tuple[App, Any]]:
    """A served app that writes `folder`/audit.jsonl, and a stub on it."""
    (folder / "key").write_bytes(KEY)
    files = ("--audit-file", str(folder / "audit.jsonl"), "--audit-key-file", str(folder / "key"))
    app = App(parse(["--listen", "127.0.0.1:0", *files, *flags], env={}))
    await app.start()
    try:
        await app.load()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            yield app, ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
    finally:
        await app.drain()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_each_call_leaves_a_line_that_names_its_image_by_a_keyed_hash_and_no_result(
    tmp_path: Path,
) -> None:
    metadata = (("x-request-id", "asked-1"),)
    noise_hw = np.random.default_rng(0).integers(0, 256, (1100, 1100), np.uint8)
    images = [png(noise_hw), IMAGE]  # the first takes longer to hash
    infer = oip.ModelInferRequest(model_name="phantom")
    tensor = infer.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    tensor.contents.bytes_contents.extend(images)
    async with (
        audited_app(tmp_path, "--cache-entries", "0", "--open-inference") as (app, stub),
        grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel,
    ):
        predicted = await stub.Predict(pb.PredictRequest(image=IMAGE, top_k=3), metadata=metadata)
        explained = await stub.Explain(pb.ExplainRequest(image=IMAGE))
        with pytest.raises(grpc.RpcError):
            await stub.Predict(pb.PredictRequest(image=b"no image"))
        await stub.Health(pb.HealthRequest())
        await GRPCInferenceServiceStub(channel).ModelInfer(infer)  # type: ignore[no-untyped-call]
    opened, predict, explain, refused, inferred = lines(tmp_path / "audit.jsonl")
    model = predicted.model
    assert opened["event"] == "opened"
    assert {name: predict[name] for name in predict if name != "timestamp"} == {
        "event": "call",
        "request_id": "asked-1",
        "method": "cxr.v1.ChestXrayService/Predict",
        "caller": "host:127.0.0.1",
        "image_hmacs": [hmac.digest(KEY, IMAGE, "sha256").hex()],
        "model": "phantom",
        "model_version": model.version,
        "weights_sha256": model.weights_sha256,
        "precision": "float32",
        "code": "OK",
        "finding_count": 3,
    }
    assert explain["image_hmacs"] == predict["image_hmacs"]
    assert explain["finding_count"] == len(explained.findings)
    assert refused["image_hmacs"] == [hmac.digest(KEY, b"no image", "sha256").hex()]
    assert (refused["code"], refused["reason"]) == ("INVALID_ARGUMENT", "IMAGE_FORMAT_UNSUPPORTED")
    assert "finding_count" not in refused
    assert inferred["image_hmacs"] == [hmac.digest(KEY, each, "sha256").hex() for each in images]
    text = (tmp_path / "audit.jsonl").read_text()
    assert predicted.findings[0].label not in text
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


async def test_a_rotated_file_is_kept_until_a_new_one_can_be_opened_and_no_line_is_lost(
    tmp_path: Path,
) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    async with audited_app(tmp_path) as (app, stub):
        for number in range(20):
            if number == 8:
                path.rename(old)
                path.mkdir()
                app.server.reload()
                assert app.server.reload_failures["audit file"] == 1
                path.rmdir()
            if number == 10:
                app.server.reload()
            metadata = (("x-request-id", str(number)),)
            await stub.Predict(pb.PredictRequest(image=IMAGE), metadata=metadata)
    files = [[line for line in lines(each) if line["event"] == "call"] for each in (old, path)]
    assert [line["request_id"] for file in files for line in file] == list(map(str, range(20)))
    assert files[1]
    assert {line["key_id"] for each in (old, path) for line in lines(each)[:1]} == {
        lines(path)[0]["key_id"]
    }


def test_a_new_file_begins_with_the_line_that_names_the_key_whatever_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_server.audit.FLUSH_S", 0.01)
    path, pipe = tmp_path / "audit.jsonl", tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    audit = Audit(str(path), KEY)
    for _ in range(4):  # more than the pipe holds
        audit.record(Call("service/Method", "r" * 60_000, "host:a"), "OK")
    assert select.select([reader], [], [], 60)[0]  # the first line is there
    path.rename(pipe)
    audit.reopen()
    os.set_blocking(reader, True)
    while not path.read_text().count("\n") > 1:
        os.read(reader, 2**16)
    os.close(reader)
    opened, waited, *_ = path.read_text().splitlines()
    assert json.loads(opened)["event"] == "opened"
    assert json.loads(waited)["event"] == "call"


async def test_a_call_refused_before_its_upload_is_audited_too(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"ward-3:{'0' * 64}\n")
    async with audited_app(tmp_path, "--tokens-file", str(tmp_path / "tokens")) as (_, stub):
        with pytest.raises(grpc.RpcError):
            await stub.Predict(pb.PredictRequest(image=IMAGE))
    refused = lines(tmp_path / "audit.jsonl")[1]
    assert (refused["code"], refused["reason"]) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert "image_hmacs" not in refused


async def test_a_file_that_cannot_be_written_costs_lines_which_are_counted_and_never_a_call(
    tmp_path: Path,
) -> None:
    (tmp_path / "audit.jsonl").symlink_to("/dev/full")
    async with audited_app(tmp_path) as (app, stub):
        for _ in range(3):
            await stub.Predict(pb.PredictRequest(image=IMAGE))
        assert app.audit
        await asyncio.to_thread(app.audit.flush)
        assert app.audit.lost == 4  # the first line names the key


def test_lines_beyond_what_the_queue_holds_are_told_of_in_the_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    audit = Audit(str(pipe), KEY)
    call = Call("service/Method", "r" * 60_000, "host:a")
    count = 40  # more than the pipe and the queue of 1 MiB hold
    for _ in range(count):
        audit.record(call, "OK")
    assert audit.lost > 0
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as file:
        got = [json.loads(file.readline()) for _ in range(count - audit.lost + 2)]
    assert [line["event"] for line in got] == ["opened", *["call"] * (count - audit.lost), "lost"]
    assert got[-1]["lines"] == audit.lost


@pytest.mark.parametrize(
    ("key", "told"),
    [(b"short", "holds 5 bytes; a key has at least 32"), (None, "No such file or directory")],
)
def test_a_key_that_is_too_short_or_missing_refuses_the_start(
    tmp_path: Path, key: bytes | None, told: str
) -> None:
    if key is not None:
        (tmp_path / "key").write_bytes(key)
    flags = ["--audit-file", str(tmp_path / "a"), "--audit-key-file", str(tmp_path / "key")]
    with pytest.raises(SettingsError, match=told):
        App(parse(flags, env={}))
    with pytest.raises(SettingsError, match="needs --audit-file as well"):
        parse(flags[2:], env={})


@pytest.mark.skipif(not shutil.which("pgrep"), reason="there is no pgrep")
def test_the_documented_rotation_does_not_find_the_shell_that_runs_it() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "audit.md"
    (rule,) = re.findall(r"postrotate\n(.*)\n +endscript", page.read_text())
    finds = rule.strip().replace("pkill -HUP -f", "pgrep -f")
    assert finds.startswith("pgrep -f")
    # Logrotate hands the rule over as an argument, too. Something after it keeps the shell.
    done = subprocess.run(["sh", "-c", f"{finds}; echo shell $$"], capture_output=True, text=True)
    *found, shell = done.stdout.splitlines()
    assert shell.removeprefix("shell ") not in found
