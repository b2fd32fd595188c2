"""What to draw next, and what to say of it: things, places, counts and relations, made up from chance.

A kind of scene is a function from a casting and chance to a :class:`Scene`, or to None where chance chose what does not go
together; Missing where the casting lacks what it is made of. :class:`Director` draws the kinds by their shares and now and
then has a scene made in a manner.
"""

from __future__ import annotations

import random
from functools import partial

from phosphene.training.text_to_image import phrases, places
from phosphene.training.text_to_image.captions import COLOURS, jittered, spoken
from phosphene.training.text_to_image.casting import FLAT, PEN, WHITE, Casting, Kind, Layer, Missing, Scene, Thing, unseen
from phosphene.training.text_to_image.groups import group, worn
from phosphene.training.text_to_image.manners import MANNERS
from phosphene.training.text_to_image.phrases import article, plural, with_article
from phosphene.training.text_to_image.relations import pair
from phosphene.training.text_to_image.settings import (
    FLOORLESS,
    Backdrop,
    backdrop,
    chosen_paper,
    chosen_place,
    clouds,
    contrasting,
    extras,
    flattened,
    houses,
    in_style,
    styled,
)

SIZED, PRAISED = 0.06, 0.04
"""How often it is said of a single thing that it is small or large, and something nice."""
SIZES = {"small": (0.3, 0.45), "large": (0.92, 1.0)}
"""How tall such things are in the frame."""
EVERY = 0.2
"""How often a single thing is any painting, each as often as another: what is hardly asked for, in a style that is rarely
chosen, would be seen too rarely to be known."""
CROWD = 0.1
"""How often there are more of a thing than have a number."""


def single(cast: Casting, chance: random.Random) -> Scene | None:
    if cast.paintings and not cast.ordinary and chance.random() < EVERY:
        k = chance.choice(cast.paintings)
        name = cast.subjects[k].called
        thing = cast.painting(k, name, chance)
    else:
        name = cast.choose("any", chance)
        tinted = 0.0 if cast.kind[name].category in ("face", "symbol", "place", "weather") else 0.28
        thing = cast.thing(name, chance, colour=cast.tint(name, chance, tinted), plain=True)
    shape = cast.shapes[thing.index]
    if shape.opaque:
        across = chance.uniform(0.98, 1.06)
        mirrored = chance.random() < 0.5 and not cast.subjects[thing.index].handed
        layer = Layer(thing.index, (-across if mirrored else across, across, 0.0, 0.0), **thing.colours)
        return Scene(article(styled(cast, thing, chance), chance), [layer])
    paper, said = chosen_paper(chance)
    if cast.subjects[thing.index].style == PEN:
        paper, said = WHITE, ""
    _, said, paper = contrasting(Backdrop(None, said, paper), [thing], chance)
    sized = chance.random() < SIZED and with_article(thing.bare) != thing.bare  # there is no small water
    size = chance.choice(list(SIZES)) if sized else ""
    tall = chance.uniform(*SIZES.get(size, (0.78, 0.97)))
    layer = cast.hang(thing, 0.5 + chance.uniform(-0.04, 0.04), 0.5 + chance.uniform(-0.04, 0.04), tall, None, chance)
    text = styled(cast, thing, chance)
    if size:
        text = f"{chance.choice(phrases.SIZES[size])} {text}"
    elif chance.random() < PRAISED:
        text = f"{chance.choice(phrases.PRAISE)} {text}"
    elif chance.random() < 0.04 and cast.kind[name].category in ("animal", "person", "face"):
        layer = cast.hang(thing, 0.5, 0.62, 1.5, None, chance)
        text = f"close-up of {with_article(text)}"
    return Scene(article(text, chance) + said, [layer], paper=paper)


