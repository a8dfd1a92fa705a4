"""The benchmark still runs, on a small model and small images; no time is judged."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxr_server.inference.engines.cpu import multiplies_bfloat16

ROOT = Path(__file__).parents[2]
HAS_BFLOAT16 = multiplies_bfloat16()


def bench(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Run the smoke variant; return its numbers and its report."""
    path = folder / "numbers.json"
    command = [sys.executable, "-m", "benchmarks.run", "--smoke", "--rounds", "1"]
    command += ["--seconds", "0.02", *arguments]
    command += ["--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout


def cells_of(results: dict[str, Any], system: str) -> set[tuple[str, str, int]]:
    """The cells of a system, all of which must have answered without a failure."""
    cells = [cell for cell in results["rounds"][0]["cells"] if cell["system"] == system]
    for cell in cells:
        assert cell["count"] >= 2, cell
        assert cell["per_s"] > 0, cell
        assert cell["p50_ms"] <= cell["p95_ms"], cell
        assert cell["cpu_ms"] > 0, cell
        assert "failures" not in cell, cell
    return {(cell["kind"], cell["method"], cell["callers"]) for cell in cells}


@pytest.mark.slow
def test_the_engine_and_the_server_are_measured(tmp_path: Path) -> None:
    results, report = bench(tmp_path, "--turns", "1", "--only", "cxr-serve")
    cells = cells_of(results, "cxr-serve")
    png, jpeg, camera, deep = results["kinds"]
    for kind in (png, jpeg, camera):
        assert {(kind, "predict", callers) for callers in (1, 4, 8, 16)} <= cells
    for kind in (png, jpeg, camera, deep):
        assert {(kind, "predict", 4), (kind, "explain", 4)} <= cells
    assert {(png, "explain", 1), (png, "explain", 16), (png, "explain_again", 1)} <= cells
    for cell in results["rounds"][0]["cells"]:
        if cell["system"] == "engine alone":
            assert cell["per_s"] > 0
            assert cell["p50_ms"] > 0
    assert results["rounds"][0]["starts_s"]["cxr-serve"] > 0
    assert results["rounds"][0]["memory_mib"]["cxr-serve"]["rss"] > 50
    for name in ("memory_under_load", "memory_in_budget"):
        assert results[name]["peak_mib"] > 50
    claims = [line for line in report.splitlines() if line.endswith(("met", "NOT MET"))]
    assert len(claims) == 13  # those that need no other system
    threads = {name for each in results["outside_engine"] for name in each.get("threads_ms", ())}
    assert {"event loop", "decode processes", "decode", "engine", "drawing", "log"} <= threads


@pytest.mark.slow
def test_a_bulk_run_and_a_caller_are_measured_beside_each_other() -> None:
    command = [sys.executable, "-m", "benchmarks.bulk", "--small", "--kind", "512 JPEG"]
    command += ["--rounds", "1", "--seconds", "0.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| cxr-serve |")]
    assert len(rows) == 4
    assert "the run alone: " in done.stdout


@pytest.mark.slow
def test_the_other_systems_are_measured_in_the_same_turns(tmp_path: Path) -> None:
    results, report = bench(tmp_path, "--turns", "2", "--brief", "--against", str(ROOT))
    kind = results["kinds"][0]
    all_call = {(kind, method, 4) for method in ("predict", "explain")}
    alone = {(kind, "predict", 1), (kind, "explain", 1)}
    for system, expected in (
        ("cxr-serve", all_call | alone),
        ("other checkout", all_call | alone),
        ("cxr-serve int8", all_call | {(kind, "predict", 1)}),
        *([("cxr-serve bfloat16", all_call | {(kind, "predict", 1)})] if HAS_BFLOAT16 else []),
        ("bare server", all_call | {(kind, "predict", 1)}),
        ("bare server, isolated", all_call | {(kind, "predict", 1)}),
        ("baseline", all_call),
        ("LitServe", all_call),
    ):
        assert cells_of(results, system) == expected
        assert system in report
    windows = results["outside_engine"]
    measured = {"engine alone", "cxr-serve", "other checkout", "bare server"}
    measured |= {"bare server, isolated", "cxr-serve, decoding in threads"}
    assert {each["system"] for each in windows} == measured
    isolated = [each for each in windows if each["system"] == "bare server, isolated"]
    assert all(each["threads_ms"]["decode processes"] > 0 for each in isolated)
    assert all(each["cpu_ms"] > 0 for each in windows)
    assert "processor time outside the engine" in report
    assert "int8 x float32" in report or not results["machine"]["int8"]


@pytest.mark.slow
def test_what_bfloat16_changes_is_measured_where_the_cpu_has_it(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.bfloat16", "--bundles", str(tiny_bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if HAS_BFLOAT16:
        assert done.returncode == 0, done.stderr
        assert "192 films: bfloat16 beside float32" in done.stdout
        assert "typicality: differs by " in done.stdout
        assert "score of the probe: differs by 0.0" in done.stdout
    else:
        assert "computes in float32 only, not in bfloat16" in done.stderr


@pytest.mark.slow
def test_the_event_loop_is_measured_with_decoding_here_and_elsewhere() -> None:
    for elsewhere_ms in ("0", "2"):
        command = [sys.executable, "-m", "benchmarks.event_loop", "--rounds", "1"]
        command += ["--seconds", "0.1", "--callers", "1", "4", "--processes", "2"]
        command += ["--kinds", "224 PNG", "--elsewhere-ms", elsewhere_ms]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        head, _, *rows = done.stdout.splitlines()
        columns = [column.strip() for column in head.strip("|").split("|")]
        for row in rows:
            cells = dict(zip(columns, row.strip("|").split("|"), strict=True))
            assert float(cells["calls/s"]) > 0
            assert float(cells["event loop"]) > 0
        assert len(rows) == 2
