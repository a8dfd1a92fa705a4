"""Films: every way to open one, and the strip in which one goes on to the next."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import viewer_page as seen
from cxr_client import Client
from cxr_server.bundles.store import SAMPLES_PATH
from images import png
from serving import ServerProcess
from viewer_process import ViewerProcess

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
Serve = Callable[..., ViewerProcess]
NAMES = ["cardiomegaly-effusion-7.png", "effusion-1.png", "film.dcm", "mass-4.png", "wide.jpg"]


def in_folder(folder: Path) -> list[str]:
    """Return what the films of a folder are called that was chosen or dropped."""
    return [f"{folder.name}/{name}" for name in NAMES]


def names(page: Page) -> list[str]:
    """Return the names of the films, in the order of the strip, without those of samples."""
    texts = [text.strip() for text in seen.films(page).all_text_contents()]
    return [text for text in texts if not text.startswith("phantom-")]


def test_the_page_opens_with_samples_and_says_what_can_be_opened(page: Page) -> None:
    expect(page).to_have_title("cxr-serve viewer")
    expect(page.get_by_role("heading", name="Open a chest radiograph")).to_be_visible()
    card = page.get_by_role("region", name="Open a chest radiograph")
    pictures = card.locator(".film img")
    expect(pictures).to_have_count(3)
    for picture in pictures.all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_a_sample_is_opened_by_a_click(page: Page) -> None:
    card = page.get_by_role("region", name="Open a chest radiograph")
    card.get_by_role("button", name="phantom-pneumothorax-2.png").click()
    seen.expect_film(page, "phantom-pneumothorax-2.png")
    expect(seen.chosen(page)).to_contain_text("Pneumothorax")
    expect(card).to_be_hidden()


def test_a_chosen_file_is_scored_and_shown(page: Page, film: Path) -> None:
    page.get_by_label("Choose files").set_input_files(film)
    seen.expect_film(page, film.name)
    expect(seen.current_film(page)).to_have_text(film.name)


def test_files_and_folders_are_opened_by_dropping_them(page: Page, folder: Path) -> None:
    seen.drop(page, folder / "mass-4.png", folder / "effusion-1.png")
    seen.expect_film(page, "mass-4.png")
    assert names(page) == ["mass-4.png", "effusion-1.png"]
    seen.drop(page, folder)
    seen.expect_film(page, in_folder(folder)[0])
    assert names(page) == ["mass-4.png", "effusion-1.png", *in_folder(folder)]


def test_films_of_one_name_size_and_time_are_told_apart(
    page: Page, tmp_path: Path, client: Client
) -> None:
    drawn = {"a": "effusion-1", "b": "cardiomegaly-0"}
    paths = {folder: tmp_path / "disc" / folder / "IM1.png" for folder in drawn}
    for folder, sample in drawn.items():
        with Image.open(SAMPLES_PATH / f"phantom-{sample}.png") as film:
            paths[folder].parent.mkdir(parents=True)
            film.convert("L").save(paths[folder], compress_level=0)
        os.utime(paths[folder], (1e9, 1e9))
    assert len({path.stat().st_size for path in paths.values()}) == 1
    best = {folder: client.predict(path).findings[0].label for folder, path in paths.items()}
    seen.drop(page, tmp_path / "disc")
    seen.expect_film(page, "disc/a/IM1.png")
    seen.expect_map(page, best["a"])
    page.keyboard.press("n")
    seen.expect_film(page, "disc/b/IM1.png")
    seen.expect_map(page, best["b"])
    for folder in drawn:
        seen.give(page, paths[folder])
        seen.expect_film(page, "IM1.png")
        seen.expect_map(page, best[folder])
    assert names(page) == ["disc/a/IM1.png", "disc/b/IM1.png", "IM1.png", "IM1.png"]


def test_a_file_that_is_opened_again_is_not_listed_again(page: Page, folder: Path) -> None:
    seen.drop(page, folder)
    seen.expect_film(page, in_folder(folder)[0])
    page.keyboard.press("n")
    seen.expect_film(page, in_folder(folder)[1])
    seen.drop(page, folder)
    seen.expect_film(page, in_folder(folder)[0])
    for _ in range(2):
        seen.choose(page, folder / "mass-4.png")
    assert names(page) == [*in_folder(folder), "mass-4.png"]


def test_a_picture_is_opened_by_pasting_it(page: Page) -> None:
    seen.paste_picture(page, png())
    seen.expect_film(page, "image.png")


def test_a_folder_is_opened_in_the_order_of_its_names_without_what_is_no_film(
    page: Page, folder: Path
) -> None:
    page.locator("#choose-folder").set_input_files(folder)
    opened = in_folder(folder)
    seen.expect_film(page, opened[0])
    assert names(page) == opened


def test_buttons_and_keys_go_to_the_next_and_the_previous_film(page: Page, folder: Path) -> None:
    page.locator("#choose-folder").set_input_files(folder)
    opened = in_folder(folder)
    seen.expect_film(page, opened[0])
    page.get_by_role("button", name="Next film").click()
    seen.expect_film(page, opened[1])
    page.keyboard.press("n")
    seen.expect_film(page, opened[2])
    page.keyboard.press("PageDown")
    seen.expect_film(page, opened[3])
    page.keyboard.press("PageUp")
    page.keyboard.press("p")
    seen.expect_film(page, opened[1])
    page.get_by_role("button", name="Previous film").click()
    seen.expect_film(page, opened[0])
    expect(seen.current_film(page)).to_have_text(opened[0])


def test_the_strip_is_one_stop_of_the_tab_key_and_arrows_go_from_film_to_film(
    page: Page, folder: Path
) -> None:
    page.locator("#choose-folder").set_input_files(folder)
    opened = in_folder(folder)
    seen.expect_film(page, opened[0])
    stop = page.locator("#films [tabindex='0']")
    expect(stop).to_have_count(1)
    expect(stop).to_have_text(opened[0])
    stop.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#films :focus")).to_have_text(opened[2])
    seen.expect_film(page, opened[0])
    page.keyboard.press("Enter")
    seen.expect_film(page, opened[2])
    page.keyboard.press("Home")
    expect(page.locator("#films :focus")).to_have_text(opened[0])
    page.keyboard.press("Tab")
    expect(page.locator("#films :focus")).to_have_count(0)
    expect(stop).to_have_text(opened[0])


def test_files_beyond_those_of_a_strip_are_told_of(page: Page) -> None:
    page.locator("#choose-files").evaluate(
        """(input) => {
            const data = new DataTransfer();
            for (let number = 0; number <= 2000; number++)
                data.items.add(new File(["no film"], `${number}.png`));
            input.files = data.files;
            input.dispatchEvent(new Event("change"));
        }"""
    )
    expect(page.locator("#films")).to_contain_text("The first 2,000 files: there are more.")
    expect(page.locator("#films .film").filter(has_not_text="phantom-")).to_have_count(2000)


def test_an_empty_folder_of_the_command_is_told_of(
    open_page: OpenPage, serve: Serve, phantom_server: ServerProcess, tmp_path: Path
) -> None:
    page = open_page(serve(phantom_server.address, tmp_path).url)
    expect(page.locator("#films")).to_contain_text("No DICOM, PNG or JPEG files.")


def test_a_film_that_was_shown_is_shown_again_without_a_request(page: Page, folder: Path) -> None:
    page.locator("#choose-folder").set_input_files(folder)
    opened = in_folder(folder)
    seen.expect_film(page, opened[0])
    for name in opened[1:]:
        page.keyboard.press("PageDown")
        seen.expect_film(page, name)
    asked = seen.requests_of(page)
    seen.films(page).first.click()
    seen.expect_film(page, opened[0])
    assert asked == []


def test_the_folder_of_the_command_is_listed_with_thumbnails_and_its_first_film_opened(
    open_page: Callable[..., Page],
    serve: Callable[..., ViewerProcess],
    phantom_server: ServerProcess,
    folder: Path,
) -> None:
    page = open_page(serve(phantom_server.address, folder).url)
    seen.expect_film(page, NAMES[0])
    assert names(page) == NAMES
    for picture in seen.films(page).locator("img").all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
