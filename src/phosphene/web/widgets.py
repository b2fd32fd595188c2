"""What the studio's tabs are made of: canvas, sliders, buttons, and the half of a tab where a picture appears."""

from __future__ import annotations

import base64
import html
import io
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from phosphene.defaults import CASCADE, CONCEPTS, FAST, SEED, SOLVERS
from phosphene.errors import UserError
from phosphene.images import fitted
from phosphene.notation import is_warp
from phosphene.readers import SAMPLES, read_picture
from phosphene.tasks import pairs, sketches
from phosphene.tasks.animate import turn_css
from phosphene.views import view
from phosphene.web.jobs import SIDE, Job, Studio, Update

MOST_CHARACTERS, MOST_PROMPTS, MOST_BEST = 200, 6, 8
SUGGESTED = 8
QUICK = "quick"
"""What is set where a distilled model may draw; the sliders that it has no use for:"""
SLIDERS = ("--guidance", "--steps", "--solver")
AS_SUITS = "as suits what is asked", ""
"""No choice of solver: the command has one for what is said, and another where nothing is."""
CANVAS = 384
"""Pixels of the canvas that visitors paint on."""
Look = Callable[[Job, tuple], str]
"""From a finished job and what was set to something to play with."""


def bar(status: str, done: int = 0, total: int = 0, failed: bool = False) -> str:
    """What a job says of itself, and how far it is."""
    line = f'<progress max="{total}" value="{done}" aria-label="progress"></progress>' if total else ""
    told = f'<div class="{"failed" if failed else "said"}">{html.escape(status)}</div>'
    return f'<div class="studio-status" role="status">{line}{told}</div>'


def progress_bar(update: Update) -> str:
    left = "" if update.left is None else f", {update.left:.0f} s left" if update.left >= 1 else ", nearly done"
    return bar(f"{update.what}: step {update.done} of {update.total}{left}", update.done, update.total)


def source(picture: Image.Image) -> str:
    """``picture`` as what an <img> may have for its source."""
    held = io.BytesIO()
    picture.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


@lru_cache(maxsize=1)
def _known() -> sketches.Concepts:
    return sketches.read(CONCEPTS)


@lru_cache(maxsize=256)
def _partners(prompt: str, name: str) -> str:
    """Of a known ``prompt``, those first that people have read. Each takes half a second, and visitors type.

    What they type is not kept unless it is known.
    """
    found = pairs.partners(_known().of(prompt), _known(), pairs.through(view(name)), SUGGESTED)
    named = [pair for pair in found if pair.named == 2]
    read = ", ".join(pair.second if pair.seed is None else f"{pair.second} (seed {pair.seed})" for pair in named)
    others = ", ".join(pair.second for pair in found if pair not in named)
    return f"{f'People read with it: {read}. ' if named else ''}May share a picture with it: {others}."


def fitting(prompt: str, name: str) -> str:
    """What may share a picture with ``prompt`` through the view ``name``, of what is known (``tasks/pairs.py``), as Markdown."""
    known = _known().of(prompt)
    if is_warp(name) or known is None:
        return "Nothing is known of what goes with it; of a cat, a house, a heart there is."
    return _partners(known.prompts[0], name)


def turning_picture(pictures: Sequence[Image.Image], prompts: Sequence[str], name: str) -> str:
    """A picture that turns into its other reading when it is clicked; where no turn does that, the other takes its place."""
    css, (first, other) = "" if is_warp(name) else turn_css(view(name)), map(html.escape, prompts[:2])
    images = f'<img src="{source(pictures[0])}" alt="{first}">'
    if not css:
        images += f'<img src="{source(pictures[1])}" alt="{other}" hidden>'
    return (
        f'<div class="studio-look"><button type="button" aria-pressed="false" aria-label="Turn the picture" data-css="{css}" '
        f'data-first="{first}" data-other="{other}">{images}</button><div>click it: <output>{first}</output></div></div>'
    )


