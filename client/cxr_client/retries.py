"""Retries: a failed attempt of a call -> the wait before the next one. Next: calls."""

import random

from cxr_client.config import RetryConfig
from cxr_client.errors import CallCancelledError, CxrError, OverloadedError, UnavailableError

_SPREAD_GROWTH = 1.5
_LEAST_LEFT_S = 0.1  # With less, the retry could end in nothing but the deadline.
_JITTER = 0.2


class Retries:
    """Which failures of one call are followed by another attempt, and when.

    - A refusal that states when to retry is retried until the deadline. The waits grow and are
      random, so that thousands of waiting callers neither return together nor at a constant rate.
    - A failed connection is retried `max_attempts` times with exponential backoff. So is
      CANCELLED: a server that stops ends the calls that it has not read in this way.
    - Everything else fails at once.
    """

    def __init__(self, retry: RetryConfig) -> None:
        """Start with the first attempt."""
        self._retry = retry
        self._attempts = 1
        self._backoff_s = retry.initial_backoff_s
        self._spread_s = retry.initial_backoff_s

    def pause_s(self, error: CxrError, left_s: float) -> float | None:
        """Return the wait before the next attempt in seconds; None where there is none.

        Args:
            error: How the attempt failed.
            left_s: The time until the deadline, in seconds.
        """
        if self._retry.max_attempts == 1:
            return None
        match error:
            case OverloadedError() | UnavailableError() if error.retry_after_s is not None:
                return self._after_refusal_s(error.retry_after_s, left_s)
            case UnavailableError() | CallCancelledError():
                return self._after_failure_s(left_s)
            case _:
                return None

    def _after_refusal_s(self, stated_s: float, left_s: float) -> float | None:
        if stated_s + _LEAST_LEFT_S > left_s:
            return None
        longest_s = min(stated_s + self._spread_s, (stated_s + left_s) / 2)
        self._spread_s = min(self._spread_s * _SPREAD_GROWTH, self._retry.max_backoff_s)
        return random.uniform(stated_s, longest_s)

    def _after_failure_s(self, left_s: float) -> float | None:
        if self._attempts >= self._retry.max_attempts or left_s <= 0:
            return None
        self._attempts += 1
        pause_s = self._backoff_s * random.uniform(1 - _JITTER, 1 + _JITTER)
        grown_s = self._backoff_s * self._retry.backoff_multiplier
        self._backoff_s = min(grown_s, self._retry.max_backoff_s)
        return min(pause_s, left_s / 2)
