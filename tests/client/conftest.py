"""Fixtures for the client's tests: a scripted server, and both clients behind one call."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cxr_client import AsyncClient, Client
from scripted import Ask, Script, ScriptedServer


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server of its own for each test: gRPC shares retry state by address."""
    with ScriptedServer(Script()) as server:
        yield server


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


@pytest.fixture(params=[ask_sync, ask_async], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Either client: what holds for one holds for the other."""
    function: Ask = request.param
    return function
