"""Failures: the page says what went wrong and what to do, and goes on by itself where it can."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

import viewer_page as seen
from clients import overload
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import Client, RenderOptions
from cxr_client.testing import FakeServer, Hold, Step, default_answer, failure
from cxr_server.bundles.store import SAMPLES_PATH
from process_tree import wait_until
from serving import ServerProcess
from trust.ports import free_port
from viewer_process import ViewerProcess

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
Serve = Callable[..., ViewerProcess]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.png", b"", "The file is empty"),
        ("broken.png", PNG + b"no picture", "The file can't be read"),
        ("letter.tiff", b"II*\x00 a picture of another format", "This format is not supported"),
    ],
)
def test_a_file_that_is_no_radiograph_is_refused_with_the_reason(
    page: Page, film: Path, name: str, data: bytes, said: str
) -> None:
    seen.give(page, seen.payload(name, data))
    expect(seen.problem(page)).to_contain_text(said)
    expect(seen.findings(page)).to_have_count(0)
    seen.choose(page, film)
    expect(seen.problem(page)).to_be_hidden()


def test_a_picture_with_a_heat_map_is_refused(page: Page, client: Client, film: Path) -> None:
    render = RenderOptions(legend=True)
    picture = client.explain(film, render=render).explanations[0].heatmap
    seen.give(page, seen.payload("map.png", picture))
    expect(seen.problem(page)).to_contain_text("This is a picture with a heat map")
    expect(seen.problem(page)).to_contain_text("Choose the radiograph that it shows")


def test_a_file_above_the_servers_limit_is_refused(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(33 << 20)
    seen.give(page, large)
    expect(seen.problem(page)).to_contain_text("The file is too large")
    expect(seen.problem(page)).to_contain_text("32 MiB")


def test_one_broken_file_of_many_is_marked_and_the_others_are_shown(page: Page, film: Path) -> None:
    seen.choose(page, film, seen.payload("broken.png", PNG))
    page.keyboard.press("n")
    expect(seen.problem(page)).to_contain_text("The file can't be read")
    expect(seen.current_film(page)).to_have_class(re.compile("failed"))
    page.keyboard.press("p")
    seen.expect_film(page, film.name)
    expect(seen.problem(page)).to_be_hidden()


def always(server: FakeServer, step: Step) -> None:
    """End every explanation with this failure; thumbnails are explanations as well."""
    server.script(*[step] * 10_000, rpc="Explain")


def test_a_full_server_is_asked_again_until_it_answers(open_page: OpenPage, serve: Serve) -> None:
    with FakeServer() as server:
        always(server, overload(0.05))
        page = open_page(serve(server.address, "--timeout", "1").url)
        seen.give(page, seen.payload("film.png", PNG))
        expect(seen.problem(page)).to_contain_text("The server is busy")
        server.stop()
        with FakeServer(address=server.address):
            seen.expect_film(page, "film.png")
            expect(seen.problem(page)).to_be_hidden()


def test_films_that_are_leafed_past_do_not_keep_the_server_busy(
    open_page: OpenPage, serve: Serve
) -> None:
    hold = Hold()
    with FakeServer() as server:
        server.script(*[hold] * 1000, rpc="Explain")
        page = open_page(serve(server.address).url)
        seen.give(page, *[seen.payload(f"{number}.png", PNG) for number in range(9)])
        expect(seen.current_film(page)).to_have_text("0.png")
        for number in range(1, 9):
            with page.expect_event("requestfailed"):  # That for the film before.
                page.keyboard.press("n")
            expect(seen.current_film(page)).to_have_text(f"{number}.png")
        hold.release()
        seen.expect_film(page, "8.png")
        expect(seen.problem(page)).to_be_hidden()


def test_each_film_that_fails_for_a_while_is_asked_for_again(page: Page) -> None:
    tried: set[bytes | None] = set()

    def busy_at_first(route: Route) -> None:
        body = route.request.post_data_buffer
        if "max_side_px" in route.request.url or body in tried:
            route.continue_()
            return
        tried.add(body)
        error = {"reason": "OVERLOADED", "message": "Busy.", "retry_after_s": 1}
        route.fulfill(json={"error": error})

    page.route("**/explanation*", busy_at_first)
    films = [*sorted(SAMPLES_PATH.glob("*.png"))[:7]]
    page.clock.install()
    for film in films:
        seen.give(page, film)
        expect(seen.problem(page)).to_contain_text("Try again (in 1 s)")
        page.clock.run_for(1100)
        seen.expect_film(page, film.name)


def test_an_unexpected_failure_names_the_request_and_can_be_tried_again(
    open_page: OpenPage, serve: Serve
) -> None:
    with FakeServer() as server:
        always(server, failure("INTERNAL", "INTERNAL", "an internal error"))
        page = open_page(serve(server.address).url)
        seen.give(page, seen.payload("film.png", PNG))
        expect(seen.problem(page)).to_contain_text("An internal error.")
        expect(seen.problem(page)).to_contain_text(re.compile(r"Request \w+"))
        server.stop()
        with FakeServer(address=server.address):
            seen.problem(page).get_by_role("button", name="Try again").click()
            seen.expect_film(page, "film.png")


def test_without_a_server_the_page_says_how_to_start_one_and_goes_on_when_it_is_there(
    open_page: OpenPage, serve: Serve
) -> None:
    address = f"127.0.0.1:{free_port()}"
    page = open_page(serve(address).url)
    expect(seen.problem(page)).to_contain_text(f"No server at {address}")
    expect(seen.problem(page)).to_contain_text(
        f"cxr-server serve --model phantom --listen {address}"
    )
    expect(page.get_by_role("banner").get_by_role("status")).to_contain_text("No server")
    with FakeServer(address=address):
        expect(seen.problem(page)).to_be_hidden()
        expect(page.get_by_role("banner").get_by_role("status")).to_contain_text("Serving")
        seen.give(page, seen.payload("film.png", PNG))
        seen.expect_film(page, "film.png")


def test_a_film_that_failed_while_the_server_was_down_is_shown_once_it_is_back(
    open_page: OpenPage, serve: Serve
) -> None:
    with FakeServer() as server:
        address = server.address
        page = open_page(serve(address).url)
        expect(page.get_by_role("banner").get_by_role("status")).to_contain_text("Serving")
        server.stop()
        seen.give(page, seen.payload("film.png", PNG))
        expect(seen.problem(page)).to_contain_text("The server does not answer")
        with FakeServer(address=address):
            seen.expect_film(page, "film.png")
            expect(seen.problem(page)).to_be_hidden()


def test_a_server_that_is_loading_is_waited_for(open_page: OpenPage, serve: Serve) -> None:
    serving = default_answer(pb.HealthRequest())
    with FakeServer() as server:
        server.answer("Health", pb.HealthResponse(status=pb.SERVING_STATUS_LOADING))
        page = open_page(serve(server.address).url)
        status = page.get_by_role("banner").get_by_role("status")
        expect(status).to_contain_text("Loading the model")
        expect(seen.problem(page)).to_contain_text("Wait until the model is loaded")
        server.answer("Health", serving)
        expect(status).to_contain_text("Serving")
        expect(seen.problem(page)).to_be_hidden()


def test_the_page_says_when_its_own_web_server_is_gone(
    browser: Browser, phantom_server: ServerProcess, film: Path
) -> None:
    with ViewerProcess(phantom_server.address) as viewer:
        context = browser.new_context()  # a lost connection is printed into the console
        page = context.new_page()
        page.goto(viewer.url)
        seen.choose(page, film)
        assert viewer.stop() == 0
        page.get_by_role("button", name="phantom-nothing-6.png", exact=True).click()
        expect(seen.problem(page)).to_contain_text("This page has lost its web server")
        context.close()


def test_when_its_web_server_was_started_again_the_page_goes_on_with_the_film_that_it_shows(
    browser: Browser, phantom_server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        shutil.copy(folder / "mass-4.png", tmp_path / name)
    context = browser.new_context()  # a lost connection is printed into the console
    page = context.new_page()
    with ViewerProcess(phantom_server.address, tmp_path) as viewer:
        page.goto(viewer.url)
        seen.expect_film(page, names[0])
        assert viewer.stop() == 0
    shutil.copy(folder / "effusion-1.png", tmp_path / names[0])
    port = urlsplit(viewer.url).port or 0
    with ViewerProcess(phantom_server.address, tmp_path, port=port):
        # The answer of the next film is there; that of the third is asked for by an id of before.
        for name in names[1:]:
            page.keyboard.press("n")
            seen.expect_film(page, name)
            expect(seen.current_film(page)).to_have_text(name)
        expect(seen.films(page)).to_have_count(len(names) + 3)
        seen.films(page).first.click()  # It was changed meanwhile.
        seen.expect_film(page, names[0])
        seen.expect_map(page, "Effusion")
        context.close()


def test_thumbnails_that_no_server_drew_are_drawn_once_it_is_back(
    open_page: OpenPage, serve: Serve, folder: Path
) -> None:
    with FakeServer() as server:
        address = server.address
    page = open_page(serve(address, folder, "--timeout", "1").url)
    expect(seen.problem(page)).to_be_visible()
    seen.give(page, *[seen.payload(f"{number}.png", PNG) for number in range(3)])
    expect(seen.problem(page)).to_contain_text("0.png")
    pictures = page.locator("#films img")
    drawn = "images => images.filter((image) => image.complete && image.naturalWidth).length"
    broken = """images => images.filter(
        (image) => image.src && image.complete && !image.naturalWidth).length"""
    wait_until(lambda: pictures.evaluate_all(broken) >= 3)
    assert pictures.evaluate_all(drawn) == 0
    with FakeServer(address=address):
        seen.expect_film(page, "0.png")
        opened = page.locator("#films .group").first.locator("img")
        wait_until(lambda: opened.evaluate_all(drawn) == 3)
        wait_until(lambda: pictures.evaluate_all(broken) == 0)
