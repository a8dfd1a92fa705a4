"""Both clients behind one call, so that a test states what holds for either."""

import asyncio
from collections.abc import Callable
from typing import Any

from cxr_client import AsyncClient, Client
from cxr_client.testing import Step, failure

PNG = b"\x89PNG\r\n\x1a\n"
Ask = Callable[..., Any]
"""Calls a method of a client: `ask(server, method, *arguments, options={}, **named)`."""


def ask_sync(server: str, method: str, /, *args: Any, options: Any = None, **named: Any) -> Any:
    """Call a method of `Client`."""
    with Client(server, **(options or {})) as client:
        return getattr(client, method)(*args, **named)


def ask_async(server: str, method: str, /, *args: Any, options: Any = None, **named: Any) -> Any:
    """Call a method of `AsyncClient`."""

    async def call() -> Any:
        async with AsyncClient(server, **(options or {})) as client:
            return await getattr(client, method)(*args, **named)

    return asyncio.run(call())


def overload(retry_after_s: float) -> Step:
    """The refusal of a full server."""
    return failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after_s=retry_after_s)
