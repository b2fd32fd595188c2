"""Digits: ``digits``, ``denoise-digits``, ``ambigram``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli import common, options
from phosphene.cli.common import SCALE, app
from phosphene.cli.drawing import REMADE, Options, described, drawing_command, viewed
from phosphene.defaults import AMBIGRAM_GUIDANCE, DIGIT_GUIDANCE, MOST_PICTURES, NOISE_LEVELS, SEED, SOLVERS, listed
from phosphene.errors import UserError, require_noise

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from phosphene.drawing import Sampling, Task
    from phosphene.models.digits import DigitDiffusion
    from phosphene.tasks.ambigram import Judged


GREEN = (34, 139, 84)


class Guided(Options):
    """The options of a command that draws with a guidance scale of its own."""

    def check(self) -> None:
        super().check()
        if self.guidance == 1:
            self.require_unbent()


@dataclass
class Digits(Guided):
    """The options of a command that draws digits."""

    solver: options.SolverName = "ancestral"
    guidance: options.Guidance = DIGIT_GUIDANCE
    model: Annotated[str | None, options.model_for("Such as class-20 or time-20", "diffusion")] = None


@drawing_command("digits.png")
def digits(
    drawing: Digits,
    digits: Annotated[str | None, typer.Argument(help="Such as 0123456789: a column for each.")] = None,
    count: options.Count = 1,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Ten a row, of whatever class comes.")] = False,
) -> None:
    """Draw digits on demand.

    Each of --count rows holds the digits of DIGITS, each picture from its own seed. A single digit is written as it is.
    """
    if unconditional and digits is not None:
        raise UserError(f"DIGITS {digits}: --unconditional draws without a class; leave one of the two out.")
    if unconditional:
        named = ["guidance"] if drawing.guidance != DIGIT_GUIDANCE else []
        drawing.require_unbent(*named, where="with --unconditional")
    classes = None if unconditional else _digits(digits, "0123456789", "--unconditional")
    columns = 10 if classes is None else len(classes)
    common.require_pictures("--count", count, count, columns)
    with common.importing():
        from phosphene.images import enlarged, rescaled, sheet, to_images
        from phosphene.tasks import digits as task

    if drawing.model is None:
        drawing.model = "time-20" if unconditional else "class-20"
    diffusion, wanted = _opened(drawing.model, drawing.device), None if classes is None else classes * count
    made = drawing.draw(task.digits(wanted), diffusion, range(drawing.seed, drawing.seed + columns * count))
    pictures = to_images(rescaled(made.xt, diffusion.value_range))
    large = common.rows([enlarged(picture, SCALE) for picture in pictures], columns)
    common.say(drawing.save(pictures, lambda: sheet(large, column_labels=digits or ())))


@app.command("denoise-digits")
def denoise_digits(
    context: typer.Context,
    model: Annotated[str, options.model_for("A denoiser", "denoiser")] = "denoiser-5",
    dataset: options.DatasetName = "mnist",
    data: options.Data = None,
    count: options.Count = 10,
    seed: options.Seed = SEED,
    sigma: Annotated[str, typer.Option(help="Levels of noise, separated by commas.")] = listed(NOISE_LEVELS),
    device: options.Device = "auto",
    out: options.Out = Path("denoise-digits.png"),
) -> None:
    """Denoise test digits in one step.

    For each level of noise: before, after, and the mean squared error of both.
    """
    sigmas = common.numbers("--sigma", sigma, float, "0,.2,.5,1")
    require_noise(sigmas)
    common.require_pictures("--sigma", sigma, count * len(sigmas))
    out = common.destination(out, "denoise-digits")
    from phosphene.images import save_png
    from phosphene.models import catalogue
    from phosphene.tasks.denoise_digits import before_and_after, denoise_at
    from phosphene.training.mnist.data import load_dataset

    place = common.device(device)
    network = catalogue.load(model, place, role="denoiser")
    clean = load_dataset(dataset, data).test.images[:count].float() / 255
    if len(clean) < count:
        raise UserError(f"--count {count}: the test split of {dataset} has {len(clean)} pictures; choose at most as many.")
    result = denoise_at(network, clean, seed, sigmas)
    story = common.provenance("denoise-digits", model, described(context.params, device))
    save_png(before_and_after(result, sigmas, SCALE), out, story)
    common.say(f"mean squared error of {common.several(count, 'picture')} from the test split of {dataset}:")
    errors = zip(sigmas, result.noisy_error.tolist(), result.error.tolist(), strict=True)
    common.table(["sigma", "noisy", "estimate"], [[f"{s:g}", f"{noisy:.5f}", f"{mended:.5f}"] for s, noisy, mended in errors])
    common.say(f"pictures in {out}")


REMADE.append("denoise-digits")


@dataclass
class Ambigram(Guided):
    """The options of ``ambigram``."""

    solver: Annotated[str | None, options.chosen(SOLVERS, "the best for ambigrams by default")] = None
    steps: Annotated[int | None, options.steps_of("to visit; the best for ambigrams by default")] = None
    guidance: options.Guidance = AMBIGRAM_GUIDANCE
    model: Annotated[str, options.model_for("A class-conditioned model", "diffusion")] = "class-20"

    def of(self, model: DigitDiffusion) -> Sampling:
        """How ``model`` is sampled: where no solver is named, as is best for ambigrams, but for what is."""
        from phosphene.tasks.ambigram import SAMPLING

        if self.solver is not None:
            return self.sampling()
        usual = SAMPLING._replace(steps=min(SAMPLING.steps, model.schedule.steps), max_rows=common.max_rows(model.device))
        return usual._replace(**self.given())


@drawing_command("ambigram.png")
def ambigram(
    drawing: Ambigram,
    digits: Annotated[str | None, typer.Argument(help="Two digits: upright and turned, such as 69.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pairs of digits, the best of --count for each.")] = False,
    count: Annotated[int, typer.Option(min=1, max=MOST_PICTURES, help="Pictures to draw for each pair.")] = 16,
    classifier: options.Judge = "classifier",
) -> None:
    """Draw a digit that is another upside down.

    Of --count pictures of each pair, the one that the classifier reads best both ways is kept.
    """
    asked = _pair(digits, all_)
    with common.importing():
        from phosphene.images import rescaled, to_images
        from phosphene.tasks import ambigram as task

    diffusion, reader = _opened(drawing.model, drawing.device), _opened(classifier, drawing.device, "classifier")
    pairs = _pairs(asked, count, diffusion.classes, drawing.model)
    if max(max(pair) for pair in pairs) >= reader.config["classes"]:
        raise UserError(f"--classifier {classifier}: knows {reader.config['classes']} classes; take one that knows all digits.")
    wanted = task.ambigram([pair for pair in pairs for _ in range(count)], reader)
    seeds = range(drawing.seed, drawing.seed + len(pairs) * count)
    made = drawing.draw(wanted, diffusion, seeds, sampling=drawing.of(diffusion), best_of=count)
    verdict = made.verdict or wanted.judge(diffusion, made.xt, range(len(made.xt)))  # a single one is not judged to be kept
    chosen = [seed - drawing.seed for seed in made.seeds]
    pictures = to_images(rescaled(made.xt, diffusion.value_range))
    if all_:
        _tell_rates(verdict.read.view(len(pairs), count), chosen, diffusion.classes)
        whole = _table(pictures, verdict.read[chosen].tolist(), diffusion.classes)
    else:
        whole = _both_ways(wanted, made.xt[0].cpu(), diffusion.value_range)
        common.say(f"{digits}: {_described(verdict, chosen[0])}")
    common.say(drawing.save(pictures, lambda: whole))


def _pair(digits: str | None, every: bool) -> list[int] | None:
    """The two digits of DIGITS, or None for --all."""
    if every:
        if digits is not None:
            raise UserError(f"DIGITS {digits}: --all draws every pair; leave one of the two out.")
        return None
    asked = _digits(digits, "69", "--all")
    if len(asked) != 2:
        raise UserError(f"DIGITS {digits}: give two digits, upright and turned, such as 69.")
    return asked


def _pairs(asked: list[int] | None, count: int, classes: int, model: str) -> list[tuple[int, int]]:
    """The pair ``asked`` for, or all pairs of digits that the model knows; UserError where it knows none."""
    if not classes:
        raise UserError(f"--model {model}: knows no classes; take one that does, such as class-20.")
    known = range(classes)
    pairs = [(a, b) for a in known for b in known] if asked is None else [(asked[0], asked[1])]
    common.require_pictures("--count", count, count, len(pairs))
    return pairs


def _tell_rates(read: Tensor, chosen: list[int], classes: int) -> None:
    """Say how many of each pair's pictures read both ways. read: (pairs, count)."""
    labels, rates = [str(k) for k in range(classes)], read.float().mean(1).tolist()
    common.say(f"of {read.shape[1]} single pictures, those that read both ways, in % (rows: upright, columns: turned)")
    rows = zip(labels, common.rows(rates, classes), strict=True)
    common.table(["", *labels], [[label, *(f"{100 * x:.0f}" for x in row)] for label, row in rows])
    read_at_best = int(read.flatten()[chosen].sum())
    common.say(f"single: {sum(rates) / len(rates):.1%}; pairs read: {read_at_best} of {len(rates)}")


def _described(verdict: Judged, chosen: int) -> str:
    """How well the picture that was chosen reads, and how many do."""
    reads, read = "reads" if verdict.read[chosen] else "does not read", int(verdict.read.sum())
    return f"the best {reads} both ways, score {float(verdict.score[chosen]):.4f}; {read} of {len(verdict.read)} read both ways"


def _table(pictures: list[Image.Image], read: list[bool], classes: int) -> Image.Image:
    """The best picture of each pair, framed in green where it reads both ways."""
    from PIL import ImageOps

    from phosphene.images import PAPER, enlarged, sheet

    labels, frames = [str(k) for k in range(classes)], [GREEN if good else PAPER for good in read]
    large = [enlarged(picture, 3).convert("RGB") for picture in pictures]
    cells = [ImageOps.expand(cell, border=4, fill=colour) for cell, colour in zip(large, frames, strict=True)]
    title = "rows: upright, columns: turned, green: reads both ways"
    return sheet(common.rows(cells, classes), labels, labels, title=title)


def _both_ways(task: Task, picture: Tensor, value_range: tuple[float, float]) -> Image.Image:
    from phosphene.images import sheet

    both = viewed(task, picture, value_range, side=2 * SCALE * picture.shape[-1])
    common.readings(both)
    return sheet([both], [reading.caption for reading in task.readings])


def _opened(name: str, device: str, role: str = "diffusion") -> Any:
    """The model called ``name``."""
    from phosphene.models import catalogue

    place = common.device(device)
    return common.cached((name, str(place)), lambda: catalogue.load(name, place, role=role))


def _digits(text: str | None, example: str, instead: str) -> list[int]:
    """The digits of DIGITS."""
    if text is None:
        raise UserError(f"DIGITS: is missing; give digits such as {example}, or {instead}.")
    if not text or not set(text) <= set("0123456789"):
        raise UserError(f"DIGITS {text!r}: must be digits, such as {example}.")
    return [int(character) for character in text]
