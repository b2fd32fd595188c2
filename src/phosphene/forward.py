"""An expression bound to a denoiser: one forward pass a step.

:class:`Evaluation` collects the leaves of the whole expression, drops duplicates, runs one batch and folds the answers upward.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.expression import Bands, Cond, Expression, Guide, Leaf, Masked, Mean, Path, Sheets, Viewed, at, leaves, ways
from phosphene.models.protocol import Denoiser, Estimate
from phosphene.schedule import CLEAN


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
        asked = dict.fromkeys([*leaves(at(expression)), *leaves(at(expression, CLEAN))])
        if any(math.prod(v.sign for v in path) < 0 for path, _ in asked) and tuple(denoiser.value_range) != (-1, 1):
            raise UserError(f"--view negate: needs a model of pictures in [-1, 1]; this one has {tuple(denoiser.value_range)}.")
        self._embedded = {c: denoiser.embed(c) for c in dict.fromkeys(c for _, several in asked for c in several)}
        # As constant as the embeddings, hence seen through each view once.
        self._low_res = {} if low_res is None else {path: _through(low_res, path) for path, _ in asked}
        self._passes: dict[tuple[tuple[Leaf, ...], int], tuple] = {}

    def __call__(self, x: Tensor, t: int) -> Estimate:
        """x: (B, C, H, W); t: the timestep of all of them."""
        expression = at(self.expression, t)
        asked, paths, k, embeddings = self._pass(tuple(dict.fromkeys(leaves(expression))), x)
        answers = []
        for part, rows in zip(self._pictures(x, paths).split(len(embeddings[0]) // k), embeddings, strict=True):
            times = torch.full((len(rows),), t, dtype=torch.long, device=x.device)
            answers.append(self.denoiser(part, times, rows))
        noise, variance = (_by_leaf(values, k, len(asked)) for values in zip(*answers, strict=True))
        estimates = {leaf: Estimate(n, v) for leaf, n, v in zip(asked, noise, variance, strict=True)}
        return self._folded(expression, (), estimates, x, t)

    def _pass(self, needed: tuple[Leaf, ...], x: Tensor) -> tuple[Sequence[Leaf], Sequence[Path], int, Sequence[Tensor]]:
        """How ``needed`` is asked for, the same at each step: the leaves in the order of the pass, the path of each picture that
        is shown, of how many conditions k each is asked, and their embeddings (k pictures, ...), of each part of the pass."""
        if (needed, len(x)) not in self._passes:
            by_path: dict[Path, list[Leaf]] = {}
            for leaf in needed:
                by_path.setdefault(leaf[0], []).append(leaf)
            # A pass is a rectangle: each picture it shows is asked for equally many conditions. A denoiser that shares is
            # shown each view once if all views have equally many leaves, which then go by condition: the first of every
            # view, the second of every view. Any other is shown a picture for each leaf and asked one condition of it.
            asked, paths = needed, [path for path, _ in needed]
            if getattr(self.denoiser, "shares", False) and len({len(several) for several in by_path.values()}) == 1:
                asked, paths = [leaf for one_a_view in zip(*by_path.values(), strict=True) for leaf in one_a_view], list(by_path)
            count = len(paths) * len(x)
            rows = torch.cat([self._embed(conditions, x) for _, conditions in asked]).unflatten(0, (-1, count))
            # Where memory is short the rectangle is cut between pictures, never between the conditions that share one.
            most = max((self.max_rows or len(rows) * count) // len(rows), 1)
            self._passes[needed, len(x)] = asked, paths, len(rows), [part.flatten(0, 1) for part in rows.split(most, dim=1)]
        return self._passes[needed, len(x)]

    def _embed(self, conditions: tuple[Hashable | None, ...], x: Tensor) -> Tensor:
        if len(conditions) not in (1, len(x)):
            raise UserError(f"cond(): {len(conditions)} conditions for a batch of {len(x)}; give one, or one for each image.")
        there = {c: self._embedded[c].to(x.device) for c in dict.fromkeys(conditions)}  # put together where that is quick
        rows = torch.stack([there[c] for c in conditions])
        return rows.expand(len(x), *rows.shape[1:])

    def _pictures(self, x: Tensor, paths: Sequence[Path]) -> Tensor:
        """All that is shown: ``x`` along each of ``paths``, with what belongs beside it."""
        inputs = {}
        for path in dict.fromkeys(paths):  # no view is taken twice, though guidance asks twice through it
            picture = _through(x, path)
            inputs[path] = torch.cat([picture, self._low_res[path]], dim=1) if self._low_res else picture
        return torch.cat([inputs[path] for path in paths])

    def _folded(self, expression: Expression, path: Path, answers: dict[Leaf, Estimate], x: Tensor, t: int) -> Estimate:
        """The estimate of ``expression``, which sees ``x`` along ``path``, from what the leaves answered."""
        if isinstance(expression, Cond):
            return answers[path, expression.conditions]
        parts = [self._folded(part, way, answers, x, t) for part, way in ways(expression, path)]
        noises, variances = zip(*parts, strict=True)
        if isinstance(expression, Guide):
            noise = expression.how.combined(*noises, expression.scale, _through(x, path), self.denoiser.schedule.level(t))
            return Estimate(noise, variances[0])  # the conditional one
        return Estimate(_joined(expression, noises), None if variances[0] is None else _variance(expression, variances))


def _by_leaf(parts: Sequence[Tensor | None], k: int, count: int) -> Sequence[Tensor | None]:
    """Answers part by part, by condition within each, as (B, C, H, W) a leaf: joined along pictures all go by condition."""
    if parts[0] is None:
        return [None] * count
    return torch.cat([part.unflatten(0, (k, -1)) for part in parts], dim=1).flatten(0, 1).chunk(count)


def _through(x: Tensor, path: Path) -> Tensor:
    for view in path:
        x = view.apply(x)
    return x


def rectification(estimates: Sequence[Tensor], weights: Sequence[float | Tensor], mean: Tensor) -> Tensor:
    """By how much the ``mean`` of ``estimates`` (each (B, C, H, W)) is smaller than they are, (B, 1, 1, 1), 1 or more.

    The square of the estimates' size is that of their mean and that of their distances from it. So the factor is 1 where
    they agree, and one by the root of the sum of squared weights where they are independent (N equal ones: root N). The
    size is measured, where Xu et al. 2025 ("noise variance rectification") have it from how the estimates correlate.
    """
    spread = sum(w * (e - mean).square().mean((1, 2, 3), keepdim=True) for w, e in zip(weights, estimates, strict=True))
    size = mean.square().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return (1 + spread.clamp(min=0) / size).sqrt()


def _joined(expression: Expression, noises: Sequence[Tensor]) -> Tensor:
    """The noise of all but guidance, from that of the parts."""
    match expression:
        case Mean(_, weights, rectified):
            noise = sum(w * n for w, n in zip(weights, noises, strict=True))
            return noise * rectification(noises, weights, noise) if rectified else noise
        case Viewed(_, view):
            return view.invert(noises[0])
        case Bands(_, components):
            # Telescoped: each part goes through one component or two, and what one band loses the next one gains.
            noise = noises[-1]
            for component, (coarse, fine) in zip(components, pairwise(noises), strict=True):
                noise = noise + component(coarse - fine)
            return noise
        case Masked(_, mask):
            mask = mask.to(noises[0])
            return mask * noises[0] + (1 - mask) * noises[1]
        case Sheets():
            return torch.cat(noises, dim=1)


def _variance(expression: Expression, variances: Sequence[Tensor]) -> Tensor:
    """Of the parts' variances, on the scale of logarithms in [-1, 1]: averaged where noises add up, whatever their weights."""
    if isinstance(expression, Mean | Bands):
        return sum(variances) / len(variances)
    sign = expression.view.sign if isinstance(expression, Viewed) else 1
    return sign * _joined(expression, variances)  # it follows the geometry of a view, but never its sign
