"""The tests in `page` need Playwright: `make install` brings it, `make install-test` does not."""

import importlib.util
from collections.abc import Iterator

import pytest

from cxr_client.testing import FakeServer

collect_ignore = [] if importlib.util.find_spec("playwright") else ["page"]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A model server of its own for each test, which answers as it is told."""
    with FakeServer(max_request_bytes=64 * 2**20) as server:
        yield server
