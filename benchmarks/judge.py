"""Figures for text-to-image models: is it what was asked for, how much do seeds differ, how much is memory.

The judge is a retrieval model (models/retrieval.py). A picture is right where no other prompt of the test fits it better
than its own; so every figure says among how many it had to win. Judges err too: measure real pictures beside the drawn ones.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.errors import UserError
from phosphene.evaluation.matching import Judge
from phosphene.training.text_to_image.captions import COLOURS, MASK, Subject, held_out
from phosphene.training.text_to_image.casting import ASKED, TAKEN, Casting, Known, Layer, Scene
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.phrases import STYLES
from phosphene.training.text_to_image.staging import alone, drawn, staged

INKS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black")
"""Colours that nobody takes for one another."""
GROUND, ICON, STYLED = "a {object} on a {word} background", "a {word} {object} icon", "a {word} {object}"
NAMED = {GROUND: "on a coloured ground", ICON: "painted things as coloured icons", STYLED: "icons painted in a style"}
"""Kinds of compositions."""


class Asked(NamedTuple):
    """A prompt and the picture of the cut-outs that shows it."""

    prompt: str
    index: int


class Composition(NamedTuple):
    """An object and how it is to be shown, put together in a way that no training picture was."""

    template: str  # with {object} and {word}
    object: str
    word: str
    words: tuple[str, ...]  # that might have stood there instead

    def told(self, *, object: str | None = None, word: str | None = None) -> str:
        """The prompt; or the same with another object or another word."""
        return self.template.format(object=object or self.object, word=word or self.word)


class Score(NamedTuple):
    """Shares of right pictures, 0..1. ``among``: prompts that competed for each."""

    top1: float
    top5: float
    among: int


def ranks(judge: Judge, pictures: Tensor, prompts: Sequence[str], right: Sequence[int]) -> Tensor:
    """How many of ``prompts`` fit picture k better than its own, ``prompts[right[k]]``: (N,) integers, 0 is best."""
    if len(pictures) != len(right):
        raise UserError(f"pictures: are {len(pictures)} for {len(right)} prompts; give one for each.")
    scores = judge.pictures(pictures) @ judge.texts(prompts).T
    own = scores.gather(1, torch.tensor(right, device=scores.device)[:, None])
    return (scores > own).sum(1).cpu()


def score(judge: Judge, pictures: Tensor, prompts: Sequence[str]) -> Score:
    """Picture k against all of the (distinct) ``prompts``, of which it was asked for the k-th."""
    return scored(ranks(judge, pictures, prompts, range(len(prompts))))


def scored(found: Tensor) -> Score:
    """Of the :func:`ranks` of pictures of as many prompts."""
    return Score((found < 1).float().mean().item(), (found < 5).float().mean().item(), len(found))


def shares(right: Sequence[bool], kinds: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many are ``right`` ``of`` how many of each kind: a mean hides what is drawn badly."""
    found = {kind: [ok for ok, own in zip(right, kinds, strict=True) if own == kind] for kind in sorted(set(kinds))}
    return {kind: {"right": sum(own), "of": len(own)} for kind, own in found.items()}


def _plain(subject: Subject) -> bool:
    """Whether the name is short, and its picture somebody's and one that may be mirrored: no lettering, no directions."""
    return len(subject.called.split()) <= 2 and not subject.handed and not subject.drawn


def called(style: str) -> str:
    """What is said of pictures in ``style``."""
    return STYLES.get(style, (style,))[0]


def seen(cutouts: Cutouts, count: int = 200, seed: int = 0) -> list[Asked]:
    """Prompts for ``count`` pictures of the cut-outs trained with, as they are called there, styles by turns, no two alike."""
    chance = random.Random(f"seen {seed}")
    by_style: dict[str, list[Asked]] = {}
    told = set()
    for index in chance.sample(range(len(cutouts)), len(cutouts)):
        subject = cutouts.subjects[index]
        if held_out(subject.concept) or subject.drawn:
            continue
        name = called(subject.style)
        prompt = " ".join(filter(None, (subject.called, name) if subject.style == MASK else (name, subject.called)))
        if prompt not in told:
            told.add(prompt)
            by_style.setdefault(subject.style, []).append(Asked(prompt, index))
    queues = [by_style[style] for style in sorted(by_style)]
    found: list[Asked] = []
    while len(found) < count and any(queues):
        found += [queue.pop() for queue in queues if queue]
    return found[:count]


