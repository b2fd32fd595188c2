"""The studio's tabs: each turns what a visitor sets into a command line, which :mod:`phosphene.web.jobs` runs."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
from PIL import Image

from phosphene.defaults import DIGIT_GUIDANCE, VIEWS
from phosphene.errors import UserError
from phosphene.training.mnist.recipes import Recipe, recipe
from phosphene.web import widgets
from phosphene.web.jobs import MOST_RESULTS, SIDE, Job, Studio
from phosphene.web.widgets import Bench, Line, bar, prompt_of

STUDIO_VIEWS = [name for name in VIEWS if name not in ("identity", "rotate-270", "pixels")]
"""Not the picture as it stands, nor a turn that is another's picture turned, nor what no picture survives."""


def generate_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio)
    with bench.left("dpm"):
        prompt = gr.Textbox("a red heart", label="What to draw (one a line)", lines=2, max_lines=widgets.MOST_PROMPTS)
        gr.Examples([["a castle"], ["a dog face"], ["a blue octopus icon"], ["a rocket\na skull\na snowy mountain"]], [prompt])
        negative = gr.Textbox("", label="What to stay away from")

    def argv(prompt: str, negative: str) -> Line:
        away = prompt_of(negative, optional=True)
        return ["generate", *(["--negative", away] if away else []), "--", *widgets.prompts_of(prompt)], []

    bench.connect(argv, [prompt, negative])


def edit_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio)
    with bench.right("Paint, or put a picture here", False, "Draw") as picture:
        prompt = gr.Textbox("a house", label="What it is to become")
        strength = gr.Slider(0.05, 1, 0.85, step=0.05, label="How much of it is noised away")

    def argv(drawing: dict, prompt: str, strength: float) -> Line:
        file = studio.place("sketch")
        widgets.white((drawing or {}).get("composite")).save(file)
        return ["edit", "--prompt", prompt_of(prompt, optional=True), "--strength", f"{strength:g}", "--", str(file)], [file]

    bench.connect(argv, [picture, prompt, strength])


def inpaint_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio)
    with bench.right("Paint white what is to change", True, "Repaint") as picture:
        prompt = gr.Textbox("a house", label="What is to be there")

    def argv(drawing: dict, prompt: str) -> Line:
        files = [studio.place("picture"), studio.place("mask")]
        widgets.white((drawing or {}).get("background")).save(files[0])
        mask = Image.new("L", (SIDE, SIDE))
        for layer in (drawing or {}).get("layers") or []:
            alpha = layer.resize(mask.size).convert("RGBA").getchannel("A").point(lambda a: 255 if a > 127 else 0)
            mask.paste(255, mask=alpha)
        mask.save(files[1])
        return ["inpaint", "--prompt", prompt_of(prompt, optional=True), "--", *map(str, files)], files

    bench.connect(argv, [picture, prompt])


def anagram_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio)
    with bench.left("dpm", look=True):
        first = gr.Textbox("a tulip", label="As it stands")
        other = gr.Textbox("a bell", label="In the other view")
        name = gr.Dropdown(STUDIO_VIEWS, value="flip", label="The other view")
        hearts, balloons = ["a black heart", "a spade suit", "flip"], ["a drop of blood", "a red balloon", "flip"]
        gr.Examples([hearts, balloons, ["keycap 6", "keycap 9", "rotate-180"]], [first, other, name])
        best = widgets.choosing()

    def argv(first: str, other: str, name: str, best: float) -> Line:
        return ["anagram", "--view", name, "--best-of", f"{best:.0f}", "--", prompt_of(first), prompt_of(other)], []

    bench.connect(
        argv, [first, other, name, best], lambda job, values: widgets.turning_picture(job.pictures, values[:2], values[2])
    )


def hybrid_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio)
    with bench.left("dpm", look=True):
        far = gr.Textbox("a red heart", label="From afar")
        near = gr.Textbox("a smiling face", label="From near")
        gr.Examples([["a tangerine", "a smiling face"], ["a red apple", "a frowning face"]], [far, near])
        sigma = gr.Slider(0.5, 5, 2.5, step=0.25, label="Where they part (blur, in 64ths of the picture)")
        best = widgets.choosing()

    def argv(far: str, near: str, sigma: float, best: float) -> Line:
        return ["hybrid", "--sigma", f"{sigma:g}", "--best-of", f"{best:.0f}", "--", prompt_of(far), prompt_of(near)], []

    bench.connect(argv, [far, near, sigma, best], lambda job, values: widgets.walking_picture(job.pictures[0], *values[:2]))


