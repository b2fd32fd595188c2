"""Part B of the page: diffusion models trained from scratch on MNIST, in the order of the course's project.

Both of its editions: noise prediction (DDPM), and flow matching. Of the epochs before the last samples ship instead of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict
from functools import cache
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phosphene.defaults import NOISE_LEVELS, SEED, one_of
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.evaluation.classifier import accuracy
from phosphene.images import Sheet, rescaled, to_images
from phosphene.models import folders
from phosphene.models.unet import MnistUNet
from phosphene.plots import lines, loss_curves
from phosphene.report.samples import config_of, digits_of, drawn_in, in_steps, place, samples, ships
from phosphene.report.sections import Content, Desk, Figure, command_line, section
from phosphene.sampler import last
from phosphene.schedule import linear
from phosphene.tasks.denoise_digits import Denoised, denoise_at
from phosphene.tasks.digits import digits
from phosphene.training.log import NAME, curve, read_log
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.recipes import recipe

B = "Part B: diffusion models from scratch"
DDPM, FLOW = "Part B, the DDPM edition: predict the noise", "Part B, the newer edition: flow matching"
EDITIONS = {"ddpm": DDPM, "flow": FLOW}
EPOCHS = (1, 5, 10, 20)
"""After which models may have been kept."""
STEPS = 16
FEW = Sampling("dpm", STEPS)
SHEET = folders.EMBEDDED.parent / "digits" / "mnist-test.png"


class Real(NamedTuple):
    """Real digits (N, 1, 28, 28) in [0, 1], the first ten of which are 0 to 9, and which they are."""

    images: Tensor
    said: str


class Measured(NamedTuple):
    """Real digits (N, 1, 28, 28) in [0, 1], the denoiser's errors on them and its work on the first ten, and which they are."""

    clean: Tensor
    result: Denoised
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
    sheet = digits_of(SHEET).unflatten(0, (10, 10))  # a row of each digit
    return Real(
        sheet.transpose(0, 1).flatten(0, 1), "a hundred test digits of MNIST, the first ten of each, which ship with phosphene"
    )


def measured(desk: Desk, sigma: float) -> Measured:
    """The denoiser's work at ``sigma``, on all test digits that are at hand, or, on a quick page, on fifty of those that ship.

    Ten thousand at one level take four minutes of a core, fifty a second; sections that show the same level share it.
    """

    def measure() -> Measured:
        clean, said = real_digits(not desk.quick)
        if desk.quick:
            clean, said = clean[:50], "fifty test digits of MNIST, the first five of each"
        noisy, estimates, *errors = denoise_at(desk.model("denoiser-5"), clean, SEED, [sigma])
        return Measured(clean, Denoised(noisy[:, :10].clone(), estimates[:, :10].clone(), *errors), said)

    return desk.once(("measured", sigma), measure)


def drawn(desk: Desk, model: str, wanted: Sequence[int], guidance: float | None, route: Sampling = FEW) -> Tensor:
    """The digits ``wanted``, from consecutive seeds, (N, 1, 28, 28) in [0, 1]; without ``guidance`` whatever comes."""
    task = digits(None if guidance is None else wanted)
    seeds = range(SEED, SEED + len(wanted))
    return last(run(task, desk.model(model), seeds, sampling=route._replace(guidance=guidance or 0.0))).cpu().clamp(0, 1)


def losses(desk: Desk, names: dict[str, str], file: str, title: str) -> list[Figure]:
    """Loss curves from the logs that ship; ``names`` are models and how the curve is called. None where none does."""
    logs = {label: where / NAME for name, label in names.items() if (where := place(name))}
    curves = {label: curve(read_log(log)) for label, log in logs.items() if log.is_file()}
    return [desk.save(loss_curves(curves), file, title, plot=True)] if curves else []


class Epochs(NamedTuple):
    """Sheets of samples, one for each epoch, and of each: after what, the share read as asked, in which steps it was drawn."""

    figures: list[Figure]
    drawn: list[tuple[str, str, str]]


