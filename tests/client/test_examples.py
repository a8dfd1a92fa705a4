"""The examples, run as subprocesses."""

import subprocess
import sys
from pathlib import Path

import pytest

from clients import PNG
from cxr_client.testing import FakeServer, failure
from cxr_client.testing.answers import NOTICE
from images import chest_like, png
from serving import ServerProcess
from trust.ports import free_port

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"


def run(example: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", EXAMPLES / example, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_sync_example_prints_a_table_and_writes_a_picture(
    fake: FakeServer, tmp_path: Path
) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(b"12345")
    result = run("predict_sync.py", film, "--server", fake.address, "--output", tmp_path / "o")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "film.png: fake 1"
    assert lines[1].split() == ["*", "Effusion", "0.750"]
    picture = tmp_path / "o" / "film-Effusion.png"
    assert f"wrote {picture}" in lines
    assert lines[-1] == NOTICE
    assert picture.read_bytes().startswith(PNG)


def test_the_async_example_takes_many_files_at_once(fake: FakeServer, tmp_path: Path) -> None:
    films = [tmp_path / f"film-{number}.png" for number in range(8)]
    for film in films:
        film.write_bytes(b"12345")
    arguments = [*films, "--server", fake.address, "--output", tmp_path / "out"]
    result = run("predict_async.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("Effusion         0.750") == 8
    assert result.stdout.splitlines()[-1] == NOTICE
    assert len(list((tmp_path / "out").glob("film-?-Effusion.png"))) == 8


@pytest.mark.parametrize("example", ["predict_sync.py", "predict_async.py"])
def test_the_examples_say_what_failed(fake: FakeServer, tmp_path: Path, example: str) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(b"12345")
    bad = failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(*[bad] * 2)
    result = run(example, film, "--server", fake.address, "--output", tmp_path)
    assert result.returncode == 1
    assert "It is broken. [IMAGE_UNREADABLE, request " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_the_async_example_loses_none_of_300_images_on_a_cold_server(tmp_path: Path) -> None:
    films = [tmp_path / f"film-{number}.png" for number in range(300)]
    for number, film in enumerate(films):
        film.write_bytes(png(chest_like(128, 128, seed=number)))
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, EXAMPLES / "predict_async.py", *films, "--server", address]
    # The example starts first: its first calls find no server, then one that loads.
    example = subprocess.Popen(
        [*map(str, command), "--output", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ServerProcess("--listen", address) as server:
        out, err = example.communicate(timeout=500)
        assert server.stop() == 0
    assert example.returncode == 0, err
    assert "failed" not in err
    assert out.count("  wrote ") == 300
    assert len(list((tmp_path / "out").glob("film-*.png"))) == 300
