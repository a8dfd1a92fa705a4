"""`cxr` with the real server and the phantom model."""

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_command import cxr_process, names_in
from html_page import fetched_by, parse
from serving import ServerProcess

IMAGES = 80


@pytest.mark.slow
def test_a_folder_that_is_asked_for_again_in_the_same_order_is_cached(
    phantom_server: ServerProcess, tmp_path: Path
) -> None:
    for number in range(IMAGES):
        pixels_hw = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(pixels_hw).save(tmp_path / f"{number:03}.png")
    shared = ["--json", "--server", phantom_server.address, tmp_path]
    assert cxr_process("predict", *shared).returncode == 0
    done = cxr_process("explain", "--kind", "none", *shared)
    assert done.returncode == 0
    timings = [json.loads(line)["timing"] for line in done.stdout.splitlines()]
    assert [timing["evidence_cached"] for timing in timings] == [True] * IMAGES
    one = ["predict", "-v", "--server", phantom_server.address, tmp_path / "000.png"]
    assert b"phantom 0.1.0, cached)" in cxr_process(*one).stdout
    assert b"phantom 0.1.0)" in cxr_process(*one, "--no-cache").stdout


def test_all_findings_and_those_above_their_operating_points_are_drawn(
    phantom_server: ServerProcess, radiographs: list[Path], tmp_path: Path
) -> None:
    shared = ["--json", "--server", phantom_server.address]
    for option in (["--label", "all"], ["--above-threshold"]):
        output = tmp_path / option[-1]
        done = cxr_process("explain", *option, *shared, "--output", output, *radiographs[:2])
        assert done.returncode == 0
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        expected = sum(
            finding["above_threshold"] or option == ["--label", "all"]
            for answer in answers
            for finding in answer["findings"]
        )
        assert len(names_in(output)) == sum(len(each["explanations"]) for each in answers)
        assert len(names_in(output)) == expected


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_pictures_of_an_earlier_run_are_not_scored(
    phantom_server: ServerProcess, radiographs: list[Path], tmp_path: Path, image_format: str
) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(radiographs[0].read_bytes())
    server = ["--server", phantom_server.address]
    drawing = ["--format", image_format, "--label", "all", "--output", tmp_path / "maps"]
    assert cxr_process("explain", *drawing, *server, tmp_path).returncode == 0
    pictures = names_in(tmp_path / "maps")
    done = cxr_process("predict", "--json", *server, tmp_path)
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [str(film)]
    assert f"skipped: {len(pictures)} heatmaps" in done.stderr.decode()
    named = cxr_process("predict", *server, tmp_path / "maps" / pictures[0])
    assert named.returncode == 1
    assert b"was drawn by cxr-serve" in named.stderr


def test_a_report_of_a_folder_has_its_films_and_says_of_the_other_files_what_they_are(
    phantom_server: ServerProcess, radiographs: list[Path], tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for radiograph in radiographs[:3]:
        (films / radiograph.name).write_bytes(radiograph.read_bytes())
    (films / "broken.png").write_bytes(radiographs[0].read_bytes()[:3000])
    (films / "foreign.gif").write_bytes(b"GIF89a")
    server = ["--server", phantom_server.address]
    drawn = cxr_process("explain", *server, "--output", films, films / radiographs[0].name)
    assert drawn.returncode == 0
    output = tmp_path / "report.html"
    done = cxr_process("report", *server, "--output", output, films)
    assert done.returncode == 1
    assert b"3 answered, 1 failed" in done.stderr
    page = parse(output.read_text("utf-8"))
    assert fetched_by(page) == []
    assert "3 films, 1 failed" in page.text
    assert "Not read: 1 GIF, 1 heatmap" in page.text
    (failed,) = page.one("section", id="failures").one("tbody").all("tr")
    assert "broken.png" in failed.text
    assert "IMAGE_UNREADABLE" in failed.text
    scored = cxr_process("predict", "--json", "--top-k", "all", *server, films)
    answers = [json.loads(line) for line in scored.stdout.splitlines() if b"error" not in line]
    rows = page.one("section", id="films").one("tbody").all("tr")
    for row, answer in zip(rows, answers, strict=True):
        by_class = sorted(answer["findings"], key=lambda finding: finding["class_index"])
        scores = [finding["score"] for finding in by_class]
        assert [float(score) for score in row.attributes["data-scores"].split()] == scores
        assert row.one("span", class_="name").text == Path(answer["file"]).name
    for image in page.all("img"):
        picture = base64.b64decode(image.attributes["src"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(BytesIO(picture)) as opened:
            assert max(opened.size) == 256
    thumbnail = tmp_path / "thumbnail.jpg"
    thumbnail.write_bytes(picture)
    assert b"was drawn by cxr-serve" in cxr_process("predict", *server, thumbnail).stderr


@pytest.mark.slow
def test_a_report_of_500_films_is_smaller_than_20_megabytes(
    phantom_server: ServerProcess, radiographs: list[Path], tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number in range(500):
        radiograph = radiographs[number % len(radiographs)]
        (films / f"{number:03}{radiograph.suffix}").write_bytes(radiograph.read_bytes())
    output = tmp_path / "report.html"
    done = cxr_process("report", "--server", phantom_server.address, "--output", output, films)
    assert done.returncode == 0
    assert output.stat().st_size < 20e6
    page = parse(output.read_text("utf-8"))
    assert len(page.one("section", id="films").one("tbody").all("tr")) == 500
