"""Part B of the page: diffusion models trained from scratch on MNIST, in the order of the course's project."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, run
from phosphene.evaluation.classifier import accuracy
from phosphene.images import rescaled, to_images
from phosphene.models import folders
from phosphene.plots import loss_curves
from phosphene.report.sections import Content, Desk, Figure, Shown, section, sheets
from phosphene.sampler import last
from phosphene.tasks.denoise_digits import SIGMAS, Denoised, denoise_at
from phosphene.tasks.digits import digits
from phosphene.training.log import read_log

B = "Part B: diffusion models from scratch"
STEPS = 16
FEW = Sampling("dpm", STEPS)


def drawn(desk: Desk, model: str, wanted: Sequence[int], guidance: float | None, route: Sampling = FEW) -> Tensor:
    """The digits ``wanted``, from consecutive seeds, (N, 1, 28, 28) in [0, 1]; without ``guidance`` whatever comes."""
    task = digits(None if guidance is None else wanted)
    seeds = range(SEED, SEED + len(wanted))
    return last(run(task, desk.model(model), seeds, sampling=route._replace(guidance=guidance or 0.0))).cpu().clamp(0, 1)


def clean_digits(desk: Desk) -> Tensor:
    """Clean digits, (10, 1, 28, 28) in [0, 1]: drawn by the class-conditioned model, for MNIST itself does not ship."""
    return drawn(desk, "class-20", range(10), 2.0)


def losses(desk: Desk, names: dict[str, str], file: str, title: str) -> Figure:
    """Loss curves from the logs that ship with models; ``names`` are models and how the curve is called."""
    curves = {
        label: [(line["epoch"], line["loss"]) for line in read_log(folders.EMBEDDED / name / "log.jsonl")]
        for name, label in names.items()
    }
    loss_curves(curves, desk.out / f"{file}.png", title)
    return desk.plotted(file, title)


def by_epochs(desk: Desk, kind: str, guidance: float | None) -> tuple[Figure, list[float]]:
    """Samples of the model after 5 and after 20 epochs, from the same noise; and the share that is read as asked."""
    each, rows, read = 2 if desk.quick else 4, [], []
    for epoch in (5, 20):
        labels = [d for _ in range(each) for d in range(10)]
        made = drawn(desk, f"{kind}-{epoch}", labels, guidance)
        read.append(accuracy(desk.model("classifier"), made, labels))
        rows += [to_images(rescaled(made[k : k + 10]), 2) for k in range(0, len(labels), 10)]
    names = [f"{epoch} epochs" if k == 0 else "" for epoch in (5, 20) for k in range(each)]
    figure = desk.save(
        sheets(rows, row_labels=names),
        f"{kind}-epochs",
        f"{10 * each} samples of the {kind}-conditioned model after 5 epochs, and {10 * each} after 20",
    )
    return figure, read


def denoised(result: Denoised, shown: Sequence[int] = (2, 5, 8)) -> Shown:
    """A few noisy digits and what the denoiser makes of them: a pair of rows for each, a column for each level."""
    rows, labels = [], []
    for digit in shown:
        for tag, several in (("noisy", result.noisy), ("denoised", result.estimates)):
            rows.append(to_images(rescaled(several[:, digit]), 3))
            labels.append(tag)
    return sheets(rows, [f"{sigma:g}" for sigma in SIGMAS], labels)


@section(B, "B 1.1", "Noisy digits, and a UNet to mend them", (3, 3))
def noisy_digits(desk: Desk) -> Content:
    clean = clean_digits(desk)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEED))
    rows = [to_images(rescaled(clean + sigma * noise), 2) for sigma in SIGMAS]
    whole = sheets(rows, row_labels=[f"sigma {s:g}" for s in SIGMAS])
    return Content(desk.save(whole, "noisy-digits", "Digits at rising noise"))


@section(B, "B 1.2", "Training the one-step denoiser", (6, 6))
def one_step_denoiser(desk: Desk) -> Content:
    clean = clean_digits(desk)
    half = [0.5]
    one, five = (denoise_at(desk.model(f"denoiser-{n}"), clean, SEED, half) for n in (1, 5))
    rows = [to_images(rescaled(several), 2) for several in (clean, one.noisy[0], one.estimates[0], five.estimates[0])]
    return Content(
        losses(desk, {"denoiser-5": "denoiser"}, "loss-denoiser", "Training loss of the one-step denoiser"),
        desk.save(
            sheets(rows, row_labels=["clean", "sigma 0.5", "1 epoch", "5 epochs"]),
            "denoiser",
            "Clean digits, noisy ones, and the denoiser's answer after one and after five epochs",
        ),
        one=f"{one.error[0]:.4f}",
        five=f"{five.error[0]:.4f}",
        noisy=f"{one.noisy_error[0]:.3f}",
    )


@section(B, "B 1.2.2", "Out of its depth: other levels of noise", (4, 4))
def out_of_distribution(desk: Desk) -> Content:
    result = denoise_at(desk.model("denoiser-5"), clean_digits(desk), SEED)
    errors = "; ".join(f"{s:g}: {e:.4f}" for s, e in zip(SIGMAS, result.error.tolist(), strict=True))
    return Content(
        desk.save(
            denoised(result),
            "out-of-distribution",
            "The denoiser of sigma 0.5 at other levels, a column for each sigma",
        ),
        errors=errors,
    )


@section(B, "B 2.1", "Many small steps: the time-conditioned UNet", (6, 6))
def time_conditioned(desk: Desk) -> Content:
    figure, _ = by_epochs(desk, "time", None)
    return Content(
        losses(
            desk,
            {"time-20": "time-conditioned", "class-20": "class-conditioned"},
            "loss-flow",
            "Training losses of the shipped models (flow matching, width 64)",
        ),
        figure,
    )


@section(B, "B 2.4", "Digits on demand: the class-conditioned UNet", (8, 8))
def class_conditioned(desk: Desk) -> Content:
    figure, read = by_epochs(desk, "class", 5.0)
    return Content(
        losses(
            desk,
            {"class-20-ddpm": "class-conditioned, DDPM"},
            "loss-ddpm",
            "Training loss of the assignment's own recipe (DDPM, width 64)",
        ),
        figure,
        count=20 if desk.quick else 40,
        five=f"{read[0]:.0%}",
        twenty=f"{read[1]:.0%}",
    )
