"""Which prompts can share one picture: looked for among small early drawings of many, and judged by the denoiser.

What an anagram shows is settled at high noise, where the mean of what is seen in each view is still a compromise of broad
shapes. So a prompt is known here by its *sketches*: what the model takes the clean picture for when it has come a fifth of the
way from noise, 16x16 pixels, from a few seeds. Two prompts fit if the sketch of one, seen as the illusion shows it, is like a
sketch of the other. Of what fits well some reads and most does not: so many such pairs were drawn and judged beforehand, and
what was tried goes before what was not (``tasks/tried.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.errors import UserError
from phosphene.models.stage import Stage
from phosphene.tasks.hybrid import part_of
from phosphene.tasks.score import Reading, score
from phosphene.tasks.sketches import Concepts, bare, drawn, large, seen
from phosphene.tasks.tried import Tried, best_tried, experience, readable
from phosphene.views import View, view

JUDGED = (0.65,)
"""At which share the denoiser judges: finer than a sketch is nothing to be seen in so much noise."""
APART = 0.5
"""How much it counts against a pair that its prompts are alike where they should differ: such a picture shows either at once."""


class Pair(NamedTuple):
    """Two prompts, and how well they share a picture.

    ``fit``: -1..1, how like the sketches are as the illusion shows them; ``alike``: the same where it should tell them apart,
    which is, of anagrams, as they are, and, of hybrids, in what the first prompt does not rule.
    ``reads``, ``seed``, ``named``: once it was tried, see :class:`~phosphene.tasks.tried.Tried`.
    ``alignment``, ``concealment``, ``worst``: once the denoiser has judged, see :class:`~phosphene.tasks.score.Score`.
    ``view``: in which, where several are compared; and ``place``: of all known things, how many share a picture with the first
    less well in it, 0..1.
    """

    first: str
    second: str
    fit: float
    alike: float
    reads: float | None = None
    seed: int | None = None
    named: int | None = None
    alignment: float | None = None
    concealment: float | None = None
    worst: float | None = None
    view: str | None = None
    place: float | None = None

    @property
    def promise(self) -> float:
        """What pairs that were not tried are ordered by."""
        return self.fit - APART * max(self.alike, 0.0)


@dataclass(frozen=True)
class Sharing:
    """How two prompts share a picture: how it is looked at for either, and what it is made of where they do not agree."""

    looks: tuple[Reading, Reading]  # at the finished picture, to read either prompt
    shown: tuple[Reading, Reading]  # at a sketch of either, to compare the two
    middles: Callable[[Tensor], tuple[Tensor, Tensor]]  # from the mean of all sketches, what is taken off either
    compromise: Callable[[Tensor, Tensor], Tensor]  # from pictures of both to one
    apart: Reading  # at a sketch of either, where they should differ
    turns: bool  # whether the reader turns the picture, rather than seeing part of it
    view: View | None = None  # of an anagram


def _same(x: Tensor) -> Tensor:
    return x


def through(view: View) -> Sharing:
    """An anagram: the first prompt as it is, the second through ``view``, the mean of both.

    What is taken off is the same in the view for both: so what is shown through it fits its original perfectly, and the inverse
    view has the same pairs, the other way round.
    """

    def middles(mean: Tensor) -> tuple[Tensor, Tensor]:
        return (mean + seen(mean, view.invert)) / 2, (mean + seen(mean, view.apply)) / 2

    return Sharing(
        looks=(_same, view.apply),
        shown=(view.apply, _same),
        middles=middles,
        compromise=lambda a, b: (a + view.invert(b)) / 2,
        apart=_same,
        turns=True,
        view=view,
    )


def parted(kind: str) -> Sharing:
    """A hybrid of the ``kind``: the first prompt rules a part, and of the second there is the rest.

    They fit if the part is like, for the second prompt cannot choose it.
    """
    part = part_of(kind)
    return Sharing(
        looks=(_same if kind == "scale" else part, _same),
        shown=(part, part),
        middles=lambda mean: (mean, mean),
        compromise=lambda a, b: b + part(a - b),
        apart=lambda x: x - part(x),
        turns=False,
    )


def unit(sketches: Tensor) -> Tensor:
    """``sketches`` (..., C, H, W) with the mean 0 and the length 1."""
    flat = sketches.flatten(-3)
    return F.normalize(flat - flat.mean(-1, keepdim=True), dim=-1).unflatten(-1, sketches.shape[-3:])


def shown(first: Tensor, second: Tensor, mean: Tensor, sharing: Sharing) -> tuple[Tensor, Tensor]:
    """Sketches of two sides as they are compared, of length 1 at most.

    What all have in common, the ``mean`` (C, 16, 16), is taken off before: else the plainest would fit everybody. A view loses
    nothing, so lengths are those of before: what it scatters is grey when shrunk again, and like nothing. Of a part of the
    picture what counts is the part.
    """
    off = [side - middle for side, middle in zip((first, second), sharing.middles(mean[None]), strict=True)]
    pairs = zip(off, sharing.shown, strict=True)
    a, b = (seen(unit(side), look) if sharing.turns else unit(seen(side, look)) for side, look in pairs)
    return a, b


def fits(first: Tensor, second: Tensor) -> Tensor:
    """(N, M): the largest product of one of the sketches (N, K, C, H, W) with one of (M, L, C, H, W), of length 1 all of them."""
    every = first.flatten(2).flatten(0, 1) @ second.flatten(2).flatten(0, 1).T
    return every.view(len(first), first.shape[1], len(second), second.shape[1]).amax((1, 3))


def compared(first: Concepts, second: Concepts, sharing: Sharing, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``fit`` and ``alike`` (see :class:`Pair`) of each of N and each of M prompts, (N, M).

    ``mean``: (C, 16, 16), what all have in common; that of the ``second`` where there are many.
    """
    mean = second.mean if mean is None else mean
    fit = fits(*shown(first.sketches, second.sketches, mean, sharing))
    return fit, fits(*(unit(seen(side.sketches - mean, sharing.apart)) for side in (first, second)))


