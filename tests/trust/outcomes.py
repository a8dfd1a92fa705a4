"""How a call ended: "OK", or the code and the reason of its error."""

from collections.abc import Callable

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def outcome_of(call: Callable[[], object]) -> tuple[str, str]:
    """Return code and reason, ("OK", "") without an error."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, reason_of(error)
    return "OK", ""


def reason_of(error: grpc.RpcError) -> str:
    """The ErrorInfo's reason; "" without one."""
    return info_of(error, error_details_pb2.ErrorInfo()).reason


def retry_after_s(error: grpc.RpcError) -> float:
    """The delay that RetryInfo asks for, in seconds; 0 without one."""
    info = info_of(error, error_details_pb2.RetryInfo())
    return info.retry_delay.ToTimedelta().total_seconds()


def info_of(error: grpc.RpcError, message: object) -> object:
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Unpack(message):
            break
    return message
