"""Noise expressions: how the estimates of several conditions and views become one.

Every linear expression is ``sum_i A_i eps(V_i x, t, c_i)`` with ``sum_i A_i V_i = I``: feed every leaf the same noise
seen through its view, and the expression returns that noise. The constructors below keep this law by construction;
there are no operators to break it with. What is not linear (guidance that is bent, a mean that is rectified) keeps the
second half of it: leaves that agree are what it returns.

One forward pass a step: :class:`Evaluation` collects the leaves of the whole expression, drops duplicates, runs one
batch and folds the answers upward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.frequency import Component, LowPass
from phosphene.guidance import PLAIN, Guidance
from phosphene.models.protocol import Denoiser, Estimate
from phosphene.schedule import CLEAN
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


Expression = Cond | Guide | Mean | Viewed | Bands | Factorized | Masked


def cond(*conditions: Hashable | None) -> Cond:
    """The estimate given a condition (None: the null condition); several conditions are one for each image of the batch."""
    if not conditions:
        raise UserError("cond(): needs at least one condition; write cond(None) for the null condition.")
    return Cond(conditions)


def guide(toward: Expression, scale: float = 7.0, away: Expression | None = None, how: Guidance = PLAIN) -> Guide:
    """Classifier-free guidance: ``away + scale (toward - away)`` (Ho & Salimans 2022; scale 1 is conditional only).

    ``away`` is the null condition by default; a negative prompt is ``away=cond("blurry")``. ``how`` bends the update.
    """
    if not math.isfinite(scale):
        raise UserError(f"--guidance {scale}: must be a finite number.")
    return Guide(toward, cond(None) if away is None else away, float(scale), how)


def mean(*parts: Expression, weights: Sequence[float] | None = None, rectified: bool = False) -> Mean:
    """The weighted average of expressions (equal weights by default). With views: a visual anagram.

    Weights may be negative; learned variances are averaged without them, so that they stay in [-1, 1]. The mean of
    estimates that differ is too small to be noise: ``rectified``, it is scaled to their size (see :func:`rectification`).
    """
    weights = [1.0] * len(parts) if weights is None else list(weights)
    if not parts or len(weights) != len(parts) or not all(math.isfinite(w) for w in weights) or abs(sum(weights)) < 1e-12:
        raise UserError(f"--weights {weights}: needs one finite weight for each of {len(parts)} parts, with a sum other than 0.")
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
    decreasing = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if len(parts) < 2 or len(sigmas) != len(parts) - 1 or not decreasing or not all(s > 0 for s in sigmas):
        raise UserError(f"--sigma {sigmas}: {len(parts)} parts need {max(len(parts) - 1, 1)} positive, decreasing sigmas.")
    return Bands(parts, sigmas)


def factorized(part: Expression, rest: Expression, component: Component) -> Factorized:
    """``part`` rules that ``component`` of the picture, ``rest`` what is left (Geng et al. 2024, "Factorized Diffusion").

    ``component`` is linear and maps equal components to equal values: :class:`LowPass`, :class:`Grayscale`, :class:`MotionBlur`.
    """
    return Factorized(part, rest, component)


def masked(inside: Expression, outside: Expression, mask: Tensor) -> Masked:
    """``inside`` where ``mask`` is 1, ``outside`` where it is 0. mask: (H, W), or broadcastable to (B, C, H, W), in 0..1."""
    return Masked(inside, outside, clamped_mask(mask))


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
        case Mean(parts) | Bands(parts):
            return replace(expression, parts=tuple(map(made, parts)))
        case Viewed(part):
            return replace(expression, part=made(part))
        case Factorized(part, rest):
            return replace(expression, part=made(part), rest=made(rest))
        case Masked(inside, outside):
            return replace(expression, inside=made(inside), outside=made(outside))
    return expression


Path = tuple[View, ...]
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


@dataclass
class _Pass:
    """What one forward pass asks for: leaves, the path of each picture it shows, and the embeddings of all its rows."""

    leaves: list[Leaf]
    paths: list[Path]
    embedding: Tensor | None = None  # the same at each step

    @classmethod
    def of(cls, needed: Sequence[Leaf], shares: bool) -> _Pass:
        by_path: dict[Path, list[Leaf]] = {}
        for leaf in needed:
            by_path.setdefault(leaf[0], []).append(leaf)
        # A pass is a rectangle: each picture it shows is asked for equally many conditions. A denoiser that shares is shown
        # each view once if all views have equally many leaves, which then go by condition: the first of every view, the
        # second of every view. Any other is shown a picture for each leaf and asked one condition of it.
        if shares and len({len(several) for several in by_path.values()}) == 1:
            return cls([leaf for one_a_view in zip(*by_path.values(), strict=True) for leaf in one_a_view], list(by_path))
        return cls(list(needed), [path for path, _ in needed])


class Evaluation:
    """An expression bound to a denoiser: ``evaluation(x, t)`` is its Estimate, by one batched forward pass.

    ``max_rows`` splits that batch where memory is short. Embeddings are made once. ``low_res`` (B, C', H, W) is what the
    denoiser is shown with the picture, as further channels (the small picture, in super-resolution): each leaf sees
    both through its view, and answers for the picture alone. ``expression`` may be replaced by another on the same leaves.
    Raises UserError where a leaf's conditions do not fit the batch, or a negation meets a model whose pictures are not in
    [-1, 1].
    """

    def __init__(
        self, expression: Expression, denoiser: Denoiser, max_rows: int | None = None, low_res: Tensor | None = None
    ) -> None:
        if max_rows is not None and max_rows < 1:
            raise UserError(f"max_rows {max_rows}: must be at least 1.")
        self.expression, self.denoiser, self.max_rows = expression, denoiser, max_rows
        # At CLEAN no interval of guidance reaches: what is asked there may be what guidance 0 leaves out.
        self.leaves = list(dict.fromkeys([*leaves(expression), *leaves(at(expression, CLEAN))]))
        negates = any(math.prod(v.sign for v in path) < 0 for path, _ in self.leaves)
        if negates and tuple(denoiser.value_range) != (-1, 1):
            raise UserError(f"--view negate: needs a model of pictures in [-1, 1]; this one has {tuple(denoiser.value_range)}.")
        conditions = dict.fromkeys(c for _, several in self.leaves for c in several)
        self._embedded = {c: denoiser.embed(c) for c in conditions}
        self._passes: dict[tuple[Leaf, ...], _Pass] = {}
        # As constant as the embeddings, hence seen through each view once.
        self._low_res = {} if low_res is None else {path: _through(low_res, path) for path, _ in self.leaves}

    @property
    def rows_per_image(self) -> int:
        """Forward rows that one image costs at each step; where guidance has an interval, within that."""
        return len(dict.fromkeys(leaves(self.expression)))

    def __call__(self, x: Tensor, t: int) -> Estimate:
        """x: (B, C, H, W); t: the timestep of all of them."""
        expression = at(self.expression, t)
        asked = self._pass(expression)
        pictures, embedding = self._pictures(x, asked.paths), self._embeddings(x, asked)  # (P, C, H, W) and (k, P, ...)
        k = len(embedding)
        # Where memory is short the rectangle is cut between pictures, never between the conditions that share one.
        most = max((self.max_rows or k * len(pictures)) // k, 1)
        answers = []
        for part, told in zip(pictures.split(most), embedding.split(most, dim=1), strict=True):
            times = torch.full((k * len(part),), t, dtype=torch.long, device=x.device)
            answers.append(self.denoiser(part, times, told.flatten(0, 1)))
        count = len(asked.leaves)
        noise = _by_leaf([a.noise for a in answers], k, count)
        learned = [a.variance for a in answers if a.variance is not None]
        variance = _by_leaf(learned, k, count) if learned else [None] * count
        answers = {leaf: Estimate(n, v) for leaf, n, v in zip(asked.leaves, noise, variance, strict=True)}
        return _fold(expression, (), _Said(answers, x, self.denoiser.schedule.level(t)))

    def _pass(self, expression: Expression) -> _Pass:
        needed = tuple(dict.fromkeys(leaves(expression)))
        if needed not in self._passes:
            self._passes[needed] = _Pass.of(needed, getattr(self.denoiser, "shares", False))
        return self._passes[needed]

    def _pictures(self, x: Tensor, paths: Sequence[Path]) -> Tensor:
        """All that is shown: ``x`` along each of ``paths``, with what belongs beside it."""
        inputs = {}
        for path in dict.fromkeys(paths):  # no view is taken twice, though guidance asks twice through it
            picture = _through(x, path)
            inputs[path] = torch.cat([picture, self._low_res[path]], dim=1) if self._low_res else picture
        return torch.cat([inputs[path] for path in paths])

    def _embeddings(self, x: Tensor, asked: _Pass) -> Tensor:
        """What is asked of each picture shown."""
        if asked.embedding is None or len(asked.embedding) != len(asked.leaves) * len(x):
            asked.embedding = torch.cat([self._embed(conditions, len(x)) for _, conditions in asked.leaves]).to(x.device)
        return asked.embedding.unflatten(0, (-1, len(asked.paths) * len(x)))

    def _embed(self, conditions: tuple[Hashable | None, ...], batch: int) -> Tensor:
        if len(conditions) not in (1, batch):
            raise UserError(f"cond(): {len(conditions)} conditions for a batch of {batch}; give one, or one for each image.")
        rows = torch.stack([self._embedded[c] for c in conditions])
        return rows if len(rows) == batch else rows.expand(batch, *rows.shape[1:])


def _by_leaf(parts: list[Tensor], k: int, count: int) -> tuple[Tensor, ...]:
    """Answers part by part, by condition within each, as (B, C, H, W) a leaf: joined along pictures all go by condition."""
    return torch.cat([part.unflatten(0, (k, -1)) for part in parts], dim=1).flatten(0, 1).chunk(count)


def _through(x: Tensor, path: Path) -> Tensor:
    for view in path:
        x = view.apply(x)
    return x


class _Said(NamedTuple):
    """What the leaves answered, and of what: ``x``, whose level is ``abar``."""

    answers: dict[Leaf, Estimate]
    x: Tensor
    abar: float


def rectification(estimates: Sequence[Tensor], weights: Sequence[float | Tensor], mean: Tensor) -> Tensor:
    """By how much the ``mean`` of ``estimates`` (each (B, C, H, W)) is smaller than they are, (B, 1, 1, 1), 1 or more.

    The square of the estimates' size is that of their mean and that of their distances from it. So the factor is 1 where
    they agree, and one by the root of the sum of squared weights where they are independent (N equal ones: root N). The
    size is measured, where Xu et al. 2025 ("noise variance rectification") have it from how the estimates correlate.
    """
    spread = sum(w * (e - mean).square().mean((1, 2, 3), keepdim=True) for w, e in zip(weights, estimates, strict=True))
    size = mean.square().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return (1 + spread.clamp(min=0) / size).sqrt()


def _fold(expression: Expression, path: Path, said: _Said) -> Estimate:
    """The noise is folded linearly. The variance is not linear: see each case."""
    match expression:
        case Cond(conditions):
            return said.answers[path, conditions]
        case Guide(toward, away, scale, how):
            if scale == 1:
                return _fold(toward, path, said)
            if scale == 0:
                return _fold(away, path, said)
            to, off = _fold(toward, path, said), _fold(away, path, said)
            seen = said.x if how == PLAIN else _through(said.x, path)
            return Estimate(how.combined(to.noise, off.noise, scale, seen, said.abar), to.variance)
        case Mean(parts, weights, rectified):
            terms = [(w, p) for p, w in zip(parts, weights, strict=True) if isinstance(w, Tensor) or w != 0]
            weights, estimates = [w for w, _ in terms], [_fold(p, path, said) for _, p in terms]
            noise = sum(w * e.noise for w, e in zip(weights, estimates, strict=True))
            if rectified:
                noise = noise * rectification([e.noise for e in estimates], weights, noise)
            return Estimate(noise, _average([e.variance for e in estimates]))
        case Viewed(part, view):
            inner = _fold(part, path if isinstance(view, Identity) else (*path, view), said)
            variance = None if inner.variance is None else view.sign * view.invert(inner.variance)
            return Estimate(view.invert(inner.noise), variance)
        case Bands(parts, sigmas):
            estimates = [_fold(p, path, said) for p in parts]
            # Telescoped: each part is blurred once or twice, and what one band loses the next one gains.
            noise = estimates[-1].noise
            for i, sigma in enumerate(sigmas):
                difference = estimates[i].noise - estimates[i + 1].noise
                noise = noise + LowPass(sigma)(difference)
            return Estimate(noise, _average([e.variance for e in estimates]))
        case Factorized(part, rest, component):
            a, b = _fold(part, path, said), _fold(rest, path, said)
            return Estimate(b.noise + component(a.noise - b.noise), _average([a.variance, b.variance]))
        case Masked(inside, outside, mask):
            a, b = _fold(inside, path, said), _fold(outside, path, said)
            m = mask.to(a.noise)
            variance = None if a.variance is None else m * a.variance + (1 - m) * b.variance
            return Estimate(m * a.noise + (1 - m) * b.noise, variance)


def _average(variances: list[Tensor | None]) -> Tensor | None:
    return None if variances[0] is None else sum(variances) / len(variances)
