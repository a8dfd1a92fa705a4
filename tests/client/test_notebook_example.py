"""The notebook, run as a script. It needs matplotlib, which only `make install` installs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cxr_client.testing import FakeServer
from serving import ServerProcess

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "client" / "examples" / "notebook.py"


def run(folder: Path, films: Path, server: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "MPLBACKEND": "Agg", "CXR_SERVER": server, "CXR_FILMS": str(films)}
    return subprocess.run(
        [sys.executable, "-W", "error", NOTEBOOK],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_it_draws_the_findings_and_maps_of_several_films(
    phantom_server: ServerProcess, radiographs: list[Path], tmp_path: Path
) -> None:
    result = run(tmp_path, radiographs[0].parent, phantom_server.address)
    assert (result.returncode, result.stdout, result.stderr) == (0, "wrote films.png\n", "")
    with Image.open(tmp_path / "films.png") as figure:
        assert figure.format == "PNG"
        assert min(figure.size) > 1000
        # Bars above the operating point, in a colour that nothing else has.
        assert (217, 130, 43) in {color for _, color in figure.convert("RGB").getcolors(1 << 24)}


def test_it_draws_all_maps_on_one_scale(fake: FakeServer, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name in ("a.png", "b.JPG", "notes.txt"):
        (films / name).write_bytes(b"12345")
    result = run(tmp_path, films, fake.address)
    assert (result.returncode, result.stderr) == (0, "")
    asked = [call.request for call in fake.calls]
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert len(asked[0].labels) == 3
    assert asked[0].render.fixed_scale_logits == 60


def test_it_says_that_a_folder_has_no_films(fake: FakeServer, tmp_path: Path) -> None:
    result = run(tmp_path, tmp_path, fake.address)
    assert result.returncode == 1
    assert f"no PNG or JPEG file in {tmp_path}" in result.stderr