def by_epochs(desk: Desk, kind: str, ending: str, guidance: float | None, route: Sampling, recipe: str = "") -> Epochs:
    """A sheet of samples for each of EPOCHS of which a model or its samples ship; ``recipe`` tells it from those of others.

    Models draw here, all from the same noise; what was drawn in training was drawn from that noise too, in steps of its own.
    """
    each, found = 1 if desk.quick else 4, Epochs([], [])
    labels = [digit for _ in range(each) for digit in range(10)]
    for epoch in EPOCHS:
        name = f"{kind}-{epoch}{ending}"
        if not place(name):
            continue
        made = drawn(desk, name, labels, guidance, route) if ships(name) else samples(name)[: len(labels)]
        how = in_steps(route.solver, route.steps) if ships(name) else drawn_in(name)
        found.drawn.append((passes(epoch), f"{accuracy(desk.model('classifier'), made, labels):.0%}", how))
        rows = [to_images(rescaled(made[k : k + 10]), 2) for k in range(0, len(labels), 10)]
        asked = ["--unconditional"] if guidance is None else ["0123456789", "--guidance", f"{guidance:g}"]
        steps = ["--solver", route.solver, "--steps", str(route.steps)]
        command = command_line(["phosphene", "digits", *asked, "--count", str(each), *steps, "--model", name])
        caption = " ".join(filter(None, [f"{10 * each} samples", recipe, f"after {passes(epoch)}"]))
        caption += f", {how}" if ships(name) else f", drawn when the network was trained, {how}"
        found.figures.append(desk.save(Sheet(rows), f"{kind}{ending}-{epoch}", caption, command if ships(name) else ""))
    return found


def passes(epochs: int) -> str:
    return "one epoch" if epochs == 1 else f"{epochs} epochs"


def ancestral(desk: Desk) -> Sampling:
    """Of the DDPM edition: all of its 300 steps, or, on a quick page, 50."""
    return Sampling("ancestral", 50 if desk.quick else 300)


def straight(desk: Desk) -> Sampling:
    """Of the flow edition: its way is straight, and on a quick page half the steps will do."""
    return FEW._replace(steps=STEPS // 2) if desk.quick else FEW


def denoised(result: Denoised, shown: Sequence[int] = (2, 5, 8)) -> Sheet:
    """A few noisy digits and what the denoiser makes of them: a pair of rows for each, a column for each level."""
    rows, labels = [], []
    for digit in shown:
        for tag, several in (("noisy", result.noisy), ("denoised", result.estimates)):
            rows.append(to_images(rescaled(several[:, digit]), 3))
            labels.append(tag)
    return Sheet(rows, [f"{sigma:g}" for sigma in NOISE_LEVELS], labels)


def parameters(width: int, **conditions: object) -> str:
    """How many numbers the assignment's UNet learns."""
    return f"{sum(each.numel() for each in MnistUNet(width, **conditions).parameters()):,}"


def recipe_of(name: str, network: str) -> dict[str, Any]:
    """How the model called ``name`` was trained; where it does not ship, the assignment's recipe of its ``network``."""
    held = config_of(name)["recipe"] if place(name) else asdict(recipe(network))
    shown = ("epochs", "batch_size", "width", "lr", "lr_decay", "sigma", "drop", "timesteps", "time_spread")
    return {key: held[key] for key in shown}


@section(B, "B 1.1", "A UNet, and noisy digits to mend", (0.2, 0.5))
def noisy_digits(desk: Desk) -> Content:
    clean = real_digits(False).images[:10]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEED))
    rows = [to_images(rescaled(clean + sigma * noise), 2) for sigma in NOISE_LEVELS]
    whole = Sheet(rows, row_labels=[f"sigma {s:g}" for s in NOISE_LEVELS])
    figure = desk.save(whole, "noisy-digits", "Test digits of MNIST at rising noise")
    return Content(figure, parameters=parameters(128))


