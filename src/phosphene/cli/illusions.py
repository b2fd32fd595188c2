"""Pictures that are several at once: ``anagram``, ``hybrid``, ``overlay``, ``compose``, ``morph``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene import notation
from phosphene.cli import common, options
from phosphene.cli.drawing import CELL, Drawing, drawing_command, viewed
from phosphene.cli.pictures import Fit
from phosphene.defaults import (
    BANDS,
    FROM_TO,
    HYBRIDS,
    INSIDE_OUTSIDE,
    REDUCTIONS,
    SHAPES,
    SIGMAS,
    SWEEP,
    SWEPT_AT,
    listed,
    one_of,
)
from phosphene.errors import UserError, require_finite, require_length, require_sigma, require_two, require_weights
from phosphene.files import require_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

    from phosphene.drawing import Task
    from phosphene.frequency import MotionBlur
    from phosphene.models.cascade import Cascade
    from phosphene.tasks.printed import Page

Kind = Annotated[str, options.chosen(HYBRIDS, "color is grey, then colours; motion is swept by, then still")]
Band = Annotated[str | None, options.chosen(BANDS, "what is kept of --from: what FAR would rule, or the rest. [default: low]")]
BestOf = Annotated[int, typer.Option(min=1, max=1000, help="Draw so many and keep the one that reads best.")]


def _is_view(option: str, value: str) -> None:
    if value != "four-way":
        notation.view_parts(value, also=("four-way",))


@drawing_command("anagram.png")
def anagram(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What it shows: one for each view.")],
    drawing: Drawing,
    view: Annotated[
        list[str],
        options.checked(
            "One for each prompt, the first as it is by default; rotate-180 (turned by hand), flip (as in a mirror), jigsaw, ...",
            _is_view,
        ),
    ],
    view_seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of views whose pieces are laid by chance.")] = 0,
    weights: Annotated[
        str | None, typer.Option(help="How much each view counts, such as 1,1.5; auto: more where it is behind.")
    ] = None,
    rectify: Annotated[bool, typer.Option("--rectify", help="Scale the views' mean to the size of what is averaged.")] = False,
    last: Annotated[str | None, typer.Option(help="VIEW:STEPS: a view, and how many steps at the end it has alone.")] = None,
    reduce: Annotated[str, options.chosen(REDUCTIONS, "the views are heard at once, or take turns")] = "mean",
    best_of: BestOf = 1,
    animate: Annotated[Path | None, options.animation("the picture turns into its other reading")] = None,
    paper: options.Print = None,
) -> None:
    """Draw a picture that shows something else in another view.

    Views, and how one gets from one reading to the other:

    \b
      flip, mirror                       in a mirror that stands above it, or beside it
      rotate-90, rotate-180, rotate-270  turned by hand
      rotate:135                         a disc of it turned, by any angle
      negate                             in a camera that inverts colours
      inner-circle                       cut out its middle, and turn that upside down
      jigsaw, patches, pixels            cut it up, and lay the parts elsewhere
      square-hinge                       turn each square a quarter, neighbours opposite ways
      rubik                              slide rows and columns of squares
      skew                               slide its columns, the further out the more
      cylinder, cone                     in a round mirror that stands on it
      lens:2                             its middle, through a magnifying glass
      four-way                           all four quarter turns, with four prompts
      identity                           as it is

    patches:8 and the like are of more pieces, jigsaw@3 is cut by a seed of its own; --print says how, with lines to cut along.
    """
    names = notation.require_views(view, len(prompts))
    notation.require_chance(names, view_seed)
    shares = weights if weights in (None, "auto") else common.numbers("--weights", weights, float, "1,1.5 or auto")
    if isinstance(shares, list):
        require_weights(shares, len(prompts))
    notation.require_mean(reduce, shares, rectify, last)
    if any(map(notation.is_warp, names)):
        notation.require_warps(names, reduce, shares, rectify, last)
    if last is not None:
        notation.last_parts(last)
    _require_page(paper, drawing.out)
    with common.importing():
        from phosphene.tasks import anagram as task
        from phosphene.tasks.animate import readings
        from phosphene.tasks.printed import anagram_pages

    views = task.views_named(view, len(prompts), view_seed)
    how = {"view_seed": view_seed, "weights": shares, "reduce": reduce, "rectified": rectify, "last": last}
    asked = task.anagram(prompts, views, **how, negative=drawing.negative)
    judged = best_of > 1 or asked.steer is not None
    picture = _best(asked, drawing.open(_with_null(prompts, judged)), drawing, best_of)
    if animate is not None:
        _animate(*readings(picture, views, prompts), animate)
    if paper is not None:
        _print(anagram_pages(picture, views, prompts), drawing.out, paper)


@drawing_command("hybrid.png")
def hybrid(
    prompts: Annotated[list[str], typer.Argument(metavar="FAR NEAR", help="From afar and from near; a third lies between.")],
    drawing: Drawing,
    kind: Kind = "frequency",
    sigma: Annotated[
        str | None,
        typer.Option(
            help="Blurs that part the prompts, in 64ths of it; auto: as far as reads. "
            f"[default: {', or '.join(map(listed, SIGMAS.values()))}]"
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        options.checked("A picture in the place of FAR or NEAR: see --band.", options.is_picture, "--from"),
    ] = None,
    band: Band = None,
    length: Annotated[
        float | None,
        options.checked(f"Of --kind motion, in 64ths of the picture. [default: {SWEEP:g}]", require_length),
    ] = None,
    angle: Annotated[
        float | None,
        options.checked(f"Of --kind motion: 0 sideways, 90 upwards. [default: {SWEPT_AT:g}]", require_finite),
    ] = None,
    fit: Fit = "crop",
    best_of: BestOf = 1,
    paper: options.Print = None,
) -> None:
    """Draw a picture that shows one thing from afar and another from near.

    A --sheet shows it from near, and blurred as an eye sees it from farther away and from afar; of other kinds what the first
    prompt rules.
    """
    for name, value, of in (("--sigma", sigma, "frequency"), ("--length", length, "motion"), ("--angle", angle, "motion")):
        if value is not None and kind != of:
            raise UserError(f"{name} {value}: is of --kind {of}; leave it out.")
    sigmas = None if sigma in (None, "auto") else common.numbers("--sigma", sigma, float, "2, 3,1.2 or auto")
    for each in sigmas or ():
        require_sigma(each)
    _require_bands(prompts, kind, sigma, sigmas, from_, band, fit, best_of)
    _require_page(paper, drawing.out)
    with common.importing():
        from phosphene.frequency import MotionBlur
        from phosphene.tasks.hybrid import hybrid as task
        from phosphene.tasks.printed import hybrid_pages

    motion = MotionBlur(SWEEP if length is None else length, SWEPT_AT if angle is None else angle)
    if from_ is None:
        cascade = drawing.open(_with_null(prompts, best_of > 1 or sigma == "auto"))
        sigmas = _widest(prompts, cascade, drawing) if sigma == "auto" else sigmas
        asked = task(prompts, kind=kind, sigmas=sigmas, motion=motion, negative=drawing.negative)
        picture = _best(asked, cascade, drawing, best_of)
    else:
        picture = _complete(from_, prompts[0], drawing, kind, band or "low", (sigmas or SIGMAS[2])[0], motion, fit)
        prompts = [*prompts, from_.name] if band == "high" else [from_.name, *prompts]
    if paper is not None:
        _print(hybrid_pages(picture, prompts, kind, sigmas or SIGMAS[len(prompts)], motion.angle), drawing.out, paper)


def _require_bands(
    prompts: Sequence[str],
    kind: str,
    sigma: str | None,
    sigmas: Sequence[float] | None,
    from_: Path | None,
    band: str | None,
    fit: str,
    best_of: int,
) -> None:
    """UserError where what a hybrid is made of does not fit together."""
    if from_ is None:
        for name, value, what in (("--band", band, "what is kept of"), ("--fit", fit, "how to cut")):
            if value not in (None, "crop"):
                raise UserError(f"{name} {value}: says {what} --from; name a picture there, or leave it out.")
        return notation.require_hybrid(kind, len(prompts), sigmas)
    if len(prompts) != 1 or best_of > 1:
        raise UserError(f"--from {from_}: takes one prompt, for the band it leaves free, and no --best-of.")
    if sigma == "auto" or (sigmas is not None and len(sigmas) != 1):
        raise UserError(f"--sigma {sigma}: --from takes one number, between what is kept and what is drawn.")


def _widest(prompts: Sequence[str], cascade: Cascade, drawing: Drawing) -> Sequence[float]:
    """The sigmas of the widest gap that reads, tried in the first stage with --seed, and tell of it."""
    from phosphene.tasks.hybrid import GAPS, hybrid, widest
    from phosphene.tasks.printed import SIDE, distance

    stage, gaps = cascade.stages[0], GAPS[len(prompts)]
    tasks = [hybrid(prompts, sigmas=sigmas, negative=drawing.negative) for sigmas in gaps]
    gap = widest(stage, [drawing.draw(task, stage).xt for task in tasks], prompts)
    tried = ", ".join(f"{listed(s)}: {sure:.2f}" for s, sure in zip(gaps, gap.sure, strict=True))
    away = " and ".join(f"{distance(sigma):.0f} m" for sigma in reversed(gap.sigmas))
    if gap.reads:
        what = f"the widest at which all prompts can be read ({tried}); {SIDE:g} mm wide, it changes {away} away"
    else:
        what = f"though at none can all prompts be read, by 0.5 or more of 1 ({tried}); phosphene pairs has others"
    common.say(f"sigma {listed(gap.sigmas)}, {what}")
    return gap.sigmas


def _require_page(paper: str | None, out: Path) -> None:
    """UserError where a page is asked for and could not lie beside ``out``."""
    if paper is not None:
        require_file(out.with_suffix(".pdf"), "--print")


def _print(pages: Sequence[Page], out: Path, paper: str) -> None:
    """Write the pages of the picture ``out`` beside it, and tell of them."""
    from phosphene.tasks.printed import save_pages

    place = out.with_suffix(".pdf")
    save_pages(pages, place, paper)
    common.say(f"{common.several(len(pages), 'page')} to print in {place}")


def _animate(frames: Sequence[Image.Image], seconds: float, path: Path) -> None:
    """Write ``frames``, shown for ``seconds`` in all, and tell of them."""
    from phosphene.images import save_animation

    save_animation(frames, path, seconds)
    common.say(f"animation in {path}")


def _complete(
    path: Path, prompt: str, drawing: Drawing, kind: str, band: str, sigma: float, motion: MotionBlur, fit: str
) -> Tensor:
    """Draw and write the hybrid of one band of the picture at ``path`` and of ``prompt``, and return it (C, H, W)."""
    from phosphene.images import fitted, to_tensor
    from phosphene.readers import read_picture
    from phosphene.tasks.hybrid import PARTS, completed, part_of

    picture, component = read_picture(path, "--from"), part_of(kind, sigma, motion)
    cascade = drawing.open([prompt])
    small, *large = (to_tensor(fitted(picture, stage.image_shape[1:], fit)) for stage in cascade.stages)
    how = {"kind": kind, "band": band, "component": component, "large": large[0] if large else None}
    asked = completed(small, prompt, **how, negative=drawing.negative)
    return _best(asked, cascade, drawing, 1, f", {PARTS[kind][BANDS.index(band)]} of {path} kept")


def _with_null(prompts: Sequence[str], judged: bool) -> list[str | None]:
    """What is asked for in all: where pictures are judged, gains are against the empty prompt."""
    return [None, *prompts] if judged else [*prompts]


def _best(task: Task, cascade: Cascade, drawing: Drawing, best_of: int, more: str = "") -> Tensor:
    """Draw and write the one of ``best_of`` pictures that reads best, tell of it, and return it (C, H, W).

    Where it is several sheets, they are written one by one, and are its channels: (sheets * C, H, W). What is only seen of
    it is not written.
    """
    from phosphene.images import sheet, to_images
    from phosphene.tasks.score import READS

    made = 1 if task.fold is None else task.fold.drawn
    step = drawing.draw(task, cascade, range(drawing.seed, drawing.seed + best_of), made, best_of=best_of)
    picture, summary = step.xt[0].cpu(), f"seed {step.seeds[0]}{more}"
    if step.verdict is not None:
        sure = float(step.verdict.score[step.seeds[0] - drawing.seed])
        summary += f", the best of {best_of}: its weakest reading is sure by {sure:.2f} of 1"
        summary += "" if sure > READS else ", so it hardly reads; draw more, or see what phosphene pairs knows"
    views = viewed(task, picture)
    common.readings(views)
    if task.fold is not None:
        picture = picture[: len(picture) // task.fold.sheets * task.fold.drawn]
    pictures = to_images(picture.unflatten(0, (-1, cascade.stages[-1].image_shape[0])))
    captions = [[reading.caption for reading in task.readings]]
    whole = sheet([views], captions=captions if any(captions[0]) else ())
    common.say(f"{summary}; {drawing.save(pictures, lambda: whole)}")
    return picture


@drawing_command("overlay.png")
def overlay(
    prompts: Annotated[
        list[str], typer.Argument(metavar="SHEET SHEET... TOGETHER", help="One for each sheet; last, what all of them show.")
    ],
    drawing: Drawing,
    weights: Annotated[str | None, typer.Option(help="How much each prompt counts, such as 1,1,2.")] = None,
    best_of: BestOf = 1,
    animate: Annotated[Path | None, options.animation("the sheets slide over each other")] = None,
    paper: options.Print = None,
) -> None:
    """Draw transparencies that show one thing each, and another when they are laid upon each other.

    OUT is a sheet of all; the transparencies lie beside it, numbered, and last what they show together: their product.
    """
    shares = None if weights is None else common.numbers("--weights", weights, float, "1,1,2")
    notation.require_overlay(len(prompts), shares)
    _require_page(paper, drawing.out)
    with common.importing():
        from phosphene.tasks.animate import sliding_frames
        from phosphene.tasks.overlay import overlay as task
        from phosphene.tasks.printed import overlay_pages

    asked = task(prompts, weights=shares, negative=drawing.negative)
    whole = _best(asked, drawing.open(_with_null(prompts, best_of > 1)), drawing, best_of)
    pictures = whole.unflatten(0, (len(prompts), -1))
    if animate is not None:
        _animate(*sliding_frames(pictures[:-1], prompts), animate)
    if paper is not None:
        _print(overlay_pages(pictures, prompts), drawing.out, paper)


def _is_mask(option: str, value: str) -> None:
    if value not in SHAPES:
        from phosphene.readers import picture_file, sample

        if not Path(value).suffix and sample(Path(value)) is None:
            raise UserError(f"{option} {value}: unknown; choose {one_of(SHAPES)}, or name a picture, such as circle-mask.")
        picture_file(Path(value), option)


@drawing_command("compose.png")
def compose(
    prompts: Annotated[list[str], typer.Argument(metavar="INSIDE OUTSIDE", help="Where the mask is white, and elsewhere.")],
    drawing: Drawing,
    mask: Annotated[
        str, options.checked(f"{one_of((*SHAPES, 'a picture'))}, such as circle-mask: white is inside.", _is_mask)
    ] = "left",
) -> None:
    """Draw one thing in one region and another in the rest."""
    require_two(prompts, *INSIDE_OUTSIDE)
    with common.importing():
        from phosphene.images import fitted, sheet, to_images, to_tensor
        from phosphene.readers import read_mask
        from phosphene.tasks import compose as task

    painted = None if mask in SHAPES else read_mask(Path(mask), "--mask")
    cascade = drawing.open(prompts)
    sides = cascade.stages[0].image_shape[1:]
    size = [side * max(1, CELL // max(sides)) for side in sides]  # finer than the stage, so that borders are smooth
    inside = task.shape(mask, *size) if painted is None else (to_tensor(fitted(painted, size)) + 1) / 2
    pictures = to_images(drawing.draw(task.compose(prompts, inside, negative=drawing.negative), cascade).xt)
    common.say(drawing.save(pictures, lambda: sheet([pictures], captions=[[" and ".join(prompts)]])))


@drawing_command("morph.png")
def morph(
    prompts: Annotated[list[str], typer.Argument(metavar="FROM TO", help="Where it begins and where it ends.")],
    drawing: Drawing,
    frames: Annotated[int, typer.Option(min=2, max=1000, help="Pictures on the way, both ends included.")] = 24,
    to_seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of the end; by default that of the beginning.")
    ] = None,
    animate: Annotated[Path | None, options.animation("there and back")] = None,
) -> None:
    """Draw the way from one prompt to another, or from one seed to another."""
    if len(prompts) == 1 and to_seed is not None:
        prompts = [*prompts, *prompts]
    require_two(prompts, *FROM_TO)
    with common.importing():
        from phosphene.images import enlarged, sheet, to_images
        from phosphene.tasks.morph import morph as task

    ends = (drawing.seed, drawing.seed if to_seed is None else to_seed)
    made = drawing.draw(task(prompts, frames, negative=drawing.negative), drawing.open(prompts), ends, frames).xt
    cells = to_images(made)
    common.readings(cells)
    common.say(drawing.save(cells, lambda: sheet(common.rows(cells, 8))))
    if animate is not None:
        large = [enlarged(cell, max(1, CELL // cell.width)) for cell in cells]
        _animate([*large, *large[-2:0:-1]], 2 * frames / 12, animate)