def restyled(cast: Casting, chance: random.Random) -> Scene | None:
    """A thing that nobody has painted, in a style that is said (tools/draw_styles.py)."""
    if not cast.restyled:
        return None
    styles = sorted(cast.restyled)  # of some there are few, which are not to be learned by heart
    style = chance.choices(styles, [len(cast.restyled[s]) ** 0.5 for s in styles])[0]
    subject = cast.subjects[k := chance.choice(cast.restyled[style])]
    across = -1.0 if chance.random() < 0.5 and not subject.handed else 1.0
    text = in_style(subject.called, phrases.STYLES[subject.style], chance)
    return Scene(article(text, chance), [Layer(k, (across, 1.0, 0.0, 0.0))])


def icon(cast: Casting, chance: random.Random) -> Scene | None:
    # Whoever asks for an icon asks for any; where nothing is said, what people ask for first is what they have at hand.
    by_icons = None if cast.ordinary else lambda name: len(cast.icons[name]) ** 0.5
    name = cast.choose("icons", chance, lambda kind: bool(cast.icons[kind.name]), by_icons)
    k = cast.best[name] if cast.best.get(name) in cast.icons[name] and chance.random() < 0.5 else cast.icon(name, chance)
    paper, said = chosen_paper(chance, 0.0 if cast.ordinary else 0.25)
    ink, colour = COLOURS["black"], None
    if not cast.ordinary and (chance.random() < 0.55 or sum(paper) < 1.0):
        apart = [c for c in COLOURS if sum(abs(a - b) for a, b in zip(COLOURS[c], paper, strict=True)) > 0.6]
        colour = chance.choice([c for c in apart if cast.shows(c, name)] or apart)
        ink = jittered(COLOURS[colour], chance, 0.04)
    word = chance.choice(phrases.SOLID if cast.shapes[k].solid else phrases.OUTLINE)
    called = cast.called(k, name, chance)
    before = f"{spoken(colour, chance)} " if colour else ("black " if chance.random() < 0.3 else "")
    text = f"{before}{called} {word}" if chance.random() < 0.75 else f"{before}{word} of {with_article(called)}"
    # Never mirrored: of most there is but this drawing, and its mirror image would have to be learned as well.
    layer = cast.hang(Thing(k, "", "", {"mask": True, "ink": ink}), 0.5, 0.5, chance.uniform(0.8, 0.97), None, chance, 0.0)
    return Scene(article(text, chance) + said, [layer], paper=paper)


BUILT = 0.4
"""How often a building is wanted in a simply drawn place, beside those that come by chance: a house is what people draw first."""


def here(cast: Casting, chance: random.Random, flat: bool = False) -> Scene | None:
    """One thing in a place; ``flat``: both in flat colours, as simple drawings have them, and so is what stands behind."""
    nowhere = ("face", "symbol", "place", "weather", "body")
    built = flat and chance.random() < BUILT
    name = cast.choose("built", chance, lambda kind: kind.category == "building") if built else None
    name = name or cast.choose("somewhere", chance, lambda kind: kind.category not in nowhere and set("gawih") & set(kind.where))
    _, _, size, where = cast.kind[name]
    kind = cast.fitting(name, chance)
    kind = "hilltop" if kind == "hills" and chance.random() < 0.5 else kind
    odd = chance.random() < 0.06  # now and then where it does not belong, and said so
    kind = chance.choice(list(phrases.PLACES)) if odd else kind
    if kind is None:
        return None
    place, style = chosen_place(kind, chance), FLAT if flat else None
    place = flattened(place) if flat else place
    thing = cast.thing(name, chance, style, cast.tint(name, chance, 0.15))
    hidden = cast.subjects[thing.index].style == PEN and place.time in ("night", "storm")
    if cast.shapes[thing.index].opaque or hidden:
        return None
    layers = extras(cast, place, chance, 0.6 if flat else 0.25, style)
    layers += clouds(cast, place, chance, style) if flat else []
    flying = ("a" in where and "g" not in where) or kind in ("sky", "space")
    tall = chance.uniform(0.42, 0.72) if size < 5 else chance.uniform(0.55, 0.82)
    x = 0.5 + chance.uniform(-0.18, 0.18) * (1.2 - tall)
    if flying:
        y = chance.uniform(0.26, 0.46) if kind not in ("sky", "space") else chance.uniform(0.4, 0.6)
        layers.append(cast.hang(thing, x, y, tall * 0.85, place, chance))
    elif kind == "underwater":
        layers.append(cast.hang(thing, x, chance.uniform(0.42, 0.62), tall, place, chance))
    else:
        base = chance.uniform(min(max(place.standing[0] + 0.04, 0.8), place.standing[1]), place.standing[1])
        layers.append(cast.stand(thing, x, base, min(tall, 0.95 * base), place, chance))
    timed = not odd and _is_told_by_the_time(place, chance)
    where = chance.choice(phrases.TIMES[place.time]) if timed else places.where(place, chance)
    return Scene(f"{article(styled(cast, thing, chance), chance, 0.9)} {where}", layers, place.ground)


