"""Visual anagrams (Geng et al. 2024): a picture that shows something else when it is turned, mirrored or taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from phosphene.defaults import REDUCTIONS
from phosphene.drawing import Task
from phosphene.errors import UserError, require_one_of, require_weights
from phosphene.expression import Asked, Turns, mean, sheets, viewed
from phosphene.folds import Seen, Sheet
from phosphene.models.protocol import Denoiser
from phosphene.notation import is_warp, require_mean, require_views, require_warps
from phosphene.tasks.agreement import ending, following
from phosphene.tasks.generate import asked
from phosphene.tasks.score import read_best
from phosphene.views import Identity, View, view
from phosphene.warps import Warp, warp


def views_named(names: Sequence[str | View | Warp], prompts: int, seed: int = 0) -> list[View | Warp]:
    """A view for each of ``prompts``, as :func:`~phosphene.notation.require_views` has them. UserError where two are the same."""
    whole = require_views(names, prompts)
    views = [(warp(name) if is_warp(name) else view(name, seed)) if isinstance(name, str) else name for name in whole]
    if len(set(views)) < len(views):
        named = ", ".join(str(name) for name in whole)
        raise UserError(f"--view {named}: two views are the same, but a picture reads one way only in each.")
    return views


def anagram(
    prompts: Sequence[str],
    views: Sequence[str | View | Warp],
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
    of each stage it has alone. Where one of ``views`` is a warp, what is drawn is the picture and what is seen of it: see
    :func:`folded`. UserError where prompts, views and weights do not fit together.
    """
    views = views_named(views, len(prompts), view_seed)
    require_one_of("--reduce", reduce, REDUCTIONS)
    require_mean(reduce, weights, rectified, last)
    if any(isinstance(v, Warp) for v in views):
        names = ["identity" if isinstance(v, Identity) else str(v) for v in views]
        require_warps(names, reduce, weights, rectified, last)
        return folded(prompts, views, weights=weights, negative=negative)
    alone, steps = (0, 0) if last is None else ending(last, views, view_seed)
    looks = [v.apply for v in views]

    def asks(stage: Denoiser, scale: float) -> Asked:
        parts = [viewed(asked(stage, [p], negative, scale), v) for p, v in zip(prompts, views, strict=True)]
        if reduce != "mean":
            return Turns(tuple(parts))
        whole = mean(*parts, weights=None if weights == "auto" else weights, rectified=rectified)
        return Turns((whole, parts[alone]), steps) if steps else whole

    return read_best(asks, prompts, looks, steer=following(prompts, looks) if weights == "auto" else None)


def folded(
    prompts: Sequence[str],
    views: Sequence[View | Warp],
    *,
    weights: Sequence[float] | None = None,
    negative: str | None = None,
) -> Task:
    """A picture that shows ``prompts[k]`` through the k-th of ``views``, one of which is the picture as it is: by a fold.

    What is drawn has the channels of the picture, then those of what is seen in the other views, which is that exactly: see
    :class:`~phosphene.folds.Seen`, whose ``weights`` (one for each prompt) say how much each counts.
    """
    shares = [1.0] * len(views) if weights is None else weights
    require_weights(shares, len(prompts))
    order = sorted(range(len(views)), key=lambda k: not isinstance(views[k], Identity))
    fold = Seen(tuple(views[k] for k in order), tuple(float(shares[k]) for k in order))
    looks = [Sheet(order.index(k), len(order)).apply for k in range(len(order))]

    def asks(stage: Denoiser, scale: float) -> Asked:
        return sheets(*(asked(stage, [prompts[k]], negative, scale) for k in order))

    return read_best(asks, prompts, looks, fold=fold)
