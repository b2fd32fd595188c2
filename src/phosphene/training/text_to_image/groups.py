"""Scenes of several things that belong together: somebody with a hat, people around a campfire, a barista, a garden."""

from __future__ import annotations

import random

from phosphene.training.tables import table
from phosphene.training.text_to_image import phrases, places
from phosphene.training.text_to_image.casting import DRESSED, HELD, PEOPLE, TRADES, WHITE, Casting, Scene
from phosphene.training.text_to_image.phrases import plural, with_article
from phosphene.training.text_to_image.settings import backdrop, chosen_place, contrasting

_KNOWN = table("text_to_image/things.toml")
FAMILY: tuple[tuple[str, ...], tuple[str, ...]] = _KNOWN["family"]
HEAVENLY: dict[str, dict] = _KNOWN["heavenly"]
WITHIN: dict[str, dict] = _KNOWN["within"]
HAVING: dict[str, dict] = _KNOWN["having"]
AROUND = ((0.16, 0.93, 0.46), (0.84, 0.93, 0.46), (0.32, 0.80, 0.36), (0.68, 0.80, 0.36))
"""Where people are around a fire, and how tall: x, foot, height. The first two are nearer than the fire."""


def worn(cast: Casting, chance: random.Random) -> Scene | None:
    """Somebody with something on the head, or in the hand."""
    if not cast.hats:
        return None
    host, hat = cast.choose("hosts", chance, lambda kind: cast.may_wear(kind.name)), chance.choice(cast.hats)
    dressed = chance.random() < 0.2  # as what somebody is by that hat
    if dressed:
        hat = chance.choice(list(DRESSED))
        host = chance.choice(list(DRESSED[hat]))
        if not (cast.painted.get(host) and hat in cast.kind):
            return None
    silent = dressed and chance.random() < 0.5  # a king: nothing is said of the crown
    wears = dressed or chance.random() < 0.7
    seen = cast.frontal(host) if wears else host  # a head has no hands
    who = cast.thing(seen, chance, colour=cast.tint(host, chance, 0.0 if dressed else 0.1))
    if seen != host:
        who = who._replace(name=who.name.replace(who.bare, host), bare=host)
    if who.colours.get("mask") or cast.shapes[who.index].opaque:
        return None
    kinds = ("field", "beach", "city", "forest", "mountains", "park", "room", "street")
    back = backdrop(chance.choice(kinds) if chance.random() < 0.35 else None, chance)
    place, base = back.place, 0.95
    tall = chance.uniform(0.52, 0.64) if wears else chance.uniform(0.62, 0.74)
    body = cast.stand(who, 0.5, base, tall, place, chance)
    shape, scale = cast.shapes[who.index], 1 / body.place[1]
    facing = 1 if body.place[0] > 0 else -1
    top = base - shape.height * scale
    style = cast.subjects[who.index].style
    aside = abs(shape.head - (shape.left + shape.right) / 2) > 0.25 * shape.width  # a tail, or a head far in front
    if wears and aside and not dressed:
        return None
    if wears:
        item = cast.thing(hat, chance, style, cast.tint(hat, chance, 0.0 if silent else 0.35), own=silent)
        own = cast.shapes[item.index]
        width = min(max(shape.head_width * 1.3, 0.34 * shape.width), 0.95 * shape.width) * scale
        tall_item = width / max(own.width, 0.05) * max(own.width, own.height)
        room = top + 0.15 * shape.height * scale - 0.02  # above the brow, within the frame
        tall_item = min(tall_item, room * own.longest / max(own.height, 0.05))
        x = 0.5 + (shape.head - (shape.left + shape.right) / 2) * scale * facing
        over = cast.stand(item, x, top + 0.15 * shape.height * scale, min(tall_item, 0.5), place, chance, shadow=0.0)
        called = with_article(DRESSED[hat][host] if dressed else who.name)
        text = f"{called} {chance.choice(('wearing', 'wearing', 'with', 'in'))} {with_article(item.name)}"
        text = called if silent else text
    else:
        held = cast.choose(
            "held", chance, lambda kind: "h" in kind.where and kind.size <= 2 and kind.category not in ("symbol", "body")
        )
        item = cast.thing(held, chance, style, cast.tint(held, chance, 0.35))
        x = 0.5 + chance.choice((-1, 1)) * shape.width * scale * 0.42
        over = cast.hang(item, x, base - shape.height * scale * 0.38, chance.uniform(0.24, 0.32), place, chance)
        text = f"{with_article(who.name)} {chance.choice(('holding', 'holding', 'with'))} {with_article(item.name)}"
    if cast.shapes[item.index].opaque:
        return None
    return Scene(text + back.said, [body, over], back.ground, back.paper)


