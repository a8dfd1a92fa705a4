"""What is sent stays out of log and traces: names, metadata, labels, scores, tokens, bytes."""

import base64
import json
import re
from io import BytesIO
from typing import NamedTuple

import grpc
import pytest
from PIL import Image, PngImagePlugin

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.access import new_token
from dicom_files import dicom
from images import chest_like
from otlp_receiver import Receiver
from serving import ServerProcess
from trust.outcomes import outcome_of

SECRET = "ZAPHOD-BEEBLEBROX-1979"
KEYS = {
    "event", "level", "timestamp", "request_id", "method", "code", "reason", "duration_ms",
    "request_bytes", "cached", "model", "engine", "pause_s", "grace_s", "attempt",
    "error", "exception", "tokens", "caller", "signal", "version", "settings", "address",
    "model_version", "device", "tls", "max_in_flight", "max_in_flight_mib", "max_request_mib",
    "decoding", "engine_threads", "loaded_s", "memory_budget_mib", "max_pixels",
    "max_drawn_pixels", "detail", "file", "precision", "largest_difference", "trace_id", "tracing",
    "audit", "served_as",
}  # fmt: skip
"""All keys that a log line may have."""
EVENTS = {
    "starting", "engine started", "serving", "call", "signal received", "draining", "stopped",
    "engine failed", "engine not rebuilt", "engine rebuilt", "engine given up",
    "tokens reloaded", "tokens kept: the new file is not valid",
    "certificates reloaded", "certificates kept: the new files are not valid",
    "doubtful setting", "file kept as it was",
}  # fmt: skip


TRACE = "0af7651916cd43dd8448eb211c80319c"


class Recorded(NamedTuple):
    log: str
    secrets: list[str]
    spans: bytes


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Log and traces of a server that was told secrets in every place, and what they were."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    token, line = new_token("somebody")
    tokens.write_text(line)
    secrets = [SECRET, SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode()[:-4]]
    secrets += [token, "Bearer ", "s3cret", "BEEBLEBROX", "1.2.1979"]
    known = ("authorization", f"Bearer {token}")
    flags = ("--log-level", "debug", "--tokens-file", str(tokens))
    with Receiver() as receiver, ServerProcess(*flags, env=receiver.env) as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = ChestXrayServiceStub(channel)
            for file in files_with_a_secret():
                secrets += ask(stub, file, known)
            wrong = (("authorization", f"Bearer s3cret-{SECRET}"),)
            request = pb.PredictRequest(image=file)
            assert outcome_of(lambda: stub.Predict(request, metadata=wrong))[0] != "OK"
            for flags in ("01", "00"):
                parent = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-{flags}")
                names = (("x-request-id", f"trace-{flags}"), known, parent)
                stub.DescribeModel(pb.DescribeModelRequest(), metadata=names)
        assert server.stop() == 0
        return Recorded(server.log, secrets, receiver.raw)


def files_with_a_secret() -> tuple[bytes, ...]:
    pixels = Image.fromarray(chest_like(128, 128, seed=77))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", SECRET)
    exif = Image.Exif()
    exif[0x010E] = SECRET  # ImageDescription
    a_png, a_jpeg = BytesIO(), BytesIO()
    pixels.save(a_png, "PNG", pnginfo=notes)
    pixels.save(a_jpeg, "JPEG", exif=exif, comment=SECRET.encode())
    a_dicom = dicom(
        chest_like(128, 128, seed=78),
        8,
        PatientName=SECRET,
        PatientID=SECRET,
        StudyDescription=SECRET,
        BodyPartExamined="BEEBLEBROX",
        StudyInstanceUID="1.2.1979",
    )
    return a_png.getvalue(), a_jpeg.getvalue(), a_dicom


def ask(stub: ChestXrayServiceStub, file: bytes, known: tuple[str, str]) -> list[str]:
    """Send a file in calls that succeed and calls that fail; return what must stay private."""
    reply = stub.Predict(
        pb.PredictRequest(image=file, top_k=100),
        metadata=(known, ("x-request-id", f"{SECRET} is ill"), ("x-patient", SECRET)),
    )
    label = reply.findings[0].label
    stub.Explain(pb.ExplainRequest(image=file, labels=[label]), metadata=(known,))
    broken = pb.PredictRequest(image=file[:-40])
    unknown = pb.ExplainRequest(image=file, labels=[SECRET])
    for call in (
        lambda: stub.Predict(broken, metadata=(known,)),
        lambda: stub.Explain(unknown, metadata=(known,)),
    ):
        code, _ = outcome_of(call)
        assert code == "INVALID_ARGUMENT"
    scores = [f.probability for f in reply.findings if 0.001 < f.probability < 0.999]
    return [
        *(f'"{finding.label}"' for finding in reply.findings),
        *(f"{score:.6f}"[1:] for score in scores),
        base64.b64encode(file)[40:72].decode(),
        file[40:60].hex(),
        repr(file[40:56])[2:-1],
    ]


def test_the_log_holds_nothing_of_what_was_sent(recorded: Recorded) -> None:
    assert len(recorded.log.splitlines()) >= 10
    assert [secret for secret in recorded.secrets if secret in recorded.log] == []


def test_the_traces_hold_nothing_of_what_was_sent_and_not_who_sent_it(recorded: Recorded) -> None:
    assert recorded.spans.count(b"rpc.method") >= 10
    private = [*recorded.secrets, "127.0.0.1", "somebody"]
    assert [each for each in private if each.encode() in recorded.spans] == []


def test_a_call_that_is_traced_is_logged_with_its_trace(recorded: Recorded) -> None:
    events = map(json.loads, recorded.log.splitlines())
    traces = {event["request_id"]: event.get("trace_id") for event in events if "code" in event}
    assert traces["trace-01"] == TRACE
    assert traces["trace-00"] is None


def test_a_call_is_logged_with_the_name_of_its_token(recorded: Recorded) -> None:
    events = map(json.loads, recorded.log.splitlines())
    callers = {event.get("reason"): event["caller"] for event in events if event["event"] == "call"}
    assert callers[None] == "token:somebody"
    assert callers["UNAUTHENTICATED"] == "host:127.0.0.1"


def test_a_line_says_only_what_it_may(recorded: Recorded) -> None:
    events = [json.loads(line) for line in recorded.log.splitlines() if line.startswith("{")]
    assert len(events) >= 10
    for event in events:
        assert set(event) <= KEYS
        assert event["event"] in EVENTS
        assert re.fullmatch(r"[A-Z_]+", event.get("reason", "A"))
        assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", event.get("request_id", "A"))