@section(B, "B 1.2", "Training the one-step denoiser", (2, 120))
def one_step_denoiser(desk: Desk) -> Content:
    clean, five, said = measured(desk, 0.5)
    several = (clean, five.noisy[0], samples("denoiser-1"), five.estimates[0])
    whole = Sheet([to_images(rescaled(x[:10]), 2) for x in several], row_labels=["clean", "sigma 0.5", "1 epoch", "5 epochs"])
    return Content(
        *losses(desk, {"denoiser-5": "denoiser"}, "loss-denoiser", "Training loss of the one-step denoiser"),
        desk.save(whole, "denoiser", "Test digits, noisy ones, and the denoiser's answer after one and after five epochs"),
        one=f"{config_of('denoiser-1')['error']:.4f}",
        five=f"{five.error[0]:.4f}",
        noisy=f"{five.noisy_error[0]:.3f}",
        said=said,
        recipe=recipe_of("denoiser-5", "denoiser"),
    )


@section(B, "B 1.2.2", "Out of its depth: other levels of noise", (5, 700))
def out_of_distribution(desk: Desk) -> Content:
    each = [measured(desk, sigma) for sigma in NOISE_LEVELS]
    result = Denoised(*map(torch.cat, zip(*(one.result for one in each), strict=True)))
    errors = one_of([f"{e:.4f} at {s:g}" for s, e in zip(NOISE_LEVELS, result.error.tolist(), strict=True)], "and")
    caption = "The denoiser of sigma 0.5 at other levels, a column for each sigma"
    return Content(desk.save(denoised(result), "out-of-distribution", caption), errors=errors, said=each[0].said)


@section(DDPM, "B 2.1", "Many small steps: the time-conditioned UNet", (0.5, 60))
def time_conditioned(desk: Desk) -> Content:
    schedule = linear()
    levels = [schedule.signal_and_noise(t, torch.empty(0)) for t in range(schedule.steps)]
    shares = {name: [(t + 1, level[k]) for t, level in enumerate(levels)] for k, name in enumerate(("picture", "noise"))}
    plot = lines(shares, "t", "factor", marker="")
    figures, told = by_epochs(desk, "time", "-ddpm", None, ancestral(desk))
    return Content(
        desk.save(plot, "schedule", "By what picture and noise are multiplied at each of the 300 timesteps", plot=True),
        *losses(desk, {"time-20-ddpm": "time"}, "loss-time-ddpm", "Training loss, time-conditioned, noise prediction"),
        *figures,
        parameters=parameters(64, time=True),
        left=f"{levels[-1][0]:.2f}",
        told=told,
        recipe=recipe_of("time-20-ddpm", "time"),
    )


@section(DDPM, "B 2.4", "Digits on demand: the class-conditioned UNet", (4, 120))
def class_conditioned(desk: Desk) -> Content:
    figures, told = by_epochs(desk, "class", "-ddpm", 5.0, ancestral(desk))
    title = "Training loss, class-conditioned, noise prediction"
    return Content(
        *losses(desk, {"class-20-ddpm": "class"}, "loss-ddpm", title),
        *figures,
        parameters=parameters(64, time=True, classes=10),
        count=10 if desk.quick else 40,
        told=told,
        recipe=recipe_of("class-20-ddpm", "class"),
    )


@section(FLOW, "F 1.2.3", "Pure noise: the denoiser draws the mean", (6, 6))
def pure_noise(desk: Desk) -> Content:
    """The course's denoiser of pure noise where it ships, and in any case a small one, trained here."""
    clean = real_digits(False).images
    answers, points = taught_on_noise(clean, (10, 100))
    noise = torch.randn((10, 1, 28, 28), generator=torch.Generator().manual_seed(SEED))
    sheet = {"noise": noise} | {f"{steps} steps": answer(noise) for steps, answer in answers.items()}
    for epochs in EPOCHS:
        if place(f"denoiser-{epochs}-pure"):
            sheet[f"course's, {passes(epochs)}"] = samples(f"denoiser-{epochs}-pure")
    middle = clean.mean(0, keepdim=True)
    last_answer = sheet["100 steps"]
    rows = [to_images(rescaled(each), 2) for each in (*sheet.values(), middle.expand(10, -1, -1, -1))]
    plot, caption = loss_curves({"loss": points}, x="step"), "Training loss of a small denoiser that is shown nothing but noise"
    return Content(
        *losses(desk, {"denoiser-5-pure": "denoiser"}, "loss-denoiser-pure", "Training loss of the denoiser of pure noise"),
        desk.save(plot, "loss-pure", caption, plot=True),
        desk.save(Sheet(rows, row_labels=[*sheet, "mean"]), "pure-noise", "Noise, the answers, and the mean digit"),
        least=f"{float((clean - middle).square().mean()):.3f}",
        reached=f"{sum(loss for _, loss in points[-20:]) / 20:.3f}",
        off=f"{float((last_answer - middle).square().mean()):.3f}",
        between=f"{float(last_answer.var(0, correction=0).mean()):.4f}",
        shipped=bool(place("denoiser-5-pure")),
    )


