"""Comparing: each of two pictures keeps its film, its values, its model and its failure."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

import viewer_page as seen
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, default_answer
from viewer_process import ViewerProcess

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
Serve = Callable[..., ViewerProcess]
PNG = b"\x89PNG\r\n\x1a\n"


def pick(page: Page, letter: str) -> None:
    """Make a picture the one that films and findings are opened in."""
    page.get_by_role("button", name=re.compile(f"^{letter} ")).click()


def busy(route: Route) -> None:
    """Answer that the web server is busy; the page asks again after a second."""
    error = {"reason": "OVERLOADED", "message": "Busy.", "retry_after_s": 1}
    route.fulfill(json={"error": error})


def test_a_film_that_failed_is_opened_again_in_its_own_picture(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.get_by_label("Compare").check()
    page.route("**/explanation*", busy)
    page.get_by_role("button", name="phantom-nothing-6.png", exact=True).click()
    expect(seen.problem(page)).to_contain_text("The server is busy")
    pick(page, "A")
    page.unroute("**/explanation*")
    seen.expect_film(page, "phantom-nothing-6.png", "B")
    seen.expect_film(page, film.name, "A")
    expect(seen.current_film(page)).to_have_text(film.name)


def test_a_problem_goes_with_its_picture(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.get_by_label("Compare").check()
    page.route("**/explanation*", busy)
    page.get_by_role("button", name="phantom-nothing-6.png", exact=True).click()
    expect(seen.problem(page)).to_be_visible()
    page.get_by_label("Compare").uncheck()
    expect(seen.problem(page)).to_be_hidden()
    seen.expect_film(page, film.name)


def test_a_comparison_can_be_ended_while_its_first_picture_has_no_answer(
    page: Page, film: Path
) -> None:
    seen.choose(page, film)
    page.get_by_label("Compare").check()
    pick(page, "A")
    seen.give(page, seen.payload("empty.png", b""))
    seen.problem(page).get_by_role("button", name="Close").click()
    page.get_by_label("Compare").uncheck()
    expect(seen.pane(page, "B")).to_be_hidden()
    expect(page.get_by_role("heading", name="Open a chest radiograph")).to_be_visible()


def test_each_picture_has_its_own_dicom_values(page: Page, folder: Path) -> None:
    seen.choose(page, folder / "film.dcm")
    page.get_by_label("Compare").check()
    page.get_by_text("Image", exact=True).click()
    values = page.get_by_label("DICOM values")
    values.select_option("Stored")
    expect(page.get_by_text("stored values")).to_be_visible()
    assert "STORED" in seen.copy(page, "Python")
    pick(page, "A")
    expect(values).to_have_value("as-shown")
    assert "STORED" not in seen.copy(page, "Python")
    asked = seen.requests_of(page)
    page.get_by_label("Network input").check()
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
    read = sorted(re.findall(r"presentation=([\w-]+)", "".join(asked)))
    assert read == ["as-shown", "stored"]
    pick(page, "B")
    expect(values).to_have_value("stored")


def test_of_values_that_are_changed_again_at_once_only_the_last_are_shown(
    page: Page, folder: Path
) -> None:
    seen.choose(page, folder / "film.dcm")
    values = page.locator("#presentation")
    page.get_by_text("Image", exact=True).click()
    page.route("**/explanations?presentation=stored*", lambda _: None)  # Never answered.
    with page.expect_request("**/explanations?presentation=stored*"):
        values.select_option("Stored")
    with page.expect_event("requestfailed"):
        # By then, the list is out of sight.
        values.select_option("As shown", force=True)
    seen.expect_film(page, "film.dcm")
    expect(page.locator("[data-facts=image]")).to_contain_text("as shown")
    expect(values).to_have_value("as-shown")


def test_both_pictures_show_the_answers_of_another_model_once_it_serves(
    open_page: OpenPage, serve: Serve
) -> None:
    version = "1"

    def described(_: pb.DescribeModelRequest) -> pb.DescribeModelResponse:
        answer = default_answer(pb.DescribeModelRequest())
        assert isinstance(answer, pb.DescribeModelResponse)
        answer.model.version = version
        return answer

    def explained(request: pb.ExplainRequest) -> pb.ExplainResponse:
        answer = default_answer(request)
        assert isinstance(answer, pb.ExplainResponse)
        answer.model.version = version
        return answer

    with FakeServer() as server:
        server.answer("DescribeModel", described)
        server.answer("Explain", explained)
        page = open_page(serve(server.address).url)
        seen.choose(page, seen.payload("a.png", PNG), seen.payload("b.png", PNG))
        page.get_by_label("Compare").check()
        page.get_by_role("button", name="b.png", exact=True).click()
        seen.expect_film(page, "b.png", "B")
        seen.finding(page, "Nodule").click()
        version = "2"
        expect(page.get_by_role("banner").get_by_role("status")).to_contain_text("fake 2")
        for letter, name, label in (("B", "b.png", "Nodule"), ("A", "a.png", "Effusion")):
            pick(page, letter)
            seen.expect_film(page, name, letter)
            seen.expect_map(page, label, letter)
            _, saved = seen.save(page, "JSON")
            assert json.loads(saved)["model"]["version"] == "2"
