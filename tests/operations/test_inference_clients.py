"""Unchanged clients of Triton and KServe call a server with --open-inference."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxr_client import Client
from images import chest_like, png
from operations.tools import program_in
from serving import ServerProcess

pytestmark = pytest.mark.operations
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--open-inference") as process:
        yield process


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    for seed in (1, 2):
        (folder / f"{seed}.png").write_bytes(png(chest_like(seed=seed)))
    return sorted(folder.iterdir())


def asked(script: str, server: ServerProcess, films: list[Path]) -> dict[str, Any]:
    python = program_in("inference-clients", "python")
    words = [python, HERE / "inference_clients" / script, server.address, *films]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scores(server: ServerProcess, films: list[Path], labels: list[str]) -> list[list[float]]:
    with Client(server.address) as client:
        predicted = [client.predict(film, top_k=len(labels)) for film in films]
    return [[answer[label].score for label in labels] for answer in predicted]


def test_tritons_client_is_answered_in_both_encodings_and_sees_errors_and_deadlines(
    server: ServerProcess, films: list[Path]
) -> None:
    found = asked("ask_with_triton.py", server, films)
    wanted = [pytest.approx(row, abs=1e-6) for row in scores(server, films, found["labels"])]
    assert found.pop("scores") == wanted
    assert found.pop("scores_of_bytes_contents") == wanted
    assert found.pop("notice").startswith("Phantom model")
    found.pop("labels")
    assert found == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "inputs": [["image", "BYTES", [-1]]],
        "outputs": ["scores", "probabilities", "labels", "warnings"],
        "id": "mine",
        "no_image": "StatusCode.INVALID_ARGUMENT",
        "expired": "StatusCode.DEADLINE_EXCEEDED",
    }


def test_kserves_client_is_answered(server: ServerProcess, films: list[Path]) -> None:
    found = asked("ask_with_kserve.py", server, films)
    wanted = [pytest.approx(row, abs=1e-6) for row in scores(server, films, found["labels"])]
    assert found["scores"] == wanted
    assert [found[name] for name in ("live", "ready", "model_ready")] == [True] * 3