def walking_picture(pictures: Sequence[Image.Image], near: str, far: str, what: str = "distance", blur: float = 0.0) -> str:
    """A slider from ``near`` to ``far``: away from a picture whose bands part at ``blur`` widths of it, or through several."""
    far, near = html.escape(far), html.escape(near)
    images = "".join(f'<img src="{source(each)}" alt="{near}"{" hidden" * (k > 0)}>' for k, each in enumerate(pictures))
    slider = f'<input type="range" min="0" max="100" value="0" aria-label="{what}" data-blur="{blur:g}">'
    return f'<div class="studio-look"><div class="walk">{images}</div><label>{near} {slider} {far}</label></div>'


def prompts_of(text: str, most: int = MOST_PROMPTS) -> list[str]:
    """The prompts in ``text``, one a line; UserError where there is none or too much."""
    found = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not found:
        raise UserError("The prompt is empty; say what to draw.")
    if len(found) > most:
        raise UserError(f"{len(found)} prompts; give at most {most}, one a line.")
    if (longest := max(map(len, found))) > MOST_CHARACTERS:
        raise UserError(f"A prompt has {longest} characters; shorten it to {MOST_CHARACTERS}.")
    return found


def image(label: str, **more: Any) -> gr.Image:
    """A picture that is shown and not touched."""
    own = {"show_label": False, "alt_text": label}  # a label would lie over the picture's corner
    return gr.Image(label=label, type="filepath", format="png", interactive=False, buttons=["fullscreen"], **own, **more)


def command_line() -> gr.Textbox:
    return gr.Textbox(
        label="The same on the command line", lines=2, interactive=False, buttons=["copy"], elem_classes="studio-command"
    )


Words = Callable[[Any], list[str]]
"""From what a visitor sets to what the command line says of it."""


def number(value: float) -> list[str]:
    return [f"{value:g}"]


def prompt(value: str) -> list[str]:
    return prompts_of(value, 1)


def text(value: str) -> list[str]:
    """A text that may be empty, and then is not spoken of."""
    return prompts_of(value, 1) if (value or "").strip() else []


