"""What the studio's tabs are made of: canvas, sliders, buttons, and the half of a tab where a picture appears."""

from __future__ import annotations

import base64
import html
import io
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from phosphene.defaults import GUIDANCE, SEED, SOLVERS
from phosphene.errors import UserError
from phosphene.images import fitted
from phosphene.readers import SAMPLES, read_picture
from phosphene.tasks.animate import turn_css
from phosphene.views import view
from phosphene.web.jobs import SIDE, Job, Studio, Update

MOST_CHARACTERS, MOST_PROMPTS, MOST_BEST = 200, 6, 8
CANVAS = 384
"""Pixels of the canvas that visitors paint on."""
Line = tuple[list[str], list[Path]]
"""A command line and the files made for it."""


def bar(status: str, done: int = 0, total: int = 0) -> str:
    """What a job says of itself, and how far it is."""
    line = f'<progress max="{total}" value="{done}" aria-label="progress"></progress>' if total else ""
    return f'<div class="studio-status" role="status">{line}<div>{html.escape(status)}</div></div>'


def progress_bar(update: Update) -> str:
    left = "" if update.left is None else f", {update.left:.0f} s left" if update.left >= 1 else ", nearly done"
    return bar(f"{update.what}: step {update.done} of {update.total}{left}", update.done, update.total)


def source(picture: Image.Image) -> str:
    """``picture`` as what an <img> may have for its source."""
    held = io.BytesIO()
    picture.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def turning_picture(pictures: Sequence[Image.Image], prompts: Sequence[str], name: str) -> str:
    """A picture that turns into its other reading when it is clicked; where no turn does that, the other takes its place."""
    css, (first, other) = turn_css(view(name)), map(html.escape, prompts[:2])
    images = f'<img src="{source(pictures[0])}" alt="{first}">'
    if not css:
        images += f'<img src="{source(pictures[1])}" alt="{other}" hidden>'
    return (
        f'<div class="studio-look"><button type="button" aria-pressed="false" aria-label="Turn the picture" data-css="{css}" '
        f'data-first="{first}" data-other="{other}">{images}</button><div>click it: <output>{first}</output></div></div>'
    )


def walking_picture(picture: Image.Image, far: str, near: str) -> str:
    """A picture and a slider that walks away from it."""
    far, near = html.escape(far), html.escape(near)
    return (
        f'<div class="studio-look"><div class="walk"><img src="{source(picture)}" alt="{near}"></div>'
        f'<label>{near} <input type="range" min="0" max="100" value="0" aria-label="distance"> {far}</label></div>'
    )


@contextmanager
def refusals(plain: Callable[[str], str]) -> Iterator[None]:
    """What is wrong becomes a message that stays until it is closed, in the words that ``plain`` makes of it."""
    try:
        yield
    except (UserError, FloatingPointError) as error:
        text = html.escape(plain(str(error)), quote=False)  # or what a visitor typed would be rendered
        raise gr.Error(text, duration=None, print_exception=False) from error


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


def prompt_of(text: str, optional: bool = False) -> str:
    """The one prompt in ``text``, which may be empty where it is ``optional``."""
    return "" if optional and not (text or "").strip() else prompts_of(text, 1)[0]


def image(label: str, **more: Any) -> gr.Image:
    """A picture that is shown and not touched."""
    return gr.Image(label=label, type="filepath", format="png", interactive=False, buttons=["fullscreen"], **more)


def command_line() -> gr.Textbox:
    return gr.Textbox(
        label="The same on the command line", lines=2, interactive=False, buttons=["copy"], elem_classes="studio-command"
    )


