"""What was sent stays out of the logs: read the logs of every server process of this test run.

The conftest beside this file makes it the last test of a run.
"""

import base64
import json
import re
from io import BytesIO

import grpc
import pytest
from PIL import Image, PngImagePlugin

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import Client
from images import chest_like
from serving import LOGS, ServerProcess
from trust.outcomes import outcome_of

SECRET = "ZAPHOD-BEEBLEBROX-1979"
KEYS = {
    "event", "level", "timestamp", "request_id", "method", "code", "reason", "duration_ms",
    "request_bytes", "cached", "model", "engine", "port", "pause_s", "grace_s", "attempt",
    "error", "exception", "tokens",
}  # fmt: skip
"""All that a log line may say."""
EVENTS = {
    "serving", "call", "leaving", "left", "engine failed", "engine not rebuilt", "engine rebuilt",
    "engine given up", "tokens reloaded", "tokens kept: the new file is not valid",
    "certificates reloaded",
}  # fmt: skip
REASONS = re.compile(r"[A-Z_]+")


@pytest.fixture(scope="module")
def told() -> list[str]:
    """Everything of a few calls that must not be found: names, metadata, labels, scores, bytes."""
    pixels = Image.fromarray(chest_like(128, 128, seed=77))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", SECRET)
    exif = Image.Exif()
    exif[0x010E] = SECRET  # ImageDescription
    a_png, a_jpeg = BytesIO(), BytesIO()
    pixels.save(a_png, "PNG", pnginfo=notes)
    pixels.save(a_jpeg, "JPEG", exif=exif, comment=SECRET.encode())
    found = [SECRET, SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode()[:-4]]
    with ServerProcess("--log-level", "debug") as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = ChestXrayServiceStub(channel)
            for file in (a_png.getvalue(), a_jpeg.getvalue()):
                reply = stub.Predict(
                    pb.PredictRequest(image=file, top_k=100),
                    metadata=(("x-request-id", f"{SECRET} is ill"), ("x-patient", SECRET)),
                )
                stub.Explain(pb.ExplainRequest(image=file, labels=[reply.findings[0].label]))
                broken = file[:-40]
                for call in (
                    lambda f=broken: stub.Predict(pb.PredictRequest(image=f)),
                    lambda f=file: stub.Explain(pb.ExplainRequest(image=f, labels=[SECRET])),
                ):
                    code, _ = outcome_of(call)
                    assert code == "INVALID_ARGUMENT"
                found += [f'"{f.label}"' for f in reply.findings]
                found += [
                    f"{f.probability:.6f}"[1:]
                    for f in reply.findings
                    if 0.001 < f.probability < 0.999
                ]
                found += [base64.b64encode(file)[40:72].decode(), file[40:60].hex()]
                found.append(repr(file[40:56])[2:-1])
        with Client(server.address, token=f"token-{SECRET}") as client:
            client.predict(a_png.getvalue())
        assert server.stop() == 0
        assert len(server.log.splitlines()) >= 12
    return found


def test_no_log_of_this_run_holds_what_was_sent(told: list[str]) -> None:
    logs = sorted(LOGS.glob("*.log"))
    assert logs
    for log in logs:
        text = log.read_text(errors="backslashreplace")
        for secret in [*told, "PATIENT-NAME-DOE", "Bearer ", "s3cret"]:
            assert secret not in text, log


def test_each_line_of_the_servers_own_log_says_only_what_it_may() -> None:
    lines = 0
    for log in LOGS.glob("*.log"):
        for line in log.read_text(errors="backslashreplace").splitlines():
            if not line.startswith("{"):
                continue  # another library's: searched above
            event = json.loads(line)
            lines += 1
            assert set(event) <= KEYS, line
            assert event["event"] in EVENTS, line
            assert REASONS.fullmatch(event.get("reason", "A")), line
            assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", event.get("request_id", "A")), line
    assert lines >= 12
