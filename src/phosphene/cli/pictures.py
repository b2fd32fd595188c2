"""Pictures from text and from pictures: ``generate``, ``denoise``, ``edit``, ``inpaint``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli import common, options
from phosphene.cli.drawing import CELL, Drawing, drawing_command
from phosphene.defaults import (
    BLENDS,
    CASCADE,
    FAST,
    FITS,
    MOST_PICTURES,
    MOST_STEPS,
    START,
    STARTS,
    TIMES,
    UNPROMPTED,
    listed,
)
from phosphene.errors import UserError, require_steps, require_strength

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

    from phosphene.tasks.denoise import Level

is_picture = options.each(options.is_picture)
Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw: a picture (or --count) of each.")]
Fit = Annotated[str, options.chosen(FITS, "how a picture is given the model's shape")]
Picture = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="Any picture; it is given the model's shape (--fit).", callback=is_picture)
]
Prompt = Annotated[str, typer.Option(help="What it is to show; nothing in particular by default.")]
ABREAST = 8
"""Columns of a sheet, at most, where it has one row only: more prompts than that go on in the next."""


def _timesteps(option: str, text: str, example: str) -> list[int]:
    """The timesteps, or numbers of steps, in a list such as ``250,500``; whether a model has them is seen when it is there."""
    found = common.numbers(option, text, int, example)
    for each in found:
        require_steps(option, each, least=0)
    return found


@dataclass
class Plain(Drawing):
    """The options of what asks for nothing but prompts: where none says how to sample, that is done in few steps."""

    model: Annotated[
        str | None,
        options.checked(f"A cascade; by default {FAST}, or {CASCADE} where an option says how to sample.", options.is_cascade),
    ] = None

    @property
    def says_how(self) -> bool:
        """Whether an option was given that says how to sample."""
        names = ("solver", "steps", "timesteps", "eta", "resample", "guidance", "guidance_every", "negative", "autoguidance")
        return any(getattr(self, name) not in (None, "") for name in names) or bool(self.bends()) or not self.threshold


@drawing_command("generated.png")
def generate(
    prompts: Prompts,
    drawing: Plain,
    count: options.Count = 1,
    guidance_sweep: Annotated[str | None, typer.Option(help="A row for each of these scales, such as 1,3,5,7,10.")] = None,
    steps_sweep: Annotated[str | None, typer.Option(help="A row for each of these numbers of steps, such as 5,20.")] = None,
) -> None:
    """Draw pictures of what PROMPTS say.

    A single picture is written as it is. Several are numbered beside a sheet: a column for each prompt, a row for each
    seed; many prompts of one seed are broken into rows.
    """
    if len(prompts) > MOST_PICTURES:
        raise UserError(f"PROMPT: {len(prompts)} are given; a sheet has room for {MOST_PICTURES}.")
    common.require_pictures("--count", count, count, len(prompts))
    by = ""
    if drawing.model is None:
        drawing.model = CASCADE if drawing.says_how or guidance_sweep or steps_sweep else FAST
        by = f"; {CASCADE} drew, for an option says how to sample" if drawing.model == CASCADE else ""
    if guidance_sweep or steps_sweep:
        options.is_sampled_freely("--model", drawing.model)
    swept = _swept(drawing, len(prompts), count, guidance_sweep, steps_sweep)
    with common.importing():
        from phosphene.drawing import run
        from phosphene.images import to_images
        from phosphene.tasks.generate import generate as task

    cascade = drawing.open(prompts)
    asked = task(list(prompts) * count, negative=drawing.negative)
    seeds = [drawing.seed + row for row in range(count) for _ in prompts]
    # What is swept says how it was sampled.
    ways = [each.sampling() for each in swept.values()] or [drawing.settled(asked, cascade)]
    drawing.require_room(len(ways) * len(seeds))
    place = common.place(drawing.device)
    within = {"place": place} if len(ways) == 1 else {}  # of several processes each draws whole rows of a sweep
    runs = [run(asked, cascade, seeds, sampling=way, **within) for way in ways]  # all refused before any
    if within:
        drawn = [to_images(common.finished(*runs).xt)]
    else:
        drawn = place.dealt([to_images(common.finished(runs[k]).xt) for k in place.share(len(runs))], len(runs))
    pictures = [picture for row in drawn for picture in row]
    common.say(drawing.save(pictures, lambda: _rows(pictures, prompts, list(swept))) + by)


def _swept(drawing: Drawing, prompts: int, count: int, guidance: str | None, steps: str | None) -> dict[str, Drawing]:
    """The options of each row of a sweep of so many ``prompts``, by what it is called; none where nothing is swept."""
    sweeps = {"--guidance-sweep": guidance, "--steps-sweep": steps}
    option = next((name for name, values in sweeps.items() if values is not None), None)
    if option is None:
        return {}
    if count > 1 or None not in sweeps.values():
        raise UserError(f"{option} {sweeps[option]}: makes the rows of the sheet; leave --count and the other sweep out.")
    if guidance is not None:
        if drawing.guidance is not None:
            raise UserError(f"--guidance-sweep {guidance}: --guidance says which already; leave one of the two out.")
        scales = common.numbers(option, guidance, float, "1,3,5,7,10")
        common.require_pictures(option, guidance, len(scales) * prompts)
        return {f"guidance {scale:g}": replace(drawing, guidance=scale) for scale in scales}
    for name, value in (("--timesteps", drawing.timesteps), ("--steps", drawing.steps)):
        if value is not None:
            raise UserError(f"--steps-sweep {steps}: {name} says which already; leave one of the two out.")
    counts = common.numbers(option, steps, int, "5,20")
    for n in counts:
        require_steps(option, n)
    common.require_pictures(option, steps, len(counts) * prompts)
    return {f"{n} steps": replace(drawing, steps=n) for n in counts}


def _rows(pictures: Sequence[Image.Image], prompts: Sequence[str], names: Sequence[str]) -> Image.Image:
    """A sheet with a column for each of ``prompts``, whose rows have ``names``, if any."""
    from phosphene.images import enlarged, sheet

    cells = [enlarged(picture, max(1, CELL // 2 // picture.width)) for picture in pictures]
    if len(pictures) == len(prompts) and not names:  # one row, which may be too long for a page
        columns = math.ceil(len(prompts) / math.ceil(len(prompts) / ABREAST))
        labels = common.rows(prompts, columns)
    else:
        columns = len(prompts)
        labels = [*[[""] * columns] * (len(cells) // columns - 1), list(prompts)]
    return sheet(common.rows(cells, columns), row_labels=names, captions=labels)


@dataclass
class Beginning(Drawing):
    """The options of what begins with a picture, of which something may be said or nothing."""

    model: Annotated[
        str | None,
        options.checked(f"A cascade; by default {CASCADE}, or {UNPROMPTED} where nothing is said.", options.is_cascade),
    ] = None

    def choose(self, prompt: str) -> None:
        """Who draws, where no option says it: what was adapted to that draws where there is no ``prompt``."""
        if self.model is None:
            self.model = CASCADE if prompt.strip() or self.negative.strip() else UNPROMPTED


@drawing_command("denoise.png")
def denoise(
    image: Picture,
    drawing: Drawing,
    prompt: Prompt = "",
    t: Annotated[str, typer.Option("--t", help="Timesteps to noise it to.")] = listed(TIMES),
    start: Annotated[
        int, typer.Option(min=0, max=MOST_STEPS, help="How many of the steps are left out before the many-step row.")
    ] = START,
    fit: Fit = "crop",
) -> None:
    """Noise IMAGE, and try to undo it: by a blur, in one step, in many steps.

    Below each picture stand its PSNR (in dB) and SSIM against the original. The one step is not guided, being the mean of
    all pictures that may lie under the noise, unless --guidance says how much. The timesteps of the last row are Part
    A's, 990, 960, ..., 0, unless --steps or --timesteps say others.
    """
    times = _timesteps("--t", t, listed(TIMES))
    with common.importing():
        from phosphene.drawing import run
        from phosphene.images import fitted, to_tensor
        from phosphene.readers import read_picture
        from phosphene.tasks import denoise as task
        from phosphene.tasks.edit import edit

    picture, drawing.upscale = read_picture(image), False
    drawing.check()
    (stage,) = drawing.open([prompt]).stages
    clean = to_tensor(fitted(picture, stage.image_shape[1:], fit))
    undone = edit(clean, [start], prompt or None, negative=drawing.negative)
    how, seeds = drawing.sampling(), [drawing.seed]
    many = run(undone, stage, seeds, sampling=task.many_steps(stage, how), place=common.place(drawing.device))
    found = task.levels(stage, clean, times, seeds, prompt or None, negative=drawing.negative, sampling=how)
    steps = common.with_progress(many)
    # Several processes end with what all of them drew, as one more last step.
    states = {(step.index, step.t): step.xt for step in steps if step.index % 5 == 0 or step.t < 0}
    common.say(drawing.save([], lambda: _attempts(clean, found, [(t, x) for (_, t), x in states.items()])))


def _attempts(clean: Tensor, found: Sequence[Level], states: Sequence[tuple[int, Tensor]]) -> Image.Image:
    """A sheet of a picture, noised, blurred, denoised at once, and on its way back in many steps."""
    from phosphene.evaluation.likeness import psnr, ssim
    from phosphene.images import sheet, to_images

    def cell(x: Tensor, what: str) -> tuple[Image.Image, str]:
        x = x.cpu()
        likeness = "" if x is clean else f": {float(psnr(x, clean)):.1f} dB, {float(ssim(x, clean)):.2f}"
        return to_images(x, max(1, CELL // 2 // x.shape[-1]))[0], what + likeness

    rows = []
    for level in found:
        tried = ((level.noisy, f"t = {level.t}"), (level.blurred, "blurred"), (level.estimate, "one step"))
        rows.append([cell(clean, "original"), *(cell(x, what) for x, what in tried)])
    rows += common.rows([cell(x, f"t = {t}" if t >= 0 else "many steps") for t, x in states], 4)
    return sheet([[c for c, _ in row] for row in rows], captions=[[caption for _, caption in row] for row in rows])


@drawing_command("edit.png")
def edit(
    image: Picture,
    drawing: Beginning,
    prompt: Prompt = "",
    start: Annotated[
        str | None,
        typer.Option(help=f"Start indices: how many steps are left out. [default: of {listed(STARTS)} those that a run has]"),
    ] = None,
    strength: Annotated[
        float | None, options.checked("Instead of --start: the share of steps to take, 0 to 1.", require_strength)
    ] = None,
    fit: Fit = "crop",
) -> None:
    """Noise IMAGE and denoise it as PROMPT, from several starts.

    A photo becomes something else, a sketch becomes a picture: the later the start, the more of IMAGE is left.
    """
    if start is not None and strength is not None:
        raise UserError(f"--strength {strength:g}: --start says it already; leave one of the two out.")
    named = None if start is None else _timesteps("--start", start, listed(STARTS))
    drawing.choose(prompt)
    with common.importing():
        from phosphene.images import fitted, sheet, to_images, to_tensor
        from phosphene.readers import read_picture
        from phosphene.tasks.edit import edit as task
        from phosphene.tasks.edit import start_of, starts_of

    picture = read_picture(image)
    cascade = drawing.open([prompt])
    steps = len(drawing.sampling().of(cascade.stages[0], begins=True).visited(cascade.stages[0]))
    starts = (named or starts_of(steps)) if strength is None else [start_of(strength, steps)]
    small = to_tensor(fitted(picture, cascade.stages[0].image_shape[1:], fit))
    asked = task(small, starts, prompt or None, negative=drawing.negative)
    cells = to_images(drawing.draw(asked, cascade, [drawing.seed] * len(starts)).xt)
    captions = [[*(f"start {s}" for s in starts), "the original"]]
    whole = [*cells, fitted(picture, cascade.stages[-1].image_shape[1:], fit)]
    common.say(drawing.save(cells, lambda: sheet([whole], captions=captions)))


@drawing_command("inpaint.png")
def inpaint(
    image: Picture,
    mask: Annotated[
        Path, typer.Argument(metavar="MASK", help="A picture of the same size: white is repainted.", callback=is_picture)
    ],
    drawing: Drawing,
    prompt: Prompt = "",
    blend: Annotated[str, options.chosen(BLENDS, "how the result goes over the original")] = "laplacian",
    compare: Annotated[bool, typer.Option("--compare", help="A sheet with all three.")] = False,
    fit: Fit = "crop",
) -> None:
    """Repaint IMAGE where MASK is white.

    Prints how much the picture changes across the mask's border, against beside it: 1 is no seam.
    """
    if compare and blend != "laplacian":
        raise UserError(f"--blend {blend}: --compare shows all of them; leave one of the two out.")
    with common.importing():
        from phosphene.images import sheet, to_images
        from phosphene.tasks import inpaint as task

    original, white = task.read(image, mask)
    cascade = drawing.open([prompt])
    asked = (*task.fit(original, white, cascade.stages[0].image_shape[1:], fit), prompt or None)
    count = len(BLENDS) if compare else 1
    result = drawing.draw(task.inpaint(*asked, negative=drawing.negative), cascade, made=count).xt.cpu()
    large, where = task.fit(original, white, result.shape[-2:], fit)
    blends = {how: task.blend(result, large, where, how) for how in BLENDS}
    seams = {how: task.seam_text(picture, where) for how, picture in blends.items()}
    cells = [image for x in (large, large * (1 - where) + where, *blends.values()) for image in to_images(x)]
    labels = ["the original", "to be repainted", *(f"{how}, seam {seam}" for how, seam in seams.items())]
    chosen = cells[2:] if compare else [cells[2 + BLENDS.index(blend)]]
    told = ", ".join(f"--blend {how} {seam}" for how, seam in seams.items())
    common.say(f"seams (at 1 the border changes as much as beside it): {told}")
    common.say(drawing.save(chosen, lambda: sheet([cells], captions=[labels])))
