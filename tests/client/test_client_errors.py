"""Errors: every status has its exception, which carries the details that the server sent."""

import pickle
import re
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from cxr_client import CxrError, FieldViolation, ImageError, InternalError, OverloadedError, errors
from cxr_client.errors import BY_REASON, BY_STATUS
from cxr_client.failures import error_of

EXCEPTIONS = {
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, CxrError)
}


class Ended:
    """A call that has ended."""

    def __init__(self, code: grpc.StatusCode, details: str | None, *metadata: Any) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata or None


def test_every_status_but_ok_has_its_exception() -> None:
    assert set(BY_STATUS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_a_call_that_the_server_does_not_know_says_which_servers_do_not() -> None:
    error = error_of(Ended(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), "id-1")
    assert isinstance(error, errors.ProtocolError)
    assert "a health-only port" in error.message


def test_every_exception_is_raised_for_something() -> None:
    by_size = {errors.RequestTooLargeError, errors.ResponseTooLargeError}
    assert {*BY_STATUS.values(), *BY_REASON.values(), *by_size} == EXCEPTIONS - {CxrError}


def test_the_docstring_draws_the_whole_tree() -> None:
    assert errors.__doc__
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert sorted(drawn) == sorted(each.__name__ for each in EXCEPTIONS - {CxrError})
    image = errors.__doc__.index("ImageError")
    parent = errors.__doc__.index("InvalidRequestError")
    assert parent < image
    assert issubclass(ImageError, errors.InvalidRequestError)


def test_every_reason_of_the_server_ends_in_a_fitting_exception() -> None:
    server_errors = pytest.importorskip("cxr_server.errors")
    domain = [
        each
        for each in vars(server_errors).values()
        if isinstance(each, type) and issubclass(each, server_errors.RequestError)
        if "reason" in vars(each) and each is not server_errors.RequestError
    ]
    assert len(domain) >= 12
    for each in domain:
        status = grpc.StatusCode[each.status]
        kind = BY_REASON.get(each.reason, BY_STATUS[status])
        assert issubclass(kind, BY_STATUS[status]), each.reason
        assert (kind is ImageError) == issubclass(each, server_errors.ImageError), each.reason


@pytest.mark.parametrize("details", [b"", b"\xff\xff\xff", b"\x08\x03\x12\x05other"])
def test_invalid_details_do_not_hide_the_status(details: bytes) -> None:
    ended = Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", ("grpc-status-details-bin", details))
    error = error_of(ended, "sent")
    assert type(error) is OverloadedError
    assert (error.message, error.reason, error.retry_after_s) == ("full", "", None)
    assert error.request_id == "sent"


def test_the_reason_is_read_from_plain_metadata_where_the_details_are_missing() -> None:
    metadata = [("x-error-reason", "IMAGE_UNREADABLE")]
    error = error_of(Ended(grpc.StatusCode.INVALID_ARGUMENT, "cut short", *metadata), "sent")
    assert type(error) is ImageError
    assert (error.reason, error.violations) == ("IMAGE_UNREADABLE", ())


def test_metadata_of_older_grpc_releases_is_read() -> None:
    class Metadata(tuple[tuple[str, str], ...]):
        def keys(self) -> "Metadata":
            return self

    ended = Ended(grpc.StatusCode.INVALID_ARGUMENT, "")
    ended._metadata = Metadata([("x-request-id", "abc"), ("x-error-reason", "IMAGE_EMPTY")])
    assert (error_of(ended, "").request_id, error_of(ended, "").reason) == ("abc", "IMAGE_EMPTY")


def test_details_of_another_status_are_ignored() -> None:
    details = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0])
    details.details.add().Pack(error_details_pb2.ErrorInfo(reason="IMAGE_UNREADABLE"))
    metadata = [("grpc-status-details-bin", details.SerializeToString())]
    assert error_of(Ended(grpc.StatusCode.INVALID_ARGUMENT, "", *metadata), "").reason
    assert not error_of(Ended(grpc.StatusCode.UNAVAILABLE, "", *metadata), "").reason


def test_an_error_without_message_names_its_status() -> None:
    assert str(error_of(Ended(grpc.StatusCode.UNKNOWN, None), "")) == (
        "the call ended with UNKNOWN [UNKNOWN]"
    )


def test_an_exception_can_be_pickled() -> None:
    error = ImageError(
        "cut short",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="IMAGE_UNREADABLE",
        violations=(FieldViolation("image", "cut short"),),
        request_id="abc",
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ImageError
    assert vars(copy) == vars(error)
    assert str(copy) == str(error) == "cut short [IMAGE_UNREADABLE, request abc]"
    assert str(InternalError("plain")) == "plain"
