"""The cut-outs as a company of players: which there are of what, how one is coloured and called, where it stands.

Scenes (scenes.py, groups.py) are made of the :class:`Layer` rows that a :class:`Casting` hands out; nothing here touches a pixel.
"""

from __future__ import annotations

import random
import zlib
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from phosphene.training.tables import lines, table
from phosphene.training.text_to_image import places
from phosphene.training.text_to_image.captions import COLOURS, EVERYDAY, MASK, WHITE, Colour, Subject, Thesaurus, jittered, spoken
from phosphene.training.text_to_image.cutouts import Layer, Shape, placed
from phosphene.training.text_to_image.grounds import Ground
from phosphene.training.text_to_image.phrases import plural

_KNOWN = table("text_to_image/things.toml")
OFTEN = {category: known["often"] for category, known in _KNOWN["categories"].items()}
"""How often a thing of a category is chosen."""
CATEGORY_COLOURS = {category: known["colours"] for category, known in _KNOWN["categories"].items() if "colours" in known}
LOOKS: dict[str, float] = _KNOWN["looks"]
"""How often a painting of a style is chosen, against 1 for others."""
WEAK = 0.1
"""How often an icon of a thing is chosen, against the paintings' LOOKS; of the thing's seventh and further ones nothing more."""


class Known(NamedTuple):
    """What people know a thing by, as somebody judged who saw all names, or all drawings of one."""

    asked: int = 1  # whether they would ask for it: 0 hardly ever, 1 rarely, 2 now and then, 3 among the first things
    drawing: str = ""  # which of its drawings a stranger would call so, where no good painting settles that: see Subject.drawing;
    # of several that are called alike in their set the first, or #2, #3 ...
    colour: str = ""  # and what colour its icons are filled with where none is said


ASKED = {name: Known(int(asked), drawing, colour) for name, asked, drawing, colour in lines("text_to_image/asked.tsv")}
ORDINARY = 2
"""From what on a thing is an ordinary one."""
TAKEN = (0.35, 1.0, 2.2, 6.0)
"""How often a thing is taken by how often people ask for it."""
LEAST = (2.5, 2.0, 2.0, 3.0)
"""However few drawings there are of a thing, it counts as so many, by how often people ask for it."""
ALIKE = {name: also.split("; ") for name, also in lines("text_to_image/alike.tsv")}
"""Things by whose paintings a thing is shown as well: a red apple is an apple."""
BEST = 0.65
"""How often a thing is shown by the drawing it is known by: one look learned well beats ten half learned."""
FLAT, PEN = "simple drawing", "pen drawing"
"""Styles of what is put together of plain shapes, as people draw who do not draw (tools/simple_drawings.py), in colours or as
lines alone, which are not seen on dark paper."""
SEATS: dict[str, float] = _KNOWN["seats"]
"""What somebody sits in, not upon: at what share of its height."""
SERVED = ("bowl", "cup", "glass", "bottle", "basket", "jar", "pot", "slice", "vase", "box")
"""A bowl of fruit is a fruit bowl."""
OWN = {word: colour for colour, words in _KNOWN["colours"].items() for word in words}
"""What an icon is filled with where no colour is said, by a word of its name; else it is one of its category's."""
_LAND = "field hills beach mountains city desert forest village road river park lake street waterfall room"
LAND = tuple(_LAND.split())
"""Places for what stands on the ground."""
METRES = {1: 0.14, 2: 0.24, 3: 0.42, 4: 0.56, 5: 0.9, 6: 1.4}
"""How large a thing of a size looks beside others."""
PEOPLE: tuple[str, ...] = _KNOWN["people"]
HATS: tuple[str, ...] = _KNOWN["hats"]
GROWS: dict[str, tuple[str, ...]] = _KNOWN["grows"]
TRADES: dict[str, dict[str, tuple[str, ...]]] = _KNOWN["trades"]
DRESSED: dict[str, dict[str, str]] = _KNOWN["dressed"]
"""What somebody is who has such a hat on."""
HELD: dict[str, dict] = _KNOWN["held"]
"""What is put into which vessels: how tall either is in the frame, and how deep the things are sunk into the vessel."""
NATURAL = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black", "white")
TINTS = (*NATURAL, "teal", "turquoise", "navy", "gold", "light blue", "dark green", "violet")


@dataclass
class Scene:
    """Layers from back to front over a ground or, where that is None, over paper; and the words."""

    text: str
    layers: list[Layer] = field(default_factory=list)
    ground: Ground | None = None
    paper: Colour = WHITE
    manner: str = ""


class Thing(NamedTuple):
    """A cut-out chosen for a scene: which picture, what it is called, and how it is coloured."""

    index: int
    name: str  # with its colour, without an article
    bare: str  # the noun alone
    colours: dict  # keyword arguments of a Layer


