"""Call: what is known of one RPC while it is answered."""

import math
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Call:
    """One RPC.

    Attributes:
        method: Full name, `package.Service/Method`.
        caller: Identity that fairness goes by: token, else certificate, else host.
        deadline: On the clock of `time.monotonic`, as `started`; infinite without one.
        token: Name of the bearer token.
        reason: Reason of the error that ended the call.
        cached: Whether the evidence came from the cache; None for other methods.
    """

    method: str
    request_id: str
    caller: str
    deadline: float = math.inf
    started: float = field(default_factory=time.monotonic)
    token: str = ""
    request_bytes: int = 0
    reason: str = ""
    cached: bool | None = None

    @property
    def service(self) -> str:
        """Full name of the method's service."""
        return self.method.partition("/")[0]

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline
