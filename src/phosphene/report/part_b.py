"""Part B of the page: diffusion models trained from scratch on MNIST, in the order of the course's project.

Both of its editions: noise prediction (DDPM), and flow matching. A model that does not ship is not shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.evaluation.classifier import accuracy
from phosphene.images import rescaled, to_images, to_tensor
from phosphene.models import folders
from phosphene.models.unet import MnistUNet
from phosphene.plots import lines, loss_curves
from phosphene.report.sections import Content, Desk, Figure, Shown, command_line, section, sheets
from phosphene.sampler import last
from phosphene.schedule import linear
from phosphene.tasks.denoise_digits import SIGMAS, Denoised, denoise_at
from phosphene.tasks.digits import digits
from phosphene.training.log import LOSSES, NAME, curve, read_log
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.recipes import recipe

B = "Part B: diffusion models from scratch"
DDPM, FLOW = "Part B, the DDPM edition: predict the noise", "Part B, the newer edition: flow matching"
EDITIONS = {"ddpm": DDPM, "flow": FLOW}
EPOCHS = (5, 20)
STEPS = 16
FEW = Sampling("dpm", STEPS)
SHEET = folders.EMBEDDED.parent / "digits" / "mnist-test.png"


class Real(NamedTuple):
    """Real digits (N, 1, 28, 28) in [0, 1], the first ten of which are 0 to 9, and which they are."""

    images: Tensor
    said: str


@cache
def real_digits(whole: bool) -> Real:
    """Test digits of MNIST: all, ``whole``, where they are at hand; otherwise a hundred that ship."""
    if whole:
        with suppress(UserError):
            test = load_dataset("mnist", fetch=False).test
            ten = [int((test.labels == digit).nonzero()[0]) for digit in range(10)]
            rest = [k for k in range(len(test)) if k not in ten]
            return Real(test.images[ten + rest].float() / 255, f"all {len(test):,} test digits of MNIST")
    with Image.open(SHEET) as sheet:
        rows = (to_tensor(sheet)[0, 0] + 1) / 2
    tiles = rows.unflatten(0, (10, 28)).unflatten(2, (10, 28)).permute(2, 0, 1, 3).reshape(-1, 1, 28, 28)
    return Real(tiles, "a hundred test digits of MNIST, the first ten of each, which ship with phosphene")


def drawn(desk: Desk, model: str, wanted: Sequence[int], guidance: float | None, route: Sampling = FEW) -> Tensor:
    """The digits ``wanted``, from consecutive seeds, (N, 1, 28, 28) in [0, 1]; without ``guidance`` whatever comes."""
    task = digits(None if guidance is None else wanted)
    seeds = range(SEED, SEED + len(wanted))
    return last(run(task, desk.model(model), seeds, sampling=route._replace(guidance=guidance or 0.0))).cpu().clamp(0, 1)


def ships(name: str) -> bool:
    """Whether a model called ``name`` is inside the package."""
    return (folders.EMBEDDED / name).is_dir()


def losses(desk: Desk, names: dict[str, str], file: str, title: str) -> list[Figure]:
    """Loss curves from the logs that ship with models; ``names`` are models and how the curve is called. None of no model."""
    curves = {label: curve(read_log(folders.EMBEDDED / name / NAME)) for name, label in names.items() if ships(name)}
    if not curves:
        return []
    loss_curves(curves, desk.out / f"{file}.png", title)
    return [desk.plotted(file, title)]


def by_epochs(desk: Desk, kind: str, ending: str, guidance: float | None, route: Sampling) -> tuple[list[Figure], dict[int, str]]:
    """A sheet of samples after 5 epochs and one after 20, from the same noise; and, of digits asked for, the share read so."""
    each, figures, read = 1 if desk.quick else 4, [], {}
    labels = [digit for _ in range(each) for digit in range(10)]
    for epoch in EPOCHS:
        name = f"{kind}-{epoch}{ending}"
        if not ships(name):
            continue
        made = drawn(desk, name, labels, guidance, route)
        read[epoch] = f"{accuracy(desk.model('classifier'), made, labels):.0%}"
        rows = [to_images(rescaled(made[k : k + 10]), 2) for k in range(0, len(labels), 10)]
        asked = ["--unconditional"] if guidance is None else ["0123456789", "--guidance", f"{guidance:g}"]
        steps = ["--solver", route.solver, "--steps", str(route.steps)]
        command = command_line(["phosphene", "digits", *asked, "--count", str(each), *steps, "--model", name])
        figures.append(desk.save(sheets(rows), f"{kind}{ending}-{epoch}", f"{10 * each} samples after {epoch} epochs", command))
    return figures, read


def ancestral(desk: Desk) -> Sampling:
    """Of the DDPM edition: all of its 300 steps, or, on a quick page, 50."""
    return Sampling("ancestral", 50 if desk.quick else 300)


def denoised(result: Denoised, shown: Sequence[int] = (2, 5, 8)) -> Shown:
    """A few noisy digits and what the denoiser makes of them: a pair of rows for each, a column for each level."""
    rows, labels = [], []
    for digit in shown:
        for tag, several in (("noisy", result.noisy), ("denoised", result.estimates)):
            rows.append(to_images(rescaled(several[:, digit]), 3))
            labels.append(tag)
    return sheets(rows, [f"{sigma:g}" for sigma in SIGMAS], labels)


def parameters(width: int, **conditions: object) -> str:
    """How many numbers the assignment's UNet learns."""
    return f"{sum(each.numel() for each in MnistUNet(width, **conditions).parameters()):,}"


