"""Places as people know them, each made up anew from chance: a beach at sunset is a :class:`Ground` with words for it."""

from __future__ import annotations

import random
from typing import NamedTuple

from phosphene.training.tables import table
from phosphene.training.text_to_image import grounds as g
from phosphene.training.text_to_image.captions import Colour, jittered
from phosphene.training.text_to_image.grounds import Ground, Ridge
from phosphene.training.text_to_image.phrases import ADJECTIVES, ALWAYS, PLACES, SNOWY, SUNSET_PLACES, SUNSETS, TIMES


class Place(NamedTuple):
    """A ground, and what things in it have to know."""

    kind: str
    time: str
    ground: Ground
    light: Colour  # what it leaves of their colours
    standing: tuple[float, float]  # y at which they stand in the middle distance, and nearest
    shadow: float  # its strength


_COLOURS = table("text_to_image/colours.toml")
INDOORS = ("room", "table")


def _lit(colour: Colour, light: Colour) -> Colour:
    return tuple(c * v for c, v in zip(colour, light, strict=True))


def made(kind: str, time: str, chance: random.Random) -> Place:
    """One ``kind`` of place (a key of PLACES) at one ``time`` (a key of TIMES)."""
    if kind in INDOORS:
        return _indoors(kind, chance)
    if kind in ("underwater", "space", "sky"):
        return _without_floor(kind, time, chance)
    return _Outdoors(time, chance).place(kind)


def _material(name: str, chance: random.Random) -> Colour:
    return chance.choice(_COLOURS["materials"][name])


