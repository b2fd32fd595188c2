"""Pictures from text: ``generate``, and the tasks of Part A."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli import common
from phosphene.cli.common import MOST_PICTURES, Count
from phosphene.cli.drawing import Drawing, drawing_command, finished, require_prompts, write
from phosphene.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image
    from torch import Tensor

    from phosphene.expression import Expression
    from phosphene.frequency import Component
    from phosphene.models.stage import Stage
    from phosphene.sampler import Step
    from phosphene.tasks.generate import Asked, Asks, Settings
    from phosphene.tasks.score import Reading

Out = Annotated[Path, typer.Option("--out", "-o")]
Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw: a picture (or --count) of each.")]
Fit = Annotated[str, typer.Option(help="crop or pad: how a picture is given the model's shape.")]
Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="Any picture; it is given the model's shape (--fit).")]
Prompt = Annotated[str, typer.Option(help="What it is to show; nothing in particular by default.")]
SHOWN = 256
"""Pixels of a picture on a sheet, at least."""
ABREAST = 8
"""Columns of a sheet, at most, where it has one row only: more prompts than that go on in the next."""
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

    A column for each prompt, a row for each seed, small pictures enlarged; many prompts of one seed are broken into
    rows, and a single picture is written as it is.
    """
    require_prompts(prompts)
    if len(prompts) * count > MOST_PICTURES:
        raise UserError(
            f"--count {count}: makes {len(prompts) * count} pictures; choose at most {MOST_PICTURES // len(prompts)}."
        )
    sweeps = {"--guidance-sweep": guidance_sweep, "--steps-sweep": steps_sweep}
    option = next((name for name, values in sweeps.items() if values is not None), None)
    if option is not None and (count > 1 or None not in sweeps.values()):
        raise UserError(f"{option} {sweeps[option]}: makes the rows of the sheet; leave --count and the other sweep out.")
    for name, value in (("--timesteps", drawing.timesteps), ("--steps", drawing.steps)):
        if steps_sweep is not None and value is not None:
            raise UserError(f"--steps-sweep {steps_sweep}: {name} says which already; leave one of the two out.")
    common.require_picture(out)
    if option == "--guidance-sweep":
        swept = [(f"guidance {v:g}", {"guidance": v}) for v in common.numbers(option, guidance_sweep, float, "1,3,5,7,10")]
    elif option == "--steps-sweep":
        swept = [(f"{v} steps", {"steps": v}) for v in common.numbers(option, steps_sweep, int, "5,20")]
    else:
        swept = [("", {})]
    from phosphene.images import sheet, to_image
    from phosphene.tasks.generate import generate as draw_pictures
    from phosphene.tasks.generate import timesteps

    every = [replace(drawing, **changes) for _, changes in swept]
    for each in every:  # all are refused before one is drawn
        each.settings()
    stages = drawing.open(prompts).stages
    settings = [each.manners(stages) for each in every]
    for manners in settings:
        for stage, manner in zip(stages, manners, strict=True):
            timesteps(stage, manner)
    seeds = [drawing.seed + row for row in range(count) for _ in prompts]
    alone = len(seeds) * len(swept) == 1
    scale = 1 if alone else max(1, SHOWN // 2 // stages[-1].image_shape[-1])
    cells = []
    for each, manners in zip(every, settings, strict=True):
        run = draw_pictures(stages, list(prompts) * count, seeds, each.negative, each.scales(), manners)
        cells += [to_image(p, stages[-1].value_range, scale) for p in finished(run)]
    if count == 1 and option is None:  # one row, which may be too long for a page
        columns = math.ceil(len(prompts) / math.ceil(len(prompts) / ABREAST))
        labels = common.rows(prompts, columns)
    else:
        columns = len(prompts)
        labels = [*[[""] * columns] * (len(cells) // columns - 1), list(prompts)]
    rows = common.rows(cells, columns)
    names = [name for name, _ in swept] if option else ()
    picture = cells[0] if alone else sheet(rows, row_labels=names, captions=labels)
    arguments = {"prompts": list(prompts), "count": count, "guidance_sweep": guidance_sweep, "steps_sweep": steps_sweep}
    write(picture, out, "generate", drawing, arguments)
    common.say(f"{common.several(len(cells), 'picture')} in {out}")


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
    common.require_picture(out)
    times = common.numbers("--t", t, int, "250,500,750")
    from phosphene.evaluation.likeness import psnr, ssim
    from phosphene.images import fitted, read_picture, sheet, to_image, to_tensor
    from phosphene.sampler import generators
    from phosphene.tasks import denoise as task
    from phosphene.tasks.generate import asked

    picture = read_picture(image)
    drawing = replace(drawing, upscale=False)
    drawing.check()
    (stage,), settings = drawing.open([prompt]).stages, drawing.settings()
    clean = to_tensor(fitted(picture, stage.image_shape[1:], fit))
    expression = asked(stage, [prompt or None], drawing.negative, drawing.guidance)
    found = task.levels(stage, expression, clean, times, generators([drawing.seed]))
    steps = list(common.shown(task.iterated(stage, expression, clean, generators([drawing.seed]), start, settings), "denoising"))

    def cell(x: Tensor, what: str) -> tuple[Image.Image, str]:
        x = x.cpu()
        told = "" if x is clean else f": {float(psnr(x, clean)):.1f} dB, {float(ssim(x, clean)):.2f}"
        return to_image(x[0], (-1, 1), max(1, SHOWN // 2 // x.shape[-1])), what + told

    rows = [
        [
            cell(clean, "original"),
            cell(level.noisy, f"t = {level.t}"),
            cell(level.blurred, "blurred"),
            cell(level.estimate, "one step"),
        ]
        for level in found
    ]
    shown = [step for step in steps[:-1] if step.index % 5 == 0] + [steps[-1]]
    between = [cell(step.xt, f"t = {step.t}" if step.t >= 0 else "many steps") for step in shown]
    rows += common.rows(between, 4)
    whole = sheet([[c for c, _ in row] for row in rows], captions=[[told for _, told in row] for row in rows])
    arguments = {"image": str(image), "prompt": prompt, "t": t, "start": start, "fit": fit}
    write(whole, out, "denoise", drawing, arguments)
    common.say(f"pictures in {out}")


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
    common.require_picture(out)
    from phosphene.images import fitted, read_picture, sheet, to_image, to_tensor
    from phosphene.sampler import generators
    from phosphene.tasks import edit as task
    from phosphene.tasks.generate import asking, onward, timesteps

    picture = read_picture(image)
    stages, settings = drawing.open([prompt]).stages, drawing.settings()
    if strength is not None:
        starts = [task.start_of(strength, len(timesteps(stages[0], settings)))]
    elif start is not None:
        starts = common.numbers("--start", start, int, "1,3,5,7,10,20")
    else:
        usual = len(timesteps(stages[0], settings))
        starts = [s for s in task.STARTS if s < usual] or [0]
    small = fitted(picture, stages[0].image_shape[1:], fit)

    asks = asking([prompt or None], drawing.negative)
    source = generators([drawing.seed] * len(starts))
    first = task.edit(stages[0], asks(stages[0], drawing.guidance), to_tensor(small), starts, source, settings)
    run = onward(stages, first, asks, source, drawing.scales(), drawing.manners(stages))
    cells = [to_image(p, stages[-1].value_range) for p in finished(run)]
    labels = [f"start {s}" for s in starts]
    whole = sheet([[*cells, fitted(picture, stages[-1].image_shape[1:], fit)]], captions=[[*labels, "the original"]])
    arguments = {"image": str(image), "prompt": prompt, "start": start, "strength": strength, "fit": fit}
    write(cells[0] if len(cells) == 1 else whole, out, "edit", drawing, arguments)
    common.say(f"{common.several(len(cells), 'picture')} in {out}")


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
    common.require_picture(out)
    from PIL import Image

    from phosphene.images import fitted, read_picture, sheet, to_image, to_tensor
    from phosphene.sampler import generators
    from phosphene.tasks import inpaint as task
    from phosphene.tasks.generate import asking, onward

    if blend not in task.BLENDS:
        raise UserError(f"--blend {blend}: choose one of {', '.join(task.BLENDS)}.")
    original, white = read_picture(image), read_picture(mask, "MASK").convert("L")
    if original.size != white.size:
        sizes = [f"{w}x{h}" for w, h in (white.size, original.size)]
        raise UserError(f"MASK {mask}: is {sizes[0]} and the picture {sizes[1]}; give a mask of the picture's size.")
    if white.getextrema()[1] == 0:
        raise UserError(f"MASK {mask}: is all black, so nothing would be repainted; paint white what is to change.")
    stages, settings = drawing.open([prompt]).stages, drawing.settings()

    def at(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Picture and mask, fitted alike; what is padded is kept."""
        where = fitted(Image.merge("RGB", [white] * 3), size, fit)
        if fit == "pad":
            inside = fitted(Image.new("RGB", white.size, "black"), size, fit)
            where = Image.composite(Image.new("RGB", where.size), where, inside.convert("L"))
        return to_tensor(fitted(original, size, fit)), (to_tensor(where.convert("L")) + 1) / 2

    asks = asking([prompt or None], drawing.negative)
    source = generators([drawing.seed])
    first = task.inpaint(stages[0], asks(stages[0], drawing.guidance), *at(stages[0].image_shape[1:]), source, settings)
    result = finished(onward(stages, first, asks, source, drawing.scales(), drawing.manners(stages))).cpu()
    shown, where = at(result.shape[-2:])
    blends = {how: task.blend(result, shown, where, how) for how in task.BLENDS}
    measured = {how: float(task.seam(picture, where)) for how, picture in blends.items()}
    seams = {how: "no border" if math.isnan(value) else f"{value:.2f}" for how, value in measured.items()}
    if compare:
        cells = [to_image(p[0], (-1, 1)) for p in (shown, shown * (1 - where) + where, *blends.values())]
        labels = ["the original", "to be repainted", *(f"{how}, seam {seam}" for how, seam in seams.items())]
        picture = sheet([cells], captions=[labels])
    else:
        picture = to_image(blends[blend][0], (-1, 1))
    arguments = {"image": str(image), "mask": str(mask), "prompt": prompt, "blend": blend, "compare": compare, "fit": fit}
    write(picture, out, "inpaint", drawing, arguments)
    common.say("seams (1 is none): " + ", ".join(f"{how} {seam}" for how, seam in seams.items()))
    common.say(f"picture in {out}")


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
    square-hinge (patches:8 and the like for more pieces, jigsaw@3 for a seed of its own), and four-way, four at once.
    """
    require_prompts(prompts)
    common.require_picture(out)
    from phosphene.images import require_animation, save_animation, sheet, to_image
    from phosphene.tasks import anagram as task
    from phosphene.tasks.animate import SECONDS, turning
    from phosphene.views import Identity

    if animate is not None:
        require_animation(animate)
    views = task.views_named(view, len(prompts), view_seed)
    shares = None if weights is None else common.numbers("--weights", weights, float, "1,1.5")
    scored = [None] if best_of > 1 else []  # gains are against the empty prompt
    stages, settings = drawing.open([*scored, *prompts]).stages, drawing.settings()

    def asks(stage: Stage, scale: float) -> Asked:
        return task.readings(stage, prompts, views, scale, drawing.negative, shares, reduce)

    asks(stages[0], drawing.guidance)
    picture, said = _best(stages, asks, drawing, settings, prompts, [v.apply for v in views], best_of)
    cells = [to_image(v.apply(picture[None])[0], (-1, 1), max(1, SHOWN // picture.shape[-1])) for v in views]
    common.readings(cells)
    arguments = {"prompts": list(prompts), "view": list(view), "view_seed": view_seed, "weights": weights, "reduce": reduce}
    write(sheet([cells], captions=[prompts]), out, "anagram", drawing, arguments | {"best_of": best_of})
    common.say(f"{said}; picture in {out}")
    if animate is not None:
        plain = next((prompt for v, prompt in zip(views, prompts, strict=True) if isinstance(v, Identity)), "")
        others = [(v, prompt) for v, prompt in zip(views, prompts, strict=True) if not isinstance(v, Identity)]
        frames = [frame for v, prompt in others for frame in turning(picture, v, (plain, prompt))]
        save_animation(frames, animate, SECONDS * len(others))
        common.say(f"animation in {animate}")


@drawing_command
def hybrid(
    prompts: Annotated[list[str], typer.Argument(metavar="FAR NEAR", help="From afar and from near; a third lies between.")],
    drawing: Drawing,
    kind: Annotated[
        str, typer.Option(help="frequency, color (grey, then colours), motion (swept by, then still) or scale.")
    ] = "frequency",
    sigma: Annotated[
        str | None, typer.Option(help="Blurs that part the prompts, in 64ths of the picture. [default: 2, or 3,1.2]")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="A picture that takes the place of FAR or NEAR: see --band.")
    ] = None,
    band: Annotated[
        str | None, typer.Option(help="What is kept of --from: low, what FAR would rule, or high, the rest. [default: low]")
    ] = None,
    length: Annotated[float | None, typer.Option(help="Of --kind motion, in 64ths of the picture. [default: 15]")] = None,
    angle: Annotated[float | None, typer.Option(help="Of --kind motion: 0 sideways, 90 upwards. [default: 0]")] = None,
    fit: Fit = "crop",
    best_of: BestOf = 1,
    out: Out = Path("hybrid.png"),
) -> None:
    """Draw a picture that shows one thing from afar and another from near.

    The sheet shows it at shrinking sizes, as if one walked away from it; of the other kinds what the first prompt rules.
    """
    require_prompts(prompts)
    common.require_picture(out)
    from phosphene.frequency import Swept
    from phosphene.images import fitted, read_picture, to_image, to_tensor
    from phosphene.sampler import generators
    from phosphene.tasks import hybrid as task
    from phosphene.tasks.generate import asking, onward

    sigmas = None if sigma is None else common.numbers("--sigma", sigma, float, "2 or 3,1.2")
    if from_ is not None and (len(prompts) != 1 or best_of > 1):
        raise UserError(f"--from {from_}: takes one prompt, for the band it leaves free, and no --best-of.")
    for name, value, of in (("--sigma", sigma, "frequency"), ("--length", length, "motion"), ("--angle", angle, "motion")):
        if value is not None and kind != of:
            raise UserError(f"{name} {value}: is of --kind {of}; leave it out.")
    motion = Swept(*(usual if value is None else value for value, usual in ((length, 15.0), (angle, 0.0))))
    if from_ is None and band is not None:
        raise UserError(f"--band {band}: says what is kept of --from; name a picture there, or leave it out.")
    if from_ is not None and sigmas is not None and len(sigmas) != 1:
        raise UserError(f"--sigma {sigma}: --from takes one, between what is kept and what is drawn.")
    band = band or "low"
    real = None if from_ is None else read_picture(from_, "--from")
    scored = [None] if best_of > 1 else []  # gains are against the empty prompt
    stages, settings = drawing.open([*scored, *prompts]).stages, drawing.settings()
    if real is None:

        def asks(stage: Stage, scale: float) -> Expression:
            return task.parted(stage, prompts, kind, sigmas, scale, drawing.negative, motion)

        asks(stages[0], drawing.guidance)
        part = task.part_of(kind, max(sigmas or task.SIGMAS[len(prompts)]), motion) if kind != "scale" else lambda x: x
        looks = [part, *[lambda x: x] * (len(prompts) - 1)]
        picture, said = _best(stages, asks, drawing, settings, prompts, looks, best_of)
    else:
        part = task.part_of(kind, (sigmas or [2.0])[0], motion)
        source = generators([drawing.seed])
        asks = asking(prompts, drawing.negative)

        def at(stage: Stage) -> Tensor:
            return to_tensor(fitted(real, stage.image_shape[1:], fit))

        def edits(stage: Stage) -> Callable[[Step], Tensor]:
            return task.keeping(stage, at(stage), band, source, part)

        first = task.completed(stages[0], asks(stages[0], drawing.guidance), at(stages[0]), band, source, part, settings)
        run = onward(stages, first, asks, source, drawing.scales(), drawing.manners(stages), edits)
        picture = finished(run)[0].cpu()
        said = f"{task.KEPT[kind][task.BANDS.index(band)]} of {from_} kept"
    arguments = {"prompts": list(prompts), "kind": kind, "sigma": sigma, "from": None if from_ is None else str(from_)}
    arguments |= {"length": length, "angle": angle}
    common.readings([to_image(picture, (-1, 1))])
    whole = _walking_away(picture) if kind == "frequency" else _with_part(picture, part)
    write(whole, out, "hybrid", drawing, arguments | {"band": band if real is not None else None, "fit": fit, "best_of": best_of})
    common.say(f"{said}; picture in {out}")


@drawing_command
def compose(
    prompts: Annotated[list[str], typer.Argument(metavar="INSIDE OUTSIDE", help="Where the mask is white, and elsewhere.")],
    drawing: Drawing,
    mask: Annotated[str, typer.Option(help="left, top, circle, or a picture: white is inside.")] = "left",
    out: Out = Path("compose.png"),
) -> None:
    """Draw one thing in one region and another in the rest."""
    require_prompts(prompts)
    common.require_picture(out)
    from phosphene.images import read_picture, squared, to_image, to_tensor
    from phosphene.tasks import compose as task

    if mask in task.SHAPES:
        inside = task.shape(mask, 256)
    elif Path(mask).suffix:
        inside = (to_tensor(squared(read_picture(Path(mask), "--mask"), 256).convert("L")) + 1) / 2
    else:
        raise UserError(f"--mask {mask}: choose one of {', '.join(task.SHAPES)}, or name a picture.")
    stages = drawing.open(prompts).stages
    run = task.compose(stages, prompts, inside, [drawing.seed], drawing.scales(), drawing.negative, drawing.manners(stages))
    write(to_image(finished(run)[0], (-1, 1)), out, "compose", drawing, {"prompts": list(prompts), "mask": mask})
    common.say(f"picture in {out}")


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
    require_prompts(prompts)
    common.require_picture(out)
    from phosphene.images import require_animation, save_animation, sheet, to_image
    from phosphene.tasks import morph as task

    if animate is not None:
        require_animation(animate)
    if len(prompts) == 1 and to_seed is not None:
        prompts = [*prompts, *prompts]
    stages = drawing.open(prompts).stages
    seeds = (drawing.seed, drawing.seed if to_seed is None else to_seed)
    run = task.morph(stages, prompts, frames, seeds, drawing.scales(), drawing.negative, drawing.manners(stages))
    pictures = finished(run)
    cells = [to_image(p, (-1, 1)) for p in pictures]
    arguments = {"prompts": list(prompts), "frames": frames, "to_seed": to_seed}
    write(sheet(common.rows(cells, 8)), out, "morph", drawing, arguments)
    common.say(f"{common.several(frames, 'picture')} in {out}")
    if animate is not None:
        large = [to_image(p, (-1, 1), max(1, SHOWN // p.shape[-1])) for p in pictures]
        save_animation([*large, *large[-2:0:-1]], animate, 2 * frames / 12)
        common.say(f"animation in {animate}")


def _best(
    stages: Sequence[Stage],
    asks: Asks,
    drawing: Drawing,
    settings: Settings,
    prompts: Sequence[str],
    looks: Sequence[Reading],
    count: int,
) -> tuple[Tensor, str]:
    """Of ``count`` pictures of consecutive seeds the one that reads best, (C, H, W) of the last stage, and what to say of it."""
    from phosphene.sampler import Step, generators
    from phosphene.schedule import CLEAN
    from phosphene.tasks.generate import onward, text_to_image
    from phosphene.tasks.score import score

    seeds = range(drawing.seed, drawing.seed + count)
    source = generators(seeds)
    first = text_to_image(stages[0], asks(stages[0], drawing.guidance), source, settings)
    pictures = finished(first)
    chosen, found = 0, f"seed {drawing.seed}"
    if count > 1:
        judged = score(stages[0], pictures, prompts, looks)
        chosen = int(judged.worst.argmax())
        found = f"seed {seeds[chosen]}: alignment {judged.alignment[chosen]:.3f}, concealment {judged.concealment[chosen]:.3f}"
    if len(stages) == 1:
        return pictures[chosen].cpu(), found
    one = pictures[chosen : chosen + 1]
    drawn = iter([Step(0, 1, CLEAN, one, one)])
    whole = onward(stages, drawn, asks, source[chosen : chosen + 1], drawing.scales(), drawing.manners(stages))
    return finished(whole, "enlarging")[0].cpu(), found


def _with_part(picture: Tensor, part: Component) -> Image.Image:
    """``picture`` (3, S, S), and its ``part`` beside it."""
    from phosphene.images import sheet, to_image

    scale = max(1, SHOWN // picture.shape[-1])
    return sheet([[to_image(x, (-1, 1), scale) for x in (picture, part(picture[None])[0])]])


def _walking_away(picture: Tensor) -> Image.Image:
    """``picture`` (3, S, S) at full size, a half, a quarter, an eighth, as if one walked away from it."""
    from PIL import Image

    from phosphene.images import PAPER, sheet, to_image

    large = to_image(picture, (-1, 1), max(1, SHOWN // picture.shape[-1]))
    cells = []
    for away in (1, 2, 4, 8):
        cell = Image.new("RGB", large.size, PAPER)
        small = large.resize((large.width // away, large.height // away), Image.Resampling.BOX)
        cell.paste(small, ((large.width - small.width) // 2, (large.height - small.height) // 2))
        cells.append(cell)
    return sheet([cells])
