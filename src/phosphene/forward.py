"""An expression bound to a denoiser: one forward pass a step.

:class:`Evaluation` collects the leaves of the whole expression, drops duplicates, runs one batch and folds the answers upward.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.expression import (
    Bands,
    Cond,
    Expression,
    Factorized,
    Guide,
    Leaf,
    Masked,
    Mean,
    Path,
    Sheets,
    Viewed,
    at,
    leaves,
)
from phosphene.folds import Sheet
from phosphene.frequency import LowPass
from phosphene.guidance import PLAIN
from phosphene.models.protocol import Denoiser, Estimate
from phosphene.schedule import CLEAN
from phosphene.views import Identity


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
        for part, rows in zip(pictures.split(most), embedding.split(most, dim=1), strict=True):
            times = torch.full((k * len(part),), t, dtype=torch.long, device=x.device)
            answers.append(self.denoiser(part, times, rows.flatten(0, 1)))
        count = len(asked.leaves)
        noise = _by_leaf([a.noise for a in answers], k, count)
        learned = [a.variance for a in answers if a.variance is not None]
        variance = _by_leaf(learned, k, count) if learned else [None] * count
        answers = {leaf: Estimate(n, v) for leaf, n, v in zip(asked.leaves, noise, variance, strict=True)}
        return _fold(expression, (), _Answers(answers, x, self.denoiser.schedule.level(t)))

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


class _Answers(NamedTuple):
    """What the leaves answered, and of what: ``x``, whose level is ``abar``."""

    by_leaf: dict[Leaf, Estimate]
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


def _fold(expression: Expression, path: Path, answers: _Answers) -> Estimate:
    """The noise is folded linearly. The variance is not linear: see each case."""
    match expression:
        case Cond(conditions):
            return answers.by_leaf[path, conditions]
        case Guide(toward, away, scale, how):
            if scale == 1:
                return _fold(toward, path, answers)
            if scale == 0:
                return _fold(away, path, answers)
            to, off = _fold(toward, path, answers), _fold(away, path, answers)
            picture = answers.x if how == PLAIN else _through(answers.x, path)
            return Estimate(how.combined(to.noise, off.noise, scale, picture, answers.abar), to.variance)
        case Mean(parts, weights, rectified):
            terms = [(w, p) for p, w in zip(parts, weights, strict=True) if isinstance(w, Tensor) or w != 0]
            weights, estimates = [w for w, _ in terms], [_fold(p, path, answers) for _, p in terms]
            noise = sum(w * e.noise for w, e in zip(weights, estimates, strict=True))
            if rectified:
                noise = noise * rectification([e.noise for e in estimates], weights, noise)
            return Estimate(noise, _average([e.variance for e in estimates]))
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
