"""Digits: ``digits``, ``denoise-digits``, ``ambigram``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    Resample,
    Seed,
    SolverName,
    Steps,
    app,
)
from phosphene.defaults import DIGIT_GUIDANCE, SEED, SOLVERS, one_of
from phosphene.errors import UserError

if TYPE_CHECKING:
    from PIL import Image


GREEN = (34, 139, 84)


@app.command()
def digits(
    wanted: Annotated[str | None, typer.Argument(metavar="DIGITS", help="Such as 0123456789: a column for each.")] = None,
    guidance: Guidance = DIGIT_GUIDANCE,
    seed: Seed = SEED,
    model: Annotated[str | None, typer.Option(help="A name, a model folder or a run; class-20 or time-20.")] = None,
    count: Count = 1,
    steps: Steps = None,
    solver: SolverName = "ancestral",
    eta: Eta = None,
    resample: Resample = None,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Ten a row, of whatever class comes.")] = False,
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("digits.png"),
) -> None:
    """Draw digits on demand.

    Each of --count rows holds the digits of DIGITS, each picture from its own seed.
    """
    if unconditional and wanted is not None:
        raise UserError(f"DIGITS {wanted}: --unconditional draws without a class; leave one of the two out.")
    classes = None if unconditional else _digits(wanted, "0123456789", "--unconditional")
    columns = 10 if classes is None else len(classes)
    if columns * count > MOST_PICTURES:
        raise UserError(f"--count {count}: makes {columns * count} pictures; choose at most {MOST_PICTURES // columns}.")
    common.require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models import catalogue
    from phosphene.sampler import Route, last
    from phosphene.tasks import digits as task

    place, name = common.device(device), model or ("time-20" if unconditional else "class-20")
    diffusion = common.kept((name, str(place)), lambda: catalogue.load(name, place, role="diffusion"))
    expression = task.wanted(diffusion, None if classes is None else classes * count, guidance)
    seeds = range(seed, seed + columns * count)
    route = Route(solver, steps, eta, resample or 1)
    run = task.sample(diffusion, expression, seeds, route=route, max_rows=common.max_rows(place))
    pictures = [to_image(p, diffusion.value_range, SCALE) for p in last(common.shown(run, "drawing"))]
    arguments = {
        "digits": wanted,
        "guidance": None if unconditional else guidance,
        "seed": seed,
        "count": count,
        **route._asdict(),
        "unconditional": unconditional,
        "device": str(place),
    }
    picture = sheet(common.rows(pictures, columns), column_labels=wanted or ())
    save_png(picture, out, common.provenance("digits", name, arguments))
    common.say(f"{common.several(columns * count, 'picture')} in {out}")


@app.command("denoise-digits")
def denoise_digits(
    model: Annotated[str, typer.Option(help="A denoiser: a name, a model folder or a run.")] = "denoiser-5",
    dataset: DatasetName = "mnist",
    data: Data = None,
    count: Count = 10,
    seed: Seed = SEED,
    sigma: Annotated[str, typer.Option(help="Levels of noise, separated by commas.")] = "0,.2,.4,.5,.6,.8,1",
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("denoise-digits.png"),
) -> None:
    """Denoise test digits in one step.

    For each level of noise: before, after, and the mean squared error of both.
    """
    sigmas = common.numbers("--sigma", sigma, float, "0,.2,.5,1")
    common.require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models import catalogue
    from phosphene.tasks.denoise_digits import denoise_at
    from phosphene.training.mnist.data import load_dataset

    place = common.device(device)
    network = catalogue.load(model, place, role="denoiser")
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
    seed: Seed = SEED,
    guidance: Guidance = 8.0,
    solver: Annotated[str | None, typer.Option(help=f"{one_of(SOLVERS)}; the best for ambigrams by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Timesteps to visit; the best for ambigrams by default.")] = None,
    eta: Eta = None,
    resample: Resample = None,
    model: Annotated[str, typer.Option(help="A class-conditioned model: a name, a model folder or a run.")] = "class-20",
    classifier: Judge = "classifier",
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("ambigram.png"),
) -> None:
    """Draw a digit that is another upside down.

    Of --count pictures of each pair, the one that the classifier reads best both ways is shown.
    """
    if every and wanted is not None:
        raise UserError(f"DIGITS {wanted}: --all draws every pair; leave one of the two out.")
    asked = None if every else _digits(wanted, "69", "--all")
    if asked is not None and len(asked) != 2:
        raise UserError(f"DIGITS {wanted}: give two digits, upright and turned, such as 69.")
    common.require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models import catalogue
    from phosphene.sampler import Route, last
    from phosphene.tasks.ambigram import ROUTE, UPSIDE_DOWN, best, draw_ambigrams, judge

    place = common.device(device)
    diffusion = common.kept((model, str(place)), lambda: catalogue.load(model, place, role="diffusion"))
    reader = common.kept((classifier, str(place)), lambda: catalogue.load(classifier, place, role="classifier"))
    known = range(diffusion.classes)
    if every and not known:
        raise UserError(f"--model {model}: knows no classes; take one that does, such as class-20.")
    pairs = [(a, b) for a in known for b in known] if asked is None else [(asked[0], asked[1])]
    if len(pairs) * count > MOST_PICTURES:
        raise UserError(f"--count {count}: makes {len(pairs) * count} pictures; choose at most {MOST_PICTURES // len(pairs)}.")
    if max(max(pair) for pair in pairs) >= reader.config["classes"]:
        raise UserError(f"--classifier {classifier}: knows {reader.config['classes']} classes; take one that knows all digits.")
    drawn = [pair for pair in pairs for _ in range(count)]
    if solver is None:
        usual = ROUTE._replace(steps=min(ROUTE.steps, diffusion.schedule.steps))
        named = {"steps": steps, "eta": eta, "resample": resample}
        route = usual._replace(**{option: value for option, value in named.items() if value is not None})
    else:
        route = Route(solver, steps, eta, resample or 1)
    run = draw_ambigrams(diffusion, drawn, range(seed, seed + len(drawn)), guidance, route, common.max_rows(place))
    pictures = last(common.shown(run, "drawing"))
    judged = judge(reader, pictures, drawn)
    chosen = best(judged.score, count)
    arguments = {
        "digits": wanted,
        "all": every,
        "count": count,
        "seed": seed,
        "guidance": guidance,
        **route._asdict(),
        "classifier": classifier,
        "device": str(place),
    }
    if every:
        cells = [_framed(to_image(pictures[k], diffusion.value_range, 3), bool(judged.read[k])) for k in chosen.tolist()]
        labels = [str(k) for k in known]
        picture = sheet(
            common.rows(cells, len(known)), labels, labels, title="rows: upright, columns: turned, green: reads both ways"
        )
        rates = judged.read.view(len(pairs), count).float().mean(1).tolist()
        common.say(f"of {count} single pictures, those that read both ways, in % (rows: upright, columns: turned)")
        common.table(
            ["", *labels], [[labels[r], *(f"{100 * x:.0f}" for x in row)] for r, row in enumerate(common.rows(rates, len(known)))]
        )
        common.say(f"single: {sum(rates) / len(rates):.1%}; pairs read: {int(judged.read[chosen].sum())} of {len(pairs)}")
    else:
        index = int(chosen[0])
        both = [to_image(p, diffusion.value_range, 2 * SCALE) for p in (pictures[index], UPSIDE_DOWN.apply(pictures[index]))]
        common.readings(both)
        picture = sheet([both], [f"{drawn[0][0]}", f"turned: {drawn[0][1]}"])
        reads, score = "reads" if judged.read[index] else "does not read", float(judged.score[index])
        common.say(f"{wanted}: the best {reads} both ways, score {score:.4f}; {int(judged.read.sum())} of {count} read both ways")
    save_png(picture, out, common.provenance("ambigram", model, arguments))
    common.say(f"picture in {out}")


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
