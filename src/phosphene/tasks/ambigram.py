"""Ambigrams: digits that read as another digit upside down. A visual anagram of two views, judged by the classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.evaluation.classifier import describe
from phosphene.expression import Expression, given, guide, mean, seen
from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import DigitDiffusion
from phosphene.sampler import Route, Step
from phosphene.tasks.digits import sample
from phosphene.views import VIEWS

UPSIDE_DOWN = VIEWS["rotate-180"]
GUIDANCE = 8.0
ROUTE = Route("ddim", steps=50, eta=0.5, resample=3)
QUICK = Route("dpm", steps=16)
"""``ROUTE`` costs six times ``QUICK``; docs/results-mnist.md has what either is worth."""


class Judged(NamedTuple):
    """Of pictures (N,): ``score`` is the lower probability of the two readings, ``read`` whether both are the likeliest."""

    score: Tensor
    read: Tensor


def reads_as(upright: Sequence[int], turned: Sequence[int], guidance: float = GUIDANCE) -> Expression:
    """Image k shows ``upright[k]`` as it stands and ``turned[k]`` when turned by 180 degrees."""
    return mean(guide(given(*upright), scale=guidance), seen(guide(given(*turned), scale=guidance), UPSIDE_DOWN))


def draw_ambigrams(
    model: DigitDiffusion,
    pairs: Sequence[tuple[int, int]],
    seeds: Sequence[int] | torch.Generator,
    guidance: float = GUIDANCE,
    route: Route = ROUTE,
    max_rows: int | None = None,
) -> Iterator[Step]:
    """Denoise one picture for each pair (upright, turned) and seed."""
    expression = reads_as([a for a, _ in pairs], [b for _, b in pairs], guidance)
    return sample(model, expression, seeds, len(pairs), route, max_rows)


def judge(classifier: DigitClassifier, pictures: Tensor, pairs: Sequence[tuple[int, int]]) -> Judged:
    """How well each picture (N, 1, 28, 28) reads as its pair."""
    upright, turned = torch.tensor(pairs).T
    one, _ = describe(classifier, pictures)
    two, _ = describe(classifier, UPSIDE_DOWN.apply(pictures))
    one, two = one.cpu(), two.cpu()
    rows = torch.arange(len(pictures))
    score = torch.minimum(one[rows, upright], two[rows, turned])
    return Judged(score, (one.argmax(1) == upright) & (two.argmax(1) == turned))


def best(score: Tensor, each: int) -> Tensor:
    """Of consecutive groups of ``each`` pictures, the index of the one with the highest score."""
    groups = score.view(-1, each)
    return groups.argmax(1) + torch.arange(len(groups)) * each
