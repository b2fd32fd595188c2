"""Visual anagrams (Geng et al. 2024): a picture that shows something else when it is turned, mirrored or taken apart."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.defaults import REDUCTIONS
from phosphene.drawing import Asked, Reading, Task
from phosphene.errors import UserError, require_one_of
from phosphene.expression import mean, viewed
from phosphene.models.protocol import Denoiser
from phosphene.tasks.generate import asked
from phosphene.tasks.score import score
from phosphene.views import View, view

FOUR_WAY = ("identity", "rotate-90", "rotate-180", "rotate-270")


def views_named(names: Sequence[str | View], prompts: int, seed: int = 0) -> list[View]:
    """A view for each of ``prompts``: those called ``names``, after the picture as it is where one is missing.

    ``four-way`` are the four quarter turns. UserError where they are not as many as the prompts, or two are the same.
    """
    whole = [part for name in names for part in (FOUR_WAY if name == "four-way" else (name,))]
    if len(whole) == prompts - 1:
        whole = ["identity", *whole]
    named = ", ".join(str(name) for name in whole) or "none"
    if len(whole) != prompts or prompts < 2:
        raise UserError(f"--view {named}: {prompts} prompts need {max(prompts - 1, 1)} views besides the picture as it is.")
    views = [view(name, seed) if isinstance(name, str) else name for name in whole]
    if len(set(views)) < len(views):
        raise UserError(f"--view {named}: two views are the same, but a picture reads one way only in each.")
    return views


def anagram(
    prompts: Sequence[str],
    views: Sequence[str | View],
    *,
    view_seed: int = 0,
    weights: Sequence[float] | None = None,
    reduce: str = "mean",
    negative: str | None = None,
) -> Task:
    """A picture that shows ``prompts[k]`` through the k-th of ``views``: see :func:`views_named`.

    A later stage sees the smaller picture through the views as well. The best of several is the one whose weakest reading
    is the surest. UserError where prompts, views and weights do not fit together.
    """
    views = views_named(views, len(prompts), view_seed)
    require_one_of("--reduce", reduce, REDUCTIONS)
    if weights is not None and reduce != "mean":
        raise UserError(f"--weights {list(weights)}: are of --reduce mean; leave them out with alternate.")

    def asks(stage: Denoiser, scale: float) -> Asked:
        parts = [viewed(asked(stage, [p], negative, scale), v) for p, v in zip(prompts, views, strict=True)]
        return mean(*parts, weights=weights) if reduce == "mean" else parts

    return Task(
        asks,
        judge=lambda stage, pictures, _: score(stage, pictures, prompts, [v.apply for v in views]),
        readings=[Reading(p, v.apply) for p, v in zip(prompts, views, strict=True)],
    )
