"""`cxr` with the real server and the phantom model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_command import cxr_process, names_in
from serving import ServerProcess

IMAGES = 300


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