class Kind(NamedTuple):
    """What is known of the things of a name: see Subject."""

    name: str
    category: str
    size: int
    where: str

    @property
    def words(self) -> int:
        return len(self.name.split())


class Missing(LookupError):
    """No cut-out is what a scene is made of: few pictures, or of few kinds, do not have everything."""


def _colour_of(name: str) -> str | None:
    """The colour that ``name`` says itself: a red carpet is in no other."""
    return next((word for word in name.split() if word in COLOURS), None)


UNSEEN = 20


def unseen(*words: object) -> bool:
    """Whether a composition, one in twenty, is kept out: a colour of a thing, a number of it, two things side by side.

    A thing that is shown by others' paintings counts as the first of them, and is not shown under its second name.
    """
    shown = (ALIKE[word][0] if word in ALIKE else str(word) for word in words)
    return zlib.crc32(" ".join(shown).encode()) % UNSEEN == 0


class Casting:
    """The cut-outs by name, those alone that are ``used``.

    ``new``: also in compositions that are never shown in training. ``ordinary``: only what people ask for, in
    colours of its own.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        shapes: Sequence[Shape],
        used: Sequence[bool] | None = None,
        thesaurus: Thesaurus | None = None,
        new: bool = False,
        ordinary: bool = False,
    ) -> None:
        self.subjects, self.shapes, self.thesaurus = subjects, shapes, thesaurus
        self.new, self.ordinary = new, ordinary
        self.painted: dict[str, list[int]] = defaultdict(list)
        self.icons: dict[str, list[int]] = defaultdict(list)
        self.restyled: dict[str, list[int]] = defaultdict(list)  # by style
        self.kind: dict[str, Kind] = {}
        for k, subject in enumerate(subjects):
            if used is not None and not used[k]:
                continue
            if subject.drawn:
                self.restyled[subject.style].append(k)
                continue
            name = subject.called
            (self.icons if subject.style == MASK else self.painted)[name].append(k)
            self.kind.setdefault(name, Kind(name, subject.category or "object", subject.size or 2, subject.where or "g"))
        self.paintings = [k for of in self.painted.values() for k in of if subjects[k].style not in (FLAT, PEN)]
        for icons in self.icons.values():  # what most of them agree on comes first
            icons.sort(key=lambda k: -shapes[k].typical)
        self.best = self._best()
        alike = {name: [other for other in also if self.painted.get(other)] for name, also in ALIKE.items()}
        borrowed = {name: [k for other in also for k in self.painted[other]] for name, also in alike.items()}
        for name, others in alike.items():
            if others:
                self.kind.setdefault(name, self.kind[others[0]]._replace(name=name))
                self.painted[name] += borrowed[name]
        if ordinary:
            self.kind = {name: kind for name, kind in self.kind.items() if ASKED.get(name, Known()).asked >= ORDINARY}
            for drawings in (self.painted, self.icons):
                for name in set(drawings) - set(self.kind):
                    del drawings[name]
        self.names = sorted(self.kind)
        self.hats = [name for name in HATS if name in self.kind]
        self._lists: dict[str, tuple[list[str], list[float]]] = {}

    def _best(self) -> dict[str, int]:
        """The drawing that a name is known by, where it is there and used."""
        wanted = {name: ASKED[name].drawing for name in self.kind if name in ASKED and ASKED[name].drawing}
        same: dict[tuple[str, str], list[int]] = defaultdict(list)
        for k, subject in enumerate(self.subjects):
            if subject.called in wanted:
                same[subject.called, subject.drawing].append(k)
        found = {}
        for name, told in wanted.items():
            drawing, _, number = told.partition("#")
            found[name] = next(iter(same[name, drawing][int(number or 1) - 1 :]), -1)
        return {name: k for name, k in found.items() if k in self.painted[name] or k in self.icons[name]}

    def weight(self, name: str) -> float:
        painted, icons = len(self.painted[name]), len(self.icons[name])
        known = min(painted, 16) ** 0.6 + 0.45 * min(icons, 16) ** 0.6
        asked, often = ASKED.get(name, Known()).asked, OFTEN.get(self.kind[name].category, 0.8) ** 0.5
        return max(known, LEAST[asked]) * TAKEN[asked] * often * (2.0 if name in PEOPLE else 1.0)

    def choose(
        self,
        key: str,
        chance: random.Random,
        test: Callable[[Kind], bool] | None = None,
        weight: Callable[[str], float] | None = None,
    ) -> str:
        """A name among those of whose kind ``test`` holds, by its ``weight``; ``key`` says which test and weight they are.

        Missing where there is none.
        """
        if key not in self._lists:
            names = [n for n in self.names if test is None or test(self.kind[n])]
            self._lists[key] = names, list(accumulate(map(weight or self.weight, names)))
        names, sums = self._lists[key]
        if not names:
            raise Missing(key)
        return names[bisect(sums, chance.random() * sums[-1])]

    def may_wear(self, name: str) -> bool:
        kind = self.kind[name]
        if not self.painted[name] or kind.words > 2 or any(w in name for w in ("hat", "cap", "helmet", "turban", "crown")):
            return False
        return name in PEOPLE or kind.category in ("animal", "fantasy") or (kind.category == "face" and "face" in name)

    def frontal(self, name: str) -> str:
        """The face of an animal called ``name``, where there is one: of one from the side the tail may be uppermost."""
        if self.kind[name].category not in ("animal", "fantasy"):
            return name
        return next((face for face in (f"{name} face", f"{name} head") if self.painted.get(face)), name)

    def tint(self, name: str, chance: random.Random, often: float) -> str | None:
        """A colour to give ``name`` now and then."""
        if self.ordinary or chance.random() >= often or _colour_of(name):
            return None
        colour = chance.choice(TINTS)
        return colour if self.shows(colour, name) else None

    def shows(self, colour: str, name: str) -> bool:
        """Whether ``name`` may be given ``colour``. What a painting has of its own is shown all the same."""
        return self.new or not unseen(colour, name)

    def thing(
        self,
        name: str,
        chance: random.Random,
        style: str | None = None,
        colour: str | None = None,
        plain: bool = False,
        own: bool = False,
    ) -> Thing:
        """A picture of ``name``, of ``style`` where there is one, in ``colour`` where one is asked for.

        ``plain``: opaque ones too. ``own``: what has no colours of its own has those of its kind, as where none will be said.
        """
        painted, icons, best = self.painted[name], self.icons[name], self.best.get(name)
        if best is not None and style is None and (plain or not self.shapes[best].opaque) and chance.random() < BEST:
            if self.subjects[best].style == MASK:
                return self._filled(best, name, chance, colour, own)
            return self.painting(best, name, chance, colour)
        usable = painted if plain else [k for k in painted if not self.shapes[k].opaque]
        if usable and not (icons and chance.random() < self._iconic(usable, icons)):
            same = [k for k in usable if self.subjects[k].style == style] or usable
            k = chance.choices(same, [LOOKS.get(self.subjects[k].style, 1.0) for k in same])[0]
            return self.painting(k, name, chance, colour)
        if icons:
            return self._filled(self.icon(name, chance), name, chance, colour, own)
        return self.painting(chance.choice(painted), name, chance, colour)

    def icon(self, name: str, chance: random.Random) -> int:
        """One of the icons of ``name``: the first most often, the second a third as often, for the same reason as in LOOKS."""
        icons = self.icons[name]
        return chance.choices(icons, [1 / (rank + 1) ** 1.5 for rank in range(len(icons))])[0]

    def _iconic(self, painted: Sequence[int], icons: Sequence[int]) -> float:
        """The share of icons among the pictures of a thing: next to nothing beside good paintings, most beside one poor one."""
        weak = WEAK * min(len(icons), 6)
        return weak / (weak + sum(LOOKS.get(self.subjects[k].style, 1.0) for k in painted))

    def called(self, k: int, name: str, chance: random.Random) -> str:
        subject = self.subjects[k]
        draw = chance.random()
        own, told = _colour_of(name), _colour_of(subject.caption)
        if own and told and own != told:  # a "black cat" that the table calls purple, as it is
            return name
        if draw < 0.16 and subject.caption in EVERYDAY:
            return chance.choice(EVERYDAY[subject.caption])
        if draw < 0.30 and subject.style != MASK and "," not in subject.caption:
            return subject.caption.rstrip(" 0123456789") or name  # "fox 2" is the second picture of one
        if draw < 0.34 and self.thesaurus is not None and subject.style != MASK:
            return self.thesaurus.reworded(name, chance)
        what, _, vessel = name.rpartition(" ")
        held = self.kind[what].category if what in self.kind else ""
        if draw > 0.5 and vessel in SERVED and held in ("food", "plant"):
            return f"{vessel} of {plural(what) if held == 'plant' else what}"
        return name

    def painting(self, k: int, name: str, chance: random.Random, colour: str | None = None) -> Thing:
        """The painting ``k`` of ``name``, in ``colour`` where one is asked for."""
        called = self.called(k, name, chance)
        shape = self.shapes[k]
        if colour is not None:
            called = name if _colour_of(called) else called  # whose colour it no longer has
            tint = jittered(COLOURS[colour], chance, 0.04)
            return Thing(k, f"{spoken(colour, chance)} {called}", called, {"tint": tint, "tinted": chance.uniform(0.85, 1.0)})
        own = list(COLOURS)[shape.hue] if shape.hue >= 0 else None
        if own in NATURAL and chance.random() < 0.22 and not any(c in called.split() for c in COLOURS):
            return Thing(k, f"{own} {called}", called, {})
        return Thing(k, called, called, {})

    def own_colour(self, name: str) -> str:
        """The colour of an icon of ``name`` where none is said: always the same, of its kind where that has one."""
        judged = _colour_of(name) or ASKED.get(name, Known()).colour
        said = [judged] if judged else [OWN[word] for word in reversed(name.split()) if word in OWN]
        of_its_kind = CATEGORY_COLOURS.get(self.kind[name].category, ())
        choices = ([c for c in colours if self.shows(c, name)] for colours in (said[:1], of_its_kind, NATURAL[:8]))
        fitting = next(filter(None, choices), NATURAL[:8])
        return fitting[zlib.crc32(name.encode()) % len(fitting)]

    def _filled(self, k: int, name: str, chance: random.Random, colour: str | None, own: bool = False) -> Thing:
        """An icon as a coloured drawing: its parts filled, or itself in a colour."""
        called, shape = self.called(k, name, chance), self.shapes[k]
        bare = own or self.ordinary or _colour_of(name)
        said = colour is not None or (not bare and chance.random() < 0.35)
        fitting = [c for c in NATURAL[:8] if self.shows(c, name)] or NATURAL[:8]
        main = colour or (chance.choice(fitting) if said else self.own_colour(name))
        first = jittered(COLOURS[main], chance, 0.08)
        pale = (WHITE, COLOURS["beige"], COLOURS["yellow"], COLOURS["light blue"])
        others = [jittered(chance.choice(pale), chance, 0.03) for _ in range(2)]
        word = f"{spoken(main, chance)} {called}" if said else called
        if shape.solid or not shape.parts:
            fills = (*others[1], *others[1], *others[0]) if shape.parts and chance.random() < 0.8 else (-1.0,) * 9
            return Thing(k, word, called, {"mask": True, "ink": first, "fills": fills, "shade": chance.uniform(0.0, 0.4)})
        line = jittered((0.12, 0.10, 0.12), chance, 0.06)
        fills = (*first, *others[0], *others[1])
        return Thing(k, word, called, {"mask": True, "ink": line, "fills": fills, "shade": chance.uniform(0.0, 0.3)})

    def named(self, names: Sequence[str], chance: random.Random) -> Thing | None:
        """One of ``names`` that there is, in its own colours."""
        known = [n for n in names if n in self.kind]
        return self.thing(chance.choice(known), chance, own=True) if known else None

    def fitting(self, name: str, chance: random.Random) -> str | None:
        """A kind of place for a thing called ``name``."""
        _, category, _, where = self.kind[name]
        kinds: list[str] = []
        if "g" in where or category in ("person", "animal"):
            kinds += LAND
        if "w" in where:
            kinds += ["sea", "sea", "underwater", "underwater", "lake"] if category == "animal" else ["sea", "sea", "lake"]
        if "a" in where:
            kinds += ["sky", "sky", "sky", "city", "mountains", "sea"] if category != "celestial" else ["space", "space", "sky"]
        if "i" in where or "h" in where:
            kinds += ["room", "table", "table"]
        if category == "vehicle" and "g" in where:
            kinds += ["road", "street", "road", "street"]
        return chance.choice(kinds) if kinds else None

    def stand(
        self,
        thing: Thing,
        x: float,
        base: float,
        tall: float,
        place: places.Place | None,
        chance: random.Random,
        shadow: float | None = None,
        mirrors: float = 0.5,
    ) -> Layer:
        """The layer of ``thing`` with the middle of its foot on (x, base), its longer side ``tall`` of the frame.

        ``mirrors``: how often it is mirrored, where no lettering or side forbids that.
        """
        shape = self.shapes[thing.index]
        scale = min(tall / shape.longest, 2.4)
        mirrored = chance.random() < mirrors and not self.subjects[thing.index].handed
        foot = ((shape.left + shape.right) / 2, shape.bottom)
        half = shape.width / 2 * scale
        strength = (place.shadow if place else 0.0) if shadow is None else shadow
        # On the ground the shadow lies at the foot.
        cast = (x, base - 0.01, max(half * 1.05, 0.02), strength)
        light = place.light if place else WHITE
        return Layer(thing.index, placed(x, base, scale, foot, mirrored), light=light, shadow=cast, **thing.colours)

    def hang(
        self,
        thing: Thing,
        x: float,
        y: float,
        tall: float,
        place: places.Place | None,
        chance: random.Random,
        mirrors: float = 0.5,
    ) -> Layer:
        """The layer of ``thing`` with its middle on (x, y)."""
        shape = self.shapes[thing.index]
        down = shape.height / shape.longest * tall / 2
        return self.stand(thing, x, y + down, tall, place, chance, 0.0, mirrors)
