"""Call: what is known of the RPC being answered, wherever its code runs."""

import math
import re
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_ID = "x-request-id"
_VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(slots=True)
class Call:
    """One RPC. `deadline` is on the clock of `time.monotonic`, infinite without one."""

    method: str
    request_id: str
    caller: str
    deadline: float
    started: float
    request_bytes: int = 0
    reason: str = ""
    cached: bool | None = None

    @property
    def expired(self) -> bool:
        """Whether the caller's deadline has passed."""
        return time.monotonic() >= self.deadline


current: ContextVar[Call] = ContextVar("call")


def start(method: str, wanted_id: str, peer: str, remaining_s: float | None) -> Call:
    """Begin a call: keep the caller's request id when it is valid, else make one."""
    now = time.monotonic()
    request_id = wanted_id if _VALID_ID.fullmatch(wanted_id) else secrets.token_hex(16)
    deadline = math.inf if remaining_s is None else now + remaining_s
    return Call(method, request_id, peer, deadline, now)
