"""The studio's tabs: each turns what a visitor sets into a command line, which :mod:`phosphene.web.jobs` runs."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr

from phosphene.defaults import AMBIGRAM_GUIDANCE, DIGIT_GUIDANCE, SHAPES, VIEWS, WARPS
from phosphene.training.mnist.recipes import Recipe, recipe
from phosphene.web import widgets
from phosphene.web.jobs import MOST_RESULTS, Job, Studio
from phosphene.web.widgets import Bench, bar

STUDIO_VIEWS = [*(name for name in VIEWS if name not in ("identity", "rotate-270", "pixels")), *WARPS]
"""Not the picture as it stands, nor a turn that is another's picture turned, nor what no picture survives."""


def generate_tab(studio: Studio, _: gr.Tab) -> None:
    with Bench(studio, "generate", "dpm", quick=True).laid_out() as bench:
        what = gr.Textbox("a red heart", label="What to draw (one a line)", lines=2, max_lines=widgets.MOST_PROMPTS)
        bench.ask("", what, widgets.prompts_of)
        gr.Examples([["a castle"], ["a dog face"], ["a blue octopus icon"], ["a rocket\na skull\na snowy mountain"]], [what])
        bench.ask("--negative", gr.Textbox("", label="What to stay away from"))


def denoise_tab(studio: Studio, _: gr.Tab) -> None:
    with Bench(studio, "denoise", fixed=studio.model).laid_out("Noise it and denoise it", painted=True) as bench:
        bench.ask("", widgets.canvas("Paint, or put a picture here", False, "clock-tower"), widgets.painted(studio))
        gr.Markdown("Noised, blurred, denoised in one step, and in many: the first sections of the course, 1.1 to 1.4.")
        # From the course's 690 little of the tower is left: the many steps begin at one of the timesteps, where it comes back.
        bench.ask("--t", gr.Textbox("250,510,750", label="Timesteps to noise it to"))
        skipped = "of 990, 960, ..., 0: with 16 left out they begin at 510"
        start = gr.Slider(0, 30, 16, step=1, label="Steps left out before the many", info=skipped)
        bench.ask("--start", start, widgets.number)
        bench.ask("--prompt", gr.Textbox("a tower", label="What it shows, if you want to help"))


def edit_tab(studio: Studio, _: gr.Tab) -> None:
    with Bench(studio, "edit", studio.usual.begins, owns=True).laid_out(painted=True) as bench:
        bench.ask("", widgets.canvas("Paint, or put a picture here", False, "sketch-house"), widgets.painted(studio))
        bench.ask("--prompt", gr.Textbox("a house", label="What it is to become"))
        strength = gr.Slider(0.05, 1, 0.85, step=0.05, label="How much of it is noised away")
        bench.ask("--strength", strength, widgets.number)


def inpaint_tab(studio: Studio, _: gr.Tab) -> None:
    with Bench(studio, "inpaint", "ancestral").laid_out("Repaint", painted=True) as bench:
        bench.ask("", widgets.canvas("Paint white what is to change", True, "castle-hill"), widgets.painted_mask(studio))
        bench.ask("--prompt", gr.Textbox("a house", label="What is to be there"))


def anagram_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio, "anagram", "dpm")
    with bench.laid_out(look=lambda job, values: widgets.turning_picture(job.pictures, values[:2], values[2])):
        first = bench.ask("", gr.Textbox("a car", label="As it stands"), widgets.prompt)
        other = bench.ask("", gr.Textbox("a face with sunglasses", label="In the other view"), widgets.prompt)
        view = bench.ask("--view", gr.Dropdown(STUDIO_VIEWS, value="flip", label="The other view"))
        fitting = gr.Markdown(widgets.fitting("a car", "flip"))
        for asked in (first, view):
            asked.change(widgets.fitting, [first, view], fitting, show_progress="hidden", queue=False)
        turned = [["a castle", "an elephant", "rotate-180"], ["a chick", "a baby", "rotate-90"]]
        gr.Examples([["a police car", "a koala", "flip"], *turned], [first, other, view])
        bench.ask("--best-of", widgets.choosing(), widgets.number)


def hybrid_tab(studio: Studio, _: gr.Tab) -> None:
    def walk(job: Job, values: tuple) -> str:
        far, near, sigma, *_ = values
        return widgets.walking_picture(job.pictures[:1], near, far, blur=sigma / 64)

    with Bench(studio, "hybrid", "dpm").laid_out(look=walk) as bench:
        far = bench.ask("", gr.Textbox("a house", label="From afar"), widgets.prompt)
        near = bench.ask("", gr.Textbox("a dog face", label="From near"), widgets.prompt)
        gr.Examples([["a bell", "a penguin"], ["a tree", "an owl"]], [far, near])
        sigma = gr.Slider(0.5, 5, 3, step=0.25, label="Where they part (blur, in 64ths of the picture)")
        bench.ask("--sigma", sigma, widgets.number)
        bench.ask("--best-of", widgets.choosing(), widgets.number)


