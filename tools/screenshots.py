"""Photograph the studio's tabs at work and the report, on a desk and on a phone, into docs/screenshots.

python tools/screenshots.py [--page REPORT/index.html] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

from phosphene.web.studio import open_studio
from phosphene.web.tabs import TABS

OUT = Path(__file__).parent.parent / "docs" / "screenshots"
SIZES = {"desk": (1120, 900), "phone": (390, 844)}
LONG = 300_000


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="a report, to be photographed as well")
    parser.add_argument("--only", nargs="+", choices=list(TABS), default=list(TABS))
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open_studio("glyph", "cpu", "127.0.0.1", port) as (_, url), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for size, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(url)
            page.wait_for_selector("button[role=tab]")
            settle(page)
            for name in options.only:
                page.get_by_role("tab", name=name, exact=True).click()
                settle(page)
                if size == "desk" or name in ("Anagram", "Gallery"):
                    work(page, name)
                settle(page)
                page.screenshot(path=OUT / f"{name.lower()}-{size}.png", full_page=True)
                print(name, size, flush=True)
            page.close()
            if options.page:
                page = browser.new_page(viewport={"width": width, "height": height})
                page.goto(options.page.resolve().as_uri())
                page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
                settle(page)
                for k, part in enumerate(page.locator("main > h2").all()):
                    part.scroll_into_view_if_needed()
                    page.evaluate("y => scrollTo(0, y)", part.evaluate("e => e.getBoundingClientRect().top + scrollY - 20"))
                    settle(page)
                    page.screenshot(path=OUT / f"report-{k + 1}-{size}.png")
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