def taught_on_noise(
    clean: Tensor, kept: Sequence[int], width: int = 8, rate: float = 1e-2
) -> tuple[dict[int, Callable[[Tensor], Tensor]], list[tuple[float, float]]]:
    """A narrow UNet trained to answer noise with the digits ``clean``: what it is after ``kept`` steps, and its losses."""
    generator, answers, points = torch.Generator().manual_seed(SEED), {}, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = MnistUNet(width).to(memory_format=torch.channels_last)  # a third quicker on a CPU
    learner = torch.optim.Adam(network.parameters(), rate)
    for step in range(1, max(kept) + 1):
        digit = clean[torch.randint(len(clean), (32,), generator=generator)]
        loss = (network(torch.randn(digit.shape, generator=generator)) - digit).square().mean()
        learner.zero_grad()
        loss.backward()
        learner.step()
        points.append((step, float(loss.detach())))
        if step in kept:
            answers[step] = torch.no_grad()(deepcopy(network).eval())
    return answers, points


@section(FLOW, "F 2.1", "A straight way: the time-conditioned flow", (1.5, 10))
def time_flow(desk: Desk) -> Content:
    curves, figures, values = flows(desk, "time", "loss-time", None)
    return Content(*curves, *figures, parameters=parameters(64, time=True), **values)


@section(FLOW, "F 2.4", "Flow to the digit asked for", (2, 12))
def class_flow(desk: Desk) -> Content:
    curves, figures, values = flows(desk, "class", "loss-flow", 5.0)
    flat, told = by_epochs(desk, "class", "-flat", 5.0, straight(desk), "by the course's recipe without the decay")
    both = {"class-10-flow": "decayed", "class-10-flat": "not decayed"}
    rates = losses(desk, both, "loss-rates", "Training loss, with the decay of the rate and without") if flat else []
    values |= {"flat": told, "undecayed": recipe_of("class-10-flat", "class"), "count": 10 if desk.quick else 40}
    values["ends"] = [_last_loss(name) for name in both] if flat else []
    return Content(*curves, *figures, *rates, *flat, parameters=parameters(64, time=True, classes=10), **values)


def _last_loss(name: str) -> str:
    """The mean loss of the last epoch in which the model called ``name`` was trained."""
    points = curve(read_log(place(name) / NAME))
    return f"{mean(loss for epoch, loss in points if epoch > points[-1][0] - 1):.4f}"


def flows(desk: Desk, kind: str, file: str, guidance: float | None) -> tuple[list[Figure], list[Figure], dict[str, Any]]:
    """Curves and samples of our recipe of flow matching, and of the course's where it ships; and what is said of them."""
    title = f"Training loss, {kind}-conditioned, flow matching"
    curves = losses(desk, {f"{kind}-10-flow": "the course's recipe", f"{kind}-20": "longer"}, file, title)
    route = straight(desk)
    course = by_epochs(desk, kind, "-flow", guidance, route, "by the course's recipe")
    longer = by_epochs(desk, kind, "", guidance, route, "of the longer training")
    recipes = {"recipe": recipe_of(f"{kind}-20", kind), "theirs": recipe_of(f"{kind}-10-flow", kind)}
    return curves, [*course.figures, *longer.figures], {"told": longer.drawn, "course": course.drawn, **recipes}
