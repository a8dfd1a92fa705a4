"""Forks: processes that are forked while an `AsyncClient` is connected, in which gRPC hangs.

gRPC cannot be forked while its asyncio interface is in use: calls of the child, of new and of
blocking clients as well, would not even end at their deadline. Idle blocking clients are no
obstacle.
"""

import os
from typing import Any
from weakref import WeakSet

_channels: WeakSet[Any] = WeakSet()
"""Channels of `grpc.aio` that are open in this process."""

_is_unusable = False


def opened(channel: Any) -> None:
    """Note that a channel of `grpc.aio` was opened."""
    _channels.add(channel)


def closed(channel: Any) -> None:
    """Note that it was closed."""
    _channels.discard(channel)


def check() -> None:
    """Raise RuntimeError if gRPC cannot be used in this process."""
    if _is_unusable:
        raise RuntimeError(
            "this process was forked while an AsyncClient was connected, and gRPC hangs in it; "
            'close the client before, or start processes by "spawn" or "forkserver"'
        )


def _forked() -> None:
    global _is_unusable
    _is_unusable = _is_unusable or bool(_channels)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked)
