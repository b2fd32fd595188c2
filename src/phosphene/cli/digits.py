"""Digits: ``digits``, ``denoise-digits``, ``ambigram``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli import common
from phosphene.cli.common import (
    MOST_PICTURES,
    SCALE,
    Count,
    Data,
    DatasetName,
    Device,
    Eta,
    Guidance,
    Judge,
    Out,
    Resample,
    Seed,
    Sheet,
    SolverName,
    Steps,
    app,
)
from phosphene.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from PIL import Image
    from torch import Tensor

    from phosphene.drawing import Sampling, Step, Task


GREEN = (34, 139, 84)


@app.command()
def digits(
    wanted: Annotated[str | None, typer.Argument(metavar="DIGITS", help="Such as 0123456789: a column for each.")] = None,
    guidance: Guidance = 5.0,
    seed: Seed = 180,
    model: Annotated[str | None, typer.Option(help="A name, a model folder or a run; class-20 or time-20.")] = None,
    count: Count = 1,
    steps: Steps = None,
    solver: SolverName = "ancestral",
    eta: Eta = None,
    resample: Resample = None,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Ten a row, of whatever class comes.")] = False,
    device: Device = "auto",
    sheet: Sheet = False,
    out: Out = Path("digits.png"),
) -> None:
    """Draw digits on demand.

    Each of --count rows holds the digits of DIGITS, each picture from its own seed. A single digit is written as it is.
    """
    if unconditional and wanted is not None:
        raise UserError(f"DIGITS {wanted}: --unconditional draws without a class; leave one of the two out.")
    classes = None if unconditional else _digits(wanted, "0123456789", "--unconditional")
    columns = 10 if classes is None else len(classes)
    if columns * count > MOST_PICTURES:
        raise UserError(f"--count {count}: makes {columns * count} pictures; choose at most {MOST_PICTURES // columns}.")
    out = common.place(out, "digits")
    from phosphene import images
    from phosphene.drawing import Sampling
    from phosphene.tasks import digits as task

    name = model or ("time-20" if unconditional else "class-20")
    diffusion, place = _opened(name, device)
    sampling = Sampling(solver, steps, eta, resample or 1, guidance=guidance)
    task = task.digits(None if classes is None else classes * count)
    made = _drawn(task, diffusion, range(seed, seed + columns * count), sampling)
    pictures = [images.to_image(p, diffusion.value_range) for p in made.xt]
    arguments = {
        "digits": wanted,
        "guidance": None if unconditional else guidance,
        "seed": seed,
        "count": count,
        **common.sampled(sampling),
        "unconditional": unconditional,
        "sheet": sheet,
        "device": str(place),
    }

    def whole() -> Image.Image:
        large = [images.enlarged(picture, SCALE) for picture in pictures]
        return images.sheet(common.rows(large, columns), column_labels=wanted or ())

    story = common.provenance("digits", name, arguments)
    common.say(common.save(pictures, whole if sheet or len(pictures) > 1 else None, out, story))


@app.command("denoise-digits")
def denoise_digits(
    model: Annotated[str, typer.Option(help="A denoiser: a name, a model folder or a run.")] = "denoiser-5",
    dataset: DatasetName = "mnist",
    data: Data = None,
    count: Count = 10,
    seed: Seed = 180,
    sigma: Annotated[str, typer.Option(help="Levels of noise, separated by commas.")] = "0,.2,.4,.5,.6,.8,1",
    device: Device = "auto",
    out: Out = Path("denoise-digits.png"),
) -> None:
    """Denoise test digits in one step.

    For each level of noise: before, after, and the mean squared error of both.
    """
    sigmas = common.numbers("--sigma", sigma, float, "0,.2,.5,1")
    out = common.place(out, "denoise-digits")
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models import catalogue
    from phosphene.tasks.denoise_digits import denoise_at
    from phosphene.training.data import load_dataset

    place = common.device(device)
    network = catalogue.load(model, place, kind="denoiser")
    clean = load_dataset(dataset, data).test.images[:count].float() / 255
    if len(clean) < count:
        raise UserError(f"--count {count}: the test split of {dataset} has {len(clean)} pictures; choose at most as many.")
    result = denoise_at(network, clean, seed, sigmas)
    rows, labels, table = [], [], []
    both = zip(sigmas, result.noisy, result.estimates, result.noisy_error.tolist(), result.error.tolist(), strict=True)
    for level, noisy, estimates, noisy_error, error in both:
        rows += [[to_image(p, scale=SCALE) for p in noisy], [to_image(p, scale=SCALE) for p in estimates]]
        labels += [f"sigma {level:g}: noisy, mse {noisy_error:.4f}", f"estimate, mse {error:.4f}"]
        table.append([f"{level:g}", f"{noisy_error:.5f}", f"{error:.5f}"])
    arguments = {"dataset": dataset, "count": count, "seed": seed, "sigma": sigmas, "device": str(place)}
    save_png(sheet(rows, row_labels=labels), out, common.provenance("denoise-digits", model, arguments))
    common.say(f"mean squared error of {common.several(count, 'picture')} from the test split of {dataset}:")
    common.table(["sigma", "noisy", "estimate"], table)
    common.say(f"pictures in {out}")


@app.command()
def ambigram(
    wanted: Annotated[str | None, typer.Argument(metavar="DIGITS", help="Two digits: upright and turned, such as 69.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pairs of digits, the best of --count for each.")] = False,
    count: Annotated[int, typer.Option(min=1, max=MOST_PICTURES, help="Pictures to draw for each pair.")] = 16,
    seed: Seed = 180,
    guidance: Guidance = 8.0,
    solver: Annotated[str | None, typer.Option(help="ancestral, ddim, dpm or heun; the best for ambigrams by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Timesteps to visit; the best for ambigrams by default.")] = None,
    eta: Eta = None,
    resample: Resample = None,
    model: Annotated[str, typer.Option(help="A class-conditioned model: a name, a model folder or a run.")] = "class-20",
    classifier: Judge = "classifier",
    device: Device = "auto",
    sheet: Sheet = False,
    out: Out = Path("ambigram.png"),
) -> None:
    """Draw a digit that is another upside down.

    Of --count pictures of each pair, the one that the classifier reads best both ways is kept.
    """
    if every and wanted is not None:
        raise UserError(f"DIGITS {wanted}: --all draws every pair; leave one of the two out.")
    asked = None if every else _digits(wanted, "69", "--all")
    if asked is not None and len(asked) != 2:
        raise UserError(f"DIGITS {wanted}: give two digits, upright and turned, such as 69.")
    out = common.place(out, "ambigram")
    from phosphene.drawing import Sampling
    from phosphene.images import to_image
    from phosphene.tasks import ambigram as tasks

    diffusion, place = _opened(model, device)
    reader, _ = _opened(classifier, device, "classifier")
    pairs = _pairs(asked, count, diffusion.classes, model)
    if max(max(pair) for pair in pairs) >= reader.config["classes"]:
        raise UserError(f"--classifier {classifier}: knows {reader.config['classes']} classes; take one that knows all digits.")
    sampling = Sampling(solver, steps, eta, resample or 1)
    if solver is None:
        named = {name: value for name, value in (("steps", steps), ("eta", eta), ("resample", resample)) if value is not None}
        usual = tasks.SAMPLING
        sampling = usual._replace(**{"steps": min(usual.steps, diffusion.schedule.steps)} | named)
    task = tasks.ambigram([pair for pair in pairs for _ in range(count)], reader)
    seeds = range(seed, seed + len(pairs) * count)
    made = _drawn(task, diffusion, seeds, sampling._replace(guidance=guidance), count)
    arguments = {
        "digits": wanted,
        "all": every,
        "count": count,
        "seed": seed,
        "guidance": guidance,
        **common.sampled(sampling),
        "classifier": classifier,
        "sheet": sheet,
        "device": str(place),
    }
    chosen = [s - seed for s in made.seeds]
    pictures = [to_image(p, diffusion.value_range) for p in made.xt]
    if every:
        _tell_rates(made.verdict.read.view(len(pairs), count), chosen, diffusion.classes)
        whole = _table(pictures, made.verdict.read[chosen].tolist(), diffusion.classes)
    else:
        whole = _both_ways(task, made.xt[0].cpu(), diffusion.value_range)
        read, score = made.verdict.read, float(made.verdict.score[chosen[0]])
        reads = "reads" if read[chosen[0]] else "does not read"
        common.say(f"{wanted}: the best {reads} both ways, score {score:.4f}; {int(read.sum())} of {count} read both ways")
    story = common.provenance("ambigram", model, arguments)
    common.say(common.save(pictures, (lambda: whole) if sheet or every else None, out, story))


def _pairs(asked: list[int] | None, count: int, classes: int, model: str) -> list[tuple[int, int]]:
    """The pair ``asked`` for, or all pairs of digits that the model knows."""
    if asked is None and not classes:
        raise UserError(f"--model {model}: knows no classes; take one that does, such as class-20.")
    known = range(classes)
    pairs = [(a, b) for a in known for b in known] if asked is None else [(asked[0], asked[1])]
    if len(pairs) * count > MOST_PICTURES:
        raise UserError(f"--count {count}: makes {len(pairs) * count} pictures; choose at most {MOST_PICTURES // len(pairs)}.")
    return pairs


def _tell_rates(read: Tensor, chosen: list[int], classes: int) -> None:
    """Say how many of each pair's pictures read both ways. read: (pairs, count)."""
    labels, rates = [str(k) for k in range(classes)], read.float().mean(1).tolist()
    common.say(f"of {read.shape[1]} single pictures, those that read both ways, in % (rows: upright, columns: turned)")
    rows = zip(labels, common.rows(rates, classes), strict=True)
    common.table(["", *labels], [[label, *(f"{100 * x:.0f}" for x in row)] for label, row in rows])
    read_at_best = int(read.flatten()[chosen].sum())
    common.say(f"single: {sum(rates) / len(rates):.1%}; pairs read: {read_at_best} of {len(rates)}")