def compositions(cutouts: Cutouts, count: int = 100, seed: int = 0) -> list[Composition]:
    """``count`` prompts of things in a style they have no picture in: painted things as coloured icons, icons painted.

    A third are things on a named ground; those may have been shown on it, by chance, in one of many passes.
    """
    chance = random.Random(f"compositions {seed}")
    styles: dict[str, set[str]] = {}
    for subject in cutouts.subjects:
        if _plain(subject):
            styles.setdefault(subject.called, set()).add(subject.style)
    painted = sorted(name for name, of in styles.items() if of and MASK not in of)
    icons = sorted(name for name, of in styles.items() if of == {MASK})
    words = sorted({STYLES[s][0] for of in styles.values() for s in of if _has_name(s)})
    kinds = [
        (ICON, painted, INKS),
        (STYLED, icons, words),
        (GROUND, painted, INKS),
    ]
    found = []
    for k, (template, objects, choices) in enumerate(kinds):
        wanted = count // 3 + (k < count % 3)
        if len(objects) < wanted or not choices:
            raise UserError(
                f"--data: has {len(objects)} fitting things for {wanted} prompts like {template!r}; give more pictures."
            )
        found += [Composition(template, name, chance.choice(choices), tuple(choices)) for name in chance.sample(objects, wanted)]
    return found


def _has_name(style: str) -> bool:
    return style in STYLES and style != MASK


def in_style(cutouts: Cutouts, count: int = 100, seed: int = 0) -> tuple[list[Composition], Tensor]:
    """``count`` painted things, styles by turns, each as what it is, and their pictures: (count, 3, 64, 64) in [-1, 1].

    Of how many a judge tells the style is the most that can be asked of drawn ones: two styles may be as good as one.
    """
    chance = random.Random(f"in style {seed}")
    by_style: dict[str, list[int]] = {}
    for index in chance.sample(range(len(cutouts)), len(cutouts)):
        subject = cutouts.subjects[index]
        if _has_name(subject.style) and _plain(subject):
            by_style.setdefault(subject.style, []).append(index)
    words = tuple(sorted({STYLES[style][0] for style in by_style}))
    turns = [index for some in itertools.zip_longest(*by_style.values()) for index in some if index is not None][:count]
    subjects = [cutouts.subjects[index] for index in turns]
    asked = [Composition(STYLED, subject.called, STYLES[subject.style][0], words) for subject in subjects]
    return asked, alone(cutouts, turns, 64)


def confusion(judge: Judge, pictures: Tensor, asked: Sequence[Composition]) -> dict[str, dict[str, float]]:
    """For which of its words the pictures asked for by each word are taken: shares of each row."""
    found: dict[str, list[str]] = {}
    for c, own in zip(asked, judge.pictures(pictures), strict=True):
        best = (judge.texts([c.told(word=word) for word in c.words]) @ own).argmax().item()
        found.setdefault(c.word, []).append(c.words[best])
    return {word: {w: taken.count(w) / len(taken) for w in asked[0].words} for word, taken in sorted(found.items())}


def made(cutouts: Cutouts, asked: Sequence[Composition], size: int) -> tuple[list[Composition], Tensor]:
    """Those of ``asked`` that can be made of a real picture, a tinted cut-out or one on coloured paper, and these pictures.

    What a judge makes of them is the most that it can make of drawn ones. Nobody has painted the icons.
    """
    first: dict[str, int] = {}
    for index, subject in enumerate(cutouts.subjects):
        first.setdefault(subject.called, index)
    able = [c for c in asked if c.template in (GROUND, ICON)]
    scenes = []
    for c in able:
        colour, tinted = COLOURS[c.word], c.template == ICON
        layer = Layer(first[c.object], (1.0, 1.0, 0.0, 0.0), tint=colour, tinted=float(tinted))
        scenes.append(Scene("", [layer]) if tinted else Scene("", [layer], paper=colour))
    return able, drawn(staged(scenes).to(cutouts.pictures.device), cutouts, size)


class Thing(NamedTuple):
    """A thing by its name, how often people ask for it (0..3, asked.tsv), whether there are but icons of it, and its picture."""

    name: str
    asked: int
    icons: bool
    index: int  # of the drawing it is known by, or of its first

    @property
    def kind(self) -> str:
        return f"asked for {self.asked}, {'icons alone' if self.icons else 'painted'}"


def things(cutouts: Cutouts, each: int = 0, seed: int = 0) -> list[Thing]:
    """All things of the cut-outs, or ``each`` of those asked for as often, by lot."""
    cast = Casting(cutouts.subjects, cutouts.shapes)  # which shows some things by others' paintings as well, as training does
    found = []
    for name in sorted({subject.called for subject in cutouts.subjects}):
        painted = cast.painted[name]
        index = cast.best.get(name, (painted or cast.icons[name])[0])
        found.append(Thing(name, ASKED.get(name, Known()).asked, not painted, index))
    if not each:
        return found
    chance, groups = random.Random(f"things {seed}"), [[t for t in found if t.asked == asked] for asked in range(len(TAKEN))]
    return [thing for group in groups for thing in chance.sample(group, min(each, len(group)))]