class _Outdoors:
    """A place under the sky, taken from its sky down: each method adds what its kind has."""

    def __init__(self, time: str, chance: random.Random) -> None:
        self.time, self.chance, self.light, self.snowy = time, chance, _COLOURS[time]["light"], time == "snow"
        top, low = (jittered(colour, chance) for colour in _COLOURS[time]["sky"])
        if time == "sunset" and chance.random() < 0.4:
            top, low = jittered((0.80, 0.36, 0.42), chance), jittered((0.99, 0.78, 0.42), chance)
        self.horizon = chance.uniform(0.5, 0.68)
        self.ground = Ground(sky_top=top, sky_low=low, horizon=self.horizon)
        _heavens(self.ground, time, chance)
        self.white = self.colour((0.94, 0.96, 0.99), 0.02)
        self.standing = (self.horizon + 0.12, 0.95)
        self.floor(g.GRASS, (0.30, 0.56, 0.22), (0.50, 0.70, 0.36))
        self.ground.grain = chance.uniform(0.2, 0.8)
        if self.snowy:
            self.ground.floor_near, self.ground.floor_far = self.white, self.colour((0.86, 0.90, 0.96), 0.02)
            self.ground.texture = g.SNOW

    def place(self, kind: str) -> Place:
        getattr(self, f"_{kind}")()
        if self.time == "fog":
            self.ground.mist = self.chance.uniform(0.45, 0.75)
        shadow = 0.0 if kind == "sea" else _COLOURS[self.time]["shadow"]
        return Place(kind, self.time, self.ground, self.light, self.standing, shadow)

    # What kinds have in common.

    def colour(self, base: Colour, by: float = 0.05) -> Colour:
        return _lit(jittered(base, self.chance, by), self.light)

    def material(self, name: str) -> Colour:
        return self.colour(_material(name, self.chance))

    def floor(self, texture: int, near: Colour, far: Colour) -> None:
        ground = self.ground
        ground.texture, ground.floor_near, ground.floor_far = texture, self.colour(near), self.colour(far)

    def water(self) -> None:
        base = _COLOURS[self.time]["water"]
        ground = self.ground
        ground.floor_near, ground.floor_far = jittered(base, self.chance), jittered(tuple(c * 1.15 for c in base), self.chance)
        ground.texture = g.WAVES

    def ridge(self, outline: int, rise: float, height: float, pace: tuple[float, float], colour: Colour, **more: object) -> Ridge:
        """A ridge whose foot is ``rise`` below the horizon."""
        more = {"capped": self.white, "cap": 1.0, **more}
        return Ridge(outline, self.horizon + rise, height, self.chance.uniform(*pace), self.chance.random(), colour, **more)

    def peaks(self, low: float, high: float) -> Ridge:
        cap = self.chance.uniform(0.2, 0.45) if self.snowy else self.chance.uniform(0.45, 0.75)
        rock = self.material("rock")
        return self.ridge(g.PEAKS, 0.02, self.chance.uniform(low, high), (2.2, 4.5), rock, cap=cap)

    def slopes(self, low: float, high: float, shade: float = 1.0) -> Ridge:
        hill = self.colour((0.84, 0.88, 0.94), 0.03) if self.snowy else self.colour((0.42, 0.62, 0.34))
        return self.ridge(g.HILLS, 0.02, self.chance.uniform(low, high), (1.6, 3.5), _lit(hill, (shade,) * 3))

    def firs(self, rise: float, low: float, high: float) -> Ridge:
        cap = 0.5 if self.snowy else 1.0
        return self.ridge(g.FIRS, rise, self.chance.uniform(low, high), (10, 19), self.colour((0.10, 0.32, 0.20), 0.04), cap=cap)

    def windows(self) -> float:
        """The share that is lit."""
        return {"night": self.chance.uniform(0.3, 0.8), "sunset": self.chance.uniform(0.1, 0.5)}.get(self.time, 0.0)

    def path(self, kind: int, width: tuple[float, float], colour: Colour, bend: float = 0.0) -> None:
        ground = self.ground
        ground.path, ground.path_width, ground.path_colour = kind, self.chance.uniform(*width), self.colour(colour, 0.03)
        ground.path_bend = self.chance.uniform(-bend, bend)

    # The kinds.

    def _field(self) -> None:
        if self.chance.random() < 0.5:
            self.ground.far = self.slopes(0.06, 0.14, 0.9)

    def _hills(self) -> None:
        self.ground.far, self.ground.middle = self.slopes(0.22, 0.34, 0.85), self.slopes(0.10, 0.22)

    def _hilltop(self) -> None:
        self.ground.horizon = self.horizon = self.chance.uniform(0.86, 0.94)
        if self.chance.random() < 0.5:
            self.ground.far = self.slopes(0.06, 0.14, 0.9)
        top = self.chance.uniform(0.62, 0.74)
        hill = self.ground.floor_near if self.snowy else self.colour((0.36, 0.58, 0.28))
        self.ground.near = Ridge(g.MOUND, 1.02, 1.02 - top, colour=hill, capped=hill)
        self.standing = (top + 0.01, top + 0.03)

    def _mountains(self) -> None:
        self.ground.far = self.peaks(0.36, 0.5)
        draw = self.chance.random()
        if draw < 0.75:
            self.ground.middle = self.firs(0.03, 0.08, 0.14) if draw < 0.5 else self.slopes(0.1, 0.14)

    def _sea(self) -> None:
        self.ground.horizon = self.horizon = self.chance.uniform(0.42, 0.6)
        self.water()
        self.ground.grain = 0.9 if self.time == "storm" else self.chance.uniform(0.3, 0.7)
        if self.chance.random() < 0.15:
            self.ground.far = self.ridge(g.HILLS, 0.01, 0.08, (2, 3), self.colour((0.35, 0.45, 0.5)))
        self.standing = (self.horizon + 0.15, 0.85)

    def _beach(self) -> None:
        self.water()
        sea, depth = self.ground.floor_near, self.chance.uniform(0.1, 0.18)
        self.floor(g.RIPPLES, (0.90, 0.80, 0.58), (0.95, 0.88, 0.70))
        self.ground.near = self.ridge(g.CLIFF, depth, depth / 0.95, (0.2, 0.2), sea)  # the sea, a low cliff as it were
        self.ground.horizon = self.horizon + depth
        self.standing = (self.ground.horizon + 0.06, 0.95)

    def _lake(self) -> None:
        self.ground.far = self.peaks(0.3, 0.42) if self.chance.random() < 0.7 else self.slopes(0.2, 0.3)
        self.water()
        if self.chance.random() < 0.6:
            self.ground.middle = self.firs(0.015, 0.07, 0.09)
        self.standing = (0.84, 0.97)

    def _city(self) -> None:
        far, near = self.colour((0.56, 0.60, 0.68)), self.material("facade")
        if self.time == "night":
            far, near = (0.10, 0.12, 0.24), (0.05, 0.06, 0.14)
        height, lit = self.chance.uniform(0.3, 0.48), self.windows()
        self.ground.far = self.ridge(g.BLOCKS, 0.04, height, (7, 11), far, lit=lit * 0.6)
        self.ground.middle = self.ridge(g.BLOCKS, 0.05, height * 0.7, (5, 8), near, lit=lit)
        if self.chance.random() < 0.35:  # across water
            self.water()
        else:
            self.floor(g.COBBLES, (0.42, 0.42, 0.45), (0.52, 0.52, 0.55))

    def _street(self) -> None:
        self._city()
        self.floor(g.COBBLES, (0.42, 0.42, 0.45), (0.52, 0.52, 0.55))
        self.path(g.ROAD, (0.5, 0.9), (0.26, 0.27, 0.30))

    def _desert(self) -> None:
        self.ground.far = self.ridge(g.HILLS, 0.02, self.chance.uniform(0.10, 0.22), (1.5, 3), self.colour((0.86, 0.64, 0.38)))
        self.floor(g.RIPPLES, (0.90, 0.72, 0.44), (0.95, 0.82, 0.58))

    def _forest(self) -> None:
        broad = self.chance.random() < 0.4
        outline, leaf = (g.TREES, (0.20, 0.44, 0.18)) if broad else (g.FIRS, (0.10, 0.32, 0.20))
        leaf, cap = self.colour(leaf, 0.04), 0.55 if self.snowy else 1.0
        distant, close = _lit(leaf, (1.25, 1.2, 1.2)), _lit(leaf, (0.75,) * 3)
        self.ground.far = self.ridge(outline, 0.02, self.chance.uniform(0.26, 0.38), (6, 10), distant, cap=cap)
        self.ground.middle = self.ridge(outline, 0.05, self.chance.uniform(0.3, 0.44), (4, 7), leaf, cap=cap)
        if self.chance.random() < 0.5:
            self.ground.near = self.ridge(outline, 0.10, self.chance.uniform(0.4, 0.55), (2.2, 3.6), close, cap=cap)
        if self.chance.random() < 0.3:
            self.path(g.ROAD, (0.25, 0.35), (0.55, 0.44, 0.30))

    def _village(self) -> None:
        self.ground.far = self.peaks(0.3, 0.42) if self.chance.random() < 0.75 else self.slopes(0.2, 0.25, 0.85)
        house, lit = self.material("wall"), self.windows()
        roof = self.white if self.snowy else self.material("roof")
        self.ground.middle = self.ridge(
            g.ROOFS, 0.05, self.chance.uniform(0.13, 0.18), (6, 9), house, capped=roof, cap=0.62, lit=lit
        )
        if self.chance.random() < 0.6:
            close, tall = _lit(house, (0.88, 0.85, 0.85)), self.chance.uniform(0.17, 0.23)
            self.ground.near = self.ridge(g.ROOFS, 0.14, tall, (4, 6), close, capped=roof, cap=0.6, lit=lit)

    def _way(self) -> None:
        self.ground.far = self.peaks(0.2, 0.35) if self.chance.random() < 0.5 else self.slopes(0.12, 0.25, 0.85)
        self.ground.path_from, self.ground.path_to = self.chance.uniform(0.35, 0.65), self.chance.uniform(0.3, 0.7)

    def _road(self) -> None:
        self._way()
        self.path(g.ROAD, (0.35, 0.7), (0.30, 0.31, 0.33), 0.16)

    def _river(self) -> None:
        self._way()
        self.path(g.RIVER, (0.35, 0.7), (0.30, 0.31, 0.33), 0.16)
        self.ground.path_colour = jittered((0.10, 0.18, 0.38) if self.time == "night" else (0.22, 0.52, 0.78), self.chance)

    def _waterfall(self) -> None:
        cliff, green = self.material("cliff"), self.colour((0.30, 0.52, 0.24))
        self.ground.horizon = self.horizon = self.chance.uniform(0.68, 0.78)
        tall = self.chance.uniform(0.42, 0.58)
        self.ground.far = self.ridge(g.CLIFF, 0.03, tall, (5, 9), cliff, capped=green, cap=0.84)
        self.ground.fall = (self.chance.uniform(0.35, 0.65), self.chance.uniform(0.05, 0.14))
        self.floor(g.WAVES, (0.16, 0.46, 0.62), (0.40, 0.66, 0.78))
        self.standing = (0.88, 0.97)

    def _park(self) -> None:
        leaf = self.colour((0.75, 0.8, 0.86)) if self.snowy else self.colour((0.22, 0.48, 0.20))
        self.ground.far = self.ridge(g.TREES, 0.03, self.chance.uniform(0.2, 0.32), (4, 7), leaf)
        if self.chance.random() < 0.5:
            self.path(g.ROAD, (0.25, 0.4), (0.80, 0.72, 0.56), 0.2)


