"""The page of `cxr report`: to sort, to filter, to print, without a script, and for everybody."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from chromium import violations
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, default_answer, failure
from cxr_command import cxr_process

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>.png"
SCORES = {
    "film2.png": (0.75, 0.25, 0.125),
    "film10.png": (0.3, 0.6, 0.9),
    HOSTILE: (0.45, 0.2, 0.1),
}
"""The scores of Effusion, Cardiomegaly and Nodule in each film."""


def answer(request: Any) -> Any:
    """The scores of a film, which its length tells; the second film has a warning."""
    answered: Any = default_answer(request)
    scores = list(SCORES.values())[len(request.image) - 1]
    for finding, score in zip(answered.findings, scores, strict=True):
        finding.score, finding.above_threshold = score, score >= 0.5
    ranked = sorted(answered.findings, key=lambda finding: -finding.score)
    del answered.findings[:]
    answered.findings.extend(ranked)
    answered.explanations[0].finding.CopyFrom(ranked[0])
    if len(request.image) == 2:
        answered.warnings.add(code=pb.WARNING_CODE_CROPPED, message="It was cropped.")
    return answered


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on three films and one that fails; Nodule is a weak finding."""
    folder = tmp_path_factory.mktemp("report")
    films = folder / "films"
    films.mkdir()
    (films / "0.png").write_bytes(b"broken")
    for length, name in enumerate(SCORES, start=1):
        (films / name).write_bytes(b"f" * length)
    described: Any = default_answer(pb.DescribeModelRequest())
    described.findings[2].reliability = pb.RELIABILITY_WEAK
    with FakeServer() as server:
        server.answer("Explain", answer)
        server.answer("DescribeModel", described)
        server.script(failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE"), rpc="Explain")
        words = ["--jobs", 1, "--output", folder / "report.html", "--server", server.address]
        assert cxr_process("report", *words, films).returncode == 1
    return folder / "report.html"


@pytest.fixture
def page(open_page: Callable[..., Page], report: Path) -> Page:
    """The report in a window of a desktop."""
    return open_page(report.as_uri())


def shown(page: Page) -> list[str]:
    """The names of the files that are shown, in order."""
    return page.locator("tbody tr:visible .name").all_text_contents()


def column(page: Page, name: str) -> Locator:
    return page.get_by_role("columnheader", name=name)


def test_columns_are_sorted_by_click_and_tell_their_direction(page: Page) -> None:
    assert shown(page) == [HOSTILE, "film10.png", "film2.png", "0.png"]
    page.get_by_role("button", name="Score").click()
    assert shown(page)[:3] == ["film10.png", "film2.png", HOSTILE]
    expect(column(page, "Score")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name="Score").click()
    assert shown(page)[:3] == [HOSTILE, "film2.png", "film10.png"]
    expect(column(page, "Score")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("button", name="Warnings").click()
    assert shown(page)[0] == "film10.png"
    expect(page.locator("[aria-sort]")).to_have_count(1)


def test_columns_are_sorted_by_keys_and_numbers_in_names_count_as_numbers(page: Page) -> None:
    button = page.get_by_role("button", name="File", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    names = shown(page)
    assert names.index("film2.png") < names.index("film10.png")
    expect(column(page, "File").first).to_have_attribute("aria-sort", "ascending")
    page.keyboard.press("Space")
    names = shown(page)
    assert names.index("film10.png") < names.index("film2.png")
    expect(button).to_be_focused()


def test_the_chosen_finding_leads_each_film_and_is_what_score_sorts_by(page: Page) -> None:
    page.get_by_label("Finding").select_option("Nodule")
    page.get_by_role("button", name="Score of Nodule").click()
    assert shown(page)[:3] == ["film10.png", "film2.png", HOSTILE]
    first = page.locator("#films .chosen")
    assert [text.split() for text in first.all_inner_texts()] == [
        ["Nodule", "weak", "0.900"],
        ["Nodule", "weak", "0.125"],
        ["Nodule", "weak", "0.100"],
    ]
    expect(page.locator("#films .scores li:visible", has_text="Nodule")).to_have_count(3)
    page.get_by_label("Finding").select_option("Highest score")
    expect(page.locator(".chosen")).to_have_count(0)


def test_filters_show_the_films_above_the_boundary_with_warnings_or_failed(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("4 of 4 files shown")
    page.get_by_role("radio", name="Above 0.5").check()
    assert sorted(shown(page)) == ["film10.png", "film2.png"]
    page.get_by_label("Finding").select_option("Effusion")
    assert shown(page) == ["film2.png"]
    expect(page.get_by_role("radio", name="Above 0.5 1")).to_be_checked()
    page.get_by_role("radio", name="Above 0.5").focus()
    page.keyboard.press("ArrowRight")
    assert shown(page) == ["film10.png"]
    expect(page.get_by_role("radio", name="With warnings 1")).to_be_checked()
    page.keyboard.press("ArrowRight")
    assert shown(page) == ["0.png"]
    expect(page.get_by_role("status")).to_have_text("1 of 4 files shown")


def test_a_part_of_the_name_finds_a_film(page: Page) -> None:
    page.get_by_role("searchbox", name="File name").fill("FILM1")
    assert shown(page) == ["film10.png"]
    page.get_by_role("searchbox", name="File name").fill("nothing")
    assert shown(page) == []
    expect(page.get_by_role("status")).to_have_text("0 of 4 files shown")


def test_the_page_is_complete_without_a_script(
    open_page: Callable[..., Page], report: Path
) -> None:
    page = open_page(report.as_uri(), java_script_enabled=False)
    assert len(shown(page)) == 4
    expect(page.get_by_role("img")).to_have_count(3)
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.locator("form")).to_be_hidden()
    page.get_by_text("2 more").first.click()
    expect(page.locator("details[open] li")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width_px", [1600, 1024, 390])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(
    open_page: Callable[..., Page], report: Path, width_px: int, scheme: str
) -> None:
    viewport = {"width": width_px, "height": 800}
    page = open_page(report.as_uri(), viewport=viewport, color_scheme=scheme)
    page.get_by_label("Finding").select_option("Nodule")
    page.get_by_role("button", name="Score").click()
    page.locator("summary").first.click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width_px


@pytest.mark.parametrize("width_px", [1600, 390])
def test_the_notice_is_in_sight_wherever_the_page_is_scrolled_to(
    open_page: Callable[..., Page], report: Path, width_px: int
) -> None:
    page = open_page(report.as_uri(), viewport={"width": width_px, "height": 500})
    for part in ("films", "failures", "model"):
        page.locator(f"#{part}").scroll_into_view_if_needed()
        notice = page.get_by_role("contentinfo")
        expect(notice).to_be_in_viewport(ratio=1)
        expect(notice).to_have_text("Answered by a fake server: for tests of software only.")


def test_printed_it_is_light_and_has_the_notice_below_each_table(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    for section in ("films", "failures"):
        foot = page.locator(f"#{section} tfoot")
        expect(foot).to_be_visible()
        expect(foot).to_have_text("Answered by a fake server: for tests of software only.")
    expect(page.locator("form")).to_be_hidden()
    text = page.evaluate("getComputedStyle(document.querySelector('h1')).color")
    assert max(int(part) for part in text.strip("rgb()").split(",")) < 100
