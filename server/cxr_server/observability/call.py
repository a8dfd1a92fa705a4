"""Call: what is known of one RPC while it is answered."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cxr_server.errors import DeadlineExpired
from cxr_server.observability.stages import Stages


@dataclass(slots=True)
class Call:
    """One RPC of the `method` `package.Service/Method`.

    Fairness goes by the `caller`: token, else certificate, else host. `deadline` and `started` are
    on the clock of `time.monotonic`. `token` is the name of the bearer token, `code` the status of
    the ended call, "" until then, and `reason` that of its error. `cached` is None for methods that
    need no evidence. `bulk` calls give way to all others. `trace_headers` are those of the caller's
    trace.

    `served_as` is the name of the model that is asked, "" until it is found. `model`,
    `model_version`, `weights_sha256`, `precision`, `image_hmacs` (hex, one for each image) and
    `finding_count` are for the audit file.
    """

    method: str
    request_id: str
    caller: str
    deadline: float = math.inf
    started: float = field(default_factory=time.monotonic)
    token: str = ""
    bulk: bool = False
    request_bytes: int = 0
    response_bytes: int = 0
    reason: str = ""
    code: str = ""
    cached: bool | None = None
    stages: Stages = field(default_factory=Stages)
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    served_as: str = ""
    model: str = ""
    model_version: str = ""
    weights_sha256: str = ""
    precision: str = ""
    image_hmacs: list[str] = field(default_factory=list)
    finding_count: int | None = None
    ended: bool = field(default=False, init=False)
    _at_end: list[Callable[[], None]] = field(default_factory=list, init=False)

    @property
    def service(self) -> str:
        """Full name of the method's service."""
        return self.method.partition("/")[0]

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    @property
    def given_up_at_deadline(self) -> bool:
        """Whether a caller that gives up now probably does so because its own deadline has passed.

        Its cancellation may come before the deadline has passed here: gRPC sends a timeout of
        three digits, rounded up (`timeout_encoding.cc`), so of up to 1 % more, and timers differ
        by milliseconds. A cancellation in the last 1 % and 5 ms counts as one. Never so for a call
        without a deadline.
        """
        timeout_s, passed_s = self.deadline - self.started, time.monotonic() - self.started
        return passed_s >= 0.99 * timeout_s - 0.005

    def check(self) -> None:
        """Raise DeadlineExpired if nobody waits for the result any more. For any thread."""
        if self.ended or self.expired:
            raise DeadlineExpired("the deadline passed before the call was answered")

    def at_end(self, release: Callable[[], None]) -> None:
        """Have this called once the call has ended, the latest first."""
        self._at_end.append(release)

    def end(self) -> None:
        """The answer is sent, or the caller has gone: release all that the call holds."""
        self.ended = True
        while self._at_end:
            self._at_end.pop()()
