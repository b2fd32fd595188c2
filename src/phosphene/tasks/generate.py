"""Text to image over a cascade: the first stage draws a small picture, the second enlarges it.

Each function composes the core and yields its steps. Noise is taken from the images' own generators in one order: the
start, the picture beside (second stage), then the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.expression import Expression, given, guide
from phosphene.models.cascade import Stage
from phosphene.sampler import (
    Generators,
    Route,
    Solver,
    Step,
    Threshold,
    ancestral,
    clamp,
    denoise,
    draw,
    dynamic_threshold,
    generators,
    resampled,
)

STEPS = {"ancestral": 34, "ddim": 34, "dpm": 20, "heun": 20}
"""Of each solver where none are named; 34, Part A's number, are every 29th timestep of the 1000."""

GUIDANCE = (7.0, 4.0)
"""Of the two stages: the defaults of diffusers."""


class Settings(NamedTuple):
    """How a stage is sampled, whatever it is asked for."""

    route: Route = Route()
    timesteps: Sequence[int] | None = None  # decreasing; None: as many as the route says, spaced as the model's scheduler does
    thresholded: bool = True  # clean estimates are kept in range as the model's scheduler does; False: left as they are
    max_rows: int | None = None  # of a forward pass


DEFAULT = Settings()

ENLARGING = Settings(Route("dpm", 8))
"""Of a second stage that goes by the small picture alone: with no prompt there is no guidance to follow with care."""

Asked = Expression | Sequence[Expression]
"""What the denoiser is asked for: one expression, or several that take turns."""


def wanted(prompts: Sequence[str | None], negative: str | None = None, guidance: float = GUIDANCE[0]) -> Expression:
    """The expression that asks for ``prompts`` (one for all images, or one for each), away from ``negative``."""
    return guide(given(*prompts), scale=guidance, away=given(negative))


def asked(stage: Stage, prompts: Sequence[str | None], negative: str | None = None, guidance: float = GUIDANCE[0]) -> Expression:
    """What ``stage`` is asked for ``prompts``: see :func:`wanted`. A stage that reads no text is asked for nothing."""
    return wanted(prompts, negative, guidance) if stage.reads else given(None)


def timesteps(stage: Stage, settings: Settings = DEFAULT) -> list[int]:
    """The timesteps that ``settings`` lead through."""
    if settings.timesteps is not None:
        return list(settings.timesteps)
    settings.route.table()  # refuses a solver that is none
    usual = min(STEPS[settings.route.solver], stage.schedule.steps)
    count = usual if settings.route.steps is None else settings.route.steps
    return stage.schedule.timesteps(count, stage.scheduler.timestep_spacing)


def threshold(stage: Stage) -> Threshold | None:
    """What the stage's scheduler does to clean estimates: dynamic thresholding, clamping, or nothing."""
    scheduler = stage.scheduler
    if scheduler.thresholding:
        return dynamic_threshold(scheduler.dynamic_thresholding_ratio, scheduler.sample_max_value)
    if scheduler.clip_sample:
        return clamp(-scheduler.clip_sample_range, scheduler.clip_sample_range)
    return None


def text_to_image(
    stage: Stage, expression: Asked, source: Sequence[torch.Generator], settings: Settings = DEFAULT
) -> Iterator[Step]:
    """Denoise one picture from pure noise for each generator of ``source``."""
    if stage.noising is not None:
        raise UserError("stage: enlarges pictures and draws none; take a model with a first stage.")
    times = timesteps(stage, settings)
    return sampled(stage, expression, draw(source, len(source), stage.image_shape, stage.device), times, source, settings)


def image_to_image(
    stage: Stage,
    expression: Asked,
    image: Tensor,
    source: Sequence[torch.Generator],
    start: int,
    settings: Settings = DEFAULT,
) -> Iterator[Step]:
    """SDEdit (Meng et al. 2022): noise ``image`` to timestep number ``start`` of the run, and denoise from there.

    ``image``: (1 or B, C, H, W) in [-1, 1], of the stage's size. At ``start`` 0 little of it is left; a high one changes
    little.
    """
    if stage.noising is not None:
        raise UserError("stage: enlarges pictures and edits none; take a model with a first stage.")
    times = timesteps(stage, settings)
    if not 0 <= start < len(times):
        raise UserError(f"--start {start}: must lie in 0..{len(times) - 1}, the steps of this run.")
    require_fit(stage, image, len(source))
    noise = draw(source, len(source), stage.image_shape, stage.device)
    xt = stage.schedule.add_noise(image.to(noise), times[start], noise)
    return sampled(stage, expression, xt, times[start:], source, settings)


def require_fit(stage: Stage, image: Tensor, count: int) -> None:
    """UserError unless ``image`` is a picture of the stage's size, or one for each of ``count`` seeds."""
    if tuple(image.shape[1:]) != stage.image_shape or len(image) not in (1, count):
        shape = "x".join(str(n) for n in image.shape)
        size = "x".join(str(n) for n in stage.image_shape)
        raise UserError(f"image: is {shape}; this stage draws {size}, and there must be one for all seeds or one for each.")


