"""Batches of scenes with their words, made up by worker processes: batch k of a seed is the same wherever it is made."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.models import tokens
from phosphene.training.text_to_image.captions import EVERYDAY, MASK, Thesaurus, held_out
from phosphene.training.text_to_image.casting import FLAT, PEN, Casting, Scene
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.scenes import Director
from phosphene.training.text_to_image.staging import Stage, staged


class Batch(NamedTuple):
    """What a step needs besides the cut-outs: how the pictures are put together, and what is said of them."""

    stage: Stage
    ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Batch:
        """On ``device``, where a copy may still be under way."""
        return Batch(self.stage.to(device), *(part.to(device, non_blocking=True) for part in self[1:]))


class Stories(torch.utils.data.Dataset):
    """Batch ``k`` of a seed, or ``rows`` of it: scenes made up by a director, with their words as tokens."""

    def __init__(
        self,
        cutouts: Cutouts,
        tokenizer,
        recipe: CascadeRecipe,
        thesaurus: Thesaurus | None,
        split: str = "train",
        rows: Sequence[int] | None = None,
    ) -> None:
        self.tokenizer, self.recipe, self.split = tokenizer, recipe, split
        self.rows = range(recipe.batch_size) if rows is None else rows
        held = [held_out(s.concept, recipe.held_out) == (split == "held out") for s in cutouts.subjects]
        self.director = None
        if any(held):
            parts = cutouts.subjects, cutouts.shapes
            ordinary = Casting(*parts, held, thesaurus, ordinary=True)
            simple = [here and s.style in (FLAT, PEN) for here, s in zip(held, cutouts.subjects, strict=True)]
            drawn = Casting(*parts, simple, thesaurus, ordinary=True)
            self.director = Director(Casting(*parts, held, thesaurus), ordinary, drawn)

    def __bool__(self) -> bool:
        """Whether there is a picture to tell of."""
        return self.director is not None

    def scene(self, k: int, row: int) -> tuple[Scene, str]:
        """One of a batch, whoever makes the others, and what is said of it: nothing, where its caption is withheld."""
        chance = random.Random(f"{self.recipe.seed} {self.split} {k} {row}")
        if chance.random() < self.recipe.drop:
            return self.director.plain(chance, self.recipe.simple), ""
        scene = self.director.scene(chance)
        return scene, scene.text

    def words(self) -> set[str]:
        """The words that may be said of the pictures: all names, and those of about as many scenes as there are pictures."""
        cast, chance = self.director.casting, random.Random(self.recipe.seed)
        texts = {*cast.names, *(self.director.scene(chance).text for _ in range(200 + len(cast.subjects)))}
        for k in chain(*cast.painted.values(), *cast.icons.values()):
            subject = cast.subjects[k]
            texts |= {subject.called, *EVERYDAY.get(subject.caption, ())}
            if subject.style != MASK:  # of icons nothing but their names is said: see Casting.called
                texts.add(subject.caption)
                texts.update(cast.thesaurus.others(subject.called) if cast.thesaurus else ())
        return {word for text in texts for word in tokens.words_of(text)}

    def __getitem__(self, k: int) -> Batch:
        scenes, texts = zip(*(self.scene(k, row) for row in self.rows), strict=True)
        return Batch(staged(scenes), *tokens.encode(self.tokenizer, texts, self.recipe.length, self.tokenizer.get_vocab_size()))


def learned_tokenizer(cutouts: Cutouts, recipe: CascadeRecipe, thesaurus: Thesaurus | None):
    """Subwords of what the scenes of ``cutouts`` say, and of the words the thesaurus knows."""
    chance = random.Random(recipe.seed)
    director = Director(Casting(cutouts.subjects, cutouts.shapes, thesaurus=thesaurus))
    texts = [director.scene(chance).text for _ in range(3 * len(cutouts) + 2000)]
    texts += [word for s in cutouts.subjects for word in (s.caption, s.name, *EVERYDAY.get(s.caption, ()))]
    if thesaurus is not None:
        texts += [w for words in (*thesaurus.same.values(), *thesaurus.near.values()) for w in words]
    return tokens.learn(texts, recipe.vocabulary)
