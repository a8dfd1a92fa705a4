"""Looking: pointer, zoom, pan, grey window and comparison."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FloatRect, Page, expect

import viewer_page as seen
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import Client
from cxr_client.testing import FakeServer, default_answer
from viewer_process import ViewerProcess

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
Serve = Callable[..., ViewerProcess]


def place(page: Page, letter: str = "A") -> FloatRect:
    """Return where a canvas is on the page."""
    box = seen.canvas(page, letter).bounding_box()
    assert box
    return box


def point(page: Page, x: float, y: float, letter: str = "A") -> str:
    """Point at a place of a canvas, in shares of its sides; return what is said of it."""
    box = place(page, letter)
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    return seen.readout(page, letter).inner_text()


def numbers(text: str) -> dict[str, float]:
    """Return x, y, grey, logits, row and column of a reading."""
    found = re.search(
        r"(-?[\d.]+) logits\s+x (\d+)\s+y (\d+)\s+grey (\d+)\s+row (\d+)\s+column (\d+)",
        text.replace("\N{MINUS SIGN}", "-"),
    )
    assert found, text
    names = ("logits", "x", "y", "grey", "row", "column")
    return dict(zip(names, map(float, found.groups()), strict=True))


def test_the_value_under_the_pointer_is_that_of_image_and_evidence(
    page: Page, client: Client, film: Path
) -> None:
    seen.choose(page, film)
    grid = client.explain(film, labels="Cardiomegaly")["Cardiomegaly"].evidence.to_numpy()
    greys = np.asarray(Image.open(film))
    for x, y in ((0.5, 0.5), (0.45, 0.7)):
        said = numbers(point(page, x, y))
        assert said["grey"] == greys[int(said["y"]), int(said["x"])]
        row, column = int(said["y"] * 7 / 512), int(said["x"] * 7 / 512)
        assert (said["row"], said["column"]) == (row + 1, column + 1)
        assert said["logits"] == pytest.approx(grid[row, column], abs=0.006)
    page.mouse.move(2, 2)
    expect(seen.readout(page)).to_be_empty()


@pytest.mark.parametrize("width_px", [390, 1024, 1600])
def test_the_value_under_the_pointer_is_not_cut_off_beside_another_picture(
    open_page: OpenPage, viewer: ViewerProcess, film: Path, width_px: int
) -> None:
    page = open_page(viewer.url, viewport={"width": width_px, "height": 844})
    seen.choose(page, film)
    page.keyboard.press("c")
    seen.canvas(page).scroll_into_view_if_needed()
    height_px = place(page)["height"]
    numbers(point(page, 0.5, 0.5))
    fits = "text => text.scrollWidth <= text.clientWidth && text.scrollHeight <= text.clientHeight"
    for letter in "AB":
        assert seen.readout(page, letter).evaluate(fits)
    assert place(page)["height"] == height_px


def test_many_findings_scroll_in_their_panel_and_not_the_page(
    open_page: OpenPage, serve: Serve
) -> None:
    description = default_answer(pb.DescribeModelRequest())
    assert isinstance(description, pb.DescribeModelResponse)
    for number in range(15):
        description.findings.add(label=f"Finding {number}", class_index=3 + number)

    def many(request: pb.ExplainRequest) -> pb.ExplainResponse:
        answer = default_answer(request)
        assert isinstance(answer, pb.ExplainResponse)
        del answer.findings[:]
        answer.findings.extend(each.finding for each in answer.explanations)
        return answer

    with FakeServer() as server:
        server.answer("DescribeModel", lambda _: description)
        server.answer("Explain", many)
        page = open_page(serve(server.address).url, viewport={"width": 1366, "height": 625})
        seen.choose(page, seen.payload("any.png", b"\x89PNG\r\n\x1a\n"))
        expect(seen.findings(page)).to_have_count(18)
        assert page.evaluate("document.documentElement.scrollHeight - innerHeight") == 0


def test_outside_of_the_crop_the_pointer_reads_no_evidence(page: Page, folder: Path) -> None:
    seen.choose(page, folder / "wide.jpg")
    box = place(page)
    share = 0.08 if box["width"] * 480 <= box["height"] * 720 else 0.3
    assert "not seen by the network" in point(page, share, 0.5)
    assert "logits" in point(page, 0.5, 0.5)


def test_wheel_keys_and_buttons_zoom_and_fit_shows_everything_again(page: Page, film: Path) -> None:
    seen.choose(page, film)
    whole = seen.drawn(page)
    point(page, 0.5, 0.5)
    page.mouse.wheel(0, -400)
    by_wheel = seen.drawn(page)
    assert (by_wheel != whole).mean() > 0.2
    page.get_by_role("button", name="Zoom out").click()
    assert (seen.drawn(page) != by_wheel).mean() > 0.1
    page.get_by_role("button", name="Fit").click()
    page.mouse.move(2, 2)
    np.testing.assert_array_equal(seen.drawn(page), whole)
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert (seen.drawn(page) != whole).mean() > 0.2
    page.keyboard.press("0")
    np.testing.assert_array_equal(seen.drawn(page), whole)


def test_a_place_stays_under_the_pointer_when_the_wheel_zooms_there(page: Page, film: Path) -> None:
    seen.choose(page, film)
    before = numbers(point(page, 0.4, 0.6))
    page.mouse.wheel(0, -500)
    seen.drawn(page)
    after = numbers(seen.readout(page).inner_text())
    assert after["x"] == pytest.approx(before["x"], abs=1)
    assert after["y"] == pytest.approx(before["y"], abs=1)


def test_what_is_read_is_under_the_pointer_wherever_zoom_and_fit_move_the_film(
    page: Page, film: Path
) -> None:
    seen.choose(page, film)

    def expect_what_lies_there(x: float, y: float) -> None:
        seen.drawn(page)
        said = seen.readout(page).inner_text()
        point(page, x + 0.1, y)
        assert said == point(page, x, y)

    point(page, 0.25, 0.25)
    page.mouse.wheel(0, -800)
    expect_what_lies_there(0.25, 0.25)
    before = numbers(point(page, 0.7, 0.6))
    page.keyboard.press("+")
    assert numbers(seen.readout(page).inner_text()) != before
    expect_what_lies_there(0.7, 0.6)
    page.keyboard.press("0")
    expect_what_lies_there(0.7, 0.6)


def test_a_double_click_zooms_in_there_and_the_next_one_fits(page: Page, film: Path) -> None:
    seen.choose(page, film)
    before = numbers(point(page, 0.4, 0.6))
    box = place(page)
    at = (box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.dblclick(*at)
    expect(page.locator("#zoom")).to_have_text("2.5x")
    after = numbers(seen.readout(page).inner_text())
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=2)
    page.mouse.dblclick(*at)
    expect(page.locator("#zoom")).to_have_text("1.0x")


def test_dragging_moves_a_zoomed_film(page: Page, film: Path) -> None:
    seen.choose(page, film)
    before = numbers(point(page, 0.5, 0.5))
    page.mouse.wheel(0, -800)
    page.mouse.down()
    box = place(page)
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    page.mouse.up()
    dragged = numbers(seen.readout(page).inner_text())
    assert dragged["x"] == pytest.approx(before["x"], abs=2)  # the film went with the pointer
    middle = numbers(point(page, 0.5, 0.5))
    assert middle["x"] < before["x"] - 5
    assert middle["y"] < before["y"] - 5


def test_two_fingers_zoom_and_one_moves_a_zoomed_film(
    open_page: OpenPage, viewer: ViewerProcess, film: Path
) -> None:
    page = open_page(viewer.url, viewport={"width": 390, "height": 844}, has_touch=True)
    seen.choose(page, film)
    seen.canvas(page).scroll_into_view_if_needed()
    box, touches = place(page), page.context.new_cdp_session(page)

    def touch(kind: str, *shares: tuple[float, float]) -> None:
        points = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": finger}
            for finger, (x, y) in enumerate(shares)
        ]
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0.45, 0.5), (0.55, 0.5))
    for apart in (0.1, 0.2, 0.3):
        touch("touchMove", (0.5 - apart, 0.5), (0.5 + apart, 0.5))
    touch("touchEnd")
    zoomed = seen.drawn(page)
    # The controls are closed on a phone, so that the zoom is there but not in sight.
    expect(page.locator("#zoom")).to_have_text(re.compile(r"^(5\.[5-9]|6\.[0-5])x$"))
    touch("touchStart", (0.5, 0.5))
    touch("touchMove", (0.4, 0.45))
    start = numbers(seen.readout(page).text_content() or "")
    touch("touchMove", (0.2, 0.3))
    touch("touchEnd")
    assert (seen.drawn(page) != zoomed).mean() > 0.2
    end = numbers(seen.readout(page).text_content() or "")
    assert (end["x"], end["y"]) == pytest.approx((start["x"], start["y"]), abs=2)
    assert page.evaluate("scrollY") == 0


def test_the_grey_window_is_set_by_dragging_and_by_sliders_and_changes_no_score(
    page: Page, film: Path
) -> None:
    seen.choose(page, film)
    full = seen.drawn(page)
    score = seen.chosen(page).inner_text()
    asked = seen.requests_of(page)
    level, width = page.get_by_label("Level"), page.get_by_label("Width")
    start = level.input_value(), width.input_value()
    box = place(page)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 60, box["y"] + box["height"] / 2 - 40, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.mouse.move(2, 2)
    assert (seen.drawn(page) != full).mean() > 0.2
    assert (level.input_value(), width.input_value()) != start
    page.get_by_role("button", name="Reset").click()
    np.testing.assert_array_equal(seen.drawn(page), full)
    seen.set_slider(level, 60)
    assert (seen.drawn(page) != full).mean() > 0.2
    assert seen.chosen(page).inner_text() == score
    assert asked == []


def test_two_findings_of_a_film_are_compared_side_by_side(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.get_by_label("Compare").check()
    seen.expect_map(page, "Cardiomegaly", "A")
    seen.expect_map(page, "Effusion", "B")
    assert place(page, "A")["x"] + place(page, "A")["width"] <= place(page, "B")["x"]
    seen.finding(page, "Nodule").click()
    seen.expect_map(page, "Nodule", "B")
    seen.expect_map(page, "Cardiomegaly", "A")
    page.get_by_role("button", name=re.compile("^A ")).click()
    seen.finding(page, "Effusion").click()
    seen.expect_map(page, "Effusion", "A")
    seen.expect_map(page, "Nodule", "B")
    page.get_by_label("Compare").uncheck()
    expect(seen.pane(page, "B")).to_be_hidden()
    seen.expect_map(page, "Effusion", "A")


def test_a_comparison_starts_and_ends_with_the_zoom_and_window_that_were_chosen(
    page: Page, film: Path
) -> None:
    seen.choose(page, film)
    point(page, 0.3, 0.4)
    page.mouse.wheel(0, -600)
    seen.set_slider(page.get_by_label("Level"), 60)
    page.mouse.move(2, 2)
    zoomed = seen.drawn(page)
    page.get_by_label("Compare").check()
    seen.expect_map(page, "Effusion", "B")
    left, right = seen.drawn(page, "A"), seen.drawn(page, "B")
    width_px = min(left.shape[1], right.shape[1])  # an odd pixel is one pane's
    left, right = left[:, :width_px], right[:, :width_px]
    # Where no heat lies, both show the same part of the film in the same window.
    grey = (np.ptp(left, axis=2) == 0) & (np.ptp(right, axis=2) == 0)
    assert grey.mean() > 0.05
    assert np.abs(left - right)[grey].mean() < 3
    page.get_by_label("Compare").uncheck()
    np.testing.assert_array_equal(seen.drawn(page), zoomed)


def test_two_films_are_compared_by_the_same_finding_with_one_zoom(page: Page, folder: Path) -> None:
    seen.choose(page, folder / "cardiomegaly-effusion-7.png", folder / "effusion-1.png")
    page.get_by_label("Compare").check()
    page.get_by_role("button", name="effusion-1.png", exact=True).click()
    seen.expect_film(page, "effusion-1.png", "B")
    seen.expect_film(page, "cardiomegaly-effusion-7.png", "A")
    expect(seen.canvas(page, "B")).to_have_accessible_name(re.compile("map of Cardiomegaly"))
    left = numbers(point(page, 0.5, 0.5, "A"))
    right = numbers(seen.readout(page, "B").inner_text())
    assert (left["x"], left["y"]) == (right["x"], right["y"])
    before = seen.drawn(page, "B")
    page.mouse.wheel(0, -500)
    assert (seen.drawn(page, "B") != before).mean() > 0.2


def test_the_evidence_can_be_read_with_the_keyboard(page: Page, client: Client, film: Path) -> None:
    seen.choose(page, film)
    grid = client.explain(film, labels="Cardiomegaly")["Cardiomegaly"].evidence.to_numpy()
    seen.canvas(page).focus()
    page.keyboard.press("ArrowLeft")
    said = numbers(seen.readout(page).inner_text())
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    assert (said["row"], said["column"]) == (row + 1, column + 1)
    page.keyboard.press("ArrowLeft")
    assert numbers(seen.readout(page).inner_text())["column"] == column
