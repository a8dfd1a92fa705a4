"""The page for everybody: keyboard alone, large text, reduced motion, and nothing that jumps."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import viewer_page as seen

pytestmark = pytest.mark.browser


def test_reduced_motion_stops_every_animation(page: Page, film: Path) -> None:
    page.emulate_media(reduced_motion="reduce")
    seen.choose(page, film)
    page.get_by_role("button", name="Help").click()
    moving = page.evaluate(
        """[...document.querySelectorAll("*")]
            .map((node) => getComputedStyle(node))
            .filter((style) => parseFloat(style.transitionDuration) > 0.01
                || (style.animationName !== "none" && parseFloat(style.animationDuration) > 0.01))
            .length"""
    )
    assert moving == 0


def test_text_of_twice_the_size_fits_without_sideways_scrolling(page: Page, film: Path) -> None:
    # Zoom of 200 % halves the page's width in CSS pixels.
    page.set_viewport_size({"width": 640, "height": 450})
    seen.choose(page, film)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    session = page.context.new_cdp_session(page)
    page.set_viewport_size({"width": 1280, "height": 900})
    session.send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for text in page.locator(".finding [data-field=label]").all():
        assert text.evaluate("node => node.scrollWidth <= node.clientWidth + 1")


def test_every_control_is_reached_and_used_with_the_keyboard(page: Page, film: Path) -> None:
    seen.choose(page, film)
    names: list[str] = []
    page.locator("body").press("Tab")
    for _ in range(80):
        focused = page.evaluate(
            """() => {
                const node = document.activeElement;
                const style = getComputedStyle(node.matches("input[type=radio], input[type=file]")
                    ? node.parentElement : node);
                return [node.tagName, node.id, node.name ?? "", node.dataset.setting ?? "",
                    node.textContent.trim().slice(0, 30)].join(" ");
            }"""
        )
        if focused.startswith("BODY"):
            break
        names.append(focused)
        page.keyboard.press("Tab")
    said = "\n".join(names)
    for part in (
        "choose-files",
        "choose-folder",
        "next",
        "zoom-in",
        "zoom-fit",
        "heatOn",
        "opacity",
        "colorMap",
        "fixedScaleLogits",
        "contours",
        "negative",
        "frame",
        "crop",
        "regions",
        "peak",
        "compare",
        "level",
        "width",
        "CANVAS",
        "theme",
        "open-help",
        "PNG",
        "JSON",
        "CSV",
        "grpcurl",
        "Python",
        "SUMMARY",
    ):
        assert part in said, part
    page.keyboard.press("?")
    help_dialog = page.get_by_role("dialog", name="Help")
    expect(help_dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(help_dialog).to_be_hidden()


def test_keys_of_one_letter_can_be_switched_off(page: Page, film: Path) -> None:
    seen.choose(page, film)
    page.keyboard.press("?")
    page.get_by_label("Single-letter keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    expect(page.get_by_role("checkbox", name="Shown")).to_be_checked()
    page.keyboard.press("ArrowDown")
    seen.expect_map(page, "Effusion")


def test_the_theme_follows_the_system_until_it_is_chosen_and_is_kept(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    assert dark != light
    page.get_by_role("button", name=re.compile("^(Light|Dark)$")).click()
    assert page.evaluate(ground) == dark
    page.reload()
    assert page.evaluate(ground) == dark


def test_nothing_moves_when_a_film_is_answered(page: Page, film: Path) -> None:
    page.evaluate(
        """window.shift = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    seen.choose(page, film)
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    seen.drawn(page)
    assert page.evaluate("window.shift") < 0.01