class Composed(NamedTuple):
    """Shares of compositions in which the object, and in which the colour or style, was right, and among how many."""

    object: float
    word: float
    objects: int
    words: float  # on average


def composed(judge: Judge, pictures: Tensor, asked: Sequence[Composition]) -> Composed:
    """Of each picture, whether its object beats the other objects in the same words, and its word the other words."""
    right_object, right_word, counts = [], [], []
    for template in dict.fromkeys(c.template for c in asked):
        rows = [k for k, c in enumerate(asked) if c.template == template]
        objects = list(dict.fromkeys(asked[k].object for k in rows))
        for k in rows:
            one, c = pictures[k : k + 1], asked[k]
            others = [c.told(object=name) for name in objects]
            right_object.append(ranks(judge, one, others, [objects.index(c.object)]).item() == 0)
            others = [c.told(word=word) for word in c.words]
            right_word.append(ranks(judge, one, others, [c.words.index(c.word)]).item() == 0)
            counts.append((len(objects), len(c.words)))
    total = len(asked)
    return Composed(
        sum(right_object) / total, sum(right_word) / total, min(n for n, _ in counts), sum(n for _, n in counts) / total
    )


class Drawn(NamedTuple):
    """What was asked for, and the pictures of it."""

    prompts: list[str]
    pictures: Tensor


def known(judge: Judge, cutouts: Cutouts, asked: Sequence[Asked], pictures: Tensor) -> dict:
    """Figures of ``pictures`` (N, 3, S, S) of ``asked``: in how many the judge knows what they show, by style too."""
    prompts = [a.prompt for a in asked]
    found = ranks(judge, pictures, prompts, range(len(prompts)))
    styles = [called(cutouts.subjects[a.index].style) for a in asked]
    return {"seen": scored(found)._asdict(), "seen, by style": shares((found < 1).tolist(), styles)}


def judged(
    judge: Judge, cutouts: Cutouts, draw: Callable[[list[str]], Tensor], count: int = 200, seed: int = 0
) -> tuple[dict, Drawn, Drawn]:
    """Figures of ``count`` seen captions and half as many compositions, by kind too; and what was drawn of either.

    ``draw``: from N prompts to (N, 3, S, S) in [-1, 1].
    """
    asked, new = seen(cutouts, count, seed), compositions(cutouts, count // 2, seed)
    first, second = (Drawn(told, draw(told)) for told in ([a.prompt for a in asked], [c.told() for c in new]))
    figures = known(judge, cutouts, asked, first.pictures)
    figures["compositions"] = composed(judge, second.pictures, new)._asdict()
    for template, kind in NAMED.items():
        rows = [k for k, c in enumerate(new) if c.template == template]
        figures[f"compositions, {kind}"] = composed(judge, second.pictures[rows], [new[k] for k in rows])._asdict()
    return figures, first, second


def diversity(judge: Judge, pictures: Tensor, each: int) -> tuple[float, float]:
    """Mean distance (1 - cosine) of pictures of one prompt, and of different prompts. ``each`` seeds a prompt, in a row."""
    vectors = judge.pictures(pictures)
    apart = 1 - vectors @ vectors.T
    group = torch.arange(len(pictures), device=apart.device) // each
    same = group[:, None] == group
    other = ~torch.eye(len(pictures), dtype=torch.bool, device=apart.device)
    return apart[same & other].mean().item(), apart[~same].mean().item()


def nearest(pictures: Tensor, cutouts: Cutouts, side: int = 16) -> tuple[Tensor, Tensor]:
    """Root mean square distance of each picture to the nearest of the cut-outs on white, (N,), and which that is (N,).

    Pictures are compared at ``side`` pixels in -1..1, so 0.1 is the same but for shades and a pixel's shift.
    """
    kept = []
    for part in torch.arange(len(cutouts)).split(512):
        plain = alone(cutouts, part.tolist(), cutouts.pictures.shape[-1])
        kept.append(F.interpolate(plain, size=side, mode="area").flatten(1))
    known = torch.cat(kept)
    asked = F.interpolate(pictures.cpu(), size=side, mode="area").flatten(1)
    distance = torch.cdist(asked, known) / known.shape[1] ** 0.5
    best = distance.min(dim=1)
    return best.values, best.indices
