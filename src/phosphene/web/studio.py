"""The studio's page: tabs that turn what a visitor sets into command lines, and show them at work.

It computes nothing itself: see :mod:`phosphene.web.jobs`. One job runs at a time, the others wait in a queue whose place
they see. Nothing is asked of any other machine.
"""

from __future__ import annotations

import base64
import html
import io
import os
import random
import re
import shlex
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from PIL import Image

from phosphene.cli import Failed
from phosphene.defaults import DIGIT_GUIDANCE, GUIDANCE, SEED, SOLVERS
from phosphene.errors import UserError
from phosphene.images import SAMPLES, read_picture, squared
from phosphene.tasks.animate import turn_css
from phosphene.views import VIEWS, view
from phosphene.web.jobs import SIDE, Job, Shelf, Update, discard

MOST_CHARACTERS, MOST_PROMPTS, MOST_BEST = 200, 6, 8
MOST_BYTES = "20mb"
CANVAS = 384
"""Pixels of the canvas that visitors paint on."""
KEPT = 60
"""Results that stay on disk, and in the gallery."""
PAIRS = ("a trophy | a bell | flip", "an umbrella | a sailboat | flip", "a peach | a red heart | rotate-180")
SHOWN_VIEWS = [name for name in VIEWS if name not in ("identity", "rotate-270", "pixels")]
"""Not the picture as it stands, nor a turn that is another's picture turned, nor what no picture survives."""

CSS = """
.gradio-container { max-width: 1080px !important; margin: 0 auto !important; }
.studio-status { min-height: 3.2rem; }
.studio-status progress { width: 100%; height: .7rem; accent-color: #9a3412; }
.studio-look { text-align: center; }
.studio-look button { border: 0; padding: 0; background: none; cursor: pointer; }
.studio-look img { width: min(384px, 90vw); image-rendering: pixelated;
  transition: transform .7s cubic-bezier(.6,.05,.3,1), filter .7s; }
.studio-look .walk { width: min(384px, 90vw); height: min(384px, 90vw); margin: 0 auto; overflow: hidden; background: #fff; }
.studio-look .walk img { image-rendering: auto; transition: none; }
.studio-look input { width: 240px; accent-color: #9a3412; vertical-align: middle; }
.studio-picture img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
footer { display: none !important; }
"""

MENDED = """() => {
  // Gradio's empty boxes have a label but no role, which screen readers then may not read out.
  const boxes = () => document.querySelectorAll("div.empty[aria-label]:not([role])");
  const mend = () => boxes().forEach(box => box.setAttribute("role", "img"));
  mend();
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
}"""

LOOKS = {
    "button_primary_background_fill": "#9a3412",
    "button_primary_background_fill_hover": "#7c2d12",
    "button_cancel_background_fill": "#b91c1c",
    "button_cancel_background_fill_hover": "#991b1b",
    "body_text_color_subdued": "#57534e",
    "body_text_color_subdued_dark": "#d6d3d1",
    "block_info_text_color": "#57534e",
    "block_info_text_color_dark": "#d6d3d1",
    "input_placeholder_color": "#57534e",
    "input_placeholder_color_dark": "#d6d3d1",
}
"""Colours with the contrast that the default ones lack; those of buttons serve both modes."""


