"""Noise expressions: how the estimates of several conditions and views become one.

Every linear expression is ``sum_i A_i eps(V_i x, t, c_i)`` with ``sum_i A_i V_i = I``: feed every leaf the same noise
seen through its view, and the expression returns that noise. The constructors below keep this law by construction;
there are no operators to break it with. What is not linear (guidance that is bent, a mean that is rectified) keeps the
second half of it: leaves that agree are what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from phosphene.errors import UserError, require_finite, require_sigmas, require_weights
from phosphene.folds import Sheet
from phosphene.frequency import Component, LowPass
from phosphene.guidance import PLAIN, Guidance
from phosphene.views import Identity, View


@dataclass(frozen=True)
class Cond:
    """A leaf: the denoiser's answer. One condition for the whole batch, or one for each image of it."""

    conditions: tuple[Hashable | None, ...]
    parts: ClassVar[tuple[()]] = ()


@dataclass(frozen=True)
class Guide:
    parts: tuple[Expression, Expression]  # toward and away
    scale: float
    how: Guidance = PLAIN


@dataclass(frozen=True)
class Mean:
    parts: tuple[Expression, ...]
    weights: tuple[float | Tensor, ...]  # with the sum 1; a tensor (B, 1, 1, 1) has one for each image
    rectified: bool = False


@dataclass(frozen=True)
class Viewed:
    parts: tuple[Expression]
    view: View


@dataclass(frozen=True)
class Bands:
    parts: tuple[Expression, ...]
    components: tuple[Component, ...]  # between two neighbours: what the first of them rules, and all before it


@dataclass(frozen=True, eq=False)
class Masked:
    parts: tuple[Expression, Expression]  # inside and outside
    mask: Tensor


@dataclass(frozen=True)
class Sheets:
    parts: tuple[Expression, ...]


Expression = Cond | Guide | Mean | Viewed | Bands | Masked | Sheets


@dataclass(frozen=True)
class Turns:
    """Expressions that take turns, one a step, and so none themselves: see :func:`~phosphene.sampler.taking_turns`."""

    parts: tuple[Expression, ...]
    ending: int | None = None  # where given, all steps are the first's but the last so many, which are the second's


Asked = Expression | Turns
"""What a denoiser is asked for in a run."""


def cond(*conditions: Hashable | None) -> Cond:
    """The estimate given a condition (None: the null condition); several conditions are one for each image of the batch."""
    if not conditions:
        raise UserError("cond(): needs at least one condition; write cond(None) for the null condition.")
    return Cond(conditions)


def guide(toward: Expression, scale: float = 7.0, away: Expression | None = None, how: Guidance = PLAIN) -> Guide:
    """Classifier-free guidance: ``away + scale (toward - away)`` (Ho & Salimans 2022; scale 1 is conditional only).

    ``away`` is the null condition by default; a negative prompt is ``away=cond("blurry")``. ``how`` bends the update.
    """
    require_finite("--guidance", scale)
    return Guide((toward, cond(None) if away is None else away), float(scale), how)


def mean(*parts: Expression, weights: Sequence[float] | None = None, rectified: bool = False) -> Mean:
    """The weighted average of expressions (equal weights by default). With views: a visual anagram.

    Weights may be negative; learned variances are averaged without them, so that they stay in [-1, 1]. The mean of
    estimates that differ is too small to be noise: ``rectified``, it is scaled to their size (see :func:`rectification`).
    """
    weights = [1.0] * len(parts) if weights is None else list(weights)
    require_weights(weights, len(parts))
    total = sum(weights)
    counting = [(p, w / total) for p, w in zip(parts, weights, strict=True) if w != 0]  # the others cost no row
    return Mean(*zip(*counting, strict=True), rectified)


def viewed(part: Expression, view: View) -> Expression:
    """``part``, looking at the picture through ``view``; its answer is brought back by the view's inverse."""
    return part if isinstance(view, Identity) else Viewed((part,), view)


def bands(*parts: Expression, sigmas: Sequence[float] = (2.0,)) -> Bands:
    """A hybrid: the first part rules the lowest frequencies, the last the highest (Oliva et al. 2006).

    Each of ``sigmas`` (decreasing, one fewer than the parts) is the blur that parts two neighbours, in pixels of a
    64-pixel picture.
    """
    require_sigmas(sigmas, len(parts))
    return Bands(parts, tuple(map(LowPass, sigmas)))