class Bench:
    """What tabs have alike: sampling, seed and buttons; and the results: the picture, how far it is, the command."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.how = studio, []

    @contextmanager
    def left(self, solver: str | None = None, look: bool = False) -> Iterator[None]:
        """What is set inside comes to the left, above what all tabs have, and the results to the right."""
        with gr.Row():
            with gr.Column():
                yield
                self.buttons("Draw", solver)
            with gr.Column():
                self.results(look)

    @contextmanager
    def right(self, label: str, masks: bool, button: str) -> Iterator[gr.ImageEditor]:
        """A canvas comes to the left; what is set inside to the right, above what all tabs have and the results."""
        with gr.Row():
            with gr.Column():
                picture = canvas(label, masks)
            with gr.Column():
                yield picture
                self.buttons(button, "ancestral")
                self.results()

    def buttons(self, button: str, solver: str | None = None) -> None:
        """Seed and buttons, and with a ``solver`` above them the sliders of a cascade."""
        if solver is not None:
            with gr.Accordion("How it is sampled", open=False):
                self.how = [
                    gr.Slider(1, 12, GUIDANCE, step=0.5, label="Guidance"),
                    gr.Slider(3, 100, SOLVERS[solver].cascade, step=1, label="Steps"),
                    gr.Dropdown(list(SOLVERS), value=solver, label="Solver"),
                ]
        with gr.Row():
            self.seed = gr.Number(SEED, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
            self.locked = gr.Checkbox(True, label="Keep this seed", info="else each picture has its own")
        with gr.Row():
            self.go = gr.Button(button, variant="primary")
            self.halt = gr.Button("Stop", variant="stop")

    def results(self, look: bool = False) -> None:
        self.status = gr.HTML(bar(""))
        self.picture = image("Picture", height=260 if look else 420, elem_classes="studio-picture")
        self.look = gr.HTML(visible=look)
        self.file = gr.DownloadButton("Download the PNG (it says how it was made)", interactive=False)
        self.command = command_line()

    def listen(
        self, run: Callable[..., Iterator[tuple]], inputs: list, outputs: list, stop: Callable[[str], None], stopping: str
    ) -> list:
        """Let the buttons begin and ``stop`` a ``run`` of visitor, seed and ``inputs``, which yields status and ``outputs``."""
        submits = [each.submit for each in inputs if isinstance(each, gr.Textbox)]

        def begin(request: gr.Request, number: float, locked: bool, *values: Any) -> Iterator[tuple]:
            seed = int(number) if locked else random.randrange(2**32)
            with refusals(self.studio.plain):
                for results in run(request.session_hash or "", seed, *values):
                    yield seed, *results

        def end(request: gr.Request) -> str:
            stop(request.session_hash or "")
            return bar(stopping)

        self.halt.click(end, None, self.status, queue=False)
        once = {"concurrency_id": "device", "concurrency_limit": 1, "trigger_mode": "once"}
        shown_at = {"show_progress": "minimal", "show_progress_on": self.status}
        settings, changed = [self.seed, self.locked, *inputs], [self.seed, self.status, *outputs]
        return [trigger(begin, settings, changed, **once, **shown_at) for trigger in (self.go.click, *submits)]

    def connect(self, argv: Callable[..., Line], inputs: list, finish: Callable[[Job, tuple], str] | None = None) -> None:
        """Let ``argv`` make command lines of ``inputs``; ``finish`` makes of the finished job what is looked at."""
        studio, skip = self.studio, gr.skip

        def run(session: str, seed: int, *values: Any) -> Iterator[tuple]:
            values, how = values[: len(inputs)], values[len(inputs) :]
            line, given = argv(*values)
            line[1:1] = ["--seed", str(seed), *(self.drawn(*how) if how else [])]
            yield bar("waiting for the model"), skip(), skip(), gr.DownloadButton(interactive=False), ""
            for job, update, out in studio.run(line, session, given):
                if update is not None:
                    yield progress_bar(update), update.preview, skip(), skip(), studio.command(job, out)
                elif not out.is_file():
                    yield bar("stopped"), skip(), skip(), skip(), skip()
                else:
                    look = finish(job, values) if finish and job.pictures else skip()
                    status = studio.plain(job.said[-1].rpartition(";")[0]) if ";" in "".join(job.said[-1:]) else "done"
                    file = gr.DownloadButton(value=str(out), interactive=True)
                    yield bar(status), str(out), look, file, studio.command(job, out)

        outputs = [self.picture, self.look, self.file, self.command]
        events = self.listen(run, [*inputs, *self.how], outputs, studio.stop, "stopped")
        self.halt.click(None, None, None, cancels=events, queue=False)

    def drawn(self, guidance: float, steps: float, solver: str) -> list[str]:
        return [*self.studio.model, "--guidance", f"{guidance:g}", "--steps", f"{steps:.0f}", "--solver", solver]


def choosing() -> gr.Slider:
    return gr.Slider(1, MOST_BEST, 2, step=1, label="Draw so many and keep the one that reads best")


def canvas(label: str, masks: bool) -> gr.ImageEditor:
    """Something to paint on, and ways to put a picture on it."""
    inks = ["#ffffff"] if masks else ["#1c1b1f", "#c2410c", "#1d4ed8", "#15803d", "#ca8a04"]
    brush = gr.Brush(default_size=48 if masks else 10, colors=inks, color_mode="fixed" if masks else "defaults")
    editor = gr.ImageEditor(
        ground("castle-hill" if masks else "sketch-house"),
        label=label,
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

    def taken(path: str) -> dict:
        with refusals(lambda message: message.replace(str(Path(path).parent) + os.sep, "")):
            return ground(path)

    upload.upload(taken, upload, editor, concurrency_limit=4)  # queued: only there do errors become messages
    sample.input(taken, sample, editor, concurrency_limit=4)
    return editor


def ground(path: str) -> dict:
    """A picture to paint on."""
    return {"background": fitted(read_picture(Path(path), "picture"), (SIDE, SIDE)), "layers": [], "composite": None}


def white(layer: Image.Image | None) -> Image.Image:
    """``layer`` on white, RGB, as large as what is computed."""
    paper = Image.new("RGBA", (SIDE, SIDE), "white")
    return (paper if layer is None else Image.alpha_composite(paper, layer.resize(paper.size).convert("RGBA"))).convert("RGB")
