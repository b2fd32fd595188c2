"""Visual anagrams (Geng et al. 2024): a picture that shows something else when it is turned, mirrored or taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phosphene.errors import UserError
from phosphene.expression import mean, seen
from phosphene.models.cascade import Stage
from phosphene.sampler import Step
from phosphene.tasks.generate import DEFAULT, GUIDANCE, Asked, Settings, asked, by_stages
from phosphene.views import View, view

FOUR_WAY = ("identity", "rotate-90", "rotate-180", "rotate-270")
REDUCTIONS = ("mean", "alternate")
"""How the readings share a step: all are heard and averaged, or each has every n-th step for itself."""


def views_named(names: Sequence[str], prompts: int, seed: int = 0) -> list[View]:
    """A view for each of ``prompts``: those called ``names``, after the picture as it is where one is missing.

    ``four-way`` are the four quarter turns. UserError where they are not as many as the prompts, or two are the same.
    """
    whole = [part for name in names for part in (FOUR_WAY if name == "four-way" else (name,))]
    if len(whole) == prompts - 1:
        whole = ["identity", *whole]
    if len(whole) != prompts or prompts < 2:
        given = ", ".join(names) or "none"
        raise UserError(f"--view {given}: {prompts} prompts need {max(prompts - 1, 1)} views besides the picture as it is.")
    views = [view(name, seed) for name in whole]
    if len(set(views)) < len(views):
        raise UserError(f"--view {', '.join(whole)}: two views are the same, but a picture reads one way only in each.")
    return views


def readings(
    stage: Stage,
    prompts: Sequence[str],
    views: Sequence[View],
    guidance: float = GUIDANCE[0],
    negative: str | None = None,
    weights: Sequence[float] | None = None,
    reduce: str = "mean",
) -> Asked:
    """What ``stage`` is asked for: seen through ``views[k]``, the picture shows ``prompts[k]``."""
    if len(prompts) != len(views):
        raise UserError(f"--view: {len(prompts)} prompts for {len(views)} views; give one for each.")
    if reduce not in REDUCTIONS:
        raise UserError(f"--reduce {reduce}: choose mean or alternate.")
    parts = [seen(asked(stage, [p], negative, guidance), v) for p, v in zip(prompts, views, strict=True)]
    whole = mean(*parts, weights=weights)  # refuses weights that cannot be
    if reduce == "mean":
        return whole
    if weights is not None:
        raise UserError(f"--weights {list(weights)}: are of --reduce mean; leave them out with alternate.")
    return parts


def anagram(
    stages: Sequence[Stage],
    prompts: Sequence[str],
    views: Sequence[View],
    seeds: Sequence[int],
    guidance: Sequence[float] = GUIDANCE,
    negative: str | None = None,
    weights: Sequence[float] | None = None,
    reduce: str = "mean",
    settings: Sequence[Settings | None] = (DEFAULT, None),
) -> Iterator[Step]:
    """Draw a picture for each seed that reads as ``prompts[k]`` through ``views[k]``, with every one of ``stages``.

    A later stage sees the smaller picture through the views as well. The steps are those of
    :func:`~phosphene.tasks.generate.by_stages`.
    """
    return by_stages(
        stages, lambda stage, scale: readings(stage, prompts, views, scale, negative, weights, reduce), seeds, guidance, settings
    )