class Studio:
    """What all visitors share: the models, the results' folder, the jobs at work."""

    def __init__(self, model: str, device: str) -> None:
        self.model, self.device, self.shelf = model, device, Shelf()
        self._folder = tempfile.TemporaryDirectory(prefix="phosphene-studio-")
        self.folder = Path(self._folder.name)
        self.results: deque[tuple[Path, str]] = deque()
        self.jobs: dict[str, Job] = {}
        self._count = 0

    def place(self, name: str) -> Path:
        """A new file of the results' folder."""
        self._count += 1
        return self.folder / f"{self._count:05d}-{name}.png"

    def run(
        self, argv: Sequence[str], request: gr.Request, given: Sequence[Path] = ()
    ) -> Iterator[tuple[Job, Update | None, Path]]:
        """Run a command line that ends in a picture; updates, and at last None. gr.Error, in one sentence, where it fails.

        ``given`` are files made for the command, which go when it is done.
        """
        out = self.place(argv[0])
        job = Job([argv[0], "-o", str(out), "--device", self.device, *argv[1:]], self.shelf)
        self.jobs[request.session_hash or ""] = job
        try:
            for update in job:
                yield job, update, out
            if out.is_file():
                self.results.appendleft((out, self.command(job, out)))
                while len(self.results) > KEPT:
                    discard(self.results.pop()[0])
            yield job, None, out
        except Failed as failure:
            raise gr.Error(self.plain(failure.sentence), duration=None) from failure
        finally:
            self.jobs.pop(request.session_hash or "", None)
            for file in given:
                file.unlink(missing_ok=True)

    def stop(self, request: gr.Request) -> str:
        """End the job of the visitor who asks."""
        if (job := self.jobs.get(request.session_hash or "")) is not None:
            job.stop()
        return bar("stopped")

    def plain(self, text: str) -> str:
        """``text`` without where the studio keeps its files, and without their numbers."""
        return re.sub(rf"{re.escape(str(self.folder) + os.sep)}(\d+-)?", "", text)

    def command(self, job: Job, out: Path) -> str:
        """What to type for the same picture."""
        argv = list(job.argv)
        argv[argv.index(str(out))] = f"{argv[0]}.png"
        at = argv.index("--device")
        return self.plain(shlex.join(["phosphene", *argv[:at], *argv[at + 2 :]]))


def bar(said: str, done: int = 0, total: int = 0) -> str:
    """What a job says of itself, and how far it is."""
    line = f'<progress max="{total}" value="{done}" aria-label="progress"></progress>' if total else ""
    return f'<div class="studio-status" role="status">{line}<div>{html.escape(said)}</div></div>'


def told(update: Update) -> str:
    left = "" if update.left is None else f", {update.left:.0f} s left" if update.left >= 1 else ", nearly done"
    return bar(f"{update.what}: step {update.done} of {update.total}{left}", update.done, update.total)


def source(picture: Image.Image) -> str:
    """``picture`` as what an <img> may have for its source."""
    held = io.BytesIO()
    picture.save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def turning(pictures: Sequence[Image.Image], prompts: Sequence[str], name: str) -> str:
    """A picture that turns into its other reading when it is clicked; where no turn does that, the other takes its place."""
    css, (first, other) = turn_css(view(name)), (html.escape(prompt, quote=True) for prompt in prompts[:2])
    act = {
        "invert": "const i=this.querySelector('img'); i.style.filter = on ? 'invert(1)' : ''",
        "": "const [a, b] = this.querySelectorAll('img'); a.hidden = on; b.hidden = !on",
    }.get(css, f"const i=this.querySelector('img'); i.style.transform = on ? '{css}' : ''")
    script = (
        "const on = this.getAttribute('aria-pressed') !== 'true'; this.setAttribute('aria-pressed', on); "
        f"{act}; this.parentNode.querySelector('output').textContent = on ? this.dataset.other : this.dataset.first"
    )
    shown = f'<img src="{source(pictures[0])}" alt="{first}">'
    if not css:
        shown += f'<img src="{source(pictures[1])}" alt="{other}" hidden>'
    return (
        f'<div class="studio-look"><button type="button" aria-pressed="false" aria-label="Turn the picture" data-first="{first}" '
        f'data-other="{other}" onclick="{html.escape(script, quote=True)}">{shown}</button>'
        f"<div>click it: <output>{first}</output></div></div>"
    )