def campfire(cast: Casting, chance: random.Random) -> Scene | None:
    """A fire, of logs where there are some, with up to four people: two behind it, two before."""
    place = places.made(
        chance.choice(("forest", "mountains", "field", "beach", "hills", "forest")),
        chance.choice(("night", "night", "night", "sunset", "day")),
        chance,
    )
    warm = place._replace(light=tuple(min(1.0, c * v) for c, v in zip(place.light, (1.5, 1.25, 1.0), strict=True)))
    fire = cast.named(("fire", "campfire", "flame", "bonfire"), chance)
    if fire is None:
        return None
    bright = place._replace(light=WHITE, shadow=0.0)
    said = chance.choice(("a campfire", "a camp fire", "a fire"))
    people = []
    for x, base, person_tall in AROUND[: chance.choice((0, 0, 2, 3, 4, 4))]:
        person = cast.named(PEOPLE, chance)
        if person is not None:
            people.append(cast.stand(person, x + chance.uniform(-0.03, 0.03), base, person_tall, warm, chance))
    number = len(people)
    tall = 0.4 if number else 0.6
    logs = cast.named(("wood", "log", "firewood"), chance)
    layers = people[2:]
    if logs is not None:
        layers.append(cast.stand(logs, 0.5, 0.95, tall * 0.7, bright, chance))
    layers += [cast.stand(fire, 0.5, 0.91, tall, bright, chance), *people[:2]]
    text = chance.choice(phrases.GATHERED).format(fire=said, number=phrases.NUMBERS[number]) if number else said
    return Scene(f"{text} {places.where(place, chance)}" if chance.random() < 0.7 else text, layers, place.ground)


def gathering(cast: Casting, chance: random.Random) -> Scene | None:
    """People side by side; a crowd, of five and more; or a family, of whom the last are children."""
    kinds = ("park", "city", "street", "beach", "field", "room")
    what = chance.choice(list(phrases.TOGETHER))
    number = chance.choice((5, 6) if what == "crowd" else (3, 3, 4, 5))
    named = [FAMILY[k > 1] for k in range(number)] if what == "family" else [PEOPLE] * number
    who = [cast.named(names, chance) for names in named]
    if any(person is None or cast.shapes[person.index].opaque for person in who):
        return None
    back = contrasting(backdrop(chance.choice(kinds) if chance.random() < 0.5 else None, chance), who, chance)
    tall = min(1.15 / number, 0.4) * chance.uniform(0.9, 1.0)
    layers = []
    for k, person in enumerate(who):
        own = tall * (0.75 if what == "family" and k > 1 else 1.0)
        layers.append(cast.stand(person, (k + 0.5) / number, 0.93 if back.place else 0.5 + tall / 2, own, back.place, chance))
    numbered = what == "people" and chance.random() < 0.3
    text = f"{phrases.NUMBERS[number]} people" if numbered else chance.choice(phrases.TOGETHER[what])
    return Scene(text + back.said, layers, back.ground, back.paper)


def market(cast: Casting, chance: random.Random) -> Scene | None:
    """Two or three things on a table."""
    goods = ("food", "container", "plant", "object", "tool", "instrument", "toy")
    names = {
        cast.choose("table", chance, lambda kind: "i" in kind.where and kind.size <= 2 and kind.category in goods)
        for _ in range(chance.choice((2, 3)))
    }
    place = places.made("table", "day", chance)
    things = [cast.thing(n, chance) for n in sorted(names)]
    if len(things) < 2 or any(cast.shapes[t.index].opaque for t in things):
        return None
    layers = [cast.stand(t, (k + 0.5) / len(things), 0.9, 0.84 / len(things), place, chance) for k, t in enumerate(things)]
    said = [with_article(t.name) for t in things]
    return Scene(", ".join(said[:-1]) + f" and {said[-1]} {places.where(place, chance)}", layers, place.ground)


