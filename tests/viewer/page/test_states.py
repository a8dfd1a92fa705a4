"""Every state of the page: accessible, without sideways scrolling, and kept as screenshots.

The pictures lie in build/viewer, named by state, width in pixels and colour scheme.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import viewer_page as seen
from chromium import violations
from clients import overload
from cxr_client.testing import FakeServer, Hold
from images import chest_like, png
from serving import ServerProcess
from trust.ports import free_port
from viewer_process import ViewerProcess

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
Serve = Callable[..., ViewerProcess]

SHOTS = Path(__file__).parents[3] / "build" / "viewer"
WIDTHS_PX = {1600: 1000, 1024: 768, 390: 844}
PNG = b"\x89PNG\r\n\x1a\n"


def check_state(page: Page, name: str) -> None:
    """Check the page as it is in each width and colour scheme, and take its picture."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    found = {}
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        for width_px, height_px in WIDTHS_PX.items():
            page.set_viewport_size({"width": width_px, "height": height_px})
            here = f"{name}-{width_px}-{scheme}"
            page.screenshot(path=SHOTS / f"{here}.jpg", quality=90, animations="disabled")
            faults = violations(page) if width_px != 1024 else []
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                faults.append("scrolls sideways")
            found[here] = faults
    assert {here: faults for here, faults in found.items() if faults} == {}


def test_nothing_open(page: Page) -> None:
    expect(page.get_by_role("heading", name="Open a chest radiograph")).to_be_visible()
    check_state(page, "empty")


def test_a_film_is_being_read(open_page: OpenPage, serve: Serve) -> None:
    hold = Hold()
    with FakeServer() as server:
        server.script(*[hold] * 100, rpc="Explain")
        page = open_page(serve(server.address).url)
        seen.give(page, seen.payload("film.png", PNG))
        expect(page.get_by_role("complementary").get_by_role("status")).to_have_text(
            "Reading the film"
        )
        check_state(page, "reading")
        hold.release()
        seen.expect_film(page, "film.png")


def test_a_film_with_its_map(page: Page, film: Path) -> None:
    seen.choose(page, film)
    check_state(page, "film")


def test_a_wide_film_with_marks_and_contours(page: Page, folder: Path) -> None:
    seen.choose(page, folder / "wide.jpg")
    for mark in ("Regions", "Crop box", "Contours"):
        page.get_by_label(mark).check()
    page.get_by_label("Colours").select_option("Viridis")
    page.get_by_role("radio", name="Fixed").check()
    check_state(page, "marks")


def test_evidence_against_a_finding(page: Page, film: Path) -> None:
    seen.choose(page, film)
    seen.finding(page, "Pneumothorax").click()
    page.get_by_role("radio", name="Against").check()
    check_state(page, "against")


def test_an_empty_map(page: Page, film: Path) -> None:
    seen.choose(page, film)
    seen.finding(page, "Pneumothorax").click()
    check_state(page, "empty-map")


def test_two_findings_compared(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.get_by_label("Compare").check()
    seen.expect_map(page, "Effusion", "B")
    check_state(page, "findings-compared")


def test_two_films_compared(page: Page, folder: Path) -> None:
    seen.choose(page, folder / "cardiomegaly-effusion-7.png", folder / "effusion-1.png")
    page.get_by_label("Compare").check()
    page.get_by_role("button", name="effusion-1.png", exact=True).click()
    seen.expect_film(page, "effusion-1.png", "B")
    check_state(page, "films-compared")


def test_a_folder(
    open_page: OpenPage, serve: Serve, phantom_server: ServerProcess, folder: Path
) -> None:
    page = open_page(serve(phantom_server.address, folder).url)
    seen.expect_film(page, "cardiomegaly-effusion-7.png")
    page.keyboard.press("PageDown")
    seen.expect_film(page, "effusion-1.png")
    check_state(page, "folder")


def test_many_warnings(page: Page) -> None:
    pale = (chest_like(300, 700) // 8 + 100).astype("uint8")
    seen.choose(
        page, seen.payload("a-pale-film-with-a-very-long-name-from-an-archive.png", png(pale))
    )
    assert page.get_by_role("list", name="Warnings").get_by_role("listitem").count() > 2
    check_state(page, "warnings")


def test_all_facts(page: Page, folder: Path) -> None:
    seen.choose(page, folder / "film.dcm")
    for group in page.get_by_role("complementary").locator("summary").all():
        group.click()
    check_state(page, "facts")


def test_the_help(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    check_state(page, "help")


def test_files_over_the_page(page: Page, film: Path) -> None:
    seen.choose(page, film)
    seen.drag_over(page, film)
    expect(page.get_by_text("Drop to open")).to_be_visible()
    check_state(page, "drop")


def test_a_refused_file(page: Page, film: Path) -> None:
    seen.choose(page, film)
    seen.give(page, seen.payload("broken.png", PNG + b"no picture"))
    expect(seen.problem(page)).to_be_visible()
    check_state(page, "refused")


def test_a_busy_server(open_page: OpenPage, serve: Serve) -> None:
    with FakeServer() as server:
        server.script(*[overload(30)] * 1000, rpc="Explain")
        page = open_page(serve(server.address, "--timeout", "1").url)
        seen.give(page, seen.payload("film.png", PNG))
        expect(seen.problem(page)).to_contain_text("The server is busy")
        check_state(page, "busy")


def test_no_server(open_page: OpenPage, serve: Serve) -> None:
    page = open_page(serve(f"127.0.0.1:{free_port()}").url)
    expect(seen.problem(page)).to_be_visible()
    check_state(page, "no-server")


def test_the_controls_of_a_phone(page: Page, film: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    seen.choose(page, film)
    disclose = page.get_by_role("button", name="Controls")
    disclose.click()
    expect(disclose).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_label("Opacity")).to_be_visible()
    check_state(page, "controls")


def test_forced_colours(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.emulate_media(forced_colors="active")
    check_state(page, "forced-colours")
    bar = seen.findings(page).first.locator(".bar i")
    colour = "node => getComputedStyle(node).backgroundColor"
    assert bar.evaluate(colour) != seen.findings(page).first.evaluate(colour)