def _table(pictures: list[Image.Image], read: list[bool], classes: int) -> Image.Image:
    """The best picture of each pair, framed in green where it reads both ways."""
    from phosphene.images import enlarged, sheet

    labels = [str(k) for k in range(classes)]
    cells = [_framed(enlarged(picture, 3), good) for picture, good in zip(pictures, read, strict=True)]
    title = "rows: upright, columns: turned, green: reads both ways"
    return sheet(common.rows(cells, classes), labels, labels, title=title)


def _both_ways(task: Task, picture: Tensor, value_range: tuple[float, float]) -> Image.Image:
    from phosphene.cli.drawing import seen
    from phosphene.images import sheet

    both = seen(task, picture, value_range, side=2 * SCALE * picture.shape[-1])
    common.readings(both)
    return sheet([both], [reading.caption for reading in task.readings])


def _opened(name: str, device: str, kind: str = "diffusion") -> tuple[Any, torch.device]:
    """The model called ``name``, and the device it is on."""
    from phosphene.models import catalogue

    place = common.device(device)
    return common.kept((name, str(place)), lambda: catalogue.load(name, place, kind=kind)), place


def _drawn(task: Task, model: Any, seeds: Sequence[int], sampling: Sampling, best_of: int = 1) -> Step:
    """The last step of a run."""
    from phosphene.drawing import run

    sampling = sampling._replace(max_rows=common.max_rows(model.device))
    return common.finished(run(task, model, seeds, sampling=sampling, best_of=best_of))


def _digits(text: str | None, example: str, instead: str) -> list[int]:
    """The digits of DIGITS."""
    if text is None:
        raise UserError(f"DIGITS: is missing; give digits such as {example}, or {instead}.")
    if not text or not set(text) <= set("0123456789"):
        raise UserError(f"DIGITS {text!r}: must be digits, such as {example}.")
    return [int(character) for character in text]


def _framed(image: Image.Image, good: bool) -> Image.Image:
    """``image`` in a frame: green, or of the paper's colour."""
    from PIL import ImageOps

    from phosphene.images import PAPER

    return ImageOps.expand(image.convert("RGB"), border=4, fill=GREEN if good else PAPER)