def _is_told_by_the_time(place: places.Place, chance: random.Random) -> bool:
    """An owl at night, an umbrella in the rain: nothing is said of where that is."""
    nowhere = (*phrases.ALWAYS, *FLOORLESS)
    return place.time != "day" and place.kind not in nowhere and chance.random() < 0.3


def place(cast: Casting, chance: random.Random) -> Scene | None:
    """A place by itself."""
    kind = chance.choices(list(phrases.SHARES), list(phrases.SHARES.values()))[0]
    place = chosen_place(kind, chance)
    layers = extras(cast, place, chance, 0.35)
    text = places.called(place, chance)
    if kind == "village":
        layers = houses(cast, place, chance)
    return Scene(text if chance.random() < 0.8 else text.removeprefix("a "), layers, place.ground)


def count(cast: Casting, chance: random.Random) -> Scene | None:
    """Two to five of a thing, or more."""
    uncounted = ("symbol", "place", "weather", "activity")

    def is_counted(kind: Kind) -> bool:
        return kind.category not in uncounted and kind.size < 6 and kind.words < 3 and kind.name.split()[-1] not in phrases.MASS

    name = cast.choose("counted", chance, is_counted)
    number = chance.choice((2, 2, 2, 3, 3, 3, 4, 4, 5))
    flock = name in phrases.FLOCKS and chance.random() < 0.4
    crowd = not flock and chance.random() < CROWD
    number = chance.randint(5, 7) if flock else chance.randint(6, 7) if crowd else number
    if not cast.new and not (flock or crowd) and unseen(number, name):
        return None
    tint = None if flock or cast.kind[name].category == "face" else cast.tint(name, chance, 0.3)
    thing = cast.thing(name, chance, colour=tint)
    if cast.shapes[thing.index].opaque:
        return None
    style = cast.subjects[thing.index].style
    alike = chance.random() < 0.7
    things = [thing] + [thing if alike else cast.thing(name, chance, style, tint) for _ in range(number - 1)]
    back = backdrop(cast.fitting(name, chance) if chance.random() < 0.4 else None, chance)
    back = contrasting(back, things, chance)
    layers = [_among(cast, t, k, number, back.place, chance) for k, t in enumerate(things)]
    noun = thing.name if alike or tint else thing.bare
    words = phrases.FLOCKS[name] if flock else phrases.amount(number, plural(noun), chance)
    return Scene(words + back.said, layers, back.ground, back.paper)