def overlay_tab(studio: Studio, _: gr.Tab) -> None:
    with Bench(studio, "overlay", "dpm").laid_out() as bench:
        bench.ask("", gr.Textbox("a red heart", label="On the first sheet"), widgets.prompt)
        bench.ask("", gr.Textbox("a sunflower", label="On the second sheet"), widgets.prompt)
        bench.ask("", gr.Textbox("a ladybug", label="When one lies upon the other"), widgets.prompt)
        bench.ask("--best-of", widgets.choosing(), widgets.number)


def compose_tab(studio: Studio, _: gr.Tab) -> None:
    with Bench(studio, "compose", "dpm").laid_out() as bench:
        bench.ask("", gr.Textbox("a smiling face", label="Inside"), widgets.prompt)
        bench.ask("", gr.Textbox("a sunflower", label="Outside"), widgets.prompt)
        bench.ask("--mask", gr.Radio(list(SHAPES), value="circle", label="What is inside"))


def morph_tab(studio: Studio, _: gr.Tab) -> None:
    bench = Bench(studio, "morph", "dpm")
    with bench.laid_out(look=lambda job, values: widgets.walking_picture(job.pictures, *values[:2], what="the way")):
        bench.ask("", gr.Textbox("a dog face", label="Where it begins"), widgets.prompt)
        bench.ask("", gr.Textbox("a cat face", label="Where it ends"), widgets.prompt)
        bench.ask("--frames", gr.Slider(2, 16, 8, step=1, label="Pictures on the way, both ends included"), widgets.number)


def digits_tab(studio: Studio, _: gr.Tab) -> None:
    with Bench(studio, "digits", fixed=["--solver", "dpm"]).laid_out() as bench:
        bench.ask("", gr.Textbox("0123456789", label="Which digits"), widgets.few_digits)
        bench.ask("--guidance", gr.Slider(0, 10, DIGIT_GUIDANCE, step=0.5, label="Guidance"), widgets.number)
        bench.ask("--steps", gr.Slider(2, 100, 16, step=1, label="Steps (of DPM-Solver++)"), widgets.number)


def ambigram_tab(studio: Studio, _: gr.Tab) -> None:
    def look(job: Job, values: tuple) -> str:
        return widgets.turning_picture(job.pictures, list(values[0].strip()), "rotate-180")

    bench = Bench(studio, "ambigram", fixed=["--solver", "dpm", "--steps", "16", "--count", str(widgets.MOST_BEST)])
    with bench.laid_out(look=look):
        two = gr.Textbox("69", label="Two digits", info="the picture is the first, and the second upside down")
        bench.ask("", two, widgets.few_digits)
        bench.ask("--guidance", gr.Slider(0, 10, AMBIGRAM_GUIDANCE, step=0.5, label="Guidance"), widgets.number)


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
        try:
            if session in halted:  # while it waited for the device
                yield bar("stopped before it began"), None, None, line
                return
            yield bar("loading the digits"), None, None, line
            exact = {"lr": 3e-3, "epochs": int(epochs), "width": int(width), "seed": seed}
            settings = recipe(network, dataset="digits", objective="flow", **exact)
            wanted = studio.wanted(session)
            taught = lesson(settings, out, studio.device, lambda: session in halted or not wanted())
            for update in studio.at_work(taught):
                yield *update, line
        finally:
            halted.discard(session)
            shutil.rmtree(out, ignore_errors=True)

    bench.listen(train, [network, epochs, width], [curve, samples, command], halted.add, "stopping")


def lesson(settings: Recipe, out: Path, device: str, halted: Callable[[], bool]) -> Iterator[tuple]:
    """Train in the folder ``out`` until it is done or ``halted``; status, curve and samples, about once a second."""
    from phosphene.images import save_png
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
            save_png(loss_curves({"loss": points}, "training loss"), curve)
            found = sorted((out / "samples").glob("*.png"))
            yield bar(f"{status}, {report.seconds_left:.0f} s left", done, total), str(curve), str(found[-1]) if found else None
            drawn_at = time.monotonic()
        if done < total and halted():
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
    "Denoise": denoise_tab,
    "Edit": edit_tab,
    "Inpaint": inpaint_tab,
    "Anagram": anagram_tab,
    "Hybrid": hybrid_tab,
    "Overlay": overlay_tab,
    "Compose": compose_tab,
    "Morph": morph_tab,
    "Digits": digits_tab,
    "Ambigram": ambigram_tab,
    "Train": train_tab,
    "Gallery": gallery_tab,
}