def _heavens(ground: Ground, time: str, chance: random.Random) -> None:
    """Sun, moon, stars, clouds and what falls from them."""
    x, low = chance.uniform(0.15, 0.85), ground.horizon
    if time == "day":
        if chance.random() < 0.35:
            ground.disc = (x, chance.uniform(0.1, 0.28), chance.uniform(0.05, 0.09))
            ground.disc_colour, ground.glow = (1.0, 0.90, 0.40), 0.5
        if chance.random() < 0.6:
            ground.clouds = chance.uniform(0.35, 0.6)
    elif time == "sunset":
        height = low - chance.uniform(-0.02, 0.16)
        ground.disc, ground.disc_colour, ground.glow = (x, height, chance.uniform(0.06, 0.11)), (1.0, 0.80, 0.38), 0.9
        if chance.random() < 0.5:
            ground.clouds, ground.cloud_colour = chance.uniform(0.35, 0.55), (0.95, 0.55, 0.48)
    elif time == "night":
        ground.stars = chance.uniform(0.4, 1.0)
        if chance.random() < 0.6:
            ground.disc = (x, chance.uniform(0.1, 0.3), chance.uniform(0.05, 0.09))
            ground.disc_colour, ground.glow = (0.96, 0.94, 0.82), 0.3
    elif time == "storm":
        ground.clouds, ground.cloud_colour = chance.uniform(0.7, 0.95), (0.30, 0.32, 0.37)
        ground.rain = chance.choice((0.0, 0.3, 0.7))
    elif time == "snow":
        ground.flakes = chance.choice((0.0, 0.4, 0.8, 1.0))
        if chance.random() < 0.4:
            ground.sky_top, ground.sky_low = jittered((0.36, 0.60, 0.90), chance), jittered((0.84, 0.91, 0.98), chance)
    elif time == "rain":
        ground.clouds, ground.cloud_colour, ground.rain = chance.uniform(0.5, 0.8), (0.52, 0.55, 0.60), chance.uniform(0.2, 0.9)


