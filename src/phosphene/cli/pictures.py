"""Pictures from text: ``generate``, and the tasks of Part A."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli import common
from phosphene.cli.common import MOST_PICTURES, Count, Out
from phosphene.cli.drawing import SHOWN, Drawing, drawing_command, seen
from phosphene.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

    from phosphene.drawing import Task
    from phosphene.models.cascade import Cascade
    from phosphene.tasks.denoise import Level

Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw: a picture (or --count) of each.")]
Fit = Annotated[str, typer.Option(help="crop or pad: how a picture is made square.")]
Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="Any picture; it is made square (--fit).")]
Prompt = Annotated[str, typer.Option(help="What it is to show; nothing in particular by default.")]
ABREAST = 8
"""Columns of a sheet, at most, where it has one row only: more prompts than that go on in the next."""
Kind = Annotated[str, typer.Option(help="frequency, color (grey, then colours), motion (swept by, then still) or scale.")]
BestOf = Annotated[int, typer.Option(min=1, max=1000, help="Draw so many and keep the one that reads best.")]


@drawing_command
def generate(
    prompts: Prompts,
    drawing: Drawing,
    count: Count = 1,
    guidance_sweep: Annotated[str | None, typer.Option(help="A row for each of these scales, such as 1,3,5,7,10.")] = None,
    steps_sweep: Annotated[str | None, typer.Option(help="A row for each of these numbers of steps, such as 5,20.")] = None,
    out: Out = Path("generated.png"),
) -> None:
    """Draw pictures of what PROMPTS say.

    A single picture is written as it is. Several are numbered beside a sheet: a column for each prompt, a row for each
    seed; many prompts of one seed are broken into rows.
    """
    if len(prompts) * count > MOST_PICTURES:
        most = MOST_PICTURES // len(prompts)
        raise UserError(f"--count {count}: makes {len(prompts) * count} pictures; choose at most {most}.")
    swept = _swept(drawing, count, guidance_sweep, steps_sweep)
    from phosphene.drawing import run
    from phosphene.images import to_image
    from phosphene.tasks.generate import generate as task

    cascade = drawing.open(prompts)
    asked = task(list(prompts) * count, negative=drawing.negative)
    seeds = [drawing.seed + row for row in range(count) for _ in prompts]
    runs = [run(asked, cascade, seeds, sampling=each.sampling()) for each in swept.values()]  # all refused before one is drawn
    pictures = [to_image(picture, (-1, 1)) for steps in runs for picture in common.finished(steps).xt]
    names = list(swept) if guidance_sweep or steps_sweep else []
    common.say(drawing.save(pictures, lambda: _rows(pictures, prompts, names), out))


def _swept(drawing: Drawing, count: int, guidance: str | None, steps: str | None) -> dict[str, Drawing]:
    """The options of each row of the sheet, by what it is called."""
    sweeps = {"--guidance-sweep": guidance, "--steps-sweep": steps}
    option = next((name for name, values in sweeps.items() if values is not None), None)
    if option is None:
        return {"": drawing}
    if count > 1 or None not in sweeps.values():
        raise UserError(f"{option} {sweeps[option]}: makes the rows of the sheet; leave --count and the other sweep out.")
    if guidance is not None:
        scales = common.numbers(option, guidance, float, "1,3,5,7,10")
        return {f"guidance {scale:g}": replace(drawing, guidance=scale) for scale in scales}
    for name, value in (("--timesteps", drawing.timesteps), ("--steps", drawing.steps)):
        if value is not None:
            raise UserError(f"--steps-sweep {steps}: {name} says which already; leave one of the two out.")
    return {f"{n} steps": replace(drawing, steps=n) for n in common.numbers(option, steps, int, "5,20")}


def _rows(pictures: Sequence[Image.Image], prompts: Sequence[str], names: Sequence[str]) -> Image.Image:
    """A sheet with a column for each of ``prompts``, whose rows have ``names``, if any."""
    from phosphene.images import enlarged, sheet

    cells = [enlarged(picture, max(1, SHOWN // 2 // picture.width)) for picture in pictures]
    if len(pictures) == len(prompts) and not names:  # one row, which may be too long for a page
        columns = math.ceil(len(prompts) / math.ceil(len(prompts) / ABREAST))
        labels = common.rows(prompts, columns)
    else:
        columns = len(prompts)
        labels = [*[[""] * columns] * (len(cells) // columns - 1), list(prompts)]
    return sheet(common.rows(cells, columns), row_labels=names, captions=labels)


@drawing_command
def denoise(
    image: Picture,
    drawing: Drawing,
    prompt: Prompt = "",
    t: Annotated[str, typer.Option("--t", help="Timesteps to noise it to.")] = "250,500,750",
    start: Annotated[int, typer.Option(help="How many of the steps are left out before the many-step row.")] = 10,
    fit: Fit = "crop",
    out: Out = Path("denoise.png"),
) -> None:
    """Noise IMAGE, and try to undo it: by a blur, in one step, in many steps.

    Below each picture stand its PSNR (in dB) and SSIM against the original. The timesteps of the last row are Part A's,
    990, 960, ..., 0, unless --steps or --timesteps say others.
    """
    times = common.numbers("--t", t, int, "250,500,750")
    from phosphene.drawing import run
    from phosphene.images import read_picture, squared, to_tensor
    from phosphene.sampler import generators
    from phosphene.tasks import denoise as task
    from phosphene.tasks.edit import edit

    picture, drawing.upscale = read_picture(image), False
    drawing.check()
    (stage,) = drawing.open([prompt]).stages
    clean = to_tensor(squared(picture, stage.image_shape[-1], fit))
    undone = edit(clean, [start], prompt or None, negative=drawing.negative)
    found = task.levels(stage, undone.asks(stage, drawing.guidance), clean, times, generators([drawing.seed]))
    steps = common.shown(run(undone, stage, [drawing.seed], sampling=task.many_steps(stage, drawing.sampling())))
    states = [(step.t, step.xt) for step in steps if step.index % 5 == 0 or step.t < 0]
    common.say(drawing.save([], lambda: _attempts(clean, found, states), out))


def _attempts(clean: Tensor, found: Sequence[Level], states: Sequence[tuple[int, Tensor]]) -> Image.Image:
    """A sheet of a picture, noised, blurred, denoised at once, and on its way back in many steps."""
    from phosphene.evaluation.pictures import psnr, ssim
    from phosphene.images import sheet, to_image

    def cell(x: Tensor, what: str) -> tuple[Image.Image, str]:
        x = x.cpu()
        told = "" if x is clean else f": {float(psnr(x, clean)):.1f} dB, {float(ssim(x, clean)):.2f}"
        return to_image(x[0], (-1, 1), max(1, SHOWN // 2 // x.shape[-1])), what + told

    rows = []
    for level in found:
        tried = ((level.noisy, f"t = {level.t}"), (level.blurred, "blurred"), (level.estimate, "one step"))
        rows.append([cell(clean, "original"), *(cell(x, what) for x, what in tried)])
    rows += common.rows([cell(x, f"t = {t}" if t >= 0 else "many steps") for t, x in states], 4)
    return sheet([[c for c, _ in row] for row in rows], captions=[[told for _, told in row] for row in rows])


@drawing_command
def edit(
    image: Picture,
    drawing: Drawing,
    prompt: Prompt = "",
    start: Annotated[
        str | None, typer.Option(help="Start indices: how many steps are left out. [default: 1,3,5,7,10,20]")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="Instead of --start: the share of steps to take, 0 to 1.")] = None,
    fit: Fit = "crop",
    out: Out = Path("edit.png"),
) -> None:
    """Noise IMAGE and denoise it as PROMPT, from several starts.

    A photo becomes something else, a sketch becomes a picture: the later the start, the more of IMAGE is left.
    """
    if start is not None and strength is not None:
        raise UserError(f"--strength {strength:g}: --start says it already; leave one of the two out.")
    from phosphene.images import read_picture, sheet, squared, to_image, to_tensor
    from phosphene.tasks.edit import edit as task

    picture = read_picture(image)
    cascade = drawing.open([prompt])
    starts = _starts(start, strength, len(drawing.sampling().visited(cascade.stages[0])))
    small = to_tensor(squared(picture, cascade.stages[0].image_shape[-1], fit))
    asked = task(small, starts, prompt or None, negative=drawing.negative)
    cells = [to_image(p, (-1, 1)) for p in drawing.draw(asked, cascade, [drawing.seed] * len(starts)).xt]
    captions = [[*(f"start {s}" for s in starts), "the original"]]
    whole = [*cells, squared(picture, cells[0].width, fit)]
    common.say(drawing.save(cells, lambda: sheet([whole], captions=captions), out))


def _starts(start: str | None, strength: float | None, steps: int) -> list[int]:
    """Where an edit of ``steps`` steps starts; as in Part A, where nothing is said of it."""
    from phosphene.tasks.edit import STARTS, start_of

    if strength is not None:
        return [start_of(strength, steps)]
    return (
        common.numbers("--start", start, int, "1,3,5,7,10,20") if start is not None else [s for s in STARTS if s < steps] or [0]
    )


@drawing_command
def inpaint(
    image: Picture,
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="A picture of the same size: white is repainted.")],
    drawing: Drawing,
    prompt: Prompt = "",
    blend: Annotated[str, typer.Option(help="none, paste or laplacian: how the result goes over the original.")] = "laplacian",
    compare: Annotated[bool, typer.Option("--compare", help="A sheet with all three.")] = False,
    fit: Fit = "crop",
    out: Out = Path("inpaint.png"),
) -> None:
    """Repaint IMAGE where MASK is white.

    Prints how much the picture changes across the mask's border, against beside it: 1 is no seam.
    """
    from phosphene.images import sheet, to_image
    from phosphene.tasks import inpaint as task

    if blend not in task.BLENDS:
        raise UserError(f"--blend {blend}: choose one of {', '.join(task.BLENDS)}.")
    original, white = _with_mask(image, mask)
    cascade = drawing.open([prompt])
    small = _masked(original, white, cascade.stages[0].image_shape[-1], fit)
    result = drawing.draw(task.inpaint(*small, prompt or None, negative=drawing.negative), cascade).xt.cpu()
    shown, where = _masked(original, white, result.shape[-1], fit)
    blends = {how: task.blend(result, shown, where, how) for how in task.BLENDS}
    seams = {how: _seam(picture, where) for how, picture in blends.items()}
    cells = [to_image(x[0], (-1, 1)) for x in (shown, shown * (1 - where) + where, *blends.values())]
    labels = ["the original", "to be repainted", *(f"{how}, seam {seam}" for how, seam in seams.items())]
    kept = cells[2:] if compare else [to_image(blends[blend][0], (-1, 1))]
    common.say("seams (1 is none): " + ", ".join(f"{how} {seam}" for how, seam in seams.items()))
    common.say(drawing.save(kept, lambda: sheet([cells], captions=[labels]), out))


def _with_mask(image: Path, mask: Path) -> tuple[Image.Image, Image.Image]:
    """Picture and mask, as large as each other; UserError where they are not, or nothing is white."""
    from phosphene.images import read_picture

    original, white = read_picture(image), read_picture(mask, "MASK").convert("L")
    if original.size != white.size:
        sizes = [f"{w}x{h}" for w, h in (white.size, original.size)]
        raise UserError(f"MASK {mask}: is {sizes[0]} and the picture {sizes[1]}; give a mask of the picture's size.")
    if white.getextrema()[1] == 0:
        raise UserError(f"MASK {mask}: is all black, so nothing would be repainted; paint white what is to change.")
    return original, white


def _seam(picture: Tensor, where: Tensor) -> str:
    from phosphene.tasks.inpaint import seam

    value = float(seam(picture, where))
    return "no border" if math.isnan(value) else f"{value:.2f}"


def _masked(original: Image.Image, white: Image.Image, size: int, fit: str) -> tuple[Tensor, Tensor]:
    """Picture and mask, squared alike; what is padded is kept."""
    from PIL import Image

    from phosphene.images import squared, to_tensor

    square = squared(Image.merge("RGB", [white] * 3), size, fit)
    if fit == "pad":
        inside = squared(Image.new("RGB", white.size, "black"), size, fit)
        square = Image.composite(Image.new("RGB", square.size), square, inside.convert("L"))
    return to_tensor(squared(original, size, fit)), (to_tensor(square.convert("L")) + 1) / 2


@drawing_command
def anagram(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What it shows: one for each view.")],
    drawing: Drawing,
    view: Annotated[list[str], typer.Option(help="One for each prompt, the first as it is by default; flip, jigsaw, ...")],
    view_seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of views whose pieces are laid by chance.")] = 0,
    weights: Annotated[str | None, typer.Option(help="How much each view counts, such as 1,1.5.")] = None,
    reduce: Annotated[str, typer.Option(help="mean, or alternate: the views take turns.")] = "mean",
    best_of: BestOf = 1,
    animate: Annotated[Path | None, typer.Option(help="GIF or MP4: the picture turns into its other reading.")] = None,
    out: Out = Path("anagram.png"),
) -> None:
    """Draw a picture that shows something else in another view.

    Views: identity, flip, mirror, rotate-90, rotate-180, rotate-270, negate, skew, patches, pixels, jigsaw, inner-circle,
    square-hinge (patches:8 and the like for more pieces), and four-way, which are four at once.
    """
    from phosphene.images import require_animation, save_animation
    from phosphene.tasks import anagram as task
    from phosphene.tasks.animate import readings

    if animate is not None:
        require_animation(animate)
    views = task.views_named(view, len(prompts), view_seed)
    shares = None if weights is None else common.numbers("--weights", weights, float, "1,1.5")
    asked = task.anagram(prompts, views, weights=shares, reduce=reduce, negative=drawing.negative)
    picture = _best(asked, drawing.open(_scored(prompts, best_of)), drawing, best_of, out)
    if animate is not None:
        frames, seconds = readings(picture, views, prompts)
        save_animation(frames, animate, seconds)
        common.say(f"animation in {animate}")


@drawing_command
def hybrid(
    prompts: Annotated[list[str], typer.Argument(metavar="FAR NEAR", help="From afar and from near; a third lies between.")],
    drawing: Drawing,
    kind: Kind = "frequency",
    sigma: Annotated[str | None, typer.Option(help="Blurs that part the prompts, in 64ths of it. [default: 2, or 3,1.2]")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="A picture in the place of FAR or NEAR: see --band.")] = None,
    band: Annotated[str | None, typer.Option(help="low or high: what is kept of --from. [default: low]")] = None,
    fit: Fit = "crop",
    best_of: BestOf = 1,
    out: Out = Path("hybrid.png"),
) -> None:
    """Draw a picture that shows one thing from afar and another from near.

    A --sheet shows it at shrinking sizes, as if one walked away from it; of the other kinds what the first prompt rules.
    """
    from phosphene.tasks.hybrid import hybrid as task

    sigmas = None if sigma is None else common.numbers("--sigma", sigma, float, "2 or 3,1.2")
    if from_ is None:
        if band is not None:
            raise UserError(f"--band {band}: says what is kept of --from; name a picture there, or leave it out.")
        asked = task(prompts, kind=kind, sigmas=sigmas, negative=drawing.negative)
        _best(asked, drawing.open(_scored(prompts, best_of)), drawing, best_of, out)
        return
    if len(prompts) != 1 or kind != "frequency" or best_of > 1:
        raise UserError(f"--from {from_}: takes one prompt, for the band it leaves free, and no --kind nor --best-of.")
    if sigmas is not None and len(sigmas) != 1:
        raise UserError(f"--sigma {sigma}: --from takes one, between what is kept and what is drawn.")
    _complete(from_, prompts[0], drawing, band or "low", {} if sigmas is None else {"sigma": sigmas[0]}, fit, out)


def _complete(path: Path, prompt: str, drawing: Drawing, band: str, sigma: dict[str, float], fit: str, out: Path) -> None:
    """Draw and write the hybrid of one band of the picture at ``path`` and of ``prompt``."""
    from phosphene.images import read_picture, squared, to_tensor
    from phosphene.tasks.hybrid import completed

    picture, cascade = read_picture(path, "--from"), drawing.open([prompt])
    small = to_tensor(squared(picture, cascade.stages[0].image_shape[-1], fit))
    asked = completed(small, prompt, band=band, negative=drawing.negative, **sigma)
    _best(asked, cascade, drawing, 1, out, f", {band} frequencies of {path} kept")


def _scored(prompts: Sequence[str], best_of: int) -> list[str | None]:
    """What is asked for in all: where pictures are judged, gains are against the empty prompt."""
    return [*prompts] if best_of == 1 else [None, *prompts]


def _best(task: Task, cascade: Cascade, drawing: Drawing, best_of: int, out: Path, more: str = "") -> Tensor:
    """Draw and write the one of ``best_of`` pictures that reads best, tell of it, and return it (C, H, W)."""
    from phosphene.images import sheet, to_image

    step = drawing.draw(task, cascade, range(drawing.seed, drawing.seed + best_of), best_of=best_of)
    picture, said = step.xt[0].cpu(), f"seed {step.seeds[0]}{more}"
    if step.verdict is not None:
        chosen = step.seeds[0] - drawing.seed
        alignment, concealment = step.verdict.alignment[chosen], step.verdict.concealment[chosen]
        said += f": alignment {alignment:.3f}, concealment {concealment:.3f}"
    views = seen(task, picture)
    common.readings(views)
    captions = [[reading.caption for reading in task.readings]]
    whole = sheet([views], captions=captions if any(captions[0]) else ())
    common.say(f"{said}; {drawing.save([to_image(picture, (-1, 1))], lambda: whole, out)}")
    return picture


@drawing_command
def compose(
    prompts: Annotated[list[str], typer.Argument(metavar="INSIDE OUTSIDE", help="Where the mask is white, and elsewhere.")],
    drawing: Drawing,
    mask: Annotated[str, typer.Option(help="left, top, circle, or a picture: white is inside.")] = "left",
    out: Out = Path("compose.png"),
) -> None:
    """Draw one thing in one region and another in the rest."""
    from phosphene.images import read_picture, sheet, squared, to_image, to_tensor
    from phosphene.tasks import compose as task

    if mask in task.SHAPES:
        inside = task.shape(mask, 256)
    elif Path(mask).suffix:
        inside = (to_tensor(squared(read_picture(Path(mask), "--mask"), 256).convert("L")) + 1) / 2
    else:
        raise UserError(f"--mask {mask}: choose one of {', '.join(task.SHAPES)}, or name a picture.")
    asked = task.compose(prompts, inside, negative=drawing.negative)
    picture = to_image(drawing.draw(asked, drawing.open(prompts)).xt[0], (-1, 1))
    common.say(drawing.save([picture], lambda: sheet([[picture]], captions=[[" and ".join(prompts)]]), out))


@drawing_command
def morph(
    prompts: Annotated[list[str], typer.Argument(metavar="FROM TO", help="Where it begins and where it ends.")],
    drawing: Drawing,
    frames: Annotated[int, typer.Option(min=2, max=1000, help="Pictures on the way, both ends included.")] = 24,
    to_seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of the end; by default that of the beginning.")
    ] = None,
    animate: Annotated[Path | None, typer.Option(help="GIF or MP4: there and back.")] = None,
    out: Out = Path("morph.png"),
) -> None:
    """Draw the way from one prompt to another, or from one seed to another."""
    from phosphene.images import enlarged, require_animation, save_animation, sheet, to_image
    from phosphene.tasks.morph import morph as task

    if animate is not None:
        require_animation(animate)
    if len(prompts) == 1 and to_seed is not None:
        prompts = [*prompts, *prompts]
    ends = (drawing.seed, drawing.seed if to_seed is None else to_seed)
    made = drawing.draw(task(prompts, frames, negative=drawing.negative), drawing.open(prompts), ends).xt
    cells = [to_image(p, (-1, 1)) for p in made]
    common.say(drawing.save(cells, lambda: sheet(common.rows(cells, 8)), out))
    if animate is not None:
        large = [enlarged(cell, max(1, SHOWN // cell.width)) for cell in cells]
        save_animation([*large, *large[-2:0:-1]], animate, 2 * frames / 12)
        common.say(f"animation in {animate}")
