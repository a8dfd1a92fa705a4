"""The page of `cxr view` as its users see it: what they read there, and what they do."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Download, FilePayload, Locator, Page, expect

Film = Path | FilePayload


def payload(name: str, data: bytes, mime: str = "application/octet-stream") -> FilePayload:
    """Return a file that exists in memory alone."""
    return {"name": name, "mimeType": mime, "buffer": data}


# --- what it says


def findings(page: Page) -> Locator:
    """Return the list of findings, best first."""
    return page.get_by_role("radiogroup", name="Finding whose map is shown").get_by_role("radio")


def finding(page: Page, label: str) -> Locator:
    """Return the entry of one finding."""
    return findings(page).filter(has_text=label)


def chosen(page: Page) -> Locator:
    """Return the entry of the finding whose map is shown."""
    return page.get_by_role("radiogroup", name="Finding whose map is shown").get_by_role(
        "radio", checked=True
    )


def pane(page: Page, letter: str = "A") -> Locator:
    """Return one of the two pictures with its title and legend."""
    return page.get_by_role("region", name=f"Picture {letter}")


def canvas(page: Page, letter: str = "A") -> Locator:
    """Return the canvas of a picture; its accessible name says what it shows."""
    return pane(page, letter).get_by_role("img")


def readout(page: Page, letter: str = "A") -> Locator:
    """Return what is under the pointer."""
    return pane(page, letter).locator("[data-field=readout]")


def films(page: Page) -> Locator:
    """Return the thumbnails."""
    return page.get_by_role("navigation", name="Films").locator(".film")


def current_film(page: Page) -> Locator:
    """Return the thumbnail of the film that is shown."""
    return page.get_by_role("navigation", name="Films").locator("[aria-current=true]")


def problem(page: Page) -> Locator:
    """Return what is told of a failure."""
    return page.get_by_role("alert").filter(visible=True)


def drawn(page: Page, letter: str = "A") -> NDArray[np.int16]:
    """Return the pixels of a picture as they are on the screen now, RGB [H, W, 3]."""
    data: str = canvas(page, letter).evaluate(
        """async (canvas) => {
            const frame = () => new Promise(requestAnimationFrame);
            await frame();  // what has changed is drawn in one
            await frame();
            return canvas.toDataURL();
        }"""
    )
    file = io.BytesIO(base64.b64decode(data.partition(",")[2]))
    return np.asarray(Image.open(file).convert("RGB")).astype(np.int16)


# --- what is done to it


def choose(page: Page, *files: Film) -> None:
    """Choose files, and wait until the first of them is answered."""
    give(page, *files)
    first = files[0]
    expect_film(page, first.name if isinstance(first, Path) else first["name"])


def give(page: Page, *files: Film) -> None:
    """Choose files."""
    # Playwright mixes no files of the disk with others.
    if len({isinstance(file, Path) for file in files}) > 1:
        files = tuple(
            payload(file.name, file.read_bytes()) if isinstance(file, Path) else file
            for file in files
        )
    page.get_by_label("Open files").set_input_files([*files])


def expect_film(page: Page, name: str, letter: str = "A") -> None:
    """Wait until a film is shown with its findings."""
    sentence = re.compile(rf"^Radiograph {re.escape(name)} with the map of ")
    expect(canvas(page, letter)).to_have_accessible_name(sentence)
    expect(canvas(page, letter)).to_be_visible()


def expect_map(page: Page, label: str, letter: str = "A") -> None:
    """Wait until the map of a finding is shown."""
    expect(canvas(page, letter)).to_have_accessible_name(re.compile(rf"with the map of {label}:"))


def save(page: Page, kind: str) -> tuple[str, bytes]:
    """Save a PNG, JSON or CSV file; return its name and content."""
    with page.expect_download() as waiting:
        page.get_by_role("group", name="Save").get_by_role("button", name=kind).click()
    download: Download = waiting.value
    return download.suggested_filename, Path(download.path()).read_bytes()


def copy(page: Page, kind: str) -> str:
    """Copy a call for another program; return the text."""
    page.get_by_role("group", name="Copy as").get_by_role("button", name=kind).click()
    expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def drag_over(page: Page, *paths: Path) -> None:
    """Drag files or folders of this machine over the picture."""
    _drag(page, paths, "dragEnter", "dragOver")


def drop(page: Page, *paths: Path) -> None:
    """Drag files or folders of this machine over the picture and drop them there."""
    _drag(page, paths, "dragEnter", "dragOver", "drop")


def _drag(page: Page, paths: tuple[Path, ...], *kinds: str) -> None:
    session = page.context.new_cdp_session(page)
    box = page.get_by_role("region", name="Radiograph", exact=True).bounding_box()
    assert box
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in kinds:
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


def paste_picture(page: Page, png: bytes) -> None:
    """Put a picture on the clipboard, and press the keys that paste."""
    page.evaluate(
        """async (text) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const picture = new Blob([bytes], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }""",
        base64.b64encode(png).decode(),
    )
    page.keyboard.press("Control+V")


def set_slider(slider: Locator, value: float) -> None:
    """Move a slider."""
    slider.fill(json.dumps(value))


def requests_of(page: Page) -> list[str]:
    """Return a list that grows with every request of the page for an explanation.

    Those for thumbnails are left out: the strip asks when they come into sight.
    """
    urls: list[str] = []

    def add(request: Any) -> None:
        if "explanation" in request.url and "max_side_px" not in request.url:
            urls.append(request.url)

    page.on("request", add)
    return urls