def walking(picture: Image.Image, prompts: Sequence[str]) -> str:
    """A picture and a slider that walks away from it."""
    script = (
        "const away = this.value / 100, i = this.closest('.studio-look').querySelector('img'); "
        "i.style.filter = `blur(${18 * away * (1 - .75 * away)}px)`; i.style.transform = `scale(${1 - .8 * away})`"
    )
    near, far = (html.escape(prompt) for prompt in (prompts[-1], prompts[0]))
    return (
        f'<div class="studio-look"><div class="walk"><img src="{source(picture)}" alt="{near}"></div>'
        f'<label>{near} <input type="range" min="0" max="100" value="0" aria-label="distance" '
        f'oninput="{html.escape(script, quote=True)}"> {far}</label></div>'
    )


def prompts_of(text: str, most: int = MOST_PROMPTS) -> list[str]:
    """The prompts in ``text``, one a line; gr.Error where there is none or too much."""
    found = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not found:
        raise gr.Error("The prompt is empty; say what to draw.", duration=None)
    if len(found) > most:
        raise gr.Error(f"{len(found)} prompts; give at most {most}, one a line.", duration=None)
    if (longest := max(map(len, found))) > MOST_CHARACTERS:
        raise gr.Error(f"A prompt has {longest} characters; shorten it to {MOST_CHARACTERS}.", duration=None)
    return found


def build(studio: Studio) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="phosphene: the studio", analytics_enabled=False, delete_cache=(1800, 3600)) as page:
        gr.HTML(
            "<h1>phosphene</h1><p>Watch noise become a picture. What you see is the model's clean guess while it is still at "
            "work.</p>"
        )
        with gr.Tabs():
            for name, tab in TABS.items():
                with gr.Tab(name, id=name.lower()) as opened:
                    tab(studio, opened)
    return page


class Bench:
    """The right half of a tab: the picture, how far it is, the command; and the buttons, which all tabs have alike."""

    def __init__(self, studio: Studio, button: str = "Draw") -> None:
        self.studio = studio
        with gr.Row():
            self.go = gr.Button(button, variant="primary")
            self.halt = gr.Button("Stop", variant="stop")

    def results(self, look: bool = False) -> None:
        self.status = gr.HTML(bar(""))
        self.picture = gr.Image(
            label="Picture",
            type="filepath",
            format="png",
            interactive=False,
            height=260 if look else 420,
            buttons=["fullscreen"],
            elem_classes="studio-picture",
        )
        self.look = gr.HTML(visible=look)
        self.file = gr.DownloadButton("Download the PNG (it says how it was made)", interactive=False)
        self.command = gr.Textbox(
            label="The same on the command line", lines=2, interactive=False, buttons=["copy"], elem_classes="studio-command"
        )

    def connect(
        self,
        argv: Callable[..., tuple[list[str], list[Path]]],
        inputs: list,
        seed: tuple[gr.Number, gr.Checkbox],
        finish: Callable[[Job, tuple], str] | None = None,
        triggers: Sequence[Any] = (),
    ) -> None:
        """Let ``argv`` make command lines of ``inputs``; ``finish`` makes of the finished job what is looked at."""
        studio = self.studio

        def run(request: gr.Request, number: float, locked: bool, *values: Any) -> Iterator[tuple]:
            chosen = int(number) if locked else random.randrange(2**32)
            line, given = argv(*values)
            shown = gr.skip()
            yield chosen, shown, bar("waiting for the model"), gr.skip(), gr.DownloadButton(interactive=False), ""
            for job, update, out in studio.run([line[0], "--seed", str(chosen), *line[1:]], request, given):
                if update is not None:
                    yield chosen, update.preview, told(update), gr.skip(), gr.skip(), studio.command(job, out)
                elif not out.is_file():
                    yield chosen, gr.skip(), bar("stopped"), gr.skip(), gr.skip(), gr.skip()
                else:
                    look = finish(job, values) if finish and job.pictures else gr.skip()
                    said = studio.plain(job.said[-1].rpartition(";")[0]) if ";" in "".join(job.said[-1:]) else "done"
                    file = gr.DownloadButton(value=str(out), interactive=True)
                    yield chosen, str(out), bar(said), look, file, studio.command(job, out)

        outputs = [seed[0], self.picture, self.status, self.look, self.file, self.command]
        events = [
            trigger(
                run,
                [*seed, *inputs],
                outputs,
                concurrency_id="device",
                concurrency_limit=1,
                show_progress="minimal",
                show_progress_on=self.status,
                trigger_mode="once",
            )
            for trigger in (self.go.click, *triggers)
        ]
        self.halt.click(studio.stop, None, self.status, queue=False)
        self.halt.click(None, None, None, cancels=events, queue=False)


