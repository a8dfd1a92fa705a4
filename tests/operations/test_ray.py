"""Two replicas on a real Ray Serve, asked by the client as it is; one is killed under load."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from operations.tools import program, program_in

pytestmark = pytest.mark.operations
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What build/ray's Python has seen, in a network namespace of its own."""
    python = program_in("ray", "python")
    for name in ("unshare", "ip", "ps"):
        program(name)
    done = subprocess.run(
        [python, "-m", "tests.operations.on_ray.ask"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_client_waits_for_ray_and_gets_answers_and_errors_as_from_a_server(
    seen: dict[str, Any],
) -> None:
    assert (seen["waited_for"], seen["status"], seen["max_in_flight"]) == ("SERVING", "SERVING", 4)
    assert (seen["request_id"], seen["heatmap"]) == ("mine-1", "\x89PNG")
    empty, label = seen["empty"], seen["label"]
    assert (empty["kind"], empty["reason"]) == ("ImageError", "IMAGE_EMPTY")
    assert (empty["fields"], empty["request_id"]) == (["image"], "mine-2")
    assert (label["kind"], label["reason"]) == ("UnknownLabelError", "UNKNOWN_LABEL")


def test_a_call_that_nobody_waits_for_ends_in_its_replica(seen: dict[str, Any]) -> None:
    assert "DeadlineError" in seen["late"]["kinds"]
    assert seen["late"]["dropped"] > 0
    assert seen["late"]["held"] == [0, 0]


def test_the_limit_on_requests_is_that_of_the_server(seen: dict[str, Any]) -> None:
    assert seen["large"]["reason"] == "IMAGE_FORMAT_UNSUPPORTED"
    assert seen["too_large"]["kind"] == "RequestTooLargeError"
    assert seen["too_large"]["message"].endswith(f"takes at most {32 * 2**20}")


def test_full_replicas_say_when_to_call_again(seen: dict[str, Any]) -> None:
    assert {error["reason"] for error in seen["full"]} == {"QUEUE_FULL"}
    assert all(error["retry_after_s"] > 0 for error in seen["full"])
    assert seen["full_but_repeated"] == []


def test_standard_probes_are_answered_and_a_watch_ends_by_itself(seen: dict[str, Any]) -> None:
    assert (seen["check"], seen["unknown"], seen["watch"]) == (1, "NOT_FOUND", [1])


def test_each_replica_has_metrics_at_a_port_of_its_own(seen: dict[str, Any]) -> None:
    assert seen["metrics"] == [True, True]


def test_a_replica_continues_the_trace_of_its_caller(seen: dict[str, Any]) -> None:
    method = "cxr.v1.ChestXrayService/Predict"
    assert seen["traced"] == [method, "decode", "inference", "queue", "queue"]


def test_replicas_log_no_warning(seen: dict[str, Any]) -> None:
    assert seen["warnings"] == []


def test_callers_name_the_application_once_there_is_another(seen: dict[str, Any]) -> None:
    beside = seen["beside"]
    assert beside["unnamed"]["code"] == "NOT_FOUND"
    assert "Application metadata not set" in beside["unnamed"]["message"]
    assert beside["cxr"] == {}


def test_a_missing_model_is_named_in_the_status_of_the_application(seen: dict[str, Any]) -> None:
    assert "--model missing: there is no bundle missing" in seen["beside"]["refused"]


def test_options_for_the_actors_keep_what_the_settings_reserve(seen: dict[str, Any]) -> None:
    assert seen["beside"]["reserved"] == 2 * 1024 * 2**20  # of one replica each


def test_a_replica_killed_under_load_costs_no_call(seen: dict[str, Any]) -> None:
    kill = seen["kill"]
    assert kill["calls"] > 0
    assert kill["errors"] == []
    assert set(kill["codes_without_retries"]) <= {"StatusCode.UNAVAILABLE"}


def test_a_replica_that_is_taken_away_drains_and_costs_no_call(seen: dict[str, Any]) -> None:
    assert seen["scaled_down"]["calls"] > 0
    assert seen["scaled_down"]["errors"] == []
    assert seen["scaled_down"]["drained"]
