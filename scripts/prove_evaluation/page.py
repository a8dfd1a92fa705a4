"""Page: the report in Chromium -> pictures of it, for a person to look at."""

import os
import shutil
from pathlib import Path

_WIDTH_PX, _HEIGHT_PX = 1120, 1400
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def photograph(report: Path) -> list[str]:
    """Open a report, write REPORT-1.png and so on, and return what else it asks for or says.

    Raises:
        SystemExit: There is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise SystemExit("there is no Chromium: apt-get install chromium, or --no-browser")
    # Chromium's sandbox does not start as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page(viewport={"width": _WIDTH_PX, "height": _HEIGHT_PX})
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: said.append(request.url))
        page.goto(report.resolve().as_uri())
        length_px = int(page.evaluate("document.documentElement.scrollHeight"))
        for number, top_px in enumerate(range(0, length_px, _HEIGHT_PX), start=1):
            page.screenshot(
                path=report.with_name(f"{report.stem}-{number:02}.png"),
                full_page=True,
                clip={
                    "x": 0,
                    "y": top_px,
                    "width": _WIDTH_PX,
                    "height": min(_HEIGHT_PX, length_px - top_px),
                },
            )
        browser.close()
    return [text for text in said if text != report.resolve().as_uri()]
