"""Visual anagrams (Geng et al. 2024): a picture that shows something else when it is turned, mirrored or taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from phosphene.defaults import REDUCTIONS
from phosphene.drawing import Asked, Reading, Task
from phosphene.errors import UserError, require_mean, require_one_of, require_views
from phosphene.expression import mean, viewed
from phosphene.models.protocol import Denoiser
from phosphene.sampler import Relay
from phosphene.tasks.agreement import ending, following
from phosphene.tasks.generate import asked
from phosphene.tasks.score import score
from phosphene.views import View, view


def views_named(names: Sequence[str | View], prompts: int, seed: int = 0) -> list[View]:
    """A view for each of ``prompts``, as :func:`~phosphene.errors.require_views` has them. UserError where two are the same."""
    whole = require_views(names, prompts)
    views = [view(name, seed) if isinstance(name, str) else name for name in whole]
    if len(set(views)) < len(views):
        named = ", ".join(str(name) for name in whole)
        raise UserError(f"--view {named}: two views are the same, but a picture reads one way only in each.")
    return views


def anagram(
    prompts: Sequence[str],
    views: Sequence[str | View],
    *,
    view_seed: int = 0,
    weights: Sequence[float] | Literal["auto"] | None = None,
    reduce: str = "mean",
    rectified: bool = False,
    last: str | None = None,
    negative: str | None = None,
) -> Task:
    """A picture that shows ``prompts[k]`` through the k-th of ``views``: see :func:`views_named`.

    A later stage sees the smaller picture through the views as well. The best of several is the one whose weakest reading
    is the surest. What may help the readings to agree: ``weights`` "auto", which follow the one that is behind;
    ``rectified``, a mean as large as the estimates; ``last`` (``flip:2``), one of the views and how many steps at the end
    of each stage it has alone. UserError where prompts, views and weights do not fit together.
    """
    views = views_named(views, len(prompts), view_seed)
    require_one_of("--reduce", reduce, REDUCTIONS)
    require_mean(reduce, weights, rectified, last)
    alone, steps = (0, 0) if last is None else ending(last, views, view_seed)
    looks = [v.apply for v in views]

    def asks(stage: Denoiser, scale: float) -> Asked:
        parts = [viewed(asked(stage, [p], negative, scale), v) for p, v in zip(prompts, views, strict=True)]
        if reduce != "mean":
            return parts
        whole = mean(*parts, weights=None if weights == "auto" else weights, rectified=rectified)
        return Relay(whole, parts[alone], steps) if steps else whole

    return Task(
        asks,
        steer=following(prompts, looks) if weights == "auto" else None,
        judge=lambda stage, pictures, _: score(stage, pictures, prompts, looks),
        readings=[Reading(p, v.apply) for p, v in zip(prompts, views, strict=True)],
    )