def partners(first: Concepts, known: Concepts, sharing: Sharing, count: int) -> list[Pair]:
    """For the one prompt of ``first`` the ``count`` other ones of ``known`` that share a picture with it best, the best first."""
    fit, alike = (of[0].tolist() for of in compared(first, known, sharing))
    prompt, reads = first.prompts[0], experience(known.tried, sharing.view)
    every, unfit, usual = zip(known.prompts, fit, alike, strict=True), {prompt, *known.hard}, _usual(reads)
    pairs = [_paired(reads, prompt, *row) for row in every if row[0] not in unfit]

    def order(pair: Pair) -> tuple[float, float]:
        known = reads.get((prompt, pair.second))
        return -(usual if known is None else known.worth), -pair.promise

    return sorted(pairs, key=order)[:count]


def promised(fit: Tensor, alike: Tensor) -> Tensor:
    """:attr:`Pair.promise` of many."""
    return fit - APART * alike.clamp(min=0)


def _paired(reads: Mapping[tuple[str, str], Tried], first: str, second: str, fit: float, alike: float) -> Pair:
    """Two prompts, with what ``reads`` says of them where they were tried."""
    pair, tried = Pair(first, second, fit, alike), reads.get((first, second))
    return pair if tried is None else pair._replace(reads=tried.reads, seed=tried.seed, named=tried.named)


def _usual(reads: Mapping[tuple[str, str], Tried]) -> float:
    """How surely a pair reads of which nothing is known: as those that were tried, in the mean."""
    return sum(pair.reads for pair in reads.values()) / len(reads) if reads else 0.0


