"""The studio and the page in a real browser, on a cascade too small to draw anything."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_generate import cascade  # noqa: F401  (fixture)
from test_report import narrow  # noqa: F401  (fixture)

from phosphene.defaults import NOISE_LEVELS
from phosphene.errors import UserError
from phosphene.images import PAPER, fitted
from phosphene.plots import LETTERS, SIZE
from phosphene.readers import SAMPLES, read_picture, read_provenance
from phosphene.report.page import write

CHROMIUM = os.environ.get("PHOSPHENE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip(
        "no chromium on this machine: apt-get install chromium, or name one in PHOSPHENE_CHROMIUM", allow_module_level=True
    )
sync = pytest.importorskip("playwright.sync_api", reason="takes playwright: pip install 'phosphene[dev]'")
TABS = pytest.importorskip("phosphene.web.tabs", reason="takes gradio: pip install 'phosphene[web]'").TABS
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SOON = 30_000
"""Milliseconds within which a busy machine does what a quiet one does in two seconds."""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def studio(cascade) -> Iterator[str]:  # noqa: F811
    """Where a studio is that runs in this process."""
    from phosphene.web.studio import open_studio

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open_studio(str(cascade), "cpu", "127.0.0.1", port) as (_, url):
        yield url


class Visitor:
    """A page of the studio, with a list of what it asked for elsewhere and of what went wrong in it."""

    def __init__(self, browser, url: str) -> None:
        self.elsewhere: list[str] = []
        self.faults: list[str] = []
        self.page = browser.new_page(viewport={"width": 1200, "height": 1000})
        self.page.set_default_timeout(SOON)
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("button[role=tab]")

    def _asked(self, request) -> None:
        if not request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
            self.elsewhere.append(request.url)

    def open(self, name: str):
        self.page.get_by_role("tab", name=name, exact=True).click()
        return self.page.locator("[role=tabpanel]:visible")

    def status(self, panel) -> str:
        return panel.locator(".studio-status").inner_text().strip()

    def until(self, panel, words: str) -> str:
        panel.locator(".studio-status", has_text=re.compile(words)).wait_for(timeout=SOON)
        return self.status(panel)

    def picture(self, panel) -> str:
        """Where the finished picture comes from."""
        shown = panel.locator(".studio-picture img")
        shown.wait_for()
        return shown.get_attribute("src")

    def fewer_steps(self, panel, steps: int) -> None:
        panel.get_by_text("How it is sampled").click()
        number = panel.get_by_label("number input for Steps")
        number.fill(str(steps))
        number.press("Enter")


@pytest.fixture
def visitor(browser, studio) -> Iterator[Visitor]:
    """No request may leave this machine, and no script may fail, whatever a test does."""
    come = Visitor(browser, studio)
    yield come
    come.page.close()
    assert come.elsewhere == [] and come.faults == []


def fetched(visitor: Visitor, panel, path: Path) -> Path:
    """What the download button hands out."""
    with visitor.page.expect_download(timeout=SOON) as download:
        panel.get_by_text("Download the PNG").click()
    download.value.save_as(path)
    return path


SAMPLED = ("Generate", "Edit", "Anagram", "Hybrid", "Overlay", "Compose", "Morph")
"""Tabs with sliders for how it is sampled."""


def test_what_goes_with_a_prompt_is_said_as_one_types(visitor):
    from phosphene.web.widgets import fitting

    panel = visitor.open("Anagram")
    panel.get_by_text("May share a picture with it").wait_for(timeout=SOON)
    panel.get_by_label("As it stands").fill("a cat")
    known = fitting("a cat", "flip")
    panel.get_by_text(known).wait_for(timeout=SOON)
    panel.get_by_label("As it stands").fill("a cat and no other")
    panel.get_by_text("Nothing is known of what goes with it").wait_for(timeout=SOON)


@pytest.mark.parametrize("tab", [*SAMPLED, "Denoise", "Digits", "Ambigram"])
def test_each_tab_does_its_job(visitor, tmp_path, tab):
    panel, command = visitor.open(tab), tab.lower()
    if tab in SAMPLED:
        visitor.fewer_steps(panel, 4)
    panel.locator("button.primary").click()
    visitor.until(panel, "^(done|seed)")
    story = read_provenance(fetched(visitor, panel, tmp_path / "got.png"))
    assert story["command"] == command and story["arguments"]["seed"] == 180
    typed = panel.locator(".studio-command textarea").input_value()
    assert typed.startswith(f"phosphene {command} -o {command}.png --seed 180") and "phosphene-studio" not in typed
    if tab == "Generate":  # by a model of a few words
        assert "is longer than the model reads, so it is cut" in visitor.status(panel)
    if tab == "Anagram":
        turned = panel.get_by_role("button", name="Turn the picture")
        turned.click()
        assert turned.get_attribute("aria-pressed") == "true"
        assert panel.locator(".studio-look output").inner_text() == "a face with sunglasses"
        assert "scaleY(-1)" in turned.locator("img").get_attribute("style")
        assert "its weakest reading is sure by" in visitor.status(panel)
    if tab == "Hybrid":
        panel.get_by_label("distance").fill("100")
        looked = panel.locator(".walk img")
        wide = looked.evaluate("image => image.clientWidth")
        blur = re.search(r"blur\(([\d.]+)px\)", looked.get_attribute("style"))
        assert float(blur[1]) == pytest.approx(1.5 * 3 / 64 * wide) and "scale(0.4)" in looked.get_attribute("style")
    if tab == "Morph":
        shown = panel.locator(".walk img:visible")
        first = shown.get_attribute("src")
        panel.get_by_label("the way", exact=True).fill("100")
        assert shown.count() == 1 and shown.get_attribute("src") != first and panel.locator(".walk img").count() == 8
    gallery = visitor.open("Gallery")
    gallery.locator("img").first.wait_for()


def test_a_command_that_names_a_painted_file_can_be_typed(visitor, tmp_path, monkeypatch):
    """The file can be had beside it, under the name that the command has for it, and the command makes the same bytes."""
    import shlex

    from phosphene import cli

    panel = visitor.open("Edit")
    visitor.fewer_steps(panel, 3)
    panel.get_by_role("button", name="Draw", exact=True).click()
    visitor.until(panel, "^done")
    got = fetched(visitor, panel, tmp_path / "got.png")
    _, command, *rest = shlex.split(panel.locator(".studio-command textarea").input_value())
    with visitor.page.expect_download(timeout=SOON) as download:
        panel.locator("a[download]", has_text="KB").first.click()
    download.value.save_as(tmp_path / rest[-1])
    assert download.value.suggested_filename == rest[-1]
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, "--device", "cpu", *rest]) == 0
    assert (tmp_path / "edit.png").read_bytes() == got.read_bytes()


def test_stop_is_live_while_something_runs_and_what_failed_is_said_where_it_would_stand(visitor):
    panel = visitor.open("Generate")
    stop, go = (panel.get_by_role("button", name=name, exact=True) for name in ("Stop", "Draw"))
    sync.expect(stop).to_be_disabled()
    panel.get_by_label("What to draw (one a line)").fill("")
    go.click()
    visitor.until(panel, "^The prompt is empty")
    sync.expect(stop).to_be_disabled()
    panel.get_by_label("What to draw (one a line)").fill("a red heart")
    visitor.fewer_steps(panel, 60)
    go.click()
    sync.expect(stop).to_be_enabled()
    visitor.until(panel, "^done")
    sync.expect(stop).to_be_disabled()


def test_the_captions_of_a_sheet_are_smooth_and_a_small_picture_has_pixels(visitor):
    panel = visitor.open("Digits")
    for digits, how in (("37", "auto"), ("3", "pixelated")):
        panel.get_by_label("Which digits").fill(digits)
        panel.get_by_role("button", name="Draw", exact=True).click()
        command = re.compile(f"-- {digits}$")
        sync.expect(panel.locator(".studio-command textarea")).to_have_value(command, timeout=SOON)
        visitor.until(panel, "^done")
        sync.expect(panel.locator(".studio-picture img")).to_have_css("image-rendering", how, timeout=SOON)


def test_on_a_phone_every_tab_is_in_sight_and_nothing_scrolls_sideways(browser, studio):
    come = Visitor(browser, studio)
    come.page.set_viewport_size({"width": 390, "height": 800})
    names = [tab.inner_text() for tab in come.page.get_by_role("tab").all()]
    assert names == list(TABS)
    for name in names:
        come.open(name)
        come.page.wait_for_timeout(300)
        assert come.page.evaluate("document.documentElement.scrollWidth") <= 390, name
    come.page.close()


def test_what_the_studio_made_the_command_line_makes(visitor, tmp_path, monkeypatch, capsys):
    """The command beside a picture is the one that made it: typed, it makes the same bytes."""
    import shlex

    from phosphene import cli

    panel = visitor.open("Generate")
    visitor.fewer_steps(panel, 3)
    panel.get_by_role("button", name="Draw", exact=True).click()
    visitor.until(panel, "^done")
    got = fetched(visitor, panel, tmp_path / "got.png")
    monkeypatch.chdir(tmp_path)
    _, command, *rest = shlex.split(panel.locator(".studio-command textarea").input_value())
    assert cli.main([command, "--device", "cpu", *rest]) == 0
    assert (tmp_path / "generate.png").read_bytes() == got.read_bytes()


def test_what_to_stay_away_from_is_asked_for_and_told(visitor, tmp_path):
    """The picture is another, and says of itself and beside it what it stays away from; where nothing is said, nothing is."""
    panel, made = visitor.open("Generate"), []
    visitor.fewer_steps(panel, 3)
    for k, away in enumerate(("", "-- red 'things'")):
        panel.get_by_label("What to stay away from").fill(away)
        panel.get_by_role("button", name="Draw", exact=True).click()
        command = re.compile("generate .*--negative '-- red" if away else "generate (?!.*--negative)")
        sync.expect(panel.locator(".studio-command textarea")).to_have_value(command, timeout=SOON)
        visitor.until(panel, "^done")
        made.append(fetched(visitor, panel, tmp_path / f"got-{k}.png"))
        assert read_provenance(made[-1])["arguments"]["negative"] == away
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in made]
    assert (pixels[0] != pixels[1]).any()


def test_a_stroke_of_the_mask_reaches_the_inpainting(visitor, tmp_path):
    """What was painted over changes, the rest of the picture does not; without a stroke there is a message."""
    panel = visitor.open("Inpaint")
    visitor.fewer_steps(panel, 3)
    panel.get_by_role("button", name="Repaint", exact=True).click()
    visitor.page.get_by_text("is all black, so nothing would be repainted").wait_for()
    canvas = panel.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    side = min(box["width"], box["height"])
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visitor.page.mouse.move(x - side / 16, y)
    visitor.page.mouse.down()
    visitor.page.mouse.move(x + side / 16, y, steps=8)
    visitor.page.mouse.up()
    panel.get_by_role("button", name="Repaint", exact=True).click()
    visitor.until(panel, "^done[^$]*seams")
    with Image.open(fetched(visitor, panel, tmp_path / "got.png")) as made:
        size, found = made.size, np.asarray(made.convert("RGB")).astype(int)
    before = np.asarray(fitted(fitted(read_picture(SAMPLES / "castle-hill.png"), (512, 512)), size)).astype(int)
    changed = (abs(found - before).max(-1) > 24).mean(axis=0)
    middle, edges = changed[size[0] * 3 // 8 : size[0] * 5 // 8], changed[[0, 1, -2, -1]]
    assert middle.max() > 0.05 and edges.max() == 0


def test_stop_stops_within_a_step(visitor, monkeypatch):
    from phosphene.web.jobs import Job

    taken = []
    step = Job.step

    def slowly(self, now, what):
        time.sleep(0.15)
        taken.append(now.index)
        step(self, now, what)

    monkeypatch.setattr(Job, "step", slowly)
    panel = visitor.open("Generate")
    visitor.fewer_steps(panel, 90)
    panel.get_by_role("button", name="Draw", exact=True).click()
    visitor.until(panel, "step")
    panel.get_by_role("button", name="Stop", exact=True).click()
    visitor.until(panel, "^stopped")
    time.sleep(0.5)
    count = len(taken)
    time.sleep(1)
    assert len(taken) == count < 89


def test_two_visitors_wait_for_each_other(browser, studio, monkeypatch):
    """One job at a time: the second visitor sees a place in the queue, and both get their picture."""
    from phosphene.web.jobs import Job

    working, most, step, run = [], [], Job.step, Job._run

    def alone(self):
        working.append(self)
        most.append(len(working))
        run(self)
        working.remove(self)

    def slowly(self, now, what):
        time.sleep(0.1)
        step(self, now, what)

    monkeypatch.setattr(Job, "_run", alone)
    monkeypatch.setattr(Job, "step", slowly)
    visitors = [Visitor(browser, studio) for _ in range(2)]
    panels = [each.open("Generate") for each in visitors]
    for each, panel in zip(visitors, panels, strict=True):
        each.fewer_steps(panel, 40)
        panel.get_by_role("button", name="Draw", exact=True).click()
        if each is visitors[0]:
            each.until(panel, "step")
    panels[1].get_by_text(re.compile(r"queue", re.I)).first.wait_for()
    for each, panel in zip(visitors, panels, strict=True):
        each.until(panel, "^done")
        each.page.close()
    assert most == [1, 1]


def test_pictures_that_are_none_give_a_message(visitor, tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
    lying = bytearray((tmp_path / "small.png").read_bytes())
    lying[16:24] = (30_000).to_bytes(4, "big") * 2
    lying[29:33] = zlib.crc32(bytes(lying[12:29])).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(bytes(lying))
    panel = visitor.open("Edit")
    for name in ("text.png", "&lt;b&gt;bold.png"):  # the second would be bold, were it taken for HTML
        (tmp_path / name).write_text("this is no picture")
    no_picture = "cannot be read as a picture"
    for name, words in (("text.png", no_picture), ("huge.png", "is too large"), ("&lt;b&gt;bold.png", no_picture)):
        with visitor.page.expect_file_chooser() as chooser:
            panel.get_by_role("button", name="Upload a picture").click()
        chooser.value.set_files(tmp_path / name)
        visitor.page.get_by_text(f"{name}: {words}").wait_for()
    visitor.fewer_steps(panel, 3)  # the page lives on
    panel.get_by_role("button", name="Draw", exact=True).click()
    visitor.until(panel, "^done")


def test_prompts_have_limits(visitor):
    panel = visitor.open("Generate")
    prompt, go = panel.get_by_label("What to draw (one a line)"), panel.get_by_role("button", name="Draw", exact=True)
    for text, words in (("", "The prompt is empty"), ("a" * 201, "shorten it to 200"), ("a\n" * 7, "give at most 6")):
        prompt.fill(text)
        go.click()
        visitor.page.get_by_text(words).wait_for()


def test_what_a_visitor_typed_is_shown_as_text_in_a_message(visitor):
    panel = visitor.open("Digits")
    panel.get_by_label("Which digits").fill("<b>1</b>")
    panel.get_by_role("button", name="Draw", exact=True).click()
    visitor.page.get_by_text("<b>1</b>").wait_for()


def test_training_is_seen_live_and_stops(visitor):
    panel = visitor.open("Train")
    panel.get_by_role("button", name="Train", exact=True).click()
    visitor.until(panel, r"epoch \d+ of 30: loss")
    panel.locator("img").first.wait_for()
    panel.get_by_role("button", name="Stop", exact=True).click()
    visitor.until(panel, r"^stopped after \d+ of \d+ steps")


def serious(page) -> list[str]:
    """What axe-core finds and calls serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    # What passed is of no use here, and to describe each of it is most of the work.
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:120]}" for v in found if v["impact"] in ("serious", "critical")]


