"""Maps: drawn in the browser as the server draws them, in each colour, scale and frame."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, Route, expect

import viewer_page as seen
from cxr_client import Client, RenderOptions

pytestmark = pytest.mark.browser

MAX_DIFFERENCE = 2
"""Of 255: rounding, and the browser's blending in 8 bits."""


def saved(page: Page, height_px: int) -> NDArray[np.int16]:
    """Return the picture in the PNG that the page saves, without the caption below it."""
    _, content = seen.save(page, "PNG")
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.int16)[:height_px]


SQUARE = "**/api/explanations?*frame=model-input*"
"""Requests of what the network saw."""


def refuse(route: Route) -> None:
    """Answer a request with an error."""
    route.fulfill(json={"error": {"reason": "INTERNAL", "message": "No memory is free."}})


def answer_late(route: Route) -> None:
    """Answer a request after the picture was asked for."""
    route.request.frame.page.wait_for_timeout(500)
    route.continue_()


def served(client: Client, film: Path, label: str, **options: Any) -> NDArray[np.int16]:
    """Return the server's picture of a map."""
    render = RenderOptions(**{"frame": "ORIGINAL", **options})
    picture = client.explain(film, labels=label, render=render)[label].image()
    return np.asarray(picture.convert("RGB")).astype(np.int16)


def check(page: Page, name: str, *, on: bool) -> None:
    """Set a check box."""
    page.get_by_label(name, exact=True).set_checked(on)


@pytest.mark.parametrize("film_name", ["cardiomegaly-effusion-7.png", "wide.jpg"])
def test_a_saved_map_equals_the_picture_of_the_server(
    page: Page, client: Client, folder: Path, film_name: str
) -> None:
    film = folder / film_name
    seen.choose(page, film)
    check(page, "Peak", on=False)
    answer = client.explain(film)
    label = answer.explanations[0].finding.label
    seen.expect_map(page, label)
    colours = page.get_by_label("Colours")
    opacity = page.get_by_label("Opacity")

    def expect_same(**options: Any) -> None:
        expected = served(client, film, label, **options)
        difference = np.abs(saved(page, len(expected)) - expected)
        assert difference.max() <= MAX_DIFFERENCE, options

    expect_same()
    colours.select_option("Viridis")
    seen.set_slider(opacity, 0.8)
    expect_same(color_map="VIRIDIS", opacity=0.8)
    colours.select_option("Jet")
    page.get_by_role("radio", name="Fixed").check()
    expect_same(color_map="JET", opacity=0.8, scale="FIXED")
    page.get_by_role("spinbutton", name="Fixed at").fill("60")
    expect_same(color_map="JET", opacity=0.8, scale="FIXED", fixed_scale_logits=60)
    check(page, "Contours", on=True)
    expect_same(color_map="JET", opacity=0.8, scale="FIXED", fixed_scale_logits=60, contours=True)


def test_without_the_map_the_radiograph_is_shown_as_the_server_read_it(
    page: Page, client: Client, folder: Path
) -> None:
    film = folder / "wide.jpg"
    seen.choose(page, film)
    check(page, "Peak", on=False)
    check(page, "Shown", on=False)
    radiograph = client.explain(
        film, render=RenderOptions(kind="RADIOGRAPH", frame="ORIGINAL")
    ).radiograph
    expected = np.asarray(Image.open(io.BytesIO(radiograph)).convert("RGB")).astype(np.int16)
    np.testing.assert_array_equal(saved(page, len(expected)), expected)
    expect(seen.pane(page).locator(".legend")).to_be_hidden()


def test_evidence_against_a_finding_can_be_shown(page: Page, film: Path) -> None:
    seen.choose(page, film)
    seen.finding(page, "Pneumothorax").click()  # no evidence for it
    seen.expect_map(page, "Pneumothorax")
    bare = seen.drawn(page)
    assert np.ptp(bare, axis=2).max() == 0
    page.get_by_role("radio", name="Against").check()
    title = seen.pane(page).locator("[data-field=finding]")
    expect(title).to_have_text("Against Pneumothorax")
    against = seen.drawn(page)
    assert np.ptp(against, axis=2).max() > 30
    page.get_by_label("Compare").check()
    for letter in "AB":
        expect(seen.pane(page, letter).locator("[data-field=finding]")).to_contain_text("Against ")


def test_the_legend_is_in_logits_and_follows_the_scale(
    page: Page, client: Client, film: Path
) -> None:
    seen.choose(page, film)
    legend = seen.pane(page).locator(".legend")
    own = legend.inner_text()
    assert "logits" in own
    page.get_by_role("radio", name="Fixed").check()
    page.get_by_role("spinbutton", name="Fixed at").fill("60")
    expect(legend).to_contain_text(re.compile(r"^\s*0\D*60\D*logits"))


def test_the_frame_of_the_network_shows_what_it_saw_in_its_resolution(
    page: Page, client: Client, folder: Path
) -> None:
    film = folder / "wide.jpg"
    seen.choose(page, film)
    check(page, "Peak", on=False)
    check(page, "Contours", on=True)
    label = client.explain(film).explanations[0].finding.label
    expected = served(client, film, label, frame="MODEL_INPUT", contours=True)
    seen.expect_map(page, label)

    page.route(SQUARE, refuse)
    check(page, "Network input", on=True)
    expect(page.get_by_text("No memory is free.")).to_be_visible()
    page.route(SQUARE, answer_late)
    page.get_by_role("button", name="Try again").click()
    difference = np.abs(saved(page, len(expected)) - expected)
    assert difference.max() <= MAX_DIFFERENCE


def test_no_other_picture_is_saved_in_place_of_one_that_was_not_complete(
    page: Page, film: Path
) -> None:
    other, held = film.with_name("mass-4.png"), list[Route]()
    seen.choose(page, film, other)
    page.route(SQUARE, lambda route: held.append(route))
    check(page, "Network input", on=True)
    page.keyboard.press("s")
    page.keyboard.press("n")
    seen.expect_film(page, other.name)
    for route in held:
        route.continue_()
    expect(page.get_by_text("Not saved: another picture was opened")).to_be_visible()


@pytest.mark.parametrize("mark", ["Crop box", "Regions", "Peak"])
def test_marks_are_drawn_over_the_picture(page: Page, folder: Path, film: Path, mark: str) -> None:
    seen.choose(page, folder / "wide.jpg" if mark == "Crop box" else film)
    check(page, "Peak", on=False)
    without = seen.drawn(page)
    check(page, mark, on=True)
    changed = (seen.drawn(page) != without).any(axis=2)
    assert 0 < changed.mean() < 0.05
    check(page, mark, on=False)
    np.testing.assert_array_equal(seen.drawn(page), without)


def test_what_is_chosen_is_kept_for_the_next_visit(page: Page) -> None:
    page.get_by_label("Colours").select_option("Viridis")
    page.get_by_role("radio", name="Fixed").check()
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value("VIRIDIS")
    expect(page.get_by_role("radio", name="Fixed")).to_be_checked()
    stored = json.loads(page.evaluate("JSON.stringify(localStorage)"))
    assert "radiograph" not in json.dumps(stored).lower()