def best(known: Concepts, sharing: Sharing, count: int) -> list[Pair]:
    """The ``count`` pairs that share a picture best, the best first; a prompt is in one pair at most."""
    fit, alike = compared(known, known, sharing)
    reads, names = experience(known.tried, sharing.view), known.prompts
    at, usual = {name: k for k, name in enumerate(names)}, _usual(reads)
    left = promised(fit, alike)  # within -1.5..1, so that it decides between pairs alone that read alike
    for (first, second), pair in reads.items():
        left[at[first], at[second]] += 1000 * (pair.worth - usual)
    left.fill_diagonal_(-torch.inf)
    pairs, gone = [], [at[name] for name in known.hard]
    while len(pairs) < min(count, (len(names) - len(known.hard)) // 2):
        left[gone], left[:, gone] = -torch.inf, -torch.inf
        a, b = divmod(int(left.argmax()), len(names))
        gone = [a, b]
        pairs.append(_paired(reads, names[a], names[b], float(fit[a, b]), float(alike[a, b])))
    return pairs


def anywhere(known: Concepts, prompt: str | None, count: int) -> list[Tried]:
    """The ``count`` tried pairs that read best in whatever view, with ``prompt`` as one of the two, if it is given."""
    if prompt is None:
        return best_tried(known.tried, None, count, known.hard)
    own = known.of(prompt)
    return [] if own is None else best_tried(known.tried, own.prompts[0], count, known.hard)


def together(
    known: Concepts, first: str, second: str, names: Sequence[str], *, opened: Callable[[Sequence[str | None]], Stage]
) -> list[Pair]:
    """How ``first`` and ``second`` share an anagram in each of the views called ``names``, the best first.

    What was not tried is expected to read as often as people read what was in that view, and the less often the less well the two
    fit among others: of 4,348 pairs that people were shown they read 2 in 100 both ways below the place 0.5, and 9 above 0.9.
    ``opened``: see :func:`suggested`. UserError where they are one.
    """
    if bare(first) == bare(second):
        raise UserError(f"PROMPT {second!r}: is the first of the two again; name another, or leave it out.")
    sides = [known.of(prompt) for prompt in (first, second)]
    new = [prompt for prompt, side in zip((first, second), sides, strict=True) if side is None]
    if new:
        stage = opened([None, *new])
        sides = [s or drawn(stage, [p], known.each, known.guidance) for p, s in zip((first, second), sides, strict=True)]
    a, b = sides
    (one,), (other,), found = a.prompts, b.prompts, []
    for name in names:
        sharing = through(view(name))
        reads, (fit, alike) = experience(known.tried, sharing.view), compared(a, b, sharing, known.mean)
        pair, tried = _paired(reads, one, other, fit.item(), alike.item()), reads.get((one, other))
        others = [k for k, prompt in enumerate(known.prompts) if prompt not in (one, other)]
        place = (promised(*compared(a, known, sharing))[0, others] < pair.promise).float().mean().item() if others else 1.0
        expected = place * readable(reads.values()) if tried is None else tried.worth
        found.append((expected, pair.promise, pair._replace(view=name, place=place)))
    return [pair for *_, pair in sorted(found, key=lambda row: row[:2], reverse=True)]


def reranked(stage: Stage, pairs: Sequence[Pair], known: Concepts, sharing: Sharing) -> list[Pair]:
    """``pairs`` of ``known`` prompts in the order in which the denoiser can read them, most surely first.

    It is shown what the first steps of the illusion itself would come to: of the two sketches that fit best the compromise,
    noised to JUDGED of the schedule. Six rows a pair.
    """
    found = []
    for pair in pairs:
        a, b = (known.of(prompt).sketches[0] for prompt in pair[:2])
        every = fits(*shown(a[:, None], b[:, None], known.mean, sharing))
        i, j = divmod(int(every.argmax()), len(b))
        picture = sharing.compromise(*(large(of, stage.image_shape[1:])[None] for of in (a[i], b[j])))
        verdict = score(stage, picture, pair[:2], sharing.looks, shares=JUDGED)
        figures = (float(of) for of in (verdict.alignment, verdict.concealment, verdict.worst))
        found.append(Pair(*pair[:7], *figures))
    return sorted(found, key=lambda pair: -pair.worst)


def suggested(
    known: Concepts,
    sharing: Sharing,
    count: int,
    prompt: str | None = None,
    *,
    rerank: int = 0,
    opened: Callable[[Sequence[str | None]], Stage],
) -> list[Pair]:
    """The ``count`` pairs that share a picture best, all with ``prompt`` as the first of two, if it is given.

    ``opened`` gives the first stage, with prompts encoded: it is asked for a ``prompt`` that is not ``known``, which is drawn on
    the spot, and where ``rerank`` is not 0: so many of the best are :func:`reranked`.
    """
    if prompt is None:
        found = best(known, sharing, rerank or count)
    else:
        first = known.of(prompt) or drawn(opened([None, prompt]), [prompt], known.each, known.guidance)
        found, known = partners(first, known, sharing, rerank or count), known.joined(first)
    if rerank:
        found = reranked(opened([None, *dict.fromkeys(one for pair in found for one in pair[:2])]), found, known, sharing)
    return found[:count]
