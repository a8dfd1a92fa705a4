"""`cxr predict --output` with the real server: kills of both sides, and what others notice."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_client import Client
from cxr_client.runs import Run
from cxr_command import CXR, cxr_process
from serving import ServerProcess


def draw(root: Path, count: int, side_px: int = 64) -> list[str]:
    """Write films that all differ; return their names."""
    for number in range(count):
        file = root / f"{number % 7}" / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels_hw = np.random.default_rng(number).integers(0, 256, (side_px, side_px), np.uint8)
        Image.fromarray(pixels_hw).save(file)
    return sorted(map(str, root.rglob("*.png")))


def start(address: str, *argv: object) -> "subprocess.Popen[bytes]":
    words = [*CXR, "predict", "--server", address, *map(str, argv)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.mark.slow
def test_two_kills_of_the_run_and_a_restart_of_the_server_lose_and_repeat_nothing(
    tmp_path: Path,
) -> None:
    names = draw(tmp_path / "films", 600)
    output = tmp_path / "run.parquet"
    journal = tmp_path / "run.parquet.jsonl"
    options = [tmp_path / "films", "--output", output, "--embeddings", "--outage", 90]
    with ServerProcess() as server:
        address = server.address
        for life in range(2):
            run = start(address, *options, *(["--resume"] if life else []))
            wait_until(lambda: lines_in(journal) > 100 * (life + 1))  # noqa: B023 -- called here
            run.kill()
            run.wait(60)
            assert lines_in(journal) < 600
        run = start(address, *options, "--resume")
        wait_until(lambda: lines_in(journal) > 300)
        server.stop(signal.SIGKILL)
    assert run.poll() is None
    with ServerProcess("--listen", address):
        assert run.wait(100) == 0
    rows = list(Run.read(journal).rows())
    assert sorted(row["file"] for row in rows) == names
    vectors = np.load(Run.read(journal).embeddings_path)
    assert len(vectors) == len(names)
    assert sorted(row.get("embedding", -1) for row in rows) == list(range(len(names)))
    assert output.exists()


def test_rows_equal_the_answers_of_single_calls(
    phantom_server: ServerProcess, radiographs: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "run.jsonl"
    options = ["--evidence", "--heatmaps", tmp_path / "maps", "--heatmap-label", "Effusion"]
    server = ["--server", phantom_server.address]
    done = cxr_process("predict", *server, *radiographs, "--output", output, *options)
    assert done.returncode == 0, done.stderr
    with Client(phantom_server.address) as client:
        for row in Run.read(output).rows():
            assert row["kind"] == "image"
            labels = list(row["evidence"])
            single = client.explain(Path(row["file"]), labels=labels, heatmap_labels=labels[:1])
            for finding in row["findings"]:
                expected = single[finding["label"]].finding
                assert np.float32(finding["score"]) == np.float32(expected.score)
                assert np.float32(finding["probability"]) == np.float32(expected.probability)
                assert finding["above_threshold"] == expected.above_threshold
            for label in labels:
                stored = np.float32(row["evidence"][label]["values"])
                assert stored.tolist() == list(single[label].evidence.values)
            assert (tmp_path / "maps" / str(row["heatmap"])).is_file()


@pytest.mark.slow
def test_interactive_callers_are_never_refused_while_a_run_keeps_the_server_busy(
    radiographs: list[Path], tmp_path: Path
) -> None:
    draw(tmp_path / "films", 400, side_px=512)
    with ServerProcess("--max-in-flight", "8", "--cache-entries", "0") as server:
        run = start(server.address, tmp_path / "films", "--output", tmp_path / "run.jsonl")
        wait_until(lambda: lines_in(tmp_path / "run.jsonl") > 20)
        answered = 0
        with Client(server.address, timeout_s=60) as client:
            while lines_in(tmp_path / "run.jsonl") < 300:
                answered += bool(client.predict(radiographs[0]).findings)
        run.terminate()
        run.wait(60)
        refused = [event for event in server.events if event.get("reason") == "QUEUE_FULL"]
        assert [event for event in refused if event.get("priority") != "bulk"] == []
    assert answered > 5


@pytest.mark.slow
def test_the_memory_of_a_run_does_not_grow_with_its_images(
    phantom_server: ServerProcess, tmp_path: Path
) -> None:
    names = draw(tmp_path / "films", 20)
    links = tmp_path / "links"
    links.mkdir()
    for number in range(3000):
        (links / f"{number}.png").symlink_to(names[number % len(names)])
    listed = tmp_path / "list"
    peaks_bytes = []
    for count in (200, 3000):
        listed.write_text("\n".join(f"{links}/{number}.png" for number in range(count)))
        run = start(
            phantom_server.address,
            "--files-from",
            listed,
            "--output",
            tmp_path / f"{count}.jsonl",
            "--evidence",
        )
        peak_kib = 0
        while run.poll() is None:
            status = Path(f"/proc/{run.pid}/status").read_text()
            found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
            peak_kib = max(peak_kib, *map(int, found), 0)
            time.sleep(0.02)
        assert run.returncode == 0
        assert lines_in(tmp_path / f"{count}.jsonl") == count + 1
        peaks_bytes.append(1024 * peak_kib)
    assert peaks_bytes[1] - peaks_bytes[0] < 16 * 2**20