def test_the_studio_is_accessible(visitor):
    found = {}
    for tab in TABS:
        visitor.open(tab)
        visitor.page.wait_for_timeout(500)
        found[tab] = serious(visitor.page)
    assert found == {tab: [] for tab in TABS}


def test_a_port_that_is_taken_is_named(cascade):  # noqa: F811
    from phosphene.web.studio import open_studio

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}"), open_studio(str(cascade), "cpu", "127.0.0.1", port):
            pass
    with pytest.raises(UserError, match="nowhere"), open_studio("nowhere", "cpu", "127.0.0.1", port):
        pass


@pytest.fixture(scope="module")
def report(cascade, narrow, tmp_path_factory) -> Path:  # noqa: F811
    """A page with a figure of each kind."""
    sections = ["0", "1.1", "1.4", "1.8", "1.10", "B 1.1", "B 2.1", "B 2.4"]
    return write(tmp_path_factory.mktemp("report"), "cpu", lambda *_: None, str(cascade), True, sections)


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_the_page_opens_from_disk(browser, report, width, scheme):
    """On a desk and on a phone, by day and by night: no fault, nothing from elsewhere, no sideways scrolling, accessible."""
    page, said, asked = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
    assert said == [] and all(url.startswith(("file:", "data:")) for url in asked)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []
    page.close()


