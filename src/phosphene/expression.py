"""Noise expressions: how the estimates of several conditions and views become one.

Every linear expression is ``sum_i A_i eps(V_i x, t, c_i)`` with ``sum_i A_i V_i = I``: feed every leaf the same noise
seen through its view, and the expression returns that noise. The constructors below keep this law by construction;
there are no operators to break it with.

One forward pass a step: :class:`Evaluation` collects the leaves of the whole expression, drops duplicates, runs one
batch and folds the answers upward.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phosphene.errors import UserError, require_finite, require_sigmas, require_weights
from phosphene.folds import Sheet
from phosphene.frequency import Component, LowPass
from phosphene.models.protocol import Denoiser, Estimate
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


@dataclass(frozen=True)
class Mean:
    parts: tuple[Expression, ...]
    weights: tuple[float, ...]


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


def guide(toward: Expression, scale: float = 7.0, away: Expression | None = None) -> Guide:
    """Classifier-free guidance: ``away + scale (toward - away)`` (Ho & Salimans 2022; scale 1 is conditional only).

    ``away`` is the null condition by default; a negative prompt is ``away=cond("blurry")``.
    """
    require_finite("--guidance", scale)
    return Guide(toward, cond(None) if away is None else away, float(scale))


def mean(*parts: Expression, weights: Sequence[float] | None = None) -> Mean:
    """The weighted average of expressions (equal weights by default). With views: a visual anagram.

    Weights may be negative; learned variances are averaged without them, so that they stay in [-1, 1].
    """
    weights = [1.0] * len(parts) if weights is None else list(weights)
    require_weights(weights, len(parts))
    total = sum(weights)
    return Mean(parts, tuple(w / total for w in weights))


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

    def part(of: Expression) -> Expression:
        return picked(of, rows, count)

    match expression:
        case Cond(conditions):
            return Cond(tuple(conditions[k] for k in rows)) if len(conditions) == count else expression
        case Guide(toward, away, scale):
            return Guide(part(toward), part(away), scale)
        case Mean(parts, weights):
            return Mean(tuple(map(part, parts)), weights)
        case Viewed(inner, view):
            return Viewed(part(inner), view)
        case Bands(parts, sigmas):
            return Bands(tuple(map(part, parts)), sigmas)
        case Factorized(ruled, rest, component):
            return Factorized(part(ruled), part(rest), component)
        case Masked(inside, outside, mask):
            several = mask.ndim == 4 and len(mask) > 1
            return Masked(part(inside), part(outside), mask[list(rows)] if several else mask)
        case Sheets(parts):
            return Sheets(tuple(map(part, parts)))


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
                if weight != 0:
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


class Evaluation:
    """An expression bound to a denoiser: ``evaluation(x, t)`` is its Estimate, by one batched forward pass.

    ``max_rows`` splits that batch where memory is short. Embeddings are made once. ``low_res`` (B, C', H, W) is what the
    denoiser is shown with the picture, as further channels (the small picture, in super-resolution): each leaf sees
    both through its view, and answers for the picture alone. Raises UserError where a leaf's conditions do not fit the
    batch, or a negation meets a model whose pictures are not in [-1, 1].
    """

    def __init__(
        self, expression: Expression, denoiser: Denoiser, max_rows: int | None = None, low_res: Tensor | None = None
    ) -> None:
        if max_rows is not None and max_rows < 1:
            raise UserError(f"max_rows {max_rows}: must be at least 1.")
        self.expression, self.denoiser, self.max_rows = expression, denoiser, max_rows
        self.leaves = list(dict.fromkeys(leaves(expression)))
        negates = any(math.prod(v.sign for v in path) < 0 for path, _ in self.leaves)
        if negates and tuple(denoiser.value_range) != (-1, 1):
            raise UserError(f"--view negate: needs a model of pictures in [-1, 1]; this one has {tuple(denoiser.value_range)}.")
        by_path: dict[Path, list[Leaf]] = {}
        for leaf in self.leaves:
            by_path.setdefault(leaf[0], []).append(leaf)
        # A pass is a rectangle: each picture it shows is asked for equally many conditions. A denoiser that shares is shown
        # each view once if all views have equally many leaves, which then go by condition: the first of every view, the
        # second of every view. Any other is shown a picture for each leaf and asked one condition of it.
        if getattr(denoiser, "shares", False) and len({len(several) for several in by_path.values()}) == 1:
            self.leaves = [leaf for one_a_view in zip(*by_path.values(), strict=True) for leaf in one_a_view]
            self._paths = list(by_path)
        else:
            self._paths = [path for path, _ in self.leaves]
        conditions = dict.fromkeys(c for _, several in self.leaves for c in several)
        self._embedded = {c: denoiser.embed(c) for c in conditions}
        self._embedding: Tensor | None = None  # of all rows; they are the same at each step
        # As constant as the embeddings, hence seen through each view once.
        self._low_res = {} if low_res is None else {path: _through(low_res, path) for path in by_path}

    @property
    def rows_per_image(self) -> int:
        """Forward rows that one image costs at each step."""
        return len(self.leaves)

    def __call__(self, x: Tensor, t: int) -> Estimate:
        """x: (B, C, H, W); t: the timestep of all of them."""
        pictures, embedding = self._pictures(x), self._embeddings(x)  # (P, C, H, W) and (k, P, ...)
        k = len(embedding)
        # Where memory is short the rectangle is cut between pictures, never between the conditions that share one.
        most = max((self.max_rows or k * len(pictures)) // k, 1)
        answers = []
        for part, asked in zip(pictures.split(most), embedding.split(most, dim=1), strict=True):
            times = torch.full((k * len(part),), t, dtype=torch.long, device=x.device)
            answers.append(self.denoiser(part, times, asked.flatten(0, 1)))
        noise = self._by_leaf([a.noise for a in answers], k)
        learned = [a.variance for a in answers if a.variance is not None]
        variance = self._by_leaf(learned, k) if learned else [None] * len(self.leaves)
        answers = {leaf: Estimate(n, v) for leaf, n, v in zip(self.leaves, noise, variance, strict=True)}
        return _fold(self.expression, (), answers)

    def _pictures(self, x: Tensor) -> Tensor:
        """All that is shown: ``x`` along each of the paths, with what belongs beside it."""
        inputs = {}
        for path in dict.fromkeys(self._paths):  # no view is taken twice, though guidance asks twice through it
            picture = _through(x, path)
            inputs[path] = torch.cat([picture, self._low_res[path]], dim=1) if self._low_res else picture
        return torch.cat([inputs[path] for path in self._paths])

    def _embeddings(self, x: Tensor) -> Tensor:
        """What is asked of each picture shown."""
        if self._embedding is None or len(self._embedding) != len(self.leaves) * len(x):
            self._embedding = torch.cat([self._embed(conditions, len(x)) for _, conditions in self.leaves]).to(x.device)
        return self._embedding.unflatten(0, (-1, len(self._paths) * len(x)))

    def _by_leaf(self, parts: list[Tensor], k: int) -> tuple[Tensor, ...]:
        """Answers part by part, by condition within each, as (B, C, H, W) a leaf: joined along pictures all go by condition."""
        return torch.cat([part.unflatten(0, (k, -1)) for part in parts], dim=1).flatten(0, 1).chunk(len(self.leaves))

    def _embed(self, conditions: tuple[Hashable | None, ...], batch: int) -> Tensor:
        if len(conditions) not in (1, batch):
            raise UserError(f"cond(): {len(conditions)} conditions for a batch of {batch}; give one, or one for each image.")
        rows = torch.stack([self._embedded[c] for c in conditions])
        return rows if len(rows) == batch else rows.expand(batch, *rows.shape[1:])


def _through(x: Tensor, path: Path) -> Tensor:
    for view in path:
        x = view.apply(x)
    return x


def _fold(expression: Expression, path: Path, answers: dict[Leaf, Estimate]) -> Estimate:
    """The noise is folded linearly. The variance is not linear: see each case."""
    match expression:
        case Cond(conditions):
            return answers[path, conditions]
        case Guide(toward, away, scale):
            if scale == 1:
                return _fold(toward, path, answers)
            if scale == 0:
                return _fold(away, path, answers)
            to, off = _fold(toward, path, answers), _fold(away, path, answers)
            return Estimate(off.noise + scale * (to.noise - off.noise), to.variance)
        case Mean(parts, weights):
            terms = [(w, _fold(p, path, answers)) for p, w in zip(parts, weights, strict=True) if w != 0]
            return Estimate(sum(w * e.noise for w, e in terms), _average([e.variance for _, e in terms]))
        case Viewed(part, view):
            inner = _fold(part, path if isinstance(view, Identity) else (*path, view), answers)
            variance = None if inner.variance is None else view.sign * view.invert(inner.variance)
            return Estimate(view.invert(inner.noise), variance)
        case Bands(parts, sigmas):
            estimates = [_fold(p, path, answers) for p in parts]
            # Telescoped: each part is blurred once or twice, and what one band loses the next one gains.
            noise = estimates[-1].noise
            for i, sigma in enumerate(sigmas):
                difference = estimates[i].noise - estimates[i + 1].noise
                noise = noise + LowPass(sigma)(difference)
            return Estimate(noise, _average([e.variance for e in estimates]))
        case Factorized(part, rest, component):
            a, b = _fold(part, path, answers), _fold(rest, path, answers)
            return Estimate(b.noise + component(a.noise - b.noise), _average([a.variance, b.variance]))
        case Masked(inside, outside, mask):
            a, b = _fold(inside, path, answers), _fold(outside, path, answers)
            m = mask.to(a.noise)
            variance = None if a.variance is None else m * a.variance + (1 - m) * b.variance
            return Estimate(m * a.noise + (1 - m) * b.noise, variance)
        case Sheets(parts):
            own = [_fold(p, (*path, Sheet(k, len(parts))), answers) for k, p in enumerate(parts)]
            variance = None if own[0].variance is None else torch.cat([e.variance for e in own], dim=1)
            return Estimate(torch.cat([e.noise for e in own], dim=1), variance)


def _average(variances: list[Tensor | None]) -> Tensor | None:
    return None if variances[0] is None else sum(variances) / len(variances)
