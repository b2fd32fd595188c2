"""Photograph the studio's tabs at work and the report, on a desk and on a phone, into docs/screenshots.

python tools/screenshots.py [--page REPORT/index.html] [--only [NAME ...]] [--whole FOLDER]

Of the report each part's beginning, on a light page, and of the first part on a dark one too. --whole has all of it, light and
dark, from top to bottom: megabytes, which are to be looked at and not to be kept.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from phosphene.web.studio import open_studio
from phosphene.web.tabs import TABS

OUT = Path(__file__).parent.parent / "docs" / "screenshots"
SIZES = {"desk": (1120, 900), "phone": (390, 844)}
LONG, SLICE = 300_000, 4000
"""Milliseconds that a job may take; pixels of a piece of the whole page, for browsers photograph no more than 16,384 at once."""


def settle(page: Page) -> None:
    page.wait_for_timeout(900)


def stroke(page: Page, panel: Locator) -> None:
    """Paint over the castle."""
    canvas = panel.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle, side = box["x"] + box["width"] / 2, min(box["width"], box["height"])
    for x in (-0.16, -0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12, 0.16):
        page.mouse.move(middle + x * side, box["y"] + box["height"] / 2 - 0.22 * side)
        page.mouse.down()
        page.mouse.move(middle + x * side, box["y"] + box["height"] / 2 + 0.1 * side, steps=6)
        page.mouse.up()


def work(page: Page, name: str) -> None:
    """Let a tab do its job once."""
    panel = page.locator("[role=tabpanel]:visible")
    if name == "Gallery":
        panel.locator("img").first.wait_for(timeout=LONG)
        return
    if name == "Inpaint":
        stroke(page, panel)
    panel.locator("button.primary").click()
    ended = re.compile(r"^\s*(done|seed|none|\d\d:|.*seam)", re.I)
    panel.locator(".studio-status", has_text=ended).wait_for(timeout=LONG)


def opened(browser: Browser, where: Path, size: str, scheme: str) -> Page:
    """The report in a window of its own."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(where.resolve().as_uri())
    page.wait_for_function("[...document.images].every(image => image.complete)")
    settle(page)
    return page


def parts(browser: Browser, where: Path, size: str, scheme: str) -> None:
    """Where each part of the report begins; on a dark page the first."""
    page, dark = opened(browser, where, size, scheme), scheme == "dark"
    for k, part in enumerate(page.locator("main > h2").all()[: 1 if dark else None]):
        page.evaluate(
            "y => scrollTo({top: y, behavior: 'instant'})", part.evaluate("e => e.getBoundingClientRect().top + scrollY - 20")
        )
        settle(page)
        page.screenshot(path=OUT / f"report-{k + 1}-{size}{'-dark' if dark else ''}.png")
    page.close()


def whole(browser: Browser, where: Path, size: str, scheme: str, folder: Path) -> None:
    """The report from top to bottom, in pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    page, width = opened(browser, where, size, scheme), SIZES[size][0]
    high = page.evaluate("document.documentElement.scrollHeight")
    for k, y in enumerate(range(0, high, SLICE)):
        piece = {"x": 0, "y": y, "width": width, "height": min(SLICE, high - y)}
        page.screenshot(path=folder / f"report-{size}-{scheme}-{k + 1:02}.png", full_page=True, clip=piece)
    page.close()


def studio_tabs(browser: Browser, url: str, size: str, only: list[str]) -> None:
    """Each tab of the studio after its work; on a phone two of them."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(url)
    page.wait_for_selector("button[role=tab]")
    settle(page)
    for name in only:
        page.get_by_role("tab", name=name, exact=True).click()
        settle(page)
        if size == "desk" or name in ("Anagram", "Gallery"):
            work(page, name)
        settle(page)
        page.screenshot(path=OUT / f"{name.lower()}-{size}.png", full_page=True)
        print(name, size, flush=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="a report, to be photographed as well")
    parser.add_argument("--only", nargs="*", choices=list(TABS), default=list(TABS), help="these tabs; none: the report alone")
    parser.add_argument("--whole", type=Path, metavar="FOLDER", help="all of the report too, into this folder")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        if options.only:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            with open_studio("glyph", "cpu", "127.0.0.1", port) as (_, url):
                for size in SIZES:
                    studio_tabs(browser, url, size, options.only)
        for size in SIZES if options.page else ():
            for scheme in ("light", "dark"):
                parts(browser, options.page, size, scheme)
                if options.whole:
                    whole(browser, options.page, size, scheme, options.whole)
        browser.close()


if __name__ == "__main__":
    main()
