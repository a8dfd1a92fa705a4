"""What a GPU's machine allows is told from what was measured on it; no time is judged."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import on_gpu

ROOT = Path(__file__).parents[2]


def window(per_s: float, cpu_ms: float, **fields: Any) -> dict[str, Any]:
    cell = {"servers": 1, "method": "predict", "kind": "1024 PNG", "callers": 64}
    numbers = {"per_s": per_s, "server_cpu_ms": cpu_ms - 1, "callers_cpu_ms": 1.0}
    return cell | {"p50_ms": 9.0, "p95_ms": None, "failures": {}} | numbers | fields


def results(*served: dict[str, Any]) -> dict[str, Any]:
    rates = {
        "float32": {"1": {"per_s": 200.0}, "64": {"per_s": 1000.0}},
        "float16": {"1": {"per_s": 600.0}, "64": {"per_s": 8000.0}},
    }
    return {"device": "cuda:0", "cores": 16, "ceiling": rates, "served": [*served]}


@pytest.mark.parametrize(
    ("per_s", "cpu_ms", "bound", "share", "said"),
    [
        (950.0, 8.0, "card", 0.95, "met  (card 1000/s, cores 2000/s)"),
        (500.0, 8.0, "card", 0.5, "NOT MET  (card 1000/s, cores 2000/s)"),
        (760.0, 20.0, "cores", 0.95, "met  (card 1000/s, cores 800/s)"),
        (400.0, 20.0, "cores", 0.5, "NOT MET  (card 1000/s, cores 800/s)"),
    ],
)
def test_a_server_is_held_to_the_smaller_of_card_and_cores(
    per_s: float, cpu_ms: float, bound: str, share: float, said: str
) -> None:
    found = results(window(per_s, cpu_ms))
    (verdict,) = on_gpu.verdicts(found)
    assert (verdict["bound"], verdict["share"]) == (bound, pytest.approx(share))
    assert on_gpu.text(found).splitlines()[-1].endswith(said)


def test_the_best_number_of_servers_counts_for_each_kind_of_call() -> None:
    few, many = window(300.0, 8.0), window(900.0, 9.0, servers=8, callers=256)
    explain = window(100.0, 12.0, method="explain", failures={"UNAVAILABLE": 3})
    found = results(few, many, explain)
    best = {each["method"]: each["servers"] for each in on_gpu.verdicts(found)}
    assert best == {"predict": 8, "explain": 1}
    assert "3 failed" in on_gpu.text(found)


@pytest.mark.slow
@pytest.mark.torch
def test_all_that_is_measured_on_a_gpu_runs_with_torch_on_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--smoke", "--device", "cpu"]
    command += ["--seconds", "0.05", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert set(found["ceiling"]["float32"]) == {"1", "2"}
    assert all(rate["per_s"] > 0 for rate in found["ceiling"]["float32"].values())
    cells = {(each["servers"], each["method"]) for each in found["served"]}
    assert cells == {(1, "predict"), (1, "explain"), (2, "predict"), (2, "explain")}
    for each in found["served"]:
        assert each["per_s"] > 0
        assert not each["failures"]
        assert each["server_cpu_ms"] > 0
        assert each["callers_cpu_ms"] > 0
        assert {"event loop", "decode processes", "engine"} <= each["threads_ms"].keys()
    assert done.stdout.rstrip() == on_gpu.text(found)