def forest_life(cast: Casting, chance: random.Random) -> Scene | None:
    """An animal among trees that are asked for."""
    animal = cast.choose("beasts", chance, lambda kind: kind.category == "animal" and "g" in kind.where and kind.words < 2)
    place = chosen_place(chance.choice(("field", "hills", "mountains", "park")), chance)
    thing = cast.thing(animal, chance)
    among = ("between two trees", "among trees", "under the trees", "and trees")
    trees = [cast.named(("tree", "pine tree", "evergreen tree", "deciduous tree"), chance) for _ in range(2)]
    if None in trees or cast.shapes[thing.index].opaque:
        return None
    layers = [
        cast.stand(t, x, place.standing[0] + 0.08, chance.uniform(0.42, 0.55), place, chance)
        for t, x in zip(trees, (0.16, 0.84), strict=True)
    ]
    layers.append(cast.stand(thing, 0.5, 0.93, chance.uniform(0.4, 0.52), place, chance))
    text = f"{with_article(thing.name)} {chance.choice(among)} {places.where(place, chance)}"
    return Scene(text, layers, place.ground)


def working(cast: Casting, chance: random.Random) -> Scene | None:
    """People at what they do: somebody at a counter with coffee is a barista."""
    what = chance.choice(("a barista", "a barista", *TRADES))
    person, tools = (cast.named(TRADES[what][part], chance) for part in ("who", "tools"))
    if person is None or tools is None or any(cast.shapes[t.index].opaque for t in (person, tools)):
        return None
    place = places.made(chance.choice(("room", "table", "room")), "day", chance)
    place.ground.horizon, place.ground.window = 0.7, (0.2, 0.25, 0.0, 0.0)
    layers = [cast.stand(person, 0.45, place.ground.horizon + 0.12, chance.uniform(0.62, 0.7), place, chance, shadow=0.0)]
    layers.append(cast.stand(tools, chance.choice((0.74, 0.7)), 0.93, chance.uniform(0.28, 0.36), place, chance))
    text = chance.choice((what, what, f"{what} with {with_article(tools.name)}", f"{what} at work"))
    return Scene(text, layers, place.ground)


def crossing(cast: Casting, chance: random.Random) -> Scene | None:
    """A bridge over a river."""
    place = chosen_place("river", chance)
    bridge = cast.named(("bridge", "arch bridge", "stone bridge", "wooden bridge", "suspension bridge"), chance)
    if bridge is None or cast.shapes[bridge.index].opaque:
        return None
    layer = cast.stand(bridge, 0.5, chance.uniform(0.78, 0.86), chance.uniform(0.8, 0.95), place, chance, shadow=0.0)
    text = f"{with_article(bridge.name)} {chance.choice(('over', 'over', 'across'))} a river"
    return Scene(text, [layer], place.ground)


def garden(cast: Casting, chance: random.Random) -> Scene | None:
    """Flowers in two rows."""
    place = chosen_place(chance.choice(("field", "park", "hills")), chance)
    if place.time in ("snow", "night"):
        return None
    thing = cast.named(("flower", "tulip", "sunflower", "rose", "mushroom", "cactus"), chance)
    if thing is None:
        return None
    behind = [cast.stand(thing, (k + 0.5) / 4, 0.78, 0.3, place, chance) for k in range(4)]
    before = [cast.stand(thing, (k + 0.5) / 4 + 0.1, 0.95, 0.38, place, chance) for k in range(3)]
    flowers, there = plural(thing.bare), places.where(place, chance)
    text = chance.choice((f"a field of {flowers}", f"{flowers} {there}", f"a garden with {flowers}"))
    return Scene(text, behind + before, place.ground)


