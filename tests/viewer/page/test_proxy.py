"""The page in Chromium behind a proxy's prefix, and another page that tries to use its server."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page

import viewer_page as seen
from prefix_proxy import prefix_proxy
from viewer_process import ViewerProcess

pytestmark = pytest.mark.browser


def test_the_page_works_under_the_prefix_of_a_proxy(
    open_page: Callable[..., Page], viewer: ViewerProcess, film: Path
) -> None:
    with prefix_proxy(viewer.url, "/all/films/") as url:
        page = open_page(url)
        card = page.get_by_role("region", name="Open a chest radiograph")
        card.get_by_role("button", name="phantom-pneumothorax-2.png").click()
        seen.expect_film(page, "phantom-pneumothorax-2.png")
        seen.choose(page, film)
        page.close()


class Other(BaseHTTPRequestHandler):
    """A page of another server on this machine: the same site, another origin."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title>")

    def log_message(self, *_: object) -> None:
        pass


TRY = """async (url) => {
    const tries = { read: {}, blind: { mode: "no-cors" } };
    const answers = {};
    for (const [name, options] of Object.entries(tries)) {
        for (const method of ["GET", "POST"]) {
            const path = method === "GET" ? "api/state" : "api/explanations";
            answers[`${name} ${method}`] = await fetch(url + path, { ...options, method })
                .then(() => "answered", () => "refused");
        }
    }
    const load = (tag, source) => new Promise((resolve) => {
        const element = document.createElement(tag);
        element.onload = () => resolve("loaded");
        element.onerror = () => resolve("refused");
        element.src = url + source;
        document.head.append(element);
    });
    answers.image = await load("img", "icon.svg");
    answers.script = await load("script", "api.js");
    return answers;
}"""


def test_another_page_of_the_same_machine_is_refused_everything(
    browser: Browser, viewer: ViewerProcess
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            other = browser.new_page()
            other.goto(f"http://127.0.0.1:{server.server_port}/")
            answers = other.evaluate(TRY, viewer.url)
            other.close()
        finally:
            server.shutdown()
            thread.join()
    assert len(answers) == 6
    assert set(answers.values()) == {"refused"}
