"""Two things and how they lie to each other: beside, on, above, under, before and behind."""

from __future__ import annotations

import random
from typing import NamedTuple

from phosphene.training.text_to_image import places
from phosphene.training.text_to_image.captions import MASK
from phosphene.training.text_to_image.casting import METRES, SEATS, Casting, Kind, Layer, Scene, Thing, unseen
from phosphene.training.text_to_image.phrases import RELATED, with_article
from phosphene.training.text_to_image.settings import FLOORLESS, Backdrop, backdrop, contrasting

RELATIONS = ("next to", "and", "on", "under", "above", "left of", "right of", "left of", "right of", "in front of", "behind")


class Two(NamedTuple):
    """Two things, how tall each looks beside the other, and where their feet are."""

    a: Thing
    b: Thing
    tall_a: float
    tall_b: float
    base: float
    place: places.Place | None


def _is_solid(kind: Kind) -> bool:
    bodiless = ("face", "symbol", "place", "weather", "body", "activity", "celestial")
    return kind.category not in bodiless and bool(set("gih") & set(kind.where))


def pair(cast: Casting, chance: random.Random) -> Scene | None:
    """Two things, the first of which is said to be somewhere with respect to the second."""
    first, second = (cast.choose("solid", chance, _is_solid) for _ in range(2))
    if first == second or (not cast.new and unseen(first, second)):
        return None
    sizes = [cast.kind[name].size for name in (first, second)]
    if chance.random() > 0.15 and abs(sizes[0] - sizes[1]) > 2:  # an odd pairing now and then
        return None
    a = cast.thing(first, chance, colour=cast.tint(first, chance, 0.35))
    style = cast.subjects[a.index].style
    b = cast.thing(second, chance, style if style != MASK else None, colour=cast.tint(second, chance, 0.35))
    if cast.shapes[a.index].opaque or cast.shapes[b.index].opaque:
        return None
    kind = cast.fitting(first, chance) if chance.random() < 0.5 else None
    back = contrasting(Backdrop() if kind in FLOORLESS else backdrop(kind, chance), (a, b), chance)
    relation = chance.choice(RELATIONS)
    layers = _LAID[relation](cast, _measured(a, b, sizes, back.place, chance), relation, chance)
    words = chance.choice(RELATED[relation])
    if relation == "on" and cast.kind[first].category in ("animal", "person") and chance.random() < 0.3:
        words = "{} sitting on {}"
    text = words.format(with_article(a.name), with_article(b.name))
    return Scene(text + back.said, layers, back.ground, back.paper)


def _measured(a: Thing, b: Thing, sizes: list[int], place: places.Place | None, chance: random.Random) -> Two:
    metres = [METRES[size] * chance.uniform(0.9, 1.1) for size in sizes]
    ratio = min(max((metres[0] / metres[1]) ** 0.55, 0.42), 2.4)
    large = chance.uniform(0.5, 0.62)
    tall_a, tall_b = (large, large / ratio) if ratio > 1 else (large * ratio, large)
    base = chance.uniform(0.86, 0.95) if place else chance.uniform(0.8, 0.9)
    return Two(a, b, tall_a, tall_b, base, place)


def _beside(cast: Casting, two: Two, relation: str, chance: random.Random) -> list[Layer]:
    left = chance.uniform(0.24, 0.3)
    a_left = relation == "left of" or (relation != "right of" and chance.random() < 0.5)
    xs = (left, 1 - left) if a_left else (1 - left, left)
    sides = zip((two.a, two.b), xs, (two.tall_a, two.tall_b), strict=True)
    return [cast.stand(t, x, two.base, min(tall, 0.52), two.place, chance) for t, x, tall in sides]


def _upon(cast: Casting, two: Two, relation: str, chance: random.Random) -> list[Layer]:
    tall = min(two.tall_a, 0.42)
    below = cast.stand(two.b, 0.5, two.base, min(two.tall_b, 0.5), two.place, chance)
    shape, scale = cast.shapes[two.b.index], 1 / below.place[1]
    top = two.base - shape.height * scale
    words = f"{two.b.bare} {cast.subjects[two.b.index].called}".split()
    seat = next((SEATS[word] for word in words if word in SEATS), None)
    if relation == "on" and seat:
        tall = min(tall, 0.34)
        return [below, cast.stand(two.a, 0.5, two.base - seat * shape.height * scale, tall, two.place, chance, shadow=0.0)]
    if relation == "on":
        aside = (shape.head - (shape.left + shape.right) / 2) * scale
        head = 0.5 + (aside if below.place[0] > 0 else -aside)
        return [below, cast.stand(two.a, head, top + 0.05, tall, two.place, chance, shadow=0.0)]
    return [below, cast.hang(two.a, 0.5 + chance.uniform(-0.1, 0.1), max(0.16, top - 0.06 - tall / 2), tall, two.place, chance)]


def _under(cast: Casting, two: Two, relation: str, chance: random.Random) -> list[Layer]:
    tall = max(two.tall_b, 0.55)
    upper = cast.hang(two.b, 0.5, 0.06 + tall / 2, tall, two.place, chance)
    x = 0.5 + chance.uniform(-0.06, 0.06)
    return [upper, cast.stand(two.a, x, two.base, min(two.tall_a, 0.36), two.place, chance)]


def _before(cast: Casting, two: Two, relation: str, chance: random.Random) -> list[Layer]:
    front, back = (two.a, two.b) if relation == "in front of" else (two.b, two.a)
    aside = chance.choice((-1, 1)) * chance.uniform(0.08, 0.18)
    tall_back, tall_front = max(two.tall_a, two.tall_b, 0.6), min(two.tall_a, two.tall_b, 0.46)
    return [
        cast.stand(back, 0.5 - aside / 2, two.base - 0.09, tall_back, two.place, chance),
        cast.stand(front, 0.5 + aside, two.base, tall_front, two.place, chance),
    ]


_LAID = {relation: _beside for relation in ("next to", "and", "left of", "right of")}
_LAID |= {"on": _upon, "above": _upon, "under": _under, "in front of": _before, "behind": _before}