def served(cast: Casting, chance: random.Random) -> Scene | None:
    """A bowl of fruit, a vase of flowers: several things that look out of what holds them."""
    what = chance.choice(list(HELD))
    vessels, known = ([name for name in HELD[what][part] if cast.painted.get(name)] for part in ("vessels", "things"))
    if not (vessels and known):
        return None
    name = chance.choice(vessels)
    vessel = cast.thing(name, chance, own=True)
    if " with " in cast.subjects[vessel.index].called:  # it has something in it already
        return None
    alike = chance.random() < 0.4
    names = [chance.choice(known)] * 3 if alike else [chance.choice(known) for _ in range(3)]
    things = [cast.thing(name, chance, own=True) for name in names]
    if any(cast.shapes[t.index].opaque for t in (vessel, *things)):
        return None
    tall = HELD[what]["tall"] * chance.uniform(0.9, 1.05)
    back = backdrop("table" if chance.random() < 0.3 else None, chance)
    below = cast.stand(vessel, 0.5, 0.94, HELD[what]["vessel"], back.place, chance)
    shape, scale = cast.shapes[vessel.index], 1 / below.place[1]
    rim, half = 0.94 - shape.height * scale, shape.width * scale / 2
    layers = []
    for thing, x, high in zip(things, (0.5 - 0.55 * half, 0.5 + 0.55 * half, 0.5), (0.0, 0.0, 0.03), strict=True):
        own = cast.shapes[thing.index]
        sunk = HELD[what]["sunk"] * tall * own.height / own.longest
        layers.append(cast.stand(thing, x, rim + sunk - high, tall, back.place, chance, shadow=0.0))
    content = plural(names[0]) if alike else what
    text = f"{with_article(name)} {chance.choice(('of', 'of', 'with', 'full of'))} {content}"
    if chance.random() < 0.15:
        text = f"{content} in {with_article(name)}"
    return Scene(text + back.said, [*layers, below], back.ground, back.paper)


def within(cast: Casting, chance: random.Random) -> Scene | None:
    """Something that looks out of something: a bird in a nest, a fish in a bucket."""
    what = chance.choice(list(WITHIN))
    vessels, known = ([name for name in WITHIN[what][part] if cast.painted.get(name)] for part in ("vessels", "things"))
    if not (vessels and known):
        return None
    vessel, name = cast.thing(chance.choice(vessels), chance, own=True), chance.choice(known)
    if vessel.colours.get("mask"):  # many an icon of a vessel is full, or seen through
        return None
    thing = cast.thing(name, chance, cast.subjects[vessel.index].style, cast.tint(name, chance, 0.15))
    if any(cast.shapes[t.index].opaque for t in (vessel, thing)):
        return None
    back = contrasting(backdrop("table" if chance.random() < 0.15 else None, chance), (thing,), chance)
    tall, shape, own = WITHIN[what]["vessel"] * chance.uniform(0.92, 1.05), cast.shapes[vessel.index], cast.shapes[thing.index]
    below = cast.stand(vessel, 0.5, 0.95, tall, back.place, chance)
    high, wide = (side / below.place[1] for side in (shape.height, shape.width))
    rim, sunk = 0.95 - high * (1 - WITHIN[what]["rim"]), chance.uniform(0.3, 0.4)
    above = min(rim - 0.02, 0.45) / (1 - sunk)  # as tall as fits above the rim, and no wider than the vessel
    across = 0.8 * wide * own.height / max(own.width, 0.05)
    high = min(above, across)
    layer = cast.stand(thing, 0.5, rim + sunk * high, high * own.longest / max(own.height, 0.05), back.place, chance, shadow=0.0)
    text = f"{with_article(thing.name)} {chance.choice(('in', 'in', 'in', 'inside'))} {with_article(what)}"
    return Scene(text + back.said, [layer, below], back.ground, back.paper)


