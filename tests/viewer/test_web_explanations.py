"""The web server of `cxr view`: radiographs in, explanations out."""

import asyncio
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr_client import Client, RenderOptions
from cxr_client.testing import FakeServer
from dicom_files import dicom
from serving import ServerProcess
from viewer_process import Answer, ViewerProcess


@pytest.fixture(scope="module")
def page(phantom_server: ServerProcess) -> Iterator[ViewerProcess]:
    """The page of the phantom, with the samples alone."""
    with ViewerProcess(phantom_server.address) as page:
        yield page


def lasting(fields: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from call to call."""
    return {name: value for name, value in fields.items() if name not in ("timing", "request_id")}


def explained(server: ServerProcess, image: bytes, **options: Any) -> tuple[Any, bytes]:
    """What the Python client is answered for all findings."""
    with Client(server.address) as client:
        labels = [finding.label for finding in client.describe_model().findings]
        render = RenderOptions(kind="RADIOGRAPH", frame="ORIGINAL", max_side_px=256)
        answer = client.explain(image, labels=labels, render=render, **options)
    return json.loads(json.dumps(answer.to_dict())), answer.radiograph


def test_an_upload_is_answered_as_the_python_client_is(
    page: ViewerProcess, phantom_server: ServerProcess, radiographs: list[Path]
) -> None:
    image = radiographs[0].read_bytes()
    fields, picture = page.ask("api/explanations?max_side_px=256", image).explanation
    expected_fields, expected_picture = explained(phantom_server, image)
    assert lasting(fields) == lasting(expected_fields)
    assert len(fields["explanations"]) == len(fields["findings"]) > 1
    assert picture == expected_picture
    assert max(Image.open(BytesIO(picture)).size) == 256


def test_what_the_network_saw_is_shown_in_its_resolution(
    page: ViewerProcess, phantom_server: ServerProcess, radiographs: list[Path]
) -> None:
    image = radiographs[0].read_bytes()
    _, picture = page.ask("api/explanations?frame=model-input", image).explanation
    with Client(phantom_server.address) as client:
        render = RenderOptions(kind="RADIOGRAPH", frame="MODEL_INPUT")
        assert picture == client.explain(image, render=render).radiograph
        side_px = client.describe_model().input_side_px
    assert Image.open(BytesIO(picture)).size == (side_px, side_px)


def test_a_film_is_answered_as_an_upload_of_it(page: ViewerProcess) -> None:
    film = page.ask("api/state").json["films"][0]
    image = page.ask(f"api/films/{film['id']}").body
    uploaded = page.ask("api/explanations", image).explanation
    listed = page.ask(f"api/films/{film['id']}/explanation", b"").explanation
    assert lasting(listed[0]) == lasting(uploaded[0])
    assert listed[1] == uploaded[1]


def test_dicom_is_read_as_it_is_asked_for(
    page: ViewerProcess, phantom_server: ServerProcess
) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (256, 256), np.uint16)
    image = dicom(
        pixels, 12, PhotometricInterpretation="MONOCHROME1", WindowCenter=2000, WindowWidth=500
    )
    for asked, presentation in (("as-shown", "AS_SHOWN"), ("stored", "STORED")):
        answer = page.ask(f"api/explanations?presentation={asked}", image).explanation
        assert answer[0]["image_info"]["presentation"] == presentation
        expected = explained(phantom_server, image, presentation=presentation)
        assert (lasting(answer[0]), answer[1]) == (lasting(expected[0]), expected[1])


def test_a_thumbnail_is_a_small_picture_of_the_film(page: ViewerProcess) -> None:
    film = page.ask("api/state").json["films"][0]
    answers = [page.ask(f"api/films/{film['id']}/thumbnail") for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert answers[0].headers["content-type"] == "image/png"
    picture = Image.open(BytesIO(answers[0].body))
    assert (max(picture.size), picture.mode) == (128, "L")


def test_a_thumbnail_is_drawn_once(fake: FakeServer) -> None:
    with ViewerProcess(fake.address) as page:
        for film in page.ask("api/state").json["films"] * 2:
            assert page.ask(f"api/films/{film['id']}/thumbnail").status == 200
    drawn = [call.request.image for call in fake.calls if call.rpc == "Explain"]
    assert len(drawn) == len(set(drawn)) == 3


def test_the_state_holds_server_model_samples_and_notice(
    page: ViewerProcess, phantom_server: ServerProcess
) -> None:
    state = page.ask("api/state").json
    assert state["server"]["state"] == "serving"
    assert state["server"]["address"] == phantom_server.address
    assert (state["server"]["engine"], state["server"]["tls"]) == ("openvino", False)
    with Client(phantom_server.address) as client:
        model = json.loads(json.dumps(client.describe_model().to_dict()))
    assert lasting(state["model"]) == lasting(model)
    assert [film["group"] for film in state["films"]] == ["sample"] * 3
    assert "research use only" in state["notice"]
    assert state["notice"] == model["notices"][0]


@pytest.mark.parametrize(
    ("image", "reason"),
    [(b"", "IMAGE_EMPTY"), (b"GIF89a", "IMAGE_FORMAT_UNSUPPORTED"), (None, "IMAGE_UNREADABLE")],
)
def test_a_broken_file_is_an_answer_with_reason_and_hint(
    page: ViewerProcess, radiographs: list[Path], image: bytes | None, reason: str
) -> None:
    answer = page.ask(
        "api/explanations", radiographs[0].read_bytes()[:999] if image is None else image
    )
    assert answer.status == 200
    error = answer.json["error"]
    assert error["reason"] == reason
    assert error["message"].endswith(".")
    assert error["hint"]
    assert error["request_id"]
    assert error["retry_after_s"] is None


@pytest.mark.parametrize(
    "query",
    [
        "presentation=upside-down",
        "frame=half",
        "max_side_px=-1",
        "max_side_px=x",
        "max_side_px=9999",
    ],
)
def test_a_value_out_of_range_is_named(
    page: ViewerProcess, radiographs: list[Path], query: str
) -> None:
    answer = page.ask(f"api/explanations?{query}", radiographs[0].read_bytes())
    assert answer.reason == "INVALID_FIELD"
    assert query.partition("=")[0] in answer.json["error"]["message"].lower()


def test_answers_are_not_mixed_up(page: ViewerProcess, radiographs: list[Path]) -> None:
    images = [file.read_bytes() for file in radiographs[:4]]
    alone = [page.ask("api/explanations", image).explanation for image in images]

    async def together() -> list[Answer]:
        asked = (asyncio.to_thread(page.ask, "api/explanations", image) for image in images)
        return await asyncio.gather(*asked)

    for answer, (fields, picture) in zip(asyncio.run(together()), alone, strict=True):
        assert lasting(answer.explanation[0]) == lasting(fields)
        assert answer.explanation[1] == picture
