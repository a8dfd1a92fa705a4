"""Chromium for tests: found or loudly missed; its pages are watched for what none may do."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
AXE = Path(__file__).parent / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
TIMEOUT_MS = 60_000  # for a machine that is several times oversubscribed

expect.set_options(timeout=TIMEOUT_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium without a window; skip, or fail in CI, where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing = "NO BROWSER TEST WAS RUN: there is no Chromium here; apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Chromium's sandbox does not start as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Watch:
    """What pages of one context printed into the console, and asked of other addresses."""

    def __init__(self, context: BrowserContext, url: str):
        self.console: list[str] = []
        self.outside: list[str] = []
        own = (url, "blob:", "data:")
        context.on("console", lambda message: self.console.append(message.text))
        context.on("weberror", lambda error: self.console.append(str(error.error)))
        context.on(
            "request",
            lambda request: request.url.startswith(own) or self.outside.append(request.url),
        )


def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong in the page as it is: rule, and element by element."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text())
    # The rule of WCAG 2.2 is off by default.
    options = {"rules": {"target-size": {"enabled": True}}, "resultTypes": ["violations"]}
    found: list[dict[str, Any]] = page.evaluate(
        "(options) => axe.run(options).then((result) => result.violations)", options
    )
    return [
        f"{rule['id']}: {node['target']}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