def factorized(part: Expression, rest: Expression, component: Component) -> Bands:
    """Bands of another kind: ``part`` rules that ``component`` of the picture, ``rest`` what is left.

    ``component`` is linear and maps equal components to equal values: :class:`LowPass`, :class:`Grayscale`,
    :class:`MotionBlur`. Source: Geng et al. 2024, "Factorized Diffusion".
    """
    return Bands((part, rest), (component,))


def masked(inside: Expression, outside: Expression, mask: Tensor) -> Masked:
    """``inside`` where ``mask`` is 1, ``outside`` where it is 0. mask: (H, W), or broadcastable to (B, C, H, W), in 0..1."""
    return Masked((inside, outside), clamped_mask(mask))


def sheets(*parts: Expression) -> Sheets:
    """Of a state that holds several pictures as channels, ``parts[k]`` speaks of the k-th alone: see :mod:`phosphene.folds`."""
    if not parts:
        raise UserError("sheets(): needs at least one part; give one for each picture of the state.")
    return Sheets(parts)


def clamped_mask(mask: Tensor, option: str = "mask", rounding: float = 1e-5) -> Tensor:
    """``mask`` in 0..1, what ``rounding`` has put outside clamped. UserError, naming ``option``, where it is more than that."""
    low, high = float(mask.min()), float(mask.max())
    if not (low >= -rounding and high <= 1 + rounding):  # NaN is neither
        mend = "divide an 8-bit mask by 255" if low >= 0 and high > 2 else "clamp what overshoots, and leave no NaN"
        raise UserError(f"{option}: values run from {low:g} to {high:g} and must lie in 0..1; {mend}.")
    return mask.clamp(0, 1) if low < 0 or high > 1 else mask


def of_parts(asked: Asked, made: Callable[[Expression], Expression]) -> Asked:
    """``asked`` of what is ``made`` of each of its parts."""
    return replace(asked, parts=tuple(map(made, asked.parts))) if asked.parts else asked


def picked(asked: Asked, rows: Sequence[int], count: int) -> Asked:
    """``asked`` of a batch of ``count``, for its pictures ``rows`` alone."""
    match asked:
        case Cond(conditions) if len(conditions) == count:
            return Cond(tuple(conditions[k] for k in rows))
        case Mean(_, weights):
            asked = replace(asked, weights=tuple(w[list(rows)] if isinstance(w, Tensor) else w for w in weights))
        case Masked(_, mask) if mask.ndim == 4 and len(mask) > 1:
            asked = replace(asked, mask=mask[list(rows)])
    return of_parts(asked, lambda part: picked(part, rows, count))


def bent(asked: Asked, how: Guidance) -> Asked:
    """``asked`` with all of its guidance as ``how`` has it."""
    asked = replace(asked, how=how) if isinstance(asked, Guide) else asked
    return of_parts(asked, lambda part: bent(part, how))


def at(expression: Expression, t: int | None = None) -> Expression:
    """What of ``expression`` is asked for at timestep ``t``; None: wherever guidance acts."""
    if isinstance(expression, Guide):
        toward, away = expression.parts
        # At 1 the second term vanishes and at 0 the first: neither costs a row.
        if expression.scale == 1 or not (t is None or expression.how.acts(t)):
            return at(toward, t)
        if expression.scale == 0:
            return at(away, t)
    return of_parts(expression, lambda part: at(part, t))


Path = tuple[View | Sheet, ...]
"""Through what a part sees the picture, from the outside in."""
Leaf = tuple[Path, tuple[Hashable | None, ...]]


def ways(expression: Expression, path: Path) -> list[tuple[Expression, Path]]:
    """The parts of ``expression``, which sees the picture along ``path``, each with its own path."""
    match expression:
        case Viewed((part,), view):
            return [(part, (*path, view))]
        case Sheets(parts):
            return [(part, (*path, Sheet(k, len(parts)))) for k, part in enumerate(parts)]
    return [(part, path) for part in expression.parts]


def leaves(expression: Expression, path: Path = ()) -> Iterator[Leaf]:
    """All that the denoiser is asked for, as (path, conditions), duplicates included; of what :func:`at` has made."""
    if isinstance(expression, Cond):
        yield path, expression.conditions
    for part, way in ways(expression, path):
        yield from leaves(part, way)
