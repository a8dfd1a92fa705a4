"""Both clients, the command and the examples, on the real server with the phantom bundle."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients import Ask
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import (
    ImageError,
    ImageFormat,
    InvalidRequestError,
    MethodUnavailableError,
    RenderFormat,
    RenderOptions,
    RequestTooLargeError,
    ServingStatus,
    UnknownLabelError,
)
from cxr_client.cli import main
from images import chest_like, jpeg, png
from serving import ServerProcess

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"
FILM = png(chest_like(300, 400))


def test_a_prediction_is_what_the_plain_stub_gets(
    phantom_server: ServerProcess, phantom_stub: ChestXrayServiceStub, ask: Ask
) -> None:
    plain = phantom_stub.Predict(pb.PredictRequest(image=FILM, top_k=100))
    prediction = ask(phantom_server.address, "predict", FILM, top_k=100, request_id="e2e.1")
    assert [(each.label, each.score) for each in prediction.findings] == [
        (each.label, each.score) for each in plain.findings
    ]
    assert prediction.request_id == "e2e.1"
    assert prediction.image_info.format is ImageFormat.PNG
    assert (prediction.image_info.width_px, prediction.image_info.height_px) == (400, 300)
    assert prediction.image_info.crop_box.x_px == 50
    assert prediction.notice == plain.notice != ""


def test_an_explanation_adds_up_to_the_prediction(phantom_server: ServerProcess, ask: Ask) -> None:
    labels = [each.label for each in ask(phantom_server.address, "predict", FILM).findings]
    render = RenderOptions(frame="original", max_side_px=128)
    explained = ask(phantom_server.address, "explain", FILM, labels=labels, render=render)
    assert [each.finding.label for each in explained.explanations] == labels
    for each in explained.explanations:
        probability = 1 / (1 + math.exp(-each.logit))
        assert probability == pytest.approx(each.finding.probability, abs=1e-5)
        assert each.evidence.to_numpy().shape == (each.evidence.rows, each.evidence.columns)
        with Image.open(io.BytesIO(each.heatmap)) as picture:
            assert picture.size == (128, 96)


def test_one_explain_returns_every_score_and_only_the_requested_pictures(
    phantom_server: ServerProcess, ask: Ask
) -> None:
    prediction = ask(phantom_server.address, "predict", FILM, top_k=100)
    labels = [each.label for each in prediction.findings[:3]]
    explained = ask(
        phantom_server.address,
        "explain",
        FILM,
        labels=labels,
        heatmap_labels=labels[1],
        render=RenderOptions(format=RenderFormat.JPEG),
    )
    assert explained.findings == prediction.findings
    formats = [each.heatmap_format for each in explained.explanations]
    assert formats == [None, RenderFormat.JPEG, None]
    with Image.open(io.BytesIO(explained.explanations[1].heatmap)) as picture:
        assert picture.format == "JPEG"


def test_health_and_the_model_are_reported(phantom_server: ServerProcess, ask: Ask) -> None:
    health = ask(phantom_server.address, "wait_until_ready", 20)
    assert health.status is ServingStatus.SERVING
    described = ask(phantom_server.address, "describe_model")
    assert described.model == health.model
    assert described.model.name == "phantom"
    assert {"Cardiomegaly", "Effusion", "Nodule"} <= {each.label for each in described.findings}
    # The limits of the two sides meet.
    assert described.limits.max_request_bytes == 32 * 2**20


@pytest.mark.parametrize(
    ("image", "arguments", "exception", "reason"),
    [
        (b"", {}, ImageError, "IMAGE_EMPTY"),
        (b"GIF89a", {}, ImageError, "IMAGE_FORMAT_UNSUPPORTED"),
        (FILM[:-100], {}, ImageError, "IMAGE_UNREADABLE"),
        (png(chest_like(8, 8)), {}, ImageError, "IMAGE_TOO_SMALL"),
        (FILM, {"labels": ["Hangnail"]}, UnknownLabelError, "UNKNOWN_LABEL"),
        (FILM, {"render": RenderOptions(opacity=2.0)}, InvalidRequestError, "INVALID_FIELD"),
        (FILM, {"method": "score_cam"}, MethodUnavailableError, "METHOD_UNAVAILABLE"),
    ],
)
def test_the_server_s_refusals_arrive_as_exceptions(
    phantom_server: ServerProcess,
    ask: Ask,
    image: bytes,
    arguments: dict[str, object],
    exception: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(exception) as caught:
        ask(phantom_server.address, "explain", image, request_id="e2e.2", **arguments)
    assert caught.value.reason == reason
    assert caught.value.request_id == "e2e.2"
    if reason != "METHOD_UNAVAILABLE":
        assert caught.value.violations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--color-map gray", "--color-map GRAY: must be in colour for --kind OVERLAY"),
        ("--fixed-scale 30", "--fixed-scale 30.0: needs --scale FIXED"),
        ("--scale fixed --fixed-scale 3", "--fixed-scale 3.0: must be from 10 to 1000"),
        ("--scale fixed --method layer-cam", "--scale FIXED: LAYER_CAM makes relative maps"),
    ],
)
def test_the_command_names_a_refused_option_of_a_picture(
    phantom_server: ServerProcess,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str,
) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(FILM)
    arguments = ["--server", phantom_server.address, "--output", str(tmp_path / "out")]
    assert main(["explain", *arguments, *options.split(), str(film)]) == 2
    assert capsys.readouterr().err.startswith(f"cxr: {message}")


@pytest.mark.slow
def test_the_largest_request_that_the_client_sends_is_taken(
    phantom_server: ServerProcess, ask: Ask
) -> None:
    noise = np.random.default_rng(0).integers(0, 65535, (1600, 1600), dtype=np.uint16)
    film = png(noise, compress_level=1)
    assert len(film) > 4 * 2**20  # gRPC's own limit, where none is set
    prediction = ask(phantom_server.address, "predict", film)
    assert prediction.image_info.bit_depth == 16
    limit = 32 * 2**20
    # The very last bytes that fit are taken too, and one more is not.
    padded = bytes(limit - 10)
    with pytest.raises(ImageError):
        ask(phantom_server.address, "predict", padded)
    with pytest.raises(RequestTooLargeError):
        ask(phantom_server.address, "predict", padded + bytes(10))


def test_the_command_explains_a_folder(
    phantom_server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number in range(6):
        (films / f"{number}.png").write_bytes(png(chest_like(200 + number, seed=number)))
    (films / "6.jpg").write_bytes(jpeg())
    (films / "7.png").write_bytes(b"not an image")
    arguments = ["--server", phantom_server.address, "--output", str(tmp_path / "out"), "--json"]
    assert main(["explain", *arguments, str(films)]) == 1
    captured = capsys.readouterr()
    answers = [json.loads(line) for line in captured.out.splitlines()]
    assert [Path(each["file"]).stem for each in answers] == list("01234567")
    assert [each.get("image_info", {}).get("height_px") for each in answers] == [
        *range(200, 206),
        256,
        None,
    ]
    assert answers[-1]["error"]["reason"] == "IMAGE_FORMAT_UNSUPPORTED"
    assert len(list((tmp_path / "out").glob("*.png"))) == 7
    failure, summary = captured.err.splitlines()
    assert failure.startswith(f"cxr: {films}/7.png: ")
    assert summary.startswith("7 answered, 1 failed in ")


def test_the_command_prints_tables_and_draws_in_the_original_frame(
    phantom_server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    (films / "tall.png").write_bytes(png(chest_like(500, 400)))
    (films / "wide.jpg").write_bytes(jpeg(chest_like(400, 500)))
    files = [str(file) for file in sorted(films.iterdir())]
    server = ["--server", phantom_server.address]
    assert main(["predict", *server, *files]) == 0
    out = capsys.readouterr().out
    assert all(file in out for file in files)
    assert "PHANTOM_MODEL: " in out
    output = ["--output", str(tmp_path / "out"), "--frame", "ORIGINAL", "--legend"]
    assert main(["explain", *server, *output, *files]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == len(files)


@pytest.mark.parametrize("example", ["predict_sync.py", "predict_async.py"])
def test_the_examples_run(phantom_server: ServerProcess, tmp_path: Path, example: str) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(FILM)
    command = [sys.executable, EXAMPLES / example, film, "--server", phantom_server.address]
    command += ["--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (picture,) = (tmp_path / "out").glob("film-*.png")
    assert f"wrote {picture}" in done.stdout
