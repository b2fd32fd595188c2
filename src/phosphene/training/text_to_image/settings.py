"""Where a scene takes place and what is said of it: paper, grounds, what stands in the background."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from phosphene.training.text_to_image import phrases, places
from phosphene.training.text_to_image.captions import COLOURS, Colour, jittered, spoken
from phosphene.training.text_to_image.casting import GROWS, WHITE, Casting, Layer, Thing
from phosphene.training.text_to_image.grounds import PLAIN, Ground
from phosphene.training.text_to_image.phrases import with_article
from phosphene.training.text_to_image.places import INDOORS


def chosen_paper(chance: random.Random, often: float = 0.2) -> tuple[Colour, str]:
    """Paper, and what is said of it."""
    if chance.random() >= often:
        return WHITE, chance.choice((" on a white background", " on white")) if chance.random() < 0.05 else ""
    colour = chance.choice(list(COLOURS))
    called = spoken(colour, chance)
    ways = (f" on {with_article(called)} background", f" on {called}", f", {called} background")
    said = chance.choice(ways) if chance.random() < 0.9 else ""
    return jittered(COLOURS[colour], chance, 0.04), said


def styled(cast: Casting, thing: Thing, chance: random.Random) -> str:
    """What ``thing`` is called, its style said now and then: oftener the less its look is what people mean by the bare noun."""
    subject = cast.subjects[thing.index]
    if thing.colours.get("mask"):  # in no style, but drawn
        rival = cast.painted.get(subject.called) and cast.best.get(subject.called) != thing.index
        said = chance.random() < (0.9 if rival else 0.33)
        return f"{chance.choice(phrases.FILLED)} of {with_article(thing.name)}" if said else thing.name
    words = phrases.STYLES.get(subject.style, ())
    if not words or chance.random() >= phrases.SAID.get(subject.style, 0.5):
        return thing.name
    return in_style(thing.name, words, chance)


def in_style(name: str, words: Sequence[str], chance: random.Random) -> str:
    """``name`` in a style that is called by one of ``words``."""
    word = chance.choice(words)
    return f"{word} {name}" if chance.random() < 0.75 else f"{name}, {word} style"


def chosen_place(kind: str, chance: random.Random) -> places.Place:
    return places.made(kind, chance.choice(phrases.TIMES_OF[kind]), chance)


FLOORLESS = ("sky", "space", "sea", "underwater")
"""Places where nothing stands."""


class Backdrop(NamedTuple):
    """A place or, where that is None, paper; and what is said of it."""

    place: places.Place | None = None
    said: str = ""
    paper: Colour = WHITE

    @property
    def ground(self) -> Ground | None:
        return self.place.ground if self.place else None


def backdrop(kind: str | None, chance: random.Random) -> Backdrop:
    """A place of a ``kind`` or, without one, paper."""
    if kind is None:
        paper, said = chosen_paper(chance, 0.3)
        return Backdrop(None, said, paper)
    place = chosen_place(kind, chance)
    return Backdrop(place, " " + places.where(place, chance))


def contrasting(back: Backdrop, things: Sequence[Thing], chance: random.Random) -> Backdrop:
    """``back``; where one of ``things`` has one colour that nobody sees on its paper, paper in another, said now and then."""
    inks = [ink for thing in things if (ink := thing.colours.get("ink", thing.colours.get("tint")))]

    def least(paper: Colour) -> float:
        return min((sum(abs(a - b) for a, b in zip(ink, paper, strict=True)) for ink in inks), default=3.0)

    if back.place or least(back.paper) >= 0.5:
        return back
    if least(WHITE) >= 0.5:
        return Backdrop()
    colour = max(chance.sample(list(COLOURS), 6), key=lambda name: least(COLOURS[name]))
    said = f" on {with_article(spoken(colour, chance))} background" if chance.random() < 0.4 else ""
    return Backdrop(None, said, jittered(COLOURS[colour], chance, 0.04))


def flattened(place: places.Place) -> places.Place:
    """``place`` as it is put on paper: the same colours, without textures, weather and glow."""
    bare = {"clouds": 0.0, "glow": 0.0, "mist": 0.0, "flakes": 0.0, "rain": 0.0, "rays": 0.0}
    return place._replace(ground=replace(place.ground, texture=PLAIN, **bare), shadow=0.0)


def clouds(cast: Casting, place: places.Place, chance: random.Random, style: str | None) -> list[Layer]:
    """One to three clouds, now and then, where there is a sky by day."""
    if not cast.painted.get("cloud") or place.time not in ("day", "sunset") or place.kind in (*INDOORS, "underwater", "space"):
        return []
    layers = []
    for _ in range(chance.choice((0, 0, 1, 2, 2, 3))):
        x, y = chance.uniform(0.05, 0.95), chance.uniform(0.08, 0.35)
        layers.append(cast.hang(cast.thing("cloud", chance, style), x, y, chance.uniform(0.18, 0.32), place, chance))
    return layers


def extras(
    cast: Casting, place: places.Place, chance: random.Random, often: float = 0.25, style: str | None = None
) -> list[Layer]:
    """Trees and the like in the background, of ``style`` where there are such, of which nothing is said."""
    names = [n for n in GROWS.get(place.kind, ()) if cast.painted.get(n)]
    if not names or chance.random() > often:
        return []
    layers = []
    for _ in range(chance.randint(1, 2)):
        thing = cast.thing(chance.choice(names), chance, style)
        x = chance.choice((chance.uniform(0.04, 0.2), chance.uniform(0.8, 0.96)))
        layers.append(cast.stand(thing, x, place.standing[0] + 0.02, chance.uniform(0.25, 0.4), place, chance))
    return layers


def houses(cast: Casting, place: places.Place, chance: random.Random) -> list[Layer]:
    names = [n for n in ("house", "hut", "house with garden", "church", "house with chimney", "house") if cast.painted.get(n)]
    layers = []
    for k in range(chance.randint(2, 4) if names else 0):
        thing = cast.thing(chance.choice(names), chance)
        base = place.standing[0] + 0.06 + 0.08 * k
        layers.append(cast.stand(thing, chance.uniform(0.1, 0.9), min(base, 0.97), chance.uniform(0.2, 0.34), place, chance))
    pines = [n for n in ("pine tree", "evergreen tree", "tree") if cast.painted.get(n)]
    for _ in range(chance.randint(0, 2) if pines else 0):
        pine, x, nearer = cast.thing(chance.choice(pines), chance), chance.uniform(0.05, 0.95), chance.uniform(0.05, 0.2)
        layers.append(cast.stand(pine, x, place.standing[0] + nearer, chance.uniform(0.15, 0.3), place, chance))
    return layers
