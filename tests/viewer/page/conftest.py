"""Fixtures: the page in Chromium, before a real web server and a real model server."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from chromium import TIMEOUT_MS, Watch, chromium
from cxr_client import Client
from cxr_server.bundles.store import SAMPLES_PATH
from dicom_files import dicom
from images import chest_like, jpeg
from serving import ServerProcess
from viewer_process import ViewerProcess

OpenPage = Callable[..., Page]
"""Opens a page in a context of its own: `open_page(url, viewport=..., color_scheme=...)`."""


Serve = Callable[..., ViewerProcess]
"""Starts `cxr view` with these arguments."""


@pytest.fixture(scope="session")
def viewer(phantom_server: ServerProcess) -> Iterator[ViewerProcess]:
    """One web server before the shared phantom server."""
    with ViewerProcess(phantom_server.address) as viewer:
        yield viewer
        assert viewer.stop() == 0


@pytest.fixture(scope="session")
def client(phantom_server: ServerProcess) -> Iterator[Client]:
    """A client of the shared phantom server, for what the page must say."""
    with Client(phantom_server.address) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a module: while Playwright runs, no test with asyncio can."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start `cxr view` with these arguments, until the pages of the test are closed."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(ViewerProcess(*arguments))


@pytest.fixture
def open_page(browser: Browser, serve: Serve) -> Iterator[OpenPage]:
    """Open pages that must neither print into the console nor ask anything of another address."""
    opened = []

    def new(url: str, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options}
        context = browser.new_context(**options)
        context.set_default_timeout(TIMEOUT_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened.append((context, Watch(context, url)))
        page = context.new_page()
        page.goto(url)
        return page

    yield new
    for context, watch in opened:
        context.close()
        assert watch.console == []
        assert watch.outside == []


@pytest.fixture
def page(open_page: OpenPage, viewer: ViewerProcess) -> Page:
    """The page as it opens."""
    return open_page(viewer.url)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of films: drawn ones, a wide JPEG, DICOM, and files that are no films."""
    folder = tmp_path_factory.mktemp("films")
    for sample in ("cardiomegaly-effusion-7", "effusion-1", "mass-4"):
        shutil.copy(SAMPLES_PATH / f"phantom-{sample}.png", folder / f"{sample}.png")
    (folder / "wide.jpg").write_bytes(jpeg(chest_like(480, 720), quality=95))
    film = dicom(16 * chest_like(300, 300).astype("uint16"), 12)
    (folder / "film.dcm").write_bytes(film)
    (folder / "notes.txt").write_text("no film")
    return folder


@pytest.fixture(scope="session")
def film(folder: Path) -> Path:
    """A drawn film with two findings above their decision boundary."""
    return folder / "cardiomegaly-effusion-7.png"