def test_the_page_can_be_played_with(browser, report):
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(report.as_uri())
    figure = page.locator(".turning").first
    button, reading = figure.locator("button"), figure.locator(".reading")
    assert reading.inner_text() == "a fox"
    button.hover()
    assert reading.inner_text() == "a pumpkin" and "scaleY(-1)" in figure.locator("img").get_attribute("style")
    page.mouse.move(0, 0)
    button.focus()
    page.keyboard.press("Enter")
    assert reading.inner_text() == "a pumpkin" and button.get_attribute("aria-pressed") == "true"
    figure = page.locator(".far").first
    assert figure.locator(".reading").inner_text() == "a dog face" and figure.locator("output").inner_text() == "from 0.5 m"
    figure.locator("input").focus()
    page.keyboard.press("End")
    assert figure.locator(".reading").inner_text() == "a house"
    # The blur comes before the picture shrinks, and is wider than that of a 64-pixel picture's 3 which parts the bands.
    style, width = figure.locator("img").get_attribute("style"), figure.locator("img").evaluate("each => each.clientWidth")
    assert style.index("blur") < style.index("scale(0.4)")
    assert float(re.search(r"blur\(([\d.]+)px\)", style)[1]) > 1.4 * 3 * width / 64
    enlarge = page.locator("button.large").first
    enlarge.click()
    page.locator("dialog[open] img").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.close()


