"""Interactive calls: while they come, a thread is kept free of bulk work. See the scheduler."""

import math
import time

INTERACTIVE_FOR_S = 1.0
"""How long after an interactive call the next one is expected."""


class InteractiveCalls:
    """When the last interactive call came. Not thread-safe."""

    def __init__(self) -> None:
        self._expected_until_s = -math.inf

    def came(self) -> None:
        """Note an interactive call."""
        self._expected_until_s = time.monotonic() + INTERACTIVE_FOR_S

    def admit_bulk(self, running: int, threads: int) -> bool:
        """Return whether a further bulk item may run beside `running` ones in these threads.

        All but one of the threads take bulk items while interactive calls come; a single one
        always does.
        """
        return running < max(1, threads - 1) or time.monotonic() >= self._expected_until_s
