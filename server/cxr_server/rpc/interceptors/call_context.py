"""CallContext: a ServicerContext together with the call that it belongs to.

Works with every context that offers the documented methods, also with those that lack
`time_remaining`, `abort` or `read`, such as Ray Serve's.
"""

import ipaddress
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from cxr_server.admission import Slot
from cxr_server.observability.call import Call

REQUEST_ID = "x-request-id"  # metadata key of the request id, in both directions
PRIORITY = "x-priority"
TRACE_HEADERS = frozenset({"traceparent", "tracestate"})
"""Metadata keys of the caller's trace, as of https://www.w3.org/TR/trace-context/."""

_VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class CallContext:
    """Delegates to a ServicerContext, and knows the `call`.

    The caller is who the certificate names, if there are `client_certificates`, else the host.
    `slot` is what the call holds of the limits on calls and bytes, once it is admitted.
    """

    def __init__(self, context: Any, method: str, client_certificates: bool = True) -> None:
        self._context = context
        self._metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        self.slot: Slot | None = None
        wanted_id, remaining_s = self.text(REQUEST_ID), _optional(context, "time_remaining")
        has_id = wanted_id and _VALID_ID.fullmatch(wanted_id)
        self.call = Call(
            method=method,
            request_id=wanted_id if has_id else os.urandom(16).hex(),
            caller=(client_certificates and _certified(context)) or host_of(context.peer() or ""),
            deadline=math.inf if remaining_s is None else time.monotonic() + remaining_s,
            bulk=self.text(PRIORITY) == "bulk",
            trace_headers={key: self.text(key) for key in TRACE_HEADERS & self._metadata.keys()},
        )

    @classmethod
    @contextmanager
    def call_of(cls, context: Any, method: str) -> Iterator[Call]:
        """Give the call of a context, or of a new one around it, whose call ends with the block."""
        if isinstance(context, cls):
            yield context.call
            return
        call = cls(context, method).call
        try:
            yield call
        finally:
            call.end()

    def text(self, key: str) -> str:
        """Return a value of the caller's metadata as text, "" if it is absent."""
        return str(self._metadata.get(key, ""))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _optional(context: Any, name: str) -> Any:
    method = getattr(context, name, None)
    return method() if method else None


def _certified(context: Any) -> str:
    """Return who calls, by the names in the client certificate; "" without one."""
    authenticated = _optional(context, "auth_context") or {}
    keys = ("x509_common_name", "x509_subject_alternative_name")
    names = [n.decode("utf-8", "replace") for key in keys for n in authenticated.get(key, ())]
    return f"certificate:{','.join(names)}" if names else ""


@lru_cache(1024)
def host_of(peer: str) -> str:
    """Return the host of a gRPC peer, without the port.

    `ipv4:10.0.0.7:51234` -> `host:10.0.0.7`, `ipv6:%5B::1%5D:51234` -> `host:::1`; an IPv4
    address in IPv6 form counts as the IPv4 address; all of `unix:` is one caller.
    """
    scheme, _, rest = unquote(peer).partition(":")
    if scheme.startswith("unix"):
        return "unix"
    host = rest.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"host:{host or peer}"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return f"host:{mapped or address}"
