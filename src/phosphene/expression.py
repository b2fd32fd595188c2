"""Noise expressions: how the estimates of several conditions and views become one.

Every linear expression is ``sum_i A_i eps(V_i x, t, c_i)`` with ``sum_i A_i V_i = I``: feed every leaf the same noise
seen through its view, and the expression returns that noise. The constructors below keep this law by construction;
there are no operators to break it with. What is not linear (guidance that is bent, a mean that is rectified) keeps the
second half of it: leaves that agree are what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from phosphene.errors import UserError, require_finite, require_sigmas, require_weights
from phosphene.folds import Sheet
from phosphene.frequency import Component
from phosphene.guidance import PLAIN, Guidance
from phosphene.views import Identity, View


@dataclass(frozen=True)
class Cond:
    """A leaf: the denoiser's answer. One condition for the whole batch, or one for each image of it."""

    conditions: tuple[Hashable | None, ...]


@dataclass(frozen=True)
class Guide:
    toward: Expression
    away: Expression
    scale: float
    how: Guidance = PLAIN


@dataclass(frozen=True)
class Mean:
    parts: tuple[Expression, ...]
    weights: tuple[float | Tensor, ...]  # with the sum 1; a tensor (B, 1, 1, 1) has one for each image
    rectified: bool = False


@dataclass(frozen=True)
class Viewed:
    part: Expression
    view: View


@dataclass(frozen=True)
class Bands:
    parts: tuple[Expression, ...]
    sigmas: tuple[float, ...]


@dataclass(frozen=True)
class Factorized:
    part: Expression
    rest: Expression
    component: Component


@dataclass(frozen=True, eq=False)
class Masked:
    inside: Expression
    outside: Expression
    mask: Tensor


@dataclass(frozen=True)
class Sheets:
    parts: tuple[Expression, ...]


Expression = Cond | Guide | Mean | Viewed | Bands | Factorized | Masked | Sheets


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
    return Guide(toward, cond(None) if away is None else away, float(scale), how)


def mean(*parts: Expression, weights: Sequence[float] | None = None, rectified: bool = False) -> Mean:
    """The weighted average of expressions (equal weights by default). With views: a visual anagram.

    Weights may be negative; learned variances are averaged without them, so that they stay in [-1, 1]. The mean of
    estimates that differ is too small to be noise: ``rectified``, it is scaled to their size (see :func:`rectification`).
    """
    weights = [1.0] * len(parts) if weights is None else list(weights)
    require_weights(weights, len(parts))
    total = sum(weights)
    return Mean(parts, tuple(w / total for w in weights), rectified)


def viewed(part: Expression, view: View) -> Viewed:
    """``part``, looking at the picture through ``view``; its answer is brought back by the view's inverse."""
    return Viewed(part, view)


def bands(*parts: Expression, sigmas: Sequence[float] = (2.0,)) -> Bands:
    """A hybrid: the first part rules the lowest frequencies, the last the highest (Oliva et al. 2006).

    Each of ``sigmas`` (decreasing, one fewer than the parts) is the blur that parts two neighbours, in pixels of a
    64-pixel picture.
    """
    sigmas = tuple(float(s) for s in sigmas)
    require_sigmas(sigmas, len(parts))
    return Bands(parts, sigmas)


def factorized(part: Expression, rest: Expression, component: Component) -> Factorized:
    """``part`` rules that ``component`` of the picture, ``rest`` what is left (Geng et al. 2024, "Factorized Diffusion").

    ``component`` is linear and maps equal components to equal values: :class:`LowPass`, :class:`Grayscale`, :class:`MotionBlur`.
    """
    return Factorized(part, rest, component)


def masked(inside: Expression, outside: Expression, mask: Tensor) -> Masked:
    """``inside`` where ``mask`` is 1, ``outside`` where it is 0. mask: (H, W), or broadcastable to (B, C, H, W), in 0..1."""
    return Masked(inside, outside, clamped_mask(mask))


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


def picked(expression: Expression, rows: Sequence[int], count: int) -> Expression:
    """``expression`` of a batch of ``count``, for its pictures ``rows`` alone."""

    match expression:
        case Cond(conditions):
            return Cond(tuple(conditions[k] for k in rows)) if len(conditions) == count else expression
        case Mean(_, weights):
            own = tuple(w[list(rows)] if isinstance(w, Tensor) else w for w in weights)
            expression = replace(expression, weights=own)
        case Masked(_, _, mask) if mask.ndim == 4 and len(mask) > 1:
            expression = replace(expression, mask=mask[list(rows)])
    return _with_parts(expression, lambda part: picked(part, rows, count))


def bent(expression: Expression, how: Guidance) -> Expression:
    """``expression`` with all of its guidance as ``how`` has it."""
    expression = replace(expression, how=how) if isinstance(expression, Guide) else expression
    return _with_parts(expression, lambda part: bent(part, how))


def at(expression: Expression, t: int) -> Expression:
    """What ``expression`` is at timestep ``t``: without guidance where that has an interval, and ``t`` is not in it."""
    while isinstance(expression, Guide) and not expression.how.acts(t):
        expression = expression.toward
    return _with_parts(expression, lambda part: at(part, t))


def _with_parts(expression: Expression, made: Callable[[Expression], Expression]) -> Expression:
    """``expression`` of what is ``made`` of each of its parts."""
    match expression:
        case Guide(toward, away):
            return replace(expression, toward=made(toward), away=made(away))
        case Mean(parts) | Bands(parts) | Sheets(parts):
            return replace(expression, parts=tuple(map(made, parts)))
        case Viewed(part):
            return replace(expression, part=made(part))
        case Factorized(part, rest):
            return replace(expression, part=made(part), rest=made(rest))
        case Masked(inside, outside):
            return replace(expression, inside=made(inside), outside=made(outside))
    return expression


Path = tuple[View | Sheet, ...]
Leaf = tuple[Path, tuple[Hashable | None, ...]]


def leaves(expression: Expression, path: Path = ()) -> Iterator[Leaf]:
    """The leaves that are needed, as (views from the outside in, conditions); duplicates included, zero weights left out."""
    match expression:
        case Cond(conditions):
            yield path, conditions
        case Guide(toward, away, scale):
            # At 1 the second term vanishes and at 0 the first: neither costs a row.
            if scale != 0:
                yield from leaves(toward, path)
            if scale != 1:
                yield from leaves(away, path)
        case Mean(parts, weights):
            for part, weight in zip(parts, weights, strict=True):
                if isinstance(weight, Tensor) or weight != 0:
                    yield from leaves(part, path)
        case Bands(parts, _):
            for part in parts:
                yield from leaves(part, path)
        case Factorized(part, rest, _):
            yield from leaves(part, path)
            yield from leaves(rest, path)
        case Viewed(part, view):
            yield from leaves(part, path if isinstance(view, Identity) else (*path, view))
        case Masked(inside, outside, _):
            yield from leaves(inside, path)
            yield from leaves(outside, path)
        case Sheets(parts):
            for k, part in enumerate(parts):
                yield from leaves(part, (*path, Sheet(k, len(parts))))
