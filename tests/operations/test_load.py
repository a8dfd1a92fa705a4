"""The load tools of deploy/load put real load on a server, and fail when an objective is missed."""

import csv
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cxr_client import Client
from images import chest_like, png
from operations.tools import program
from serving import ServerProcess

pytestmark = pytest.mark.operations
LOAD = Path(__file__).parents[2] / "deploy" / "load"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("films")
    for seed in (1, 2):
        (folder / f"{seed}.png").write_bytes(png(chest_like(seed=seed)))
    return [str(path) for path in sorted(folder.iterdir())]


def k6(server: ServerProcess, films: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    values = {"SERVER": server.address, "IMAGES": ",".join(films), "RATE": "5", "DURATION": "4s"}
    given = [word for name, value in (values | env).items() for word in ("-e", f"{name}={value}")]
    return subprocess.run(
        [program("k6"), "run", *given, str(LOAD / "cxr.js")],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "K6_NO_USAGE_REPORT": "true", "NO_COLOR": "1"},
    )


@pytest.mark.parametrize("method", ["Predict", "Explain"])
def test_k6_sends_calls_at_a_rate_none_of_which_the_cache_answers(
    server: ServerProcess, films: list[str], method: str
) -> None:
    before = len(answered(server))
    done = k6(server, films, METHOD=method, P99_MS="60000")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = answered(server)[before:]
    assert len(lines) >= 19
    assert {line["method"] for line in lines} == {f"cxr.v1.ChestXrayService/{method}"}
    assert not any(line["cached"] for line in lines)


def test_k6_fails_when_an_objective_is_missed(server: ServerProcess, films: list[str]) -> None:
    done = k6(server, films, P99_MS="0.01", DURATION="1s")
    assert done.returncode == 99, done.stdout + done.stderr


def test_locusts_users_get_answers_and_refusals_appear_by_their_reason(
    server: ServerProcess, films: list[str], tmp_path: Path
) -> None:
    unreadable = tmp_path / "text.png"
    unreadable.write_text("no image")
    command = [program("locust"), "-f", str(LOAD / "locustfile.py"), "--headless"]
    command += ["--host", server.address, "--users", "2", "--spawn-rate", "2", "--run-time", "4s"]
    command += ["--csv", str(tmp_path / "run"), "--images", *films, str(unreadable)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr  # locust's status where a request failed
    total = table(tmp_path / "run_stats.csv")[-1]
    assert int(total["Request Count"]) > int(total["Failure Count"]) > 0
    (failure,) = table(tmp_path / "run_failures.csv")
    assert failure["Error"] == "IMAGE_FORMAT_UNSUPPORTED"


def answered(server: ServerProcess) -> list[dict[str, object]]:
    """The lines of Predict and Explain so far."""
    # Lines come a moment after a call, in the order in which calls have ended.
    last = uuid4().hex
    with Client(server.address) as client:
        client.describe_model(request_id=last)
    until = time.monotonic() + 60
    while not any(line.get("request_id") == last for line in server.events):
        assert time.monotonic() < until, "the last call was not logged"
        time.sleep(0.05)
    ours = ("Predict", "Explain")
    calls = (line for line in server.events if line["event"] == "call")
    return [line for line in calls if str(line["method"]).rpartition("/")[2] in ours]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))
