"""Photograph the studio's tabs at work and the report, on a desk and on a phone, into docs/screenshots.

python tools/screenshots.py [--page REPORT/index.html] [--only [NAME ...]] [--out FOLDER] [--whole FOLDER]

Of the report each part from its beginning to its end, light and dark, at the widths of a desk and of a phone: its sections below
and beside each other on one picture, smaller than on the screen, for they are kept. --whole has all of it in full size, from top
to bottom: megabytes, which are to be looked at and not to be kept.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import socket
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from phosphene.web.studio import open_studio
from phosphene.web.tabs import TABS

OUT = Path(__file__).parent.parent / "docs" / "screenshots"
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
LONG, SLICE = 300_000, 4000
"""Milliseconds that a job may take; pixels of a piece of the whole page, for browsers photograph no more than 16,384 at once."""
PARTS = {"a": "Part A", "b": "Part B", "c": "Beyond"}
"""How the headings of the report's parts begin; those of both editions of Part B are one."""
KEPT, QUALITY = {"desk": 0.55, "phone": 0.6}, 22
"""How large a kept part is against the screen, and WebP's quality: letters can be read, and all of them are some 2 MB."""
HIGH, MARGIN = 4500, 40
"""Pixels of a column on the screen, about, and of what is kept beside and below what is on it."""


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


def blocks(page: Page) -> dict[str, list[tuple[float, float]]]:
    """Of each part the top and the bottom of each of its sections, the first with the part's heading."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PARTS}
    placed = "all => all.map(e => [e.tagName, e.innerText, e.getBoundingClientRect().top + scrollY, e.offsetHeight])"
    every = page.locator("main > h2, main > section").evaluate_all(placed)
    part, begun = None, None
    for (tag, text, top, high), after in zip(every, [*every[1:], None], strict=True):
        if tag == "H2":
            part, begun = next((name for name, begins in PARTS.items() if text.startswith(begins)), None), top
        elif part is not None:
            bottom = top + high + MARGIN
            found[part].append((begun or top, bottom if after is None else min(bottom, after[2])))
            begun = None
    return found


def columns(sections: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """``sections`` in their order, broken into columns of about the same height, none of which breaks a section."""
    heights = [bottom - top for top, bottom in sections]
    count = max(1, round(sum(heights) / HIGH))
    filled: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    above = 0.0
    for section, height in zip(sections, heights, strict=True):
        filled[min(count - 1, int((above + height / 2) * count / sum(heights)))].append(section)
        above += height
    return [column for column in filled if column]


def parts(browser: Browser, where: Path, size: str, scheme: str, out: Path) -> None:
    """Each part of the report, its sections in columns."""
    page, scale = opened(browser, where, size, scheme), KEPT[size]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    held = page.locator("main").bounding_box()
    left = max(0.0, held["x"] - MARGIN)
    wide = min(SIZES[size][0], held["x"] + held["width"] + MARGIN) - left
    for name, sections in blocks(page).items():
        if not sections:
            continue
        table = columns(sections)
        high = max(sum(bottom - top for top, bottom in column) for column in table)
        kept = Image.new("RGB", [round(scale * side) for side in (wide * len(table), high)], paper)
        for k, column in enumerate(table):
            y = 0.0
            for top, bottom in column:
                clip = {"x": left, "y": top, "width": wide, "height": bottom - top}
                with Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))) as shot:
                    small = shot.convert("RGB").resize([round(scale * side) for side in shot.size], Image.Resampling.LANCZOS)
                kept.paste(small, (round(scale * k * wide), round(y)))
                y += scale * (bottom - top)
        kept.save(out / f"report-{name}-{size}-{scheme}.webp", quality=QUALITY, method=6)
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


def studio_tabs(browser: Browser, url: str, size: str, only: list[str], out: Path) -> None:
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
        page.screenshot(path=out / f"{name.lower()}-{size}.png", full_page=True)
        print(name, size, flush=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="a report, to be photographed as well")
    parser.add_argument("--only", nargs="*", choices=list(TABS), default=list(TABS), help="these tabs; none: the report alone")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where the pictures go")
    parser.add_argument("--whole", type=Path, metavar="FOLDER", help="all of the report too, into this folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        if options.only:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            with open_studio("glyph", "cpu", "127.0.0.1", port) as (_, url):
                for size in SIZES:
                    studio_tabs(browser, url, size, options.only, options.out)
        for size in SIZES if options.page else ():
            for scheme in ("light", "dark"):
                parts(browser, options.page, size, scheme, options.out)
                if options.whole:
                    whole(browser, options.page, size, scheme, options.whole)
        browser.close()


if __name__ == "__main__":
    main()
