"""`make demo`: its argument, where its models come from, and how it fails."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_server.bundles.store import SAMPLES_PATH
from dicom_files import dicom
from upstream import DENSENET121, published_file, sha256, upstream

ROOT = Path(__file__).parents[1]
ALL, NIH = "densenet121-res224-all", "densenet121-res224-nih"


def demo(
    *radiographs: Path, output: Path, command: list[str] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    # Under `make test`, make would print more and take other options.
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        command or [sys.executable, "scripts/demo.py", *map(str, radiographs)],
        cwd=ROOT,
        env={**inherited, "DEMO_OUTPUT": str(output), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, str]:
    """The variables of a user who has no bundle and no cache yet."""
    return {"CXR_BUNDLE_HOME": str(tmp_path / "home"), "CXR_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A drawn radiograph as a detector may write it: DICOM, 12 bits, MONOCHROME1."""
    drawn = np.asarray(Image.open(SAMPLES_PATH / "phantom-effusion-1.png").convert("L"), np.uint16)
    inverted = dicom(4095 - 16 * drawn, 12, PhotometricInterpretation="MONOCHROME1")
    file = tmp_path / "film.dcm"
    file.write_bytes(inverted)
    return file


def venv(folder: Path, python: str) -> str:
    """Return make's word for an environment that counts as installed, with this `python`."""
    program = folder / "venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
    (folder / "venv" / ".installed-serve").touch()
    return f"VENV={folder / 'venv'}"


def test_make_passes_any_file_name_on(tmp_path: Path) -> None:
    installed = venv(tmp_path, 'printf "<%s>" "$@"')
    for name in ("it's a (copy).png", "", 'a "b" *.png'):
        done = demo(output=tmp_path, command=["make", "demo", installed, f"RADIOGRAPH={name}"])
        assert done.stdout == f"<scripts/demo.py><{name}>", done.stderr


@pytest.mark.slow
def test_one_command_serves_a_converted_full_size_model_for_a_dicom_file(
    tmp_path: Path, homes: dict[str, str], film: Path
) -> None:
    installed = venv(tmp_path, f'exec "{sys.executable}" "$@"')
    command = ["make", "demo", installed, f"RADIOGRAPH={film}"]
    content = published_file(DENSENET121)
    version = f"1+{sha256(content)[:12]}"
    with upstream(content) as url:
        homes |= {"DEMO_MODEL": NIH, "DEMO_PREPARE": f"--url {url} --sha256 {sha256(content)}"}
        first = demo(output=tmp_path / "out", command=command, **homes)
    assert first.returncode == 0, first.stderr
    before, for_film = first.stdout.split(f"== the server, with {NIH}")
    assert "given, read without running it: densenet121, 14 findings" in before
    assert ".png: phantom 0.1.0\n" in before
    assert f"\nfilm.dcm: {NIH} {version}\n" in for_film
    assert len(list((tmp_path / "out").glob("film-*.png"))) == 1

    again = demo(output=tmp_path / "again", command=command, **homes)  # upstream is gone
    assert again.returncode == 0, again.stderr
    assert f"{tmp_path}/home/{NIH} is prepared already\n" in again.stdout
    assert f"\nfilm.dcm: {NIH} {version}\n" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["refused", "SHA-256 differs"])
def test_without_the_real_model_the_phantom_answers_and_says_what_that_is_worth(
    reason: str, tmp_path: Path, homes: dict[str, str], film: Path
) -> None:
    with upstream(published_file()) as url:
        url = url if "SHA" in reason else "http://127.0.0.1:1/weights.pt"
        done = demo(film, output=tmp_path / "out", DEMO_PREPARE=f"--url {url}", **homes)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"cxr-server: {url}: ")
    assert reason in line
    _, for_film = done.stdout.split(f"== {ALL} could not be prepared, as was said above: the phan")
    assert "scores mean nothing" in for_film
    assert f'make demo RADIOGRAPH={film} DEMO_PREPARE="--from FILE"' in for_film
    assert "film.dcm: phantom 0.1.0\n" in for_film
    assert not Path(homes["CXR_BUNDLE_HOME"]).exists()


def test_a_missing_radiograph_is_told_in_one_line_before_anything_is_started(
    tmp_path: Path,
) -> None:
    done = demo(tmp_path / "none.png", output=tmp_path / "out")
    assert done.returncode == 1
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert f"No such file or directory: '{tmp_path}/none.png'" in done.stderr


@pytest.mark.slow
def test_a_radiograph_that_is_refused_is_told_in_one_line(
    tmp_path: Path, homes: dict[str, str], tiny_bundle: Path
) -> None:
    (tmp_path / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    homes |= {"DEMO_MODEL": tiny_bundle.name, "CXR_BUNDLE_HOME": str(tiny_bundle.parent)}
    done = demo(tmp_path / "scan.dcm", output=tmp_path / "out", **homes)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "DICOM" in line