def _indoors(kind: str, chance: random.Random) -> Place:
    wall = jittered(_material("paint", chance), chance)
    wood = jittered(_material("wood", chance), chance)
    horizon = chance.uniform(0.62, 0.74) if kind == "room" else chance.uniform(0.58, 0.72)
    ground = Ground(sky_top=wall, sky_low=tuple(c * 0.93 for c in wall), horizon=horizon, room=1.0)
    ground.floor_near, ground.floor_far = wood, tuple(min(1.0, c * 1.1) for c in wood)
    ground.texture = chance.choice((g.PLANKS, g.PLANKS, g.TILES)) if kind == "room" else g.PLAIN
    ground.grain = chance.random()
    if kind == "room" and chance.random() < 0.6:
        x, y = chance.choice((0.22, 0.78)) + chance.uniform(-0.05, 0.05), chance.uniform(0.22, 0.32)
        ground.window = (x, y, chance.uniform(0.09, 0.14), chance.uniform(0.1, 0.16))
        ground.window_colour = _material("pane", chance)
    return Place(kind, "day", ground, (1.0, 1.0, 1.0), (horizon + 0.12, 0.94), 0.3)


def _without_floor(kind: str, time: str, chance: random.Random) -> Place:
    if kind == "underwater":
        top, low = jittered((0.20, 0.62, 0.80), chance), jittered((0.03, 0.22, 0.45), chance)
        ground = Ground(sky_top=top, sky_low=low, horizon=chance.choice((0.8, 0.86, 1.2)))
        ground.floor_near, ground.floor_far, ground.texture = (0.60, 0.58, 0.44), (0.28, 0.42, 0.50), g.RIPPLES
        ground.rays, ground.flakes = chance.uniform(0.2, 1.0), chance.choice((0.0, 0.1))
        return Place(kind, "day", ground, (0.80, 0.95, 1.0), (0.85, 0.94), 0.0)
    if kind == "space":
        top, low = jittered((0.02, 0.02, 0.08), chance, 0.02), jittered((0.06, 0.03, 0.14), chance, 0.03)
        ground = Ground(sky_top=top, sky_low=low, horizon=1.2, stars=1.0)
        if chance.random() < 0.5:
            ground.clouds = chance.uniform(0.3, 0.5)
            ground.cloud_colour = _material("nebula", chance)
        return Place(kind, "night", ground, (0.95, 0.95, 1.0), (0.85, 0.94), 0.0)
    top, low = (jittered(colour, chance) for colour in _COLOURS[time]["sky"])
    ground = Ground(sky_top=top, sky_low=low, horizon=1.2)
    _heavens(ground, time, chance)
    if time == "sunset":
        ground.disc = (ground.disc[0], chance.uniform(0.55, 0.85), ground.disc[2])
    if time == "day":
        ground.clouds = chance.uniform(0.4, 0.7)
    return Place(kind, time, ground, _COLOURS[time]["light"], (0.8, 0.9), 0.0)