def having(cast: Casting, chance: random.Random) -> Scene | None:
    """Somebody with something before them or above: a boy holding a ball, a girl with a kite, a monkey eating a banana."""
    known = HAVING[chance.choice(list(HAVING))]
    above, eaten = "above" in known, "eating" in known["said"]
    name, item = chance.choice(known["own"]).split() if "own" in known else (chance.choice(known[k]) for k in ("who", "things"))
    if item == name or not (cast.painted.get(name) and cast.painted.get(item)):
        return None
    who = cast.thing(name, chance, colour=cast.tint(name, chance, 0.08), own=True)
    colour = None if eaten else cast.tint(item, chance, 0.25)
    thing = cast.thing(item, chance, cast.subjects[who.index].style, colour, own=True)
    if any(t.colours.get("mask") or cast.shapes[t.index].opaque for t in (who, thing)):
        return None
    kinds = ("park", "city", "street", "beach", "field", "forest", "room")
    back = contrasting(backdrop(chance.choice(kinds) if chance.random() < 0.3 else None, chance), (who, thing), chance)
    side = chance.choice((-1, 1))
    tall = chance.uniform(0.58, 0.66) if above else chance.uniform(0.72, 0.8)
    body = cast.stand(who, 0.5 - side * (0.14 if above else 0.06), 0.93, tall, back.place, chance)
    shape, scale = cast.shapes[who.index], 1 / abs(body.place[1])
    head = shape.head - (shape.left + shape.right) / 2
    if eaten and abs(head) > 0.25 * shape.width:  # a tail, as in worn
        return None
    if above:  # beside the head, and as high as the frame lets it
        over = cast.hang(thing, 0.5 + side * 0.22, 0.27, chance.uniform(0.36, 0.44), back.place, chance)
    else:
        aside = head * (1 if body.place[0] > 0 else -1) if eaten else side * 0.3 * shape.width
        high = chance.uniform(0.3, 0.38)
        x = min(max(0.5 - side * 0.06 + aside * scale, high / 2), 1 - high / 2)
        over = cast.hang(thing, x, 0.95 - high / 2, high, back.place, chance)
    called = thing.name.replace(thing.bare, item)  # a leaf, not "leaf fluttering in wind"
    text = f"{with_article(who.name)} {chance.choice(known['said'])} {with_article(called)}"
    return Scene(text + back.said, [body, over], back.ground, back.paper)


def flight(cast: Casting, chance: random.Random) -> Scene | None:
    """Something in the air above a place."""
    flying = ("animal", "vehicle", "toy", "fantasy", "object")
    name = cast.choose("flyers", chance, lambda kind: "a" in kind.where and kind.category in flying and kind.words < 3)
    place = chosen_place(chance.choice(list(phrases.BELOW)), chance)
    thing = cast.thing(name, chance, colour=cast.tint(name, chance, 0.2))
    if cast.shapes[thing.index].opaque:
        return None
    layer = cast.hang(thing, chance.uniform(0.35, 0.65), chance.uniform(0.24, 0.36), chance.uniform(0.34, 0.48), place, chance)
    when = "" if place.time == "day" else " " + chance.choice(phrases.TIMES[place.time])
    text = f"{with_article(thing.name)} {chance.choice(('over', 'above', 'flying over'))} {phrases.BELOW[place.kind]}{when}"
    return Scene(text, [layer], place.ground)


def heavens(cast: Casting, chance: random.Random) -> Scene | None:
    """What stands in the sky above a place: a rainbow, the sun, the moon, a cloud."""
    what = chance.choice(list(HEAVENLY))
    kinds = [kind for kind in phrases.BELOW if HEAVENLY[what]["time"] in phrases.TIMES_OF[kind]]
    thing = cast.named(HEAVENLY[what]["names"], chance)
    if thing is None or thing.colours.get("mask") or cast.shapes[thing.index].opaque:
        return None
    place = places.made(chance.choice(kinds), HEAVENLY[what]["time"], chance)
    x, y = chance.uniform(0.35, 0.65), chance.uniform(0.18, 0.24)
    if what in ("sun", "moon"):
        place.ground.disc = (x, y, 0.0)  # there is but one, and what glows and glitters does so by it
    tall = HEAVENLY[what]["tall"] * chance.uniform(0.85, 1.1)
    layer = cast.hang(thing, x, y, tall, place._replace(light=WHITE, shadow=0.0), chance)
    called = with_article(thing.name if what in thing.name else what)
    called = f"the {what}" if what in ("sun", "moon") and chance.random() < 0.7 else called
    return Scene(f"{called} {chance.choice(('over', 'over', 'above'))} {phrases.BELOW[place.kind]}", [layer], place.ground)


GROUPS = (
    campfire,
    campfire,
    gathering,
    heavens,
    market,
    forest_life,
    working,
    working,
    garden,
    flight,
    crossing,
    served,
    served,
    within,
    within,
    having,
    having,
    having,
)


def group(cast: Casting, chance: random.Random) -> Scene | None:
    """Several things that belong together."""
    return chance.choice(GROUPS)(cast, chance)
