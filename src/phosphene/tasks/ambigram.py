"""Ambigrams: digits that read as another digit upside down. A visual anagram of two views, judged by the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.defaults import AMBIGRAM_GUIDANCE
from phosphene.drawing import Reading, Sampling, Task
from phosphene.errors import UserError
from phosphene.evaluation.classifier import describe
from phosphene.expression import Expression, cond, guide, mean, viewed
from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import DigitDiffusion
from phosphene.views import VIEWS

UPSIDE_DOWN = VIEWS["rotate-180"]
SAMPLING = Sampling("ddim", steps=50, eta=0.5, resample=3, guidance=AMBIGRAM_GUIDANCE)
"""Six times as dear as 16 steps of dpm; docs/results-mnist.md has what either is worth."""


class Judged(NamedTuple):
    """Of pictures (N,): ``score`` is the lower probability of the two readings, ``read`` whether both are the likeliest."""

    score: Tensor
    read: Tensor


def ambigram(pairs: Sequence[tuple[int, int]], classifier: DigitClassifier | None = None) -> Task:
    """Picture k shows ``pairs[k][0]`` as it stands and ``pairs[k][1]`` turned by 180 degrees; one pair for all, or one for each.

    The best of several is the one that ``classifier`` reads best both ways. UserError unless each pair is one.
    """
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise UserError(f"PAIR {list(pairs)}: name pairs of two digits each, such as (6, 9).")
    upright, turned = zip(*pairs, strict=True)

    def asks(model: DigitDiffusion, scale: float) -> Expression:
        return mean(guide(cond(*upright), scale=scale), viewed(guide(cond(*turned), scale=scale), UPSIDE_DOWN))

    def of(rows: Sequence[int]) -> Sequence[tuple[int, int]]:
        return pairs if len(pairs) == 1 else [pairs[k] for k in rows]

    return Task(
        asks,
        judge=None if classifier is None else lambda _, pictures, rows: judge(classifier, pictures, of(rows)),
        readings=[Reading(f"{upright[0]}"), Reading(f"turned: {turned[0]}", UPSIDE_DOWN.apply)],
    )


def judge(classifier: DigitClassifier, pictures: Tensor, pairs: Sequence[tuple[int, int]]) -> Judged:
    """How well each picture (N, 1, 28, 28) reads as its pair (one for all, or one for each)."""
    upright, turned = torch.tensor(pairs).expand(len(pictures), 2).T
    one, _ = describe(classifier, pictures)
    two, _ = describe(classifier, UPSIDE_DOWN.apply(pictures))
    one, two = one.cpu(), two.cpu()
    rows = torch.arange(len(pictures))
    score = torch.minimum(one[rows, upright], two[rows, turned])
    return Judged(score, (one.argmax(1) == upright) & (two.argmax(1) == turned))