def test_a_formula_is_set_as_mathematics(browser, report):
    """An index hangs below the line, and a bracket is about as high as what it holds: so a font with a MATH table was found."""
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(report.as_uri())
    parts = "math => [...math.querySelectorAll('msub')].map(e => [...e.children].map(c => c.getBoundingClientRect().toJSON()))"
    indices = page.locator("section[aria-labelledby=forward] math").evaluate(parts)
    assert len(indices) >= 3
    for base, index in indices:
        assert index["bottom"] > base["bottom"] and index["top"] > base["top"] + base["height"] / 4, (base, index)
    # The round brackets of N(0, 1) in that formula enclose one line of text.
    high = page.locator("section[aria-labelledby=forward] math mo").evaluate_all(
        "all => all.filter(e => '()'.includes(e.textContent)).map(e => e.getBoundingClientRect().height)"
    )
    line = page.locator("section[aria-labelledby=forward] math mn").last.evaluate("e => e.getBoundingClientRect().height")
    assert high and max(high) < 2 * line, (high, line)
    page.close()


def test_the_whole_page_is_there_when_it_is_photographed_or_printed(browser, report):
    """No picture waits until somebody scrolls to it."""
    page = browser.new_page(viewport={"width": 800, "height": 300})
    page.goto(report.as_uri())
    missing = "[...document.images].filter(i => i.id !== 'largest' && !(i.complete && i.naturalWidth > 1)).map(i => i.src)"
    assert page.evaluate("document.images.length") > 8 and page.evaluate(missing) == []
    page.close()