def digits_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio)
    with bench.left(look=True):
        what = gr.Radio(["digits", "ambigram"], value="digits", label="Draw", info="an ambigram is another digit upside down")
        digits = gr.Textbox("0123456789", label="Which digits (two for an ambigram)")
        guidance = gr.Slider(0, 10, DIGIT_GUIDANCE, step=0.5, label="Guidance")
        steps = gr.Slider(2, 100, 16, step=1, label="Steps (of DPM-Solver++)")

    def argv(what: str, digits: str, guidance: float, steps: float) -> Line:
        digits = (digits or "").strip()
        if len(digits) > 20:
            raise UserError(f"{len(digits)} digits; give at most 20.")
        how = ["--guidance", f"{guidance:g}", "--solver", "dpm", "--steps", f"{steps:.0f}"]
        more = ["--count", str(widgets.MOST_BEST)] if what == "ambigram" else []
        return [what, *how, *more, "--", digits], []

    def finish(job: Job, values: tuple) -> str:
        return widgets.turning_picture(job.pictures, list(values[1].strip()), "rotate-180")

    bench.connect(argv, [what, digits, guidance, steps], finish)


def train_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio)
    with gr.Row():
        with gr.Column():
            gr.Markdown("A small network learns to draw digits, from scikit-learn's 1,797 handwritten ones. Watch its loss fall.")
            network = gr.Radio(
                ["class", "time"], value="class", label="The network is told", info="the digit and the noise, or the noise alone"
            )
            epochs = gr.Slider(1, 100, 30, step=1, label="Epochs")
            width = gr.Slider(8, 32, 16, step=8, label="Width")
            bench.buttons("Train")
        with gr.Column():
            bench.status = gr.HTML(bar(""))
            curve, samples = widgets.image("Loss"), widgets.image("Samples after the last epoch")
            command = widgets.command_line()

    halted: set[str] = set()

    def train(session: str, seed: int, network: str, epochs: float, width: float) -> Iterator[tuple]:
        out = studio.folder / f"run-{random.getrandbits(32):08x}"
        sizes = f"--epochs {epochs:.0f} --width {width:.0f} --seed {seed}"
        line = f"phosphene train {network} --dataset digits --objective flow --lr 3e-3 {sizes} --out runs/{network}"
        halted.discard(session)
        yield bar("loading the digits"), None, None, line
        try:
            exact = {"lr": 3e-3, "epochs": int(epochs), "width": int(width), "seed": seed}
            settings = recipe(network, dataset="digits", objective="flow", **exact)
            wanted = studio.wanted(session)
            taught = lesson(settings, out, studio.device, lambda: session in halted or not wanted())
            for update in studio.at_work(taught):
                yield *update, line
        finally:
            shutil.rmtree(out, ignore_errors=True)

    bench.listen(train, [network, epochs, width], [curve, samples, command], halted.add, "stopping")


def lesson(settings: Recipe, out: Path, device: str, halted: Callable[[], bool]) -> Iterator[tuple]:
    """Train in the folder ``out`` until it is done or ``halted``; status, curve and samples, about once a second."""
    from phosphene.plots import loss_curves
    from phosphene.training.mnist.run import Run

    run, curve = Run(settings, out, device=device), out / "live.png"
    points, drawn_at, total = [], 0.0, settings.epochs * run.trainer.steps
    for report in run:
        epoch, step, steps, losses, ended = report.progress
        done = (epoch - 1) * steps + step
        points += [((done - len(losses) + 1 + k) / steps, loss) for k, loss in enumerate(losses)]
        status = f"epoch {epoch} of {settings.epochs}: loss {report.loss:.4f}, {report.images_per_second:,.0f} images/s"
        if ended or time.monotonic() - drawn_at > 1:
            loss_curves({"loss": points}, curve, "training loss")
            found = sorted((out / "samples").glob("*.png"))
            yield bar(f"{status}, {report.seconds_left:.0f} s left", done, total), str(curve), str(found[-1]) if found else None
            drawn_at = time.monotonic()
        if halted():
            yield bar(f"stopped after {done} of {total} steps"), gr.skip(), gr.skip()
            return
    yield bar(f"done: {status}", total, total), gr.skip(), gr.skip()


def gallery_tab(studio: Studio, opened: gr.Tab) -> None:
    gr.Markdown(
        f"The last {MOST_RESULTS} pictures that were drawn here, newest first. "
        "Each tells how it was made: `phosphene inspect FILE`."
    )
    gallery = gr.Gallery(
        label="Drawn here", columns=4, object_fit="contain", interactive=False, buttons=["download", "fullscreen"]
    )
    again = gr.Button("Look again", size="sm")

    def look() -> list[tuple[str, str]]:
        return [(str(path), command) for path, command in studio.results if path.is_file()]

    opened.select(look, None, gallery, queue=False)
    again.click(look, None, gallery, queue=False)


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