def enlarging(stage: Stage) -> Settings:
    """How a second stage is sampled where nothing else is said."""
    return DEFAULT if stage.reads else ENLARGING


def enlarge(
    stage: Stage,
    expression: Asked,
    small: Tensor,
    source: Sequence[torch.Generator],
    settings: Settings | None = None,
    edit: Callable[[Step], Tensor] | None = None,
) -> Iterator[Step]:
    """Super-resolution: denoise, from pure noise, the large picture of each of ``small`` (B, C, h, w; in [-1, 1]).

    ``edit`` is that of :func:`~phosphene.sampler.denoise`. Without ``settings`` it is done as is usual for the stage, see
    :func:`enlarging`.
    """
    if stage.noising is None:
        raise UserError("stage: draws pictures and enlarges none; take a model with a second stage.")
    if len(small) != len(source):
        raise UserError(f"--seed: {len(source)} seeds for {len(small)} images; give one seed for each.")
    settings = settings or enlarging(stage)
    times = timesteps(stage, settings)
    start, noise = (draw(source, len(source), stage.image_shape, stage.device) for _ in range(2))
    beside = stage.beside(small.to(start), noise)
    return sampled(stage, expression, start, times, source, settings, beside, edit)


def generate(
    stages: Sequence[Stage],
    prompts: Sequence[str],
    seeds: Sequence[int],
    negative: str | None = None,
    guidance: Sequence[float] = GUIDANCE,
    settings: Sequence[Settings | None] = (DEFAULT, None),
) -> Iterator[Step]:
    """Draw a picture for each seed with every one of ``stages``, each with its ``guidance`` and ``settings`` (None: as usual).

    ``prompts`` is one for all pictures or one for each; ``stages`` those of a cascade, or its first alone. Where memory
    is short, call the cascade's ``encode`` and ``free_text`` before.
    """
    return by_stages(stages, asking(prompts, negative), seeds, guidance, settings)


Asks = Callable[[Stage, float], Asked]
"""From a stage and its guidance scale to what it is asked for."""


def asking(prompts: Sequence[str | None], negative: str | None = None) -> Asks:
    """Every stage is asked for ``prompts``: see :func:`asked`."""
    return lambda stage, scale: asked(stage, prompts, negative, scale)


def by_stages(
    stages: Sequence[Stage],
    asks: Asks,
    seeds: Sequence[int],
    guidance: Sequence[float] = GUIDANCE,
    settings: Sequence[Settings | None] = (DEFAULT, None),
) -> Iterator[Step]:
    """Draw a picture for each seed with the first of ``stages``, and enlarge it with the next, asking each what ``asks`` says.

    The steps of the stages follow one another, and those at timestep -1 are the finished pictures of each.
    """
    source = generators(seeds)
    first = text_to_image(stages[0], asks(stages[0], guidance[0]), source, settings[0] or DEFAULT)
    return onward(stages, first, asks, source, guidance, settings)


def onward(
    stages: Sequence[Stage],
    first: Iterator[Step],
    asks: Asks,
    source: Sequence[torch.Generator],
    guidance: Sequence[float] = GUIDANCE,
    settings: Sequence[Settings | None] = (DEFAULT, None),
    edits: Callable[[Stage], Callable[[Step], Tensor]] | None = None,
) -> Iterator[Step]:
    """The steps of ``first``, a run of the first of ``stages``, and those by which the others enlarge what it finished.

    ``edits`` makes the ``edit`` of each of the others.
    """
    picture = None
    for step in first:
        picture = step.xt
        yield step
    for stage, scale, manner in zip(stages[1:], guidance[1:], settings[1:], strict=False):
        for step in enlarge(stage, asks(stage, scale), picture, source, manner, edits and edits(stage)):
            picture = step.xt
            yield step


def sampled(
    stage: Stage,
    expression: Asked,
    xt: Tensor,
    times: Sequence[int],
    source: Generators,
    settings: Settings,
    beside: Tensor | None = None,
    edit: Callable[[Step], Tensor] | None = None,
) -> Iterator[Step]:
    """:func:`~phosphene.sampler.denoise` as ``settings`` and the stage's own scheduler say."""
    return denoise(
        stage,
        expression,
        xt,
        times,
        solver=solver_of(stage, settings.route),
        threshold=threshold(stage) if settings.thresholded else None,
        generators=source,
        max_rows=settings.max_rows,
        beside=beside,
        edit=edit,
    )


def solver_of(stage: Stage, route: Route) -> Solver:
    """The solver of ``route``; the ancestral one with the variance that the model was made for."""
    table = route.table()  # refuses what does not belong to the solver
    if route.solver != "ancestral":
        return table
    variance = {"learned_range": "auto", "fixed_small": "small", "fixed_large": "large"}[stage.scheduler.variance_type]
    return resampled(partial(ancestral, variance=variance), route.resample)