def recipe_of(name: str, network: str) -> dict[str, Any]:
    """How the model called ``name`` was trained; where it does not ship, the assignment's recipe of its ``network``.

    ``logged``: how many steps a point of its loss curve stands for.
    """
    held = json.loads((folders.EMBEDDED / name / "config.json").read_text())["recipe"] if ships(name) else asdict(recipe(network))
    told = {key: held[key] for key in ("epochs", "batch_size", "width", "lr", "lr_decay", "sigma", "drop", "timesteps")}
    first = next(iter(read_log(folders.EMBEDDED / name / NAME)), {LOSSES: True})
    return told | {"logged": 1 if LOSSES in first else first["step"]}


@section(B, "B 1.1", "A UNet, and noisy digits to mend", (0.5, 0.5))
def noisy_digits(desk: Desk) -> Content:
    clean = real_digits(False).images[:10]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEED))
    rows = [to_images(rescaled(clean + sigma * noise), 2) for sigma in SIGMAS]
    whole = sheets(rows, row_labels=[f"sigma {s:g}" for s in SIGMAS])
    figure = desk.save(whole, "noisy-digits", "Test digits of MNIST at rising noise")
    return Content(figure, parameters=parameters(128))


@section(B, "B 1.2", "Training the one-step denoiser", (6, 80))
def one_step_denoiser(desk: Desk) -> Content:
    clean, said = real_digits(not desk.quick)
    one, five = (denoise_at(desk.model(f"denoiser-{n}"), clean, SEED, [0.5]) for n in (1, 5))
    several = (clean, one.noisy[0], one.estimates[0], five.estimates[0])
    whole = sheets([to_images(rescaled(x[:10]), 2) for x in several], row_labels=["clean", "sigma 0.5", "1 epoch", "5 epochs"])
    return Content(
        *losses(desk, {"denoiser-5": "denoiser"}, "loss-denoiser", "Training loss of the one-step denoiser"),
        desk.save(whole, "denoiser", "Test digits, noisy ones, and the denoiser's answer after one and after five epochs"),
        one=f"{one.error[0]:.4f}",
        five=f"{five.error[0]:.4f}",
        noisy=f"{one.noisy_error[0]:.3f}",
        said=said,
        recipe=recipe_of("denoiser-5", "denoiser"),
    )


@section(B, "B 1.2.2", "Out of its depth: other levels of noise", (9, 300))
def out_of_distribution(desk: Desk) -> Content:
    clean, said = real_digits(not desk.quick)
    result = denoise_at(desk.model("denoiser-5"), clean, SEED)
    errors = "; ".join(f"{s:g}: {e:.4f}" for s, e in zip(SIGMAS, result.error.tolist(), strict=True))
    caption = "The denoiser of sigma 0.5 at other levels, a column for each sigma"
    return Content(desk.save(denoised(result), "out-of-distribution", caption), errors=errors, said=said)


@section(DDPM, "B 2.1", "Many small steps: the time-conditioned UNet", (3, 60))
def time_conditioned(desk: Desk) -> Content:
    schedule = linear()
    levels = [schedule.signal_and_noise(t, torch.empty(0)) for t in range(schedule.steps)]
    shares = {name: [(t + 1, level[k]) for t, level in enumerate(levels)] for k, name in enumerate(("picture", "noise"))}
    lines(shares, desk.out / "schedule.png", "What a picture noised to t is made of", "t", "share", marker="")
    figures, read = by_epochs(desk, "time", "-ddpm", None, ancestral(desk))
    return Content(
        desk.plotted("schedule", "The shares of picture and noise over the 300 timesteps"),
        *losses(desk, {"time-20-ddpm": "time"}, "loss-time-ddpm", "Training loss, time-conditioned, noise prediction"),
        *figures,
        parameters=parameters(64, time=True),
        left=f"{levels[-1][0]:.2f}",
        steps=ancestral(desk).steps,
        epochs=sorted(read),
        recipe=recipe_of("time-20-ddpm", "time"),
    )


@section(DDPM, "B 2.4", "Digits on demand: the class-conditioned UNet", (4, 120))
def class_conditioned(desk: Desk) -> Content:
    figures, read = by_epochs(desk, "class", "-ddpm", 5.0, ancestral(desk))
    title = "Training loss, class-conditioned, noise prediction"
    return Content(
        *losses(desk, {"class-20-ddpm": "class"}, "loss-ddpm", title),
        *figures,
        parameters=parameters(64, time=True, classes=10),
        steps=ancestral(desk).steps,
        count=10 if desk.quick else 40,
        read=sorted(read.items()),
        recipe=recipe_of("class-20-ddpm", "class"),
    )


@section(FLOW, "F 2.1", "A straight way: the time-conditioned flow", (4, 10))
def time_flow(desk: Desk) -> Content:
    figures, _ = by_epochs(desk, "time", "", None, FEW)
    curves = losses(desk, {"time-20": "time"}, "loss-time", "Training loss, time-conditioned, flow matching")
    return Content(*curves, *figures, steps=STEPS, recipe=recipe_of("time-20", "time"))


@section(FLOW, "F 2.4", "Flow to the digit asked for", (5, 12))
def class_flow(desk: Desk) -> Content:
    figures, read = by_epochs(desk, "class", "", 5.0, FEW)
    curves = losses(desk, {"class-20": "class"}, "loss-flow", "Training loss, class-conditioned, flow matching")
    count = 10 if desk.quick else 40
    how = recipe_of("class-20", "class")
    return Content(*curves, *figures, steps=STEPS, count=count, read=sorted(read.items()), recipe=how)
