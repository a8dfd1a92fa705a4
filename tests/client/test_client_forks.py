"""Clients in processes that are forked: answers, or an error that says why not; never a hang."""

import subprocess
import sys

import pytest

from cxr_client.testing import FakeServer

PROGRAM = """
import asyncio, os, sys
from cxr_client import AsyncClient, Client

address, kind, closes = sys.argv[1], sys.argv[2], sys.argv[3] == "closed"

async def use(client):
    return (await client.predict(b"film")).findings[0].label

async def use_and_close(client):
    async with client:
        return await use(client)

parent = AsyncClient(address)
asyncio.run((use_and_close if closes else use)(parent))
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    if kind == "blocking":
        with Client(address, timeout_s=60) as client:
            client.predict(b"film")
    else:
        client = parent if kind == "parent's" else AsyncClient(address, timeout_s=60)
        asyncio.run(use(client))
except RuntimeError as error:
    print(error, flush=True)
    os._exit(3)
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["blocking", "new", "parent's"])
def test_a_process_that_is_forked_beside_a_connected_client_is_told_so(
    fake: FakeServer, kind: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, fake.address, kind, "open"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 3, done.stderr
    assert "forked while an AsyncClient was connected" in done.stdout


@pytest.mark.parametrize("kind", ["blocking", "new"])
def test_a_process_that_is_forked_after_the_client_was_closed_gets_answers(
    fake: FakeServer, kind: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, fake.address, kind, "closed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
