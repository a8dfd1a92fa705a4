"""Call: what is known of one RPC while it is answered."""

import math
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Call:
    """One RPC of the `method` `package.Service/Method`.

    Fairness goes by the `caller`: token, else certificate, else host. `deadline` and `started` are
    on the clock of `time.monotonic`. `token` is the name of the bearer token, `reason` that of the
    error which ended the call. `cached` is None for methods that need no evidence.
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
