"""The table that papers on visual anagrams print: alignment and concealment of many pairs in several views.

Geng et al. 2024 (section 4.2) draw the 45 pairs of the classes of CIFAR-10 and ask CLIP. A is the mean alignment of all pictures,
C their mean concealment, A.9 and C.9 the tenth from the top: what somebody gets who picks the best of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.defaults import CIFAR
from phosphene.drawing import Sampling, run
from phosphene.evaluation.matching import Matcher, open_matcher
from phosphene.models.cascade import Cascade
from phosphene.models.stage import Stage
from phosphene.schedule import CLEAN
from phosphene.tasks.anagram import anagram, views_named
from phosphene.tasks.score import Reading, alignment_and_concealment, score

TOP = 0.9
JUDGED_FROM = 1000
"""The seed of the noise that the denoiser judges with: none that a choice of the best was made by."""

Pair = tuple[str, str]


class Drawn(NamedTuple):
    """Pictures of a pair: by the first stage, and as the last has left them (the same, where there is one)."""

    small: Tensor
    finished: Tensor


Judge = Callable[[Stage, Drawn, Pair, Sequence[Reading]], tuple[Tensor, Tensor]]
"""From the first stage, pictures, prompts and how they are looked at, to alignment and concealment, both (N,)."""


class Rated(NamedTuple):
    """What one judge says of the pictures of a pair in a view."""

    view: str
    judge: str
    prompts: Pair
    alignment: list[float]
    concealment: list[float]


class Row(NamedTuple):
    """What one judge says of all pictures in a view."""

    view: str
    judge: str
    pictures: int
    A: float
    A9: float
    C: float
    C9: float


def cifar_pairs() -> list[Pair]:
    """The 45 pairs of the ten classes of CIFAR-10, each with its article."""
    return list(combinations([f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in CIFAR], 2))


def by_denoiser(stage: Stage, drawn: Drawn, prompts: Pair, looks: Sequence[Reading]) -> tuple[Tensor, Tensor]:
    """The judgement of the network that drew them: see :func:`~phosphene.tasks.score.score`."""
    verdict = score(stage, drawn.small, prompts, looks, seed=JUDGED_FROM)
    return verdict.alignment, verdict.concealment


def by_matcher(matcher: Matcher, stage: Stage, drawn: Drawn, prompts: Pair, looks: Sequence[Reading]) -> tuple[Tensor, Tensor]:
    """The judgement of one that sees texts and pictures in one space, of the finished pictures: cosines."""
    texts = matcher.texts(prompts)
    similarity = torch.stack([matcher.pictures(look(drawn.finished)) @ texts.T for look in looks], 1)
    aligned, concealed = alignment_and_concealment(similarity, matcher.sharpness)
    return aligned.cpu(), concealed.cpu()


def judge_named(name: str, device: torch.device | str = "cpu") -> Judge:
    """``denoiser``, ``retrieval:FOLDER`` or ``clip:MODEL``. UserError where it is none of them, or cannot be had."""
    return by_denoiser if name == "denoiser" else partial(by_matcher, open_matcher(name, device))


def rated(
    model: Cascade, view: str, prompts: Pair, judges: Mapping[str, Judge], seeds: Sequence[int], sampling: Sampling
) -> list[Rated]:
    """Draw ``prompts`` in ``view`` once for each seed, and what each of ``judges`` says of it. Nothing is chosen."""
    looks, drawn = [each.apply for each in views_named([view], 2)], _drawn(model, prompts, view, seeds, sampling)
    verdicts = {name: judge(model.stages[0], drawn, prompts, looks) for name, judge in judges.items()}
    return [Rated(view, name, prompts, *(of.tolist() for of in both)) for name, both in verdicts.items()]


def _drawn(model: Cascade, pair: Pair, view: str, seeds: Sequence[int], sampling: Sampling) -> Drawn:
    steps = run(anagram(pair, [view]), model, seeds, sampling=sampling)
    finished = [step.xt.clamp(-1, 1) for step in steps if step.t == CLEAN]
    return Drawn(finished[0], finished[-1])


def table(found: Sequence[Rated]) -> list[Row]:
    """A row for each view and judge, in the order in which they come."""
    rows = []
    for view, judge in dict.fromkeys((one.view, one.judge) for one in found):
        own = [one for one in found if (one.view, one.judge) == (view, judge)]
        figures = []
        for values in (torch.tensor([v for one in own for v in getattr(one, what)]) for what in ("alignment", "concealment")):
            figures += [values.mean().item(), values.quantile(TOP).item()]
        rows.append(Row(view, judge, len(values), *figures))
    return rows