def test_a_phone_enlarges_a_figure_and_moves_about_in_it(browser, report):
    """Not to its own width alone: at the size that was drawn, and more; each corner can be reached."""
    page = browser.new_page(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page.goto(report.as_uri())
    button = page.locator("section[aria-labelledby=iterative] button.large").first
    drawn, before = button.locator("xpath=..").evaluate(
        "e => [e.querySelector('img').naturalWidth, e.getBoundingClientRect().width]"
    )
    button.tap()
    page.locator("dialog[open]").wait_for()

    def width() -> float:
        return page.locator("#largest").evaluate("i => i.getBoundingClientRect().width")

    assert width() >= drawn > 1.4 * before
    page.locator("#larger").tap()
    assert width() >= 1.4 * drawn
    pan = page.locator("dialog .pan")
    assert pan.evaluate(
        "e => { e.scrollTo(1e6, 1e6); return e.scrollLeft + e.clientWidth >= e.scrollWidth - 1 && e.scrollLeft > 0; }"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Close", exact=True).tap()
    assert page.locator("dialog[open]").count() == 0
    page.close()


def test_no_words_are_smaller_on_a_phone_than_eleven_pixels(browser, report):
    """Neither those of the page, nor those of drawings and plots; and of sheets pictures are shown, but no words as pixels."""
    page = browser.new_page(viewport={"width": 390, "height": 800}, is_mobile=True)
    page.goto(report.as_uri())
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
    small = """() => {
      const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const e = node.parentElement;  // the bar above a letter is a stroke
        if (!node.data.trim() || e.closest("script") || e.matches("mover > :not(:first-child)")) continue;
        const size = parseFloat(getComputedStyle(e).fontSize) * (e.closest("svg")?.getScreenCTM().a ?? 1);
        if (size < 11) found.push([node.data, size]);
      }
      return found;
    }"""
    assert page.evaluate(small) == []
    plots = page.locator("img.plot").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert len(plots) > 2 and all(LETTERS / 72 * width / SIZE[0] >= 11 for width in plots)
    seen = """all => all.filter(e => e.previousElementSibling).map(e => {
      const whole = e.getBoundingClientRect(), cut = e.closest(".crop, .frame").getBoundingClientRect();
      const scale = e.naturalWidth / whole.width, left = cut.left - whole.left, top = cut.top - whole.top;
      const box = [left, top, left + cut.width, top + cut.height].map(each => Math.round(each * scale));
      return [e.getAttribute("src"), e.previousElementSibling.getAttribute("srcset"), box];
    })"""
    sheets = page.locator(".frame img").evaluate_all(seen)
    assert len(sheets) > 30
    for light, dark, box in sheets:  # words are inked as the paper asks, pictures are the same on any
        left, top, right, bottom = box
        box = (max(0, left), max(0, top), right, bottom)
        one, other = (np.asarray(Image.open(report.parent / name).crop(box)).astype(int) for name in (light, dark))
        assert (one[(one != other).any(2)] == PAPER).all(), light
    page.close()


def test_on_a_phone_a_sequence_flows_into_fewer_columns_and_a_table_keeps_them(browser, report):
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(report.as_uri())
    columns = "e => getComputedStyle(e).gridTemplateColumns.split(' ').length"
    sequence, table = (page.locator(f"section[aria-labelledby={name}] .sheet").last for name in ("iterative", "noisy-digits"))
    assert sequence.evaluate(columns) == 4 and table.evaluate(columns) == 2
    assert sequence.locator(".below").last.inner_text().startswith("blurred: ")
    assert [each.inner_text() for each in table.locator(".label").all()] == [f"sigma {sigma:g}" for sigma in NOISE_LEVELS]
    page.set_viewport_size({"width": 390, "height": 800})
    assert sequence.evaluate(columns) == 3 and table.evaluate(columns) == 2
    page.close()


def test_nothing_glares_on_a_dark_page(browser, report):
    """The paper of a sheet is as dark as the page around it, and what is white in a picture is dimmed until it is enlarged."""
    page = browser.new_page(viewport={"width": 1100, "height": 800}, color_scheme="dark")
    page.goto(report.as_uri())
    image = page.locator("section[aria-labelledby=forward] img").first
    dimmed = """e => { let all = 1; for (; e; e = e.parentElement)
      all *= getComputedStyle(e).filter.match(/brightness\\(([\\d.]+)\\)/)?.[1] ?? 1; return all; }"""
    pictures = page.locator(".frame img:not(.plot)")
    assert all(0.7 < pictures.nth(k).evaluate(dimmed) < 0.85 for k in range(pictures.count()))
    page.locator("button.large").first.click()
    page.locator("dialog[open] img").wait_for()
    assert page.locator("#largest").evaluate(dimmed) == 1
    page.keyboard.press("Escape")
    assert image.evaluate("i => i.currentSrc").endswith("forward-dark.png")
    with Image.open(report.parent / "forward-dark.png") as dark, Image.open(report.parent / "forward.png") as light:
        assert max(dark.getpixel((0, 0))) < 64 and min(light.getpixel((0, 0))) > 192 and dark.size == light.size
    page.close()


def test_no_line_breaks_within_an_option(browser, report):
    """In commands, in the text and in the checklist; but for what is longer than the line."""
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(report.as_uri())
    broken = """() => {
      const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        if (node.parentElement.closest("script")) continue;
        for (const match of node.data.matchAll(/--\\u2060?[a-z][a-z-]*/g)) {
          const range = document.createRange();
          range.setStart(node, match.index);
          range.setEnd(node, match.index + match[0].length);
          if (new Set([...range.getClientRects()].map(rect => Math.round(rect.top))).size > 1) found.push(match[0]);
        }
      }
      return found;
    }"""
    for width in range(320, 900, 45):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(broken) == [], width
    page.close()


def test_the_photograph_of_a_part_has_all_of_its_sections(browser, report, tmp_path):
    """Each once, in their order, as many columns wide as there are, on the paper of a dark page."""
    sys.path.append(str(Path(__file__).parent.parent / "tools"))
    import screenshots

    page = screenshots.opened(browser, report, "phone", "dark")
    found = screenshots.blocks(page)
    page.close()
    assert {part: len(sections) for part, sections in found.items()} == {"a": 5, "b": 3, "c": 0}
    screenshots.parts(browser, report, "phone", "dark", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report-a-phone-dark.webp", "report-b-phone-dark.webp"]
    for part in "ab":
        table = screenshots.columns(found[part])
        assert [section for column in table for section in column] == found[part]
        high = max(sum(bottom - top for top, bottom in column) for column in table)
        with Image.open(tmp_path / f"report-{part}-phone-dark.webp") as kept:
            scale = screenshots.KEPT["phone"]
            assert kept.size == pytest.approx((scale * 390 * len(table), scale * high), abs=1)
            assert max(kept.convert("RGB").getpixel((1, kept.height - 2))) < 64
