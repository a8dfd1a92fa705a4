"""The web server of `cxr view`: a model server that refuses, fails or is not there."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, default_answer, failure
from trust.ports import free_port
from viewer_process import Answer, ViewerProcess


def ask_fake(fake: FakeServer, *options: object) -> Answer:
    with ViewerProcess(fake.address, *options) as page:
        return page.ask("api/explanations", b"image")


def test_a_server_that_stays_full_is_an_error_with_its_time_to_retry(fake: FakeServer) -> None:
    fake.script(
        failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", "full", retry_after_s=2.5), rpc="Explain"
    )
    error = ask_fake(fake, "--max-attempts", 1).json["error"]
    assert error["reason"] == "QUEUE_FULL"
    assert error["retry_after_s"] == 2.5
    assert error["hint"]


def test_a_server_that_is_full_for_a_moment_is_waited_for(fake: FakeServer) -> None:
    fake.script(failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after_s=0.1), rpc="Explain")
    assert ask_fake(fake).explanation


def test_what_no_model_answers_is_a_failure_of_the_web_server_without_its_details(
    fake: FakeServer,
) -> None:
    def not_a_number(request: pb.ExplainRequest) -> Any:
        answer: Any = default_answer(request)
        answer.explanations[0].logit = float("nan")
        return answer

    fake.answer("Explain", not_a_number)
    with ViewerProcess(fake.address) as page:
        answer = page.ask("api/explanations", b"image")
        assert (answer.status, answer.reason) == (200, "INTERNAL")
        assert "nan" not in answer.body.decode()
        assert "unexpected ValueError in the web server" in page.log


def test_the_state_of_the_server_is_told_with_a_hint(fake: FakeServer) -> None:
    states: dict[Any, str] = {
        pb.SERVING_STATUS_LOADING: "loading",
        pb.SERVING_STATUS_DRAINING: "draining",
        pb.SERVING_STATUS_FAILED: "failed",
        pb.SERVING_STATUS_SERVING: "serving",
        99: "failed",
    }
    with ViewerProcess(fake.address) as page:
        for status, state in states.items():
            fake.answer("Health", pb.HealthResponse(status=status, server_version="9"))
            fake.script(failure("UNAVAILABLE", "MODEL_LOADING"), rpc="DescribeModel")
            told = page.ask("api/state").json
            assert told["server"]["state"] == state
            assert told["server"]["server_version"] == "9"
            assert bool(told["server"]["hint"]) == (state != "serving")
            assert told["model"] is None


def test_without_a_server_the_page_loads_and_says_what_to_do() -> None:
    address = f"127.0.0.1:{free_port()}"
    with ViewerProcess(address) as page:
        assert page.ask().status == 200
        state = page.ask("api/state").json
        assert state["server"]["state"] == "unreachable"
        assert "connection refused" in state["server"]["message"]
        assert "cxr-server serve" in state["server"]["hint"]
        assert state["model"] is None
        assert len(state["films"]) == 3
        error = page.ask("api/explanations", b"image").json["error"]
        assert error["reason"] == "UNREACHABLE"
        assert "cxr-server serve" in error["hint"]
        with FakeServer(address=address):
            until = time.monotonic() + 60
            while page.ask("api/state").json["server"]["state"] != "serving":
                assert time.monotonic() < until
                time.sleep(0.1)
            assert page.ask("api/explanations", b"image").explanation
        assert page.ask("api/state").json["server"]["state"] == "unreachable"


@pytest.mark.slow
def test_a_server_that_says_nothing_is_unreachable() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ViewerProcess(f"127.0.0.1:{silent.getsockname()[1]}") as page,
    ):
        state = page.ask("api/state").json["server"]
    assert state["state"] == "unreachable"
    assert "nothing answers" in state["message"]


def test_a_missing_token_is_told_with_the_option(fake: FakeServer) -> None:
    refusal = failure("UNAUTHENTICATED", "UNAUTHENTICATED", "no valid token")
    fake.script(*[refusal] * 3)
    with ViewerProcess(fake.address) as page:
        state = page.ask("api/state").json["server"]
        assert state["state"] == "failed"
        assert "--token-file" in state["hint"]
        assert page.ask("api/explanations", b"image").reason == "UNAUTHENTICATED"


def test_the_token_reaches_the_server_and_nobody_else(fake: FakeServer, tmp_path: Path) -> None:
    token = "s3cret-t0ken"
    (tmp_path / "token").write_text(token)
    with ViewerProcess(fake.address, "--token-file", tmp_path / "token") as page:
        answers = [page.ask(), page.ask("api/state"), page.ask("api/explanations", b"image")]
        fake.script(failure("UNAUTHENTICATED", "UNAUTHENTICATED", "no"))
        answers.append(page.ask("api/explanations", b"image"))
        assert page.stop() == 0
        assert token not in page.log
    for answer in answers:
        assert token.encode() not in answer.body
        assert token not in str(answer.headers)
    assert {call.metadata["authorization"] for call in fake.calls} == {f"Bearer {token}"}
