"""The web server of `cxr view`: sizes, calls in flight, and their end."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, Hold, default_answer
from viewer_process import ViewerProcess

LIMIT_BYTES = 100_000


def limited(request: pb.DescribeModelRequest) -> Any:
    answer: Any = default_answer(request)
    answer.limits.max_request_bytes = LIMIT_BYTES
    return answer


def test_an_upload_that_declares_too_much_is_refused_before_it_is_sent(fake: FakeServer) -> None:
    fake.answer("DescribeModel", limited)
    with ViewerProcess(fake.address) as page:
        connection = page.connect()
        connection.putrequest("POST", "/api/explanations")
        connection.putheader("content-length", str(LIMIT_BYTES + 1))
        connection.endheaders()
        error = json.loads(connection.getresponse().read())["error"]
        connection.close()
        assert error["reason"] == "REQUEST_TOO_LARGE"
        assert page.ask("api/explanations", bytes(LIMIT_BYTES)).status == 200
    assert [len(call.request.image) for call in fake.calls if call.rpc == "Explain"] == [
        LIMIT_BYTES
    ]


def test_an_upload_of_unknown_length_is_refused_as_soon_as_it_is_too_large(
    fake: FakeServer,
) -> None:
    fake.answer("DescribeModel", limited)
    with ViewerProcess(fake.address) as page:
        connection = page.connect()
        connection.putrequest("POST", "/api/explanations")
        connection.putheader("transfer-encoding", "chunked")
        connection.endheaders()
        connection.send(b"%x\r\n%b\r\n" % (LIMIT_BYTES + 1, bytes(LIMIT_BYTES + 1)))
        # The last chunk is never sent.
        error = json.loads(connection.getresponse().read())["error"]
        connection.close()
    assert error["reason"] == "REQUEST_TOO_LARGE"
    assert not [call for call in fake.calls if call.rpc == "Explain"]


def test_the_smaller_limit_of_server_and_command_counts(fake: FakeServer, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2**20))
    with ViewerProcess(fake.address, "--max-request-mib", 1, tmp_path) as page:
        assert page.ask("api/explanations", bytes(2**20 + 1)).reason == "REQUEST_TOO_LARGE"
        (listed,) = (
            each for each in page.ask("api/state").json["films"] if each["group"] == "folder"
        )
        for path in ("/explanation", "/thumbnail", ""):
            answer = page.ask(
                f"api/films/{listed['id']}{path}", b"" if path == "/explanation" else None
            )
            assert answer.reason == "REQUEST_TOO_LARGE"


class Watched:
    """A step of the fake server that holds a call, and notices that it has been cancelled."""

    def __init__(self) -> None:
        self.entered, self.cancelled = threading.Event(), threading.Event()

    def __call__(self, context: grpc.ServicerContext) -> None:
        self.entered.set()
        while context.is_active():
            time.sleep(0.02)
        self.cancelled.set()


@pytest.mark.parametrize("way", ["upload", "film", "thumbnail"])
def test_the_call_is_cancelled_when_the_browser_leaves(fake: FakeServer, way: str) -> None:
    watched = Watched()
    fake.script(watched, rpc="Explain")
    with ViewerProcess(fake.address) as page:
        film = page.ask("api/state").json["films"][0]["id"]
        connection = page.connect()
        if way == "upload":
            connection.request("POST", "/api/explanations", body=b"image")
        elif way == "film":
            connection.request("POST", f"/api/films/{film}/explanation")
        else:
            connection.request("GET", f"/api/films/{film}/thumbnail")
        assert watched.entered.wait(60)
        connection.close()
        assert watched.cancelled.wait(60)
        assert page.ask("api/explanations", b"image").status == 200


def test_one_call_more_than_there_are_places_is_refused_with_a_time_to_retry(
    fake: FakeServer,
) -> None:
    hold = Hold()
    fake.script(hold, rpc="Explain")
    with ViewerProcess(fake.address, "--jobs", 1) as page:
        first = page.connect()
        first.request("POST", "/api/explanations", body=b"image")
        assert hold.wait_entered()
        error = page.ask("api/explanations", b"image").json["error"]
        assert error["reason"] == "OVERLOADED"
        assert error["retry_after_s"] > 0
        assert page.ask("api/state").json["server"]["state"] == "serving"
        hold.release()
        assert first.getresponse().getheader("content-type") == "application/octet-stream"
        first.close()
        assert page.ask("api/explanations", b"image").explanation


def test_thumbnails_leave_the_places_of_explanations_free(fake: FakeServer) -> None:
    holds = [Hold(), Hold()]
    fake.script(*holds, rpc="Explain")
    with ViewerProcess(fake.address, "--jobs", 1) as page:
        waiting = [page.connect() for _ in range(3)]
        for connection, film in zip(waiting, page.ask("api/state").json["films"], strict=True):
            connection.request("GET", f"/api/films/{film['id']}/thumbnail")
        assert all(hold.wait_entered() for hold in holds)
        assert page.ask("api/explanations", b"image").explanation
        for hold in holds:
            hold.release()
        for connection in waiting:
            assert connection.getresponse().getheader("content-type") == "image/png"
            connection.close()


def test_a_slow_answer_does_not_hold_up_the_others(fake: FakeServer) -> None:
    hold = Hold()
    fake.script(hold, rpc="Explain")
    with ViewerProcess(fake.address) as page:
        slow = page.connect()
        slow.request("POST", "/api/explanations", body=b"slow")
        assert hold.wait_entered()
        assert page.ask("api/explanations", b"image").explanation
        hold.release()
        assert slow.getresponse().status == 200
        slow.close()