def _among(cast: Casting, thing: Thing, k: int, number: int, place: places.Place | None, chance: random.Random) -> Layer:
    """The k-th of several of a kind: in a row, or in two. On a floor the second row stands behind the gaps of the first."""
    hanging = place is None or place.kind in FLOORLESS
    upper = (number // 2 if hanging else (number - 1) // 2) if number > (3 if hanging else 5) else 0
    row, column, columns = (0, k, upper) if k < upper else (1, k - upper, number - upper)
    tall = min(0.92 / columns, 0.46) * chance.uniform(0.9, 1.0)
    x = (column + 0.5) / columns + chance.uniform(-0.02, 0.02)
    if hanging:
        y = (0.5 if not upper else (0.28, 0.72)[row]) + chance.uniform(-0.03, 0.03)
        return cast.hang(thing, x, y, tall, place, chance)
    if row:
        return cast.stand(thing, x, 0.93 + chance.uniform(-0.02, 0.02), tall, place, chance)
    before = number - upper
    gap = (1 + round(column * (before - 2) / max(columns - 1, 1))) / before + chance.uniform(-0.02, 0.02)
    return cast.stand(thing, gap, min(place.standing[0] + 0.08, 0.93 - 0.6 * tall), 0.8 * tall, place, chance)


SHARES = {"single": 0.32, "icon": 0.23, "here": 0.11, "place": 0.05, "pair": 0.13, "count": 0.06, "worn": 0.04, "group": 0.06}
"""Of the kinds of scene in a batch."""
RESTYLED = 0.2
"""The share of things that a model drew in a style, where there are such."""
TRIES = 8
MANNERED = 0.25
"""Share of the pictures, icons apart, that are made in a manner."""
PLAIN = {"single": 0.38, "icon": 0.10, "here": 0.42, "place": 0.07, "count": 0.03}
"""Of the kinds of scene where nothing is said."""
ENOUGH = 50
"""Fewer ordinary things are not all that is shown where nothing is said: of somebody's own pictures they may be two."""
SIMPLE = {"single": 0.4, "here": 0.15, "simple": 0.45}
"""Of the kinds of scene among simple drawings, as people make them and ask what they could be."""


KINDS = {"single": single, "icon": icon, "here": here, "place": place, "pair": pair, "count": count, "worn": worn, "group": group}
KINDS["restyled"] = restyled
KINDS["simple"] = partial(here, flat=True)


class Director:
    """Makes up scenes of a casting; where nothing is known of what things are, each by itself."""

    def __init__(self, casting: Casting, ordinary: Casting | None = None, drawn: Casting | None = None) -> None:
        known = any(subject.category for subject in casting.subjects)
        enough = known and ordinary is not None and len(ordinary.names) >= ENOUGH
        self.casting, self.ordinary = casting, ordinary if enough else casting
        self.drawn = drawn if known and drawn is not None and drawn.names else None
        self.shares, self.unsaid = (SHARES, PLAIN) if known else ({"single": 0.8, "icon": 0.2},) * 2
        if casting.restyled:
            self.shares = {**self.shares, "restyled": RESTYLED * sum(self.shares.values()) / (1 - RESTYLED)}

    def plain(self, chance: random.Random, simple: float) -> Scene:
        """One scene to be shown without words: an ordinary thing, in no manner and in colours of its own.

        ``simple``: how often it is simply drawn.

        What no prompt draws, an edit of a picture that says nothing, is what is learned from these. Of everything that there
        is, in every manner, it would be a bit of each at once.
        """
        if self.drawn is not None and chance.random() < simple:
            return self._made(self.drawn, chance.choices(list(SIMPLE), list(SIMPLE.values()))[0], chance)
        kind = chance.choices(list(self.unsaid), list(self.unsaid.values()))[0]
        return self._made(self.ordinary, kind, chance)

    def scene(self, chance: random.Random, kind: str | None = None, manner: str | None = None) -> Scene:
        """One scene of ``kind`` (of SHARES), in ``manner`` (of MANNERS, "" for none), or as chance has it."""
        kind = kind or chance.choices(list(self.shares), list(self.shares.values()))[0]
        made = self._made(self.casting, kind, chance)
        if manner is None:
            manner = chance.choice(list(MANNERS)) if kind not in ("icon", "restyled") and chance.random() < MANNERED else ""
        if manner:
            bare = made.text
            for start in ("a ", "an ", "the "):
                bare = bare.removeprefix(start)
            made.text = chance.choice(MANNERS[manner][1]).format(made.text, bare=bare)
            made.manner = manner
        return made

    def _made(self, cast: Casting, kind: str, chance: random.Random) -> Scene:
        # Not everything that chance brings together goes together.
        return next(filter(None, (_tried(cast, kind, chance) for _ in range(TRIES))), None) or single(cast, chance)


def _tried(cast: Casting, kind: str, chance: random.Random) -> Scene | None:
    try:
        return KINDS[kind](cast, chance)
    except Missing:
        return None
