"""Swap: asks a running server, on its admin port, to serve another bundle by a name in use."""

import grpc

from cxr.v1 import admin_pb2, admin_pb2_grpc
from cxr_server.errors import OperatorError

TIMEOUT_S = 900.0
"""Loading may compile a model, and the calls of the one before are waited for."""


class NotSwapped(OperatorError):
    """The server did not swap the model. The message says why."""


def swap_model(
    address: str,
    name: str,
    bundle: str,
    *,
    ca: bytes | None = None,
    cert: bytes | None = None,
    key: bytes | None = None,
    token: str = "",
) -> str:
    """Have `bundle` served by `name`, and return what has changed, in words. Raises NotSwapped.

    With `ca`, certificate authorities in PEM, the connection is encrypted; `cert` and `key` are
    shown to servers that ask for them.
    """
    request = admin_pb2.SwapModelRequest(name=name, bundle=bundle)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    options = (("grpc.enable_http_proxy", 0),)
    channel = (
        grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options)
        if ca
        else grpc.insecure_channel(address, options)
    )
    with channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            swapped = stub.SwapModel(request, timeout=TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            raise NotSwapped(f"{address}: {error.details()}") from None
    now, before = swapped.model, swapped.previous_model
    loaded_s = swapped.load_duration.ToTimedelta().total_seconds()
    return (
        f"{name}: {now.name} {now.version}, loaded in {loaded_s:.1f} s; "
        f"before: {before.name} {before.version}"
    )