class Bench:
    """What tabs have alike: what is set on them becomes a command line, and its results stand beside it.

    ``fixed`` is said of every command. Models are those of the studio where a ``solver`` of a cascade is named. ``quick``: where
    that is glyph, a distilled one may draw instead; ``owns``: there the command chooses model and solver by
    what is said.
    """

    def __init__(
        self,
        studio: Studio,
        command: str = "",
        solver: str | None = None,
        fixed: Sequence[str] = (),
        quick: bool = False,
        owns: bool = False,
    ) -> None:
        self.studio, self.command, self.solver = studio, command, solver
        usual = studio.model == ["--model", CASCADE]
        self.quick, self.owns = quick and usual, owns and usual
        self.fixed = [*(studio.model if solver and not self.owns else []), *fixed]
        self.asked: list[tuple[str, gr.components.Component, Words]] = []

    def ask(self, name: str, component: gr.components.Component, words: Words = text) -> gr.components.Component:
        """``component`` says what the option ``name`` is, or (with no name) what the next arguments are."""
        self.asked.append((name, component, words))
        return component

    def line(self, seed: int, values: Sequence[Any]) -> list[str]:
        """The command line for what is set; UserError where something is not as it should be."""
        quick = any(value for (name, *_), value in zip(self.asked, values, strict=True) if name == QUICK)
        left = {QUICK, *(SLIDERS if quick else ())}
        options, arguments = ["--seed", str(seed), *([] if quick else self.fixed)], []
        for (name, _, words), value in zip(self.asked, values, strict=True):
            for word in words(value) if name not in left else ():
                options += [name, word] if name else []
                arguments += [] if name else [word]
        return [self.command, *options, "--", *arguments]

    @contextmanager
    def laid_out(self, button: str = "Draw", painted: bool = False, look: Look | None = None) -> Iterator[Bench]:
        """Itself: what is set inside comes to the left, above what all tabs have, and the results to the right.

        Where there is something ``painted``, it alone is to the left. ``look`` makes of the finished job and what was set
        something to play with.
        """
        with gr.Row():
            with gr.Column():
                yield self
                if not painted:
                    self.buttons(button)
            with gr.Column():
                if painted:
                    self.buttons(button)
                self.results(look is not None)
        self.connect(look)

    def buttons(self, button: str) -> None:
        """Seed and buttons, and above them the sliders of a cascade."""
        if self.solver is not None:
            usual = self.studio.usual
            steps = (self.solver == usual.solver and usual.steps) or SOLVERS[self.solver].cascade
            if self.quick:
                told = f"drawn by {FAST}, in a fraction of the time; else as the sliders below say"
                self.ask(QUICK, gr.Checkbox(True, label="In few steps", info=told))
            with gr.Accordion("How it is sampled", open=False):
                self.ask("--guidance", gr.Slider(1, 12, usual.guidance, step=0.5, label="Guidance"), number)
                self.ask("--steps", gr.Slider(3, 100, steps, step=1, label="Steps"), number)
                choices = [*([AS_SUITS] if self.owns else []), *SOLVERS]
                self.ask("--solver", gr.Dropdown(choices, value="" if self.owns else self.solver, label="Solver"))
        with gr.Row():
            self.seed = gr.Number(SEED, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
            self.locked = gr.Checkbox(True, label="Keep this seed", info="else each picture has its own")
        with gr.Row():
            self.go = gr.Button(button, variant="primary")
            self.halt = gr.Button("Stop", variant="stop", interactive=False)

    def results(self, look: bool) -> None:
        self.status = gr.HTML(bar(""))
        self.picture = image("Picture", height=260 if look else None, elem_classes="studio-picture")
        self.look = gr.HTML(visible=look)
        self.file = gr.DownloadButton("Download the PNG (it says how it was made)", interactive=False)
        self.shown_command = command_line()
        self.inputs = gr.File(label="The files that the command names", file_count="multiple", interactive=False, visible=False)

    def listen(
        self, run: Callable[..., Iterator[tuple]], inputs: list, outputs: list, stop: Callable[[str], None], stopping: str
    ) -> list:
        """Let the buttons begin and ``stop`` a ``run`` of visitor, seed and ``inputs``, which yields status and ``outputs``."""
        submits = [each.submit for each in inputs if isinstance(each, gr.Textbox)]
        live, idle = gr.update(interactive=True), gr.update(interactive=False)
        settings, changed = [self.seed, self.locked, *inputs], [self.seed, self.status, *outputs]

        def begin(request: gr.Request, number: float | None, locked: bool, *values: Any) -> Iterator[tuple]:
            seed = number if locked else random.randrange(2**32)
            try:
                if seed is None:
                    raise UserError("The seed is empty: type a number, or let it be drawn.")
                seed = int(seed)
                for results in run(request.session_hash or "", seed, *values):
                    yield seed, *results
            except (UserError, FloatingPointError) as error:
                yield seed, bar(self.studio.plain(str(error)), failed=True), *[gr.skip()] * len(outputs)

        def end(request: gr.Request) -> tuple:
            stop(request.session_hash or "")
            return bar(stopping), idle

        self.halt.click(end, None, [self.status, self.halt], queue=False)
        once = {"concurrency_id": "device", "concurrency_limit": 1, "trigger_mode": "once"}
        shown_at = {"show_progress": "minimal", "show_progress_on": self.status}
        events = []
        for trigger in (self.go.click, *submits):
            events.append(trigger(lambda: live, None, self.halt, queue=False).then(begin, settings, changed, **once, **shown_at))
            events[-1].then(lambda: idle, None, self.halt, queue=False)
        return events

    def connect(self, look: Look | None) -> None:
        """Let the buttons run what :meth:`line` makes of what is set, and show it."""
        studio, skip = self.studio, gr.skip

        def run(session: str, seed: int, *values: Any) -> Iterator[tuple]:
            line = self.line(seed, values)
            yield bar("waiting for the model"), skip(), skip(), gr.DownloadButton(interactive=False), "", gr.File(visible=False)
            for job, update, out in studio.run(line, session):
                if update is not None:
                    yield progress_bar(update), update.preview, skip(), skip(), studio.typed(job, out), skip()
                elif not out.is_file():
                    yield bar("stopped"), *[skip()] * 5
                else:
                    seen = look(job, values) if look and job.pictures else skip()
                    given = [str(path) for path in studio.read_by(job)]
                    files = gr.DownloadButton(value=str(out), interactive=True), gr.File(given, visible=bool(given))
                    yield bar(outcome(job, studio.plain)), str(out), seen, files[0], studio.typed(job, out), files[1]

        outputs = [self.picture, self.look, self.file, self.shown_command, self.inputs]
        events = self.listen(run, [component for _, component, _ in self.asked], outputs, studio.stop, "stopped")
        self.halt.click(None, None, None, cancels=events, queue=False)


def outcome(job: Job, plain: Callable[[str], str]) -> str:
    """What a finished command said, but for where its files lie."""
    *before, last = job.said or [""]
    lines = [last.rpartition(";")[0] or "done", *before]
    return plain("\n".join(lines))


def choosing() -> gr.Slider:
    return gr.Slider(1, MOST_BEST, 2, step=1, label="Draw so many and keep the one that reads best")


def few_digits(value: str) -> list[str]:
    if len(digits := (value or "").strip()) > 20:
        raise UserError(f"{len(digits)} digits; give at most 20.")
    return [digits]


def painted(studio: Studio) -> Words:
    """From what is on a canvas to the name of its file."""

    def words(drawing: dict | None) -> list[str]:
        drawing = drawing or {}  # nothing is composed before the first stroke
        return [str(studio.keep(white(drawing.get("composite") or drawing.get("background")), "sketch"))]

    return words


def painted_mask(studio: Studio) -> Words:
    """From what is on a canvas to the names of two files: what lies below, and what was painted over."""

    def words(drawing: dict | None) -> list[str]:
        mask = Image.new("L", (SIDE, SIDE))
        for layer in (drawing or {}).get("layers") or []:
            alpha = layer.resize(mask.size).convert("RGBA").getchannel("A").point(lambda a: 255 if a > 127 else 0)
            mask.paste(255, mask=alpha)
        below = white((drawing or {}).get("background"))
        return [str(studio.keep(below, "picture")), str(studio.keep(mask, "mask"))]

    return words


def canvas(label: str, masks: bool, sample: str) -> gr.ImageEditor:
    """Something to paint on, which begins with a ``sample``, and ways to put another picture on it."""
    inks = ["#ffffff"] if masks else ["#1c1b1f", "#c2410c", "#1d4ed8", "#15803d", "#ca8a04"]
    brush = gr.Brush(default_size=48 if masks else 10, colors=inks, color_mode="fixed" if masks else "defaults")
    gr.Markdown(label)
    editor = gr.ImageEditor(
        ground(sample),
        show_label=False,  # it would lie over the tools
        type="pil",
        sources=(),
        transforms=(),
        layers=False,
        canvas_size=(CANVAS, CANVAS),
        fixed_canvas=True,
        brush=brush,
        height=CANVAS + 80,
        elem_classes="studio-canvas",
    )
    with gr.Row():
        upload = gr.UploadButton("Upload a picture", file_types=["image"], size="sm")
        names = sorted(path.stem for path in SAMPLES.glob("*.png") if "mask" not in path.stem)
        sample = gr.Dropdown(names, label="or take a sample", value=None)

    upload.upload(taken, upload, editor, concurrency_limit=4)  # queued: only there do errors become messages
    sample.input(taken, sample, editor, concurrency_limit=4)
    return editor


def taken(path: str) -> dict:
    """A visitor's picture to paint on, or a message, which shows the file's name as text."""
    try:
        return ground(path)
    except UserError as error:
        text = str(error).replace(str(Path(path).parent) + os.sep, "")
        raise gr.Error(html.escape(text, quote=False), duration=None, print_exception=False) from error


def ground(path: str) -> dict:
    """A picture to paint on."""
    return {"background": fitted(read_picture(Path(path), "picture"), (SIDE, SIDE)), "layers": [], "composite": None}


def white(layer: Image.Image | None) -> Image.Image:
    """``layer`` on white, RGB, as large as what is computed."""
    paper = Image.new("RGBA", (SIDE, SIDE), "white")
    return (paper if layer is None else Image.alpha_composite(paper, layer.resize(paper.size).convert("RGBA"))).convert("RGB")