def seeds() -> tuple[gr.Number, gr.Checkbox]:
    with gr.Row():
        number = gr.Number(SEED, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
        return number, gr.Checkbox(True, label="Keep this seed", info="else each picture has its own")


def sampling(solver: str = "dpm") -> list:
    """Sliders that all tabs with a cascade have: guidance, steps, solver."""
    with gr.Accordion("How it is sampled", open=False):
        return [
            gr.Slider(1, 12, GUIDANCE, step=0.5, label="Guidance"),
            gr.Slider(3, 100, SOLVERS[solver].cascade, step=1, label="Steps"),
            gr.Dropdown(list(SOLVERS), value=solver, label="Solver"),
        ]


def drawn(studio: Studio, guidance: float, steps: float, solver: str) -> list[str]:
    return ["--model", studio.model, "--guidance", f"{guidance:g}", "--steps", f"{steps:.0f}", "--solver", solver]


def generate_tab(studio: Studio, _: gr.Tab) -> None:
    with gr.Row():
        with gr.Column():
            prompt = gr.Textbox("a red heart", label="What to draw (one a line)", lines=2, max_lines=MOST_PROMPTS)
            gr.Examples(
                [["a castle"], ["a dog face"], ["a blue octopus icon"], ["a rocket\na skull\na snowy mountain"]], [prompt]
            )
            how, seed = sampling(), seeds()
            bench = Bench(studio)
        with gr.Column():
            bench.results()

    def argv(prompt: str, *how: Any) -> tuple[list[str], list[Path]]:
        return ["generate", *drawn(studio, *how), "--", *prompts_of(prompt)], []

    bench.connect(argv, [prompt, *how], seed, triggers=[prompt.submit])


def canvas(label: str, masks: bool) -> gr.ImageEditor:
    """Something to paint on, and ways to put a picture on it."""
    inks = ["#ffffff"] if masks else ["#1c1b1f", "#c2410c", "#1d4ed8", "#15803d", "#ca8a04"]
    brush = gr.Brush(default_size=48 if masks else 10, colors=inks,
        color_mode="fixed" if masks else "defaults")  # fmt: skip
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
        try:
            return ground(path)
        except UserError as error:
            raise gr.Error(str(error).replace(str(Path(path).parent) + os.sep, ""), duration=None) from error

    upload.upload(taken, upload, editor, concurrency_limit=4)  # queued: only there do errors become messages
    sample.input(taken, sample, editor, concurrency_limit=4)
    return editor


def ground(path: str) -> dict:
    """A picture to paint on."""
    return {"background": squared(read_picture(Path(path), "picture"), SIDE), "layers": [], "composite": None}


def white(size: tuple[int, int], layer: Image.Image | None = None) -> Image.Image:
    """``layer`` on white, RGB."""
    paper = Image.new("RGBA", size, "white")
    return (paper if layer is None else Image.alpha_composite(paper, layer.convert("RGBA"))).convert("RGB")


def edit_tab(studio: Studio, _: gr.Tab) -> None:
    with gr.Row():
        with gr.Column():
            picture = canvas("Paint, or put a picture here", masks=False)
        with gr.Column():
            prompt = gr.Textbox("a house", label="What it is to become")
            strength = gr.Slider(0.05, 1, 0.85, step=0.05, label="How much of it is noised away")
            how, seed = sampling("ancestral"), seeds()
            bench = Bench(studio)
            bench.results()

    def argv(drawing: dict, prompt: str, strength: float, *how: Any) -> tuple[list[str], list[Path]]:
        file = studio.place("sketch")
        painted = (drawing or {}).get("composite")
        white((SIDE, SIDE), None if painted is None else painted.resize((SIDE, SIDE))).save(file)
        said = prompts_of(prompt, 1)[0] if (prompt or "").strip() else ""
        return ["edit", *drawn(studio, *how), "--prompt", said, "--strength", f"{strength:g}", "--", str(file)], [file]

    bench.connect(argv, [picture, prompt, strength, *how], seed, triggers=[prompt.submit])


def inpaint_tab(studio: Studio, _: gr.Tab) -> None:
    with gr.Row():
        with gr.Column():
            picture = canvas("Paint white what is to change", masks=True)
        with gr.Column():
            prompt = gr.Textbox("a house", label="What is to be there")
            how, seed = sampling("ancestral"), seeds()
            bench = Bench(studio, "Repaint")
            bench.results()

    def argv(drawing: dict, prompt: str, *how: Any) -> tuple[list[str], list[Path]]:
        files = [studio.place("picture"), studio.place("mask")]
        size = (SIDE, SIDE)
        below = (drawing or {}).get("background")
        white(size, None if below is None else below.resize(size)).save(files[0])
        mask = Image.new("L", size)
        for layer in (drawing or {}).get("layers") or []:
            alpha = layer.resize(size).convert("RGBA").getchannel("A").point(lambda a: 255 if a > 127 else 0)
            mask.paste(255, mask=alpha)
        mask.save(files[1])
        said = prompts_of(prompt, 1)[0] if (prompt or "").strip() else ""
        return ["inpaint", *drawn(studio, *how), "--prompt", said, "--", *map(str, files)], files

    bench.connect(argv, [picture, prompt, *how], seed, triggers=[prompt.submit])


def anagram_tab(studio: Studio, _: gr.Tab) -> None:
    with gr.Row():
        with gr.Column():
            first = gr.Textbox("a tulip", label="As it stands")
            other = gr.Textbox("a bell", label="In the other view")
            name = gr.Dropdown(SHOWN_VIEWS, value="flip", label="The other view")
            gr.Examples(
                [
                    ["a black heart", "a spade suit", "flip"],
                    ["a drop of blood", "a red balloon", "flip"],
                    ["keycap 6", "keycap 9", "rotate-180"],
                ],
                [first, other, name],
            )
            best = gr.Slider(1, MOST_BEST, 2, step=1, label="Draw so many and keep the one that reads best")
            how, seed = sampling(), seeds()
            bench = Bench(studio)
        with gr.Column():
            bench.results(look=True)

    def argv(first: str, other: str, name: str, best: float, *how: Any) -> tuple[list[str], list[Path]]:
        both = [prompts_of(first, 1)[0], prompts_of(other, 1)[0]]
        return ["anagram", *drawn(studio, *how), "--view", name, "--best-of", f"{best:.0f}", "--", *both], []

    def finish(job: Job, values: tuple) -> str:
        return turning(job.pictures, values[:2], values[2])

    bench.connect(argv, [first, other, name, best, *how], seed, finish, triggers=[first.submit, other.submit])


def hybrid_tab(studio: Studio, _: gr.Tab) -> None:
    with gr.Row():
        with gr.Column():
            far = gr.Textbox("a red heart", label="From afar")
            near = gr.Textbox("a smiling face", label="From near")
            gr.Examples([["a tangerine", "a smiling face"], ["a red apple", "a frowning face"]], [far, near])
            sigma = gr.Slider(0.5, 5, 2.5, step=0.25, label="Where they part (blur, in 64ths of the picture)")
            best = gr.Slider(1, MOST_BEST, 2, step=1, label="Draw so many and keep the one that reads best")
            how, seed = sampling(), seeds()
            bench = Bench(studio)
        with gr.Column():
            bench.results(look=True)

    def argv(far: str, near: str, sigma: float, best: float, *how: Any) -> tuple[list[str], list[Path]]:
        both = [prompts_of(far, 1)[0], prompts_of(near, 1)[0]]
        return ["hybrid", *drawn(studio, *how), "--sigma", f"{sigma:g}", "--best-of", f"{best:.0f}", "--", *both], []

    def finish(job: Job, values: tuple) -> str:
        return walking(job.pictures[0], values[:2])

    bench.connect(argv, [far, near, sigma, best, *how], seed, finish, triggers=[far.submit, near.submit])


def digits_tab(studio: Studio, _: gr.Tab) -> None:
    with gr.Row():
        with gr.Column():
            what = gr.Radio(["digits", "ambigram"], value="digits", label="Draw", info="an ambigram is another digit upside down")
            digits = gr.Textbox("0123456789", label="Which digits (two for an ambigram)")
            guidance = gr.Slider(0, 10, DIGIT_GUIDANCE, step=0.5, label="Guidance")
            steps = gr.Slider(2, 100, 16, step=1, label="Steps (of DPM-Solver++)")
            seed = seeds()
            bench = Bench(studio)
        with gr.Column():
            bench.results(look=True)

    def argv(what: str, digits: str, guidance: float, steps: float) -> tuple[list[str], list[Path]]:
        digits = (digits or "").strip()
        if len(digits) > 20:
            raise gr.Error(f"{len(digits)} digits; give at most 20.", duration=None)
        how = ["--guidance", f"{guidance:g}", "--solver", "dpm", "--steps", f"{steps:.0f}"]
        more = ["--count", str(MOST_BEST)] if what == "ambigram" else []
        return [what, *how, *more, "--", digits], []

    def finish(job: Job, values: tuple) -> str:
        return turning(job.pictures, list(values[1].strip()), "rotate-180")

    bench.connect(argv, [what, digits, guidance, steps], seed, finish, triggers=[digits.submit])


def train_tab(studio: Studio, _: gr.Tab) -> None:
    from phosphene.plots import loss_curves
    from phosphene.training.mnist.recipes import recipe
    from phosphene.training.mnist.run import Run

    with gr.Row():
        with gr.Column():
            gr.Markdown("A small network learns to draw digits, from scikit-learn's 1,797 handwritten ones. Watch its loss fall.")
            network = gr.Radio(
                ["class", "time"], value="class", label="The network is told", info="the digit and the noise, or the noise alone"
            )
            epochs = gr.Slider(1, 100, 30, step=1, label="Epochs")
            width = gr.Slider(8, 32, 16, step=8, label="Width")
            number, locked = seeds()
            with gr.Row():
                go, halt = gr.Button("Train", variant="primary"), gr.Button("Stop", variant="stop")
        with gr.Column():
            status = gr.HTML(bar(""))
            curve = gr.Image(label="Loss", interactive=False, type="filepath", format="png", buttons=["fullscreen"])
            samples = gr.Image(
                label="Samples after the last epoch", interactive=False, type="filepath", format="png", buttons=["fullscreen"]
            )
            command = gr.Textbox(
                label="The same on the command line", lines=2, interactive=False, buttons=["copy"], elem_classes="studio-command"
            )

    halted: set[str] = set()

    def train(number: float, locked: bool, network: str, epochs: float, width: float, request: gr.Request) -> Iterator[tuple]:
        import shutil
        import time

        seed = int(number) if locked else random.randrange(2**32)
        session, out = request.session_hash or "", studio.folder / f"run-{random.getrandbits(32):08x}"
        told_sizes = f"--epochs {epochs:.0f} --width {width:.0f} --seed {seed}"
        line = f"phosphene train {network} --dataset digits --objective flow --lr 3e-3 {told_sizes} --out runs/{network}"
        halted.discard(session)
        yield seed, bar("loading the digits"), None, None, line
        try:
            sizes = {"epochs": int(epochs), "width": int(width), "seed": seed}
            settings = recipe(network, dataset="digits", objective="flow", lr=3e-3, **sizes)
            run = Run(settings, out, device=studio.device)
            points, shown, total = [], 0.0, settings.epochs * run.trainer.steps
            for report in run:
                epoch, step, steps, losses, ended = report.progress
                done = (epoch - 1) * steps + step
                points += [((done - len(losses) + 1 + k) / steps, loss) for k, loss in enumerate(losses)]
                said = f"epoch {epoch} of {settings.epochs}: loss {report.loss:.4f}, {report.images_per_second:,.0f} images/s"
                if ended or time.monotonic() - shown > 1:
                    loss_curves({"loss": points}, out / "live.png", "training loss")
                    found = sorted((out / "samples").glob("*.png"))
                    sheet = str(found[-1]) if found else None
                    yield seed, bar(f"{said}, {report.seconds_left:.0f} s left", done, total), str(out / "live.png"), sheet, line
                    shown = time.monotonic()
                if session in halted:
                    yield seed, bar(f"stopped after {done} of {total} steps"), gr.skip(), gr.skip(), line
                    return
            yield seed, bar(f"done: {said}", total, total), gr.skip(), gr.skip(), line
        except (UserError, FloatingPointError) as error:
            raise gr.Error(studio.plain(str(error)), duration=None) from error
        finally:
            shutil.rmtree(out, ignore_errors=True)

    outputs = [number, status, curve, samples, command]
    go.click(
        train, [number, locked, network, epochs, width], outputs,
        concurrency_id="device", concurrency_limit=1, show_progress="minimal", show_progress_on=status, trigger_mode="once",
    )  # fmt: skip

    def stop(request: gr.Request) -> str:
        halted.add(request.session_hash or "")
        return bar("stopping")

    halt.click(stop, None, status, queue=False)


def gallery_tab(studio: Studio, opened: gr.Tab) -> None:
    gr.Markdown(
        f"The last {KEPT} pictures that were drawn here, newest first. Each tells how it was made: `phosphene inspect FILE`."
    )
    shown = gr.Gallery(label="Drawn here", columns=4, object_fit="contain", interactive=False, buttons=["download", "fullscreen"])
    again = gr.Button("Look again", size="sm")

    def look() -> list[tuple[str, str]]:
        return [(str(path), command) for path, command in studio.results if path.is_file()]

    opened.select(look, None, shown, queue=False)
    again.click(look, None, shown, queue=False)


TABS: dict[str, Callable[[Studio, gr.Tab], None]] = {
    "Generate": generate_tab,
    "Edit": edit_tab,
    "Inpaint": inpaint_tab,
    "Anagram": anagram_tab,
    "Hybrid": hybrid_tab,
    "Digits": digits_tab,
    "Train": train_tab,
    "Gallery": gallery_tab,
}


def open_studio(model: str, device: str, host: str, port: int | None) -> tuple[gr.Blocks, str]:
    """Start serving in the background; the page, and where it is. UserError where the model or the port cannot be had."""
    studio = Studio(model, device)
    first = Job(
        ["generate", "-o", str(studio.place("first")), "--model", model, "--device", device, "--steps", "1", "a heart"],
        studio.shelf,
    )
    try:
        for _ in first:  # loads the model, and says at once what is wrong with it
            pass
    except Failed as failure:
        raise UserError(failure.sentence) from failure
    page = build(studio).queue(default_concurrency_limit=1, max_size=32)
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            share=False,
            ssr_mode=False,
            max_file_size=MOST_BYTES,
            allowed_paths=[str(studio.folder)],
            theme=gr.themes.Default(primary_hue="orange", **fonts).set(**LOOKS),
            css=CSS,
            js=MENDED,
            footer_links=[],
        )
    except OSError as error:
        raise UserError(f"--port {port}: cannot be listened at on {host}; it is taken, choose another.") from error
    return page, url


def serve(host: str, port: int, model: str, device: str, say: Callable[[str], None]) -> None:
    """Serve the studio until Ctrl-C."""
    page, url = open_studio(model, device, host, port)
    say(url)
    page.block_thread()
