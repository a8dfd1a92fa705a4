"""The page of `cxr view` in Chromium: what it loads, how soon it paints, how soon a map switches.

`python -m benchmarks.viewer`: medians, on loopback, with the phantom model and a drawn sample.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from scripts.demo import OUTPUT, serving
from scripts.view import VIEW

from benchmarks.processes import MIB, end

WINDOW: ViewportSize = {"width": 1600, "height": 1000}
LOADED = """() => {
    const files = [...performance.getEntriesByType("navigation"),
        ...performance.getEntriesByType("resource")];
    const own = files.filter(({ name }) => !name.includes("/api/"));
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    return {
        requests: own.length,
        bytes: own.reduce((sum, { transferSize }) => sum + transferSize, 0),
        api_requests: files.length - own.length,
        first_paint_ms: paint?.startTime ?? NaN,
        ready_ms: performance.now(),
    };
}"""
OBSERVE = """
    window.shift = 0;
    new PerformanceObserver((list) => {
        for (const { value } of list.getEntries()) window.shift += value;
    }).observe({ type: "layout-shift", buffered: true });
"""
SWITCH = """async (index) => {
    const row = document.querySelectorAll("#findings [role=radio]")[index];
    await new Promise(requestAnimationFrame);  // from the start of a frame on
    const start = performance.now();
    row.click();
    const handled = performance.now() - start;
    const [from, drawn] = await new Promise((resolve) =>
        requestAnimationFrame((frame) => resolve([frame, performance.now()])));
    // The page draws in this frame, before this function is called.
    return { script_ms: handled + drawn - from, shown_ms: drawn - start };
}"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with serving("phantom") as address, page_of(address) as (url, server), chromium() as browser:
        first_mib = server.memory_info().rss / MIB
        rows = [visit(browser, url) for _ in range(repeats)]
        switches = [row for each in rows for row in each.pop("switches")]
        print(f"medians of {repeats} visits, {len(switches)} switches; Chromium {browser.version}")
        for name in rows[0]:
            show(name, [row[name] for row in rows])
        for name in switches[0]:
            show(f"switch_{name}", [row[name] for row in switches])
        print(f"{'web server, started':<24}{first_mib:9.1f} MiB")
        print(f"{'after these visits':<24}{server.memory_info().rss / MIB:9.1f} MiB")


def show(name: str, values: list[float]) -> None:
    """Print the median, the smallest and the largest value."""
    median = statistics.median(values)
    print(f"{name:<24}{median:9.4g}   from {min(values):.4g} to {max(values):.4g}")


@contextmanager
def page_of(address: str) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the page on a free port; yield its address and the process of its web server."""
    command = [sys.executable, "-c", VIEW, "view", "--server", address, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
    finally:
        end(process)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium without a window."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("there is no Chromium here: apt-get install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # it does not start as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield browser
        browser.close()


def visit(browser: Browser, url: str) -> dict[str, Any]:
    """Open the page with an empty cache, then a sample, and switch through its maps."""
    context = browser.new_context(viewport=WINDOW)
    page = context.new_page()
    page.add_init_script(OBSERVE)
    page.goto(url, wait_until="load")
    page.locator("#samples button").first.wait_for()
    result: dict[str, Any] = page.evaluate(LOADED)
    result["film_ms"] = open_film(page)
    count = page.locator("#findings [role=radio]").count()
    result["switches"] = [page.evaluate(SWITCH, index) for index in [*range(1, count), 0]]
    result["layout_shift"] = page.evaluate("window.shift")
    context.close()
    return result


def open_film(page: Page) -> float:
    """Open a sample; return the time until its map is drawn, in milliseconds."""
    milliseconds: float = page.evaluate(
        """async () => {
            const start = performance.now();
            document.querySelector("#samples button").click();
            while (!document.querySelector("#findings [role=radio]"))
                await new Promise(requestAnimationFrame);
            return performance.now() - start;
        }"""
    )
    return milliseconds


if __name__ == "__main__":
    main()