def where(place: Place, chance: random.Random) -> str:
    """What is said of a thing that is there: "on a beach at sunset"."""
    snowy = place.time == "snow" and place.kind in SNOWY
    phrase = chance.choice((SNOWY if snowy else PLACES)[place.kind][0])
    when = chance.choice(TIMES[place.time])
    if snowy or (place.time == "day" and chance.random() < 0.7) or place.kind in ALWAYS:
        return phrase
    return f"{phrase} {when}".strip()


def called(place: Place, chance: random.Random) -> str:
    """What the place is called by itself: "a beach at sunset", "a stormy sea"."""
    snowy = place.time == "snow" and place.kind in SNOWY
    name = chance.choice((SNOWY if snowy else PLACES)[place.kind][1])
    if snowy or place.kind in ALWAYS:
        return name
    if place.time == "sunset" and place.kind in SUNSETS and chance.random() < 0.3:
        over = f"over {SUNSETS[place.kind]}"
        there = chance.choice((over, over, SUNSET_PLACES[place.kind]))
        return f"{chance.choice(('a sunset', 'sunset', 'a sunrise'))} {there}"
    if place.time == "night" and chance.random() < 0.15:
        shining = "the moon" if place.ground.disc[2] else "stars"
        return f"{chance.choice(('a starry night', 'a night sky', shining))} over {name}"
    words = ADJECTIVES.get(place.time)
    if words and chance.random() < 0.25 and name.startswith("a ") and place.time != "night":
        return f"a {chance.choice(words)} {name[2:]}"
    return f"{name} {chance.choice(TIMES[place.time])}".strip()
