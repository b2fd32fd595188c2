"""The sections of the page: each a small function that makes its figures and says what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from phosphene.expression import given
from phosphene.images import save_png, sheet, to_image
from phosphene.models import catalogue
from phosphene.models.digits import DigitDiffusion
from phosphene.plots import loss_curves
from phosphene.sampler import Route, last
from phosphene.tasks import ambigram
from phosphene.tasks.denoise_digits import SIGMAS, denoise_at
from phosphene.tasks.digits import sample, wanted
from phosphene.training.run import read_log

SEED = 180


@dataclass
class Figure:
    """A picture of the page: its file, what it shows (also its alternative text), and the command that makes its like."""

    file: str
    caption: str
    command: str
    width: int = 0
    height: int = 0


@dataclass
class Section:
    title: str
    prose: str
    figures: list[Figure] = field(default_factory=list)


@dataclass
class Studio:
    """Where figures go, and the models that sections share."""

    out: Path
    device: str

    def __post_init__(self) -> None:
        self._models: dict[str, object] = {}

    def model(self, name: str):
        if name not in self._models:
            self._models[name] = catalogue.load(name, self.device)
        return self._models[name]

    def keep(self, image: Image.Image, name: str, caption: str, command: str) -> Figure:
        save_png(image, self.out / name, {"command": command})
        return Figure(name, caption, command, image.width, image.height)


def out_of_noise(studio: Studio) -> Section:
    """Ten digits on their way from noise, as the sampler leaves them and as the model imagines them."""
    model: DigitDiffusion = studio.model("class-20")
    digits, steps = list(range(10)), 16
    states, guesses, times = [], [], []
    for step in sample(model, wanted(model, digits, 5.0), range(SEED, SEED + 10), route=Route("dpm", steps)):
        if step.index in (0, 2, 5, 8, 11, 13, 15):
            states.append([to_image(p, scale=2) for p in step.xt])
            guesses.append([to_image(p, scale=2) for p in step.x0])
            times.append(step.t)
    labels = ["clean" if t < 0 else f"t = {t}" for t in times]
    command = "phosphene digits 0123456789 --guidance 5 --solver dpm --steps 16"
    return Section(
        "Digits out of noise",
        "A class-conditioned network, trained from scratch on MNIST for twenty epochs, turns noise into the digit asked for. "
        f"Here it is asked {steps} times. The first sheet shows what the picture is after some of these steps, the second what "
        "the network believes at that moment the clean digit to be: vague at first, because many digits could still hide "
        "in the noise, then settled long before the picture itself is clean.",
        [
            studio.keep(
                sheet(states, [str(d) for d in digits], labels),
                "noise-to-digits.png",
                "Noise becoming digits, top to bottom",
                command,
            ),
            studio.keep(
                sheet(guesses, [str(d) for d in digits], labels), "estimates.png", "The clean estimates behind them", command
            ),
        ],
    )


def guidance(studio: Studio) -> Section:
    """The same noise at rising guidance."""
    model: DigitDiffusion = studio.model("class-20")
    classifier = studio.model("classifier")
    scales, rows, labels = (0.0, 1.0, 2.0, 5.0), [], []
    digits = [d for d in range(10) for _ in range(2)]
    for scale in scales:
        run = sample(model, wanted(model, digits, scale), range(SEED, SEED + 20), route=Route("dpm", 12))
        pictures = last(run)
        read = ambigram.describe(classifier, pictures)[0].argmax(1).cpu()
        right = int((read == torch.tensor(digits)).sum())
        rows.append([to_image(p, scale=2) for p in pictures])
        labels.append(f"gamma {scale:g}: {right}/20")
    image = sheet(rows, [str(d) for d in digits], labels)
    return Section(
        "Classifier-free guidance",
        "The network was trained with one label in ten withheld, so it can be asked twice: for the digit, and for any "
        "digit. Going gamma times the way from the second answer to the first makes digits plainer and more alike. At 0 "
        "the label is not heard at all; the counts say how many of twenty the classifier reads as asked.",
        [
            studio.keep(
                image,
                "guidance.png",
                "The same noise at guidance 0, 1, 2 and 5",
                "phosphene digits 0123456789 --guidance 2 --solver dpm",
            )
        ],
    )


def unconditional(studio: Studio) -> Section:
    """Epochs 5 and 20 of the models, side by side."""
    figures = []
    for name, other in (("time-5", "time-20"), ("class-5", "class-20")):
        rows = []
        for which in (name, other):
            model: DigitDiffusion = studio.model(which)
            asked = wanted(model, [k % 10 for k in range(20)], 5.0) if model.classes else given(None)
            pictures = [to_image(p, scale=2) for p in last(sample(model, asked, range(SEED, SEED + 20), route=Route("dpm", 16)))]
            rows.append(pictures)
        kind = "time-conditioned" if name.startswith("time") else "class-conditioned, guidance 5"
        option = "--unconditional" if name.startswith("time") else "0123456789"
        figures.append(
            studio.keep(
                sheet(rows, row_labels=["5 epochs", "20 epochs"]),
                f"{name.split('-')[0]}-epochs.png",
                f"Samples of the {kind} model after 5 and after 20 epochs",
                f"phosphene digits {option} --model {other} --solver dpm",
            )
        )
    return Section(
        "Five epochs, twenty epochs",
        "From the same noise. The time-conditioned model draws whatever comes; some of its marks are no digit. Told the "
        "class, the same network draws the digit, and after five epochs already well.",
        figures,
    )


def ambigrams(studio: Studio) -> Section:
    """The table of all pairs. A pair turned is the other pair, so half of the table is drawn and the rest is turned."""
    model, classifier, each, steps = studio.model("class-20"), studio.model("classifier"), 2, 12
    halves = [(a, b) for a in range(10) for b in range(a, 10)]
    pairs = [pair for pair in halves for _ in range(each)]
    run = ambigram.draw_ambigrams(model, pairs, range(SEED, SEED + len(pairs)), route=Route("dpm", steps), max_rows=220)
    pictures = last(run)
    judged = ambigram.judge(classifier, pictures, pairs)
    chosen = ambigram.best(judged.score, each)
    cells: list[list[Image.Image | None]] = [[None] * 10 for _ in range(10)]
    read = 0
    for (a, b), k in zip(halves, chosen.tolist(), strict=True):
        for upright, turned, picture in ((a, b, pictures[k]), (b, a, ambigram.UPSIDE_DOWN.apply(pictures[k]))):
            image = to_image(picture, scale=2).convert("RGB")
            if judged.read[k]:
                image = framed(image)
            cells[upright][turned] = image
        read += int(judged.read[k]) * (1 if a == b else 2)
    labels = [str(d) for d in range(10)]
    image = sheet(cells, labels, labels)
    return Section(
        "Digits that are another digit upside down",
        "Two questions at each step: what noise is in the picture as it stands, for the digit of the row, and what noise is "
        "in it turned by 180 degrees, for the digit of the column; the mean of both answers is taken away. Framed cells are "
        f"those that the classifier reads both ways: {read} of 100 here, from the best of {each} seeds. (A pair turned is "
        "the opposite pair, so the lower half of the table is the upper half turned.)",
        [
            studio.keep(
                image,
                "ambigrams.png",
                "Rows: as it stands. Columns: upside down. Framed: the classifier reads both",
                "phosphene ambigram --all",
            )
        ],
    )


def framed(image: Image.Image, colour: tuple[int, int, int] = (46, 160, 90), width: int = 2) -> Image.Image:
    """``image`` with a frame drawn inside it."""
    from PIL import ImageOps

    return ImageOps.expand(image.crop((width, width, image.width - width, image.height - width)), width, colour)


def denoiser(studio: Studio) -> Section:
    """One-step denoising in and out of distribution, on digits of our own making."""
    model: DigitDiffusion = studio.model("class-20")
    clean = (
        last(sample(model, wanted(model, list(range(10)), 2.0), range(SEED, SEED + 10), route=Route("dpm", 16))).cpu().clamp(0, 1)
    )
    five = denoise_at(studio.model("denoiser-5"), clean, SEED)
    one = denoise_at(studio.model("denoiser-1"), clean, SEED)
    rows, labels = [], []
    for k, sigma in enumerate(SIGMAS):
        for tag, several in (("noisy", five.noisy[k]), ("5 epochs", five.estimates[k])):
            rows.append([to_image(p, scale=2) for p in several])
            labels.append(f"sigma {sigma:g}, {tag}")
    errors = "; ".join(
        f"{s:g}: {a:.4f} and {b:.4f}" for s, a, b in zip(SIGMAS, one.error.tolist(), five.error.tolist(), strict=True)
    )
    return Section(
        "The one-step denoiser",
        "Trained at sigma 0.5 only. Below, the digits (drawn by the class-conditioned model) at rising noise and the answer "
        "of the denoiser after five epochs. At sigma 1 it has to guess strokes that noise has drowned, and it guesses as one "
        f"who never saw so much of it. Mean squared errors after one and after five epochs, by sigma: {errors}.",
        [
            studio.keep(
                sheet(rows, row_labels=labels),
                "denoiser.png",
                "Noisy digits and one-step estimates",
                "phosphene denoise-digits --dataset digits",
            )
        ],
    )


def losses(studio: Studio) -> Section:
    """The training logs that ship with the models."""

    def curve(name: str) -> list[tuple[float, float]]:
        return [(line["epoch"], line["loss"]) for line in read_log(catalogue.EMBEDDED / name / "log.jsonl")]

    figures = []
    for file, names, title in (
        ("loss-denoiser.png", {"denoiser-5": "denoiser, width 128"}, "The one-step denoiser"),
        ("loss-flow.png", {"time-20": "time-conditioned", "class-20": "class-conditioned"}, "Flow matching, width 64"),
        ("loss-ddpm.png", {"class-20-ddpm": "class-conditioned"}, "DDPM, width 64"),
    ):
        loss_curves({label: curve(name) for name, label in names.items()}, studio.out / file, title)
        with Image.open(studio.out / file) as image:
            width, height = image.size
        figures.append(Figure(file, f"{title}: training loss", "phosphene train class --objective flow", width, height))
    return Section(
        "How the losses fell",
        "From the logs of the runs on an H100 that made the shipped models. Twenty epochs took less than half a minute. "
        "Knowing the class explains part of what the time-conditioned network has to guess, hence the gap between the curves.",
        figures,
    )


SECTIONS: list[Callable[[Studio], Section]] = [out_of_noise, guidance, unconditional, ambigrams, denoiser, losses]


def build(studio: Studio, progress: Callable[[str, int, int], None]) -> Iterator[Section]:
    """The sections in order; ``progress`` is told the name, how many are done, and of how many."""
    for done, section in enumerate(SECTIONS):
        progress(section.__name__.replace("_", " "), done, len(SECTIONS))
        yield section(studio)
    progress("done", len(SECTIONS), len(SECTIONS))
