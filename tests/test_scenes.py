"""Laws of the scenes a text-to-image model learns from: what is said is shown, what is shown is said."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from phosphene.training.text_to_image import casting, groups, phrases, places, relations, scenes, settings
from phosphene.training.text_to_image import cutouts as cutouts_room
from phosphene.training.text_to_image import grounds as g
from phosphene.training.text_to_image.captions import ALSO, COLOURS, Subject
from phosphene.training.text_to_image.casting import Casting, Layer, Scene, Thing, unseen
from phosphene.training.text_to_image.cutouts import Cutouts, enclosed, placed, shape_of
from phosphene.training.text_to_image.grounds import LENGTH, Ground, draw_grounds
from phosphene.training.text_to_image.manners import MANNERS, exposed
from phosphene.training.text_to_image.phrases import plural, with_article
from phosphene.training.text_to_image.scenes import KINDS, SHARES, Director
from phosphene.training.text_to_image.staging import alone, drawn, staged

SIZE = 128
THINGS = (
    ("cat", "animal", 2, "gi"),
    ("dog", "animal", 2, "g"),
    ("fish", "animal", 1, "w"),
    ("bird", "animal", 1, "a"),
    ("horse", "animal", 4, "g"),
    ("man", "person", 3, "g"),
    ("woman", "person", 3, "g"),
    ("old man", "person", 3, "g"),
    ("house", "building", 5, "g"),
    ("tree", "plant", 5, "g"),
    ("fire", "object", 2, "g"),
    ("hat", "clothing", 1, "b"),
    ("crown", "clothing", 1, "b"),
    ("apple", "food", 1, "ih"),
    ("cup", "container", 1, "ih"),
    ("airplane", "vehicle", 5, "a"),
    ("car", "vehicle", 4, "g"),
    ("hot beverage", "food", 1, "ih"),
    ("chef", "person", 3, "g"),
    ("smiling face", "face", 2, "g"),
    ("flower", "plant", 1, "g"),
    ("left arrow", "symbol", 1, "g"),
    ("sunset", "place", 6, "p"),
)


def box(left: float, top: float, right: float, bottom: float, colour=(0, 0, 255), size: int = SIZE) -> torch.Tensor:
    """(4, S, S) bytes: a box in one colour on nothing."""
    layers = torch.zeros(4, size, size, dtype=torch.uint8)
    rows, columns = (slice(round(a * size), round(b * size)) for a, b in ((top, bottom), (left, right)))
    for channel, value in enumerate((*colour, 255)):
        layers[channel, rows, columns] = value
    return layers


@pytest.fixture(scope="module")
def cutouts() -> Cutouts:
    """Each thing twice painted and once an icon; the sunset is opaque."""
    pictures, subjects = [], []
    for k, (name, category, size, where) in enumerate(THINGS):
        known = {"concept": name, "name": name, "category": category, "size": size, "where": where}
        for style in ("noto", "fluent 3d", "icon"):
            if style == "icon":
                layers = torch.zeros(4, SIZE, SIZE, dtype=torch.uint8)
                layers[3] = box(0.2, 0.2, 0.8, 0.8)[3] - box(0.3, 0.3, 0.7, 0.7)[3]
                layers[:3] = torch.from_numpy(enclosed(layers[3].numpy()))
            elif category == "place":
                layers = box(0, 0, 1, 1, (255, 128, 0))
            else:
                layers = box(0.2, 0.3 - 0.01 * k, 0.8, 0.9, (40, 10 * k, 255 - 10 * k))
            pictures.append(layers)
            subjects.append(Subject(name, style, **known))
    shapes = [shape_of(p.numpy(), s.style == "icon") for p, s in zip(pictures, subjects, strict=True)]
    return Cutouts(torch.stack(pictures), subjects, shapes)


@pytest.fixture(scope="module")
def cast(cutouts) -> Casting:
    return Casting(cutouts.subjects, cutouts.shapes)


def many(cast, kind, count=400, **how):
    chance, director = random.Random(0), Director(cast)
    return [director.scene(chance, kind, "", **how) for _ in range(count)]


def centre(layer: Layer, cast: Casting) -> tuple[float, float]:
    """Where the middle of a layer's box is in the frame."""
    shape, (across, down, left, up) = cast.shapes[layer.index], layer.place
    x, y = (shape.left + shape.right) / 2 * 2 - 1, (shape.top + shape.bottom) / 2 * 2 - 1
    return ((x - left) / across + 1) / 2, ((y - up) / down + 1) / 2


# Words


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("cat", "cats"),
        ("fox", "foxes"),
        ("cherry", "cherries"),
        ("boy", "boys"),
        ("man", "men"),
        ("old woman", "old women"),
        ("fish", "fish"),
        ("glass", "glasses"),
        ("glass of milk", "glasses of milk"),
        ("man with a hat", "men with a hat"),
        ("scissors", "scissors"),
        ("leaf", "leaves"),
    ],
)
def test_plurals(one, several):
    assert plural(one) == several


@pytest.mark.parametrize(
    ("bare", "said"),
    [
        ("cat", "a cat"),
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("hourglass", "an hourglass"),
        ("two cats", "two cats"),
        ("a dog", "a dog"),
        ("scissors", "scissors"),
        ("glass of milk", "a glass of milk"),
        ("bus", "a bus"),
        ("glass", "a glass"),
        ("snow", "snow"),
        ("cats", "cats"),
    ],
)
def test_articles(bare, said):
    assert with_article(bare) == said


def test_every_place_has_words_and_times():
    assert phrases.TIMES_OF.keys() == phrases.PLACES.keys() and phrases.SNOWY.keys() <= phrases.PLACES.keys()
    assert {time for times in phrases.TIMES_OF.values() for time in times} == phrases.TIMES.keys()


# Cut-outs


def test_a_point_of_a_picture_comes_to_where_it_is_put():
    dot = torch.zeros(1, 4, SIZE, SIZE, dtype=torch.uint8)
    dot[:, 3, 40:44, 30:34] = 255  # middle at (32, 42)
    at = (32 / SIZE, 42 / SIZE)
    for x, y, scale, mirrored in ((0.5, 0.5, 1.0, False), (0.25, 0.75, 0.5, False), (0.7, 0.3, 1.5, True)):
        layer = Layer(0, placed(x, y, scale, at, mirrored))
        cutouts = Cutouts(dot, [Subject("dot")], [shape_of(dot[0].numpy(), False)])
        dark = 1 - (drawn(staged([Scene("", [layer])]), cutouts, SIZE)[0].mean(0) + 1) / 2
        rows, columns = torch.meshgrid(*(torch.arange(SIZE) + 0.5,) * 2, indexing="ij")
        assert (dark * columns).sum() / dark.sum() == pytest.approx(x * SIZE, abs=0.6)
        assert (dark * rows).sum() / dark.sum() == pytest.approx(y * SIZE, abs=0.6)


def test_a_picture_alone_is_itself_on_white(cutouts):
    layers = cutouts.pictures[:2].float() / 255
    torch.testing.assert_close((alone(cutouts, [0, 1], SIZE) + 1) / 2, layers[:, :3] + 1 - layers[:, 3:], atol=1e-5, rtol=0)
    ring = (alone(cutouts, [2], SIZE)[0] + 1) / 2
    torch.testing.assert_close(ring, (1 - cutouts.pictures[2, 3:].float() / 255).expand(3, -1, -1), atol=1e-5, rtol=0)


def test_what_lines_enclose_is_found_and_filled(cutouts):
    parts, line = cutouts.pictures[2, :3], cutouts.pictures[2, 3]
    inner = box(0.3, 0.3, 0.7, 0.7)[3]
    assert ((parts[0] > 0) >= (inner > 0)).all() and not (parts[0] > 0)[(line == 0) & (inner == 0)].any() and not parts[1:].any()
    assert not enclosed(inner.numpy()).any() and not enclosed(np.zeros((20, 20), np.uint8)).any()
    teal, gold = COLOURS["teal"], COLOURS["gold"]
    layer = Layer(2, (1.0, 1.0, 0.0, 0.0), mask=True, ink=gold, fills=(*teal, *[-1.0] * 6))
    shown = (drawn(staged([Scene("", [layer])]), cutouts, SIZE)[0] + 1) / 2
    for where, colour in ((inner > 0, teal), (line > 0, gold)):
        torch.testing.assert_close(shown[:, where].mean(1), torch.tensor(colour), atol=0.02, rtol=0)


def test_nearer_layers_hide_farther_ones_and_mirrors_mirror(cutouts):
    whole = (1.0, 1.0, 0.0, 0.0)
    both = drawn(staged([Scene("", [Layer(0, whole), Layer(3, whole)])]), cutouts, SIZE)
    middle = (slice(None), slice(None), slice(60, 100), slice(40, 90))
    assert torch.equal(both[middle], alone(cutouts, [3], SIZE)[middle])
    mirrored = drawn(staged([Scene("", [Layer(0, (-1.0, 1.0, 0.0, 0.0))])]), cutouts, SIZE)
    torch.testing.assert_close(mirrored, alone(cutouts, [0], SIZE).flip(-1), atol=1e-5, rtol=0)


def test_a_tint_keeps_light_and_dark(cutouts):
    layer = Layer(0, (1.0, 1.0, 0.0, 0.0), tint=COLOURS["green"], tinted=1.0)
    shown = (drawn(staged([Scene("", [layer])]), cutouts, SIZE)[0] + 1) / 2
    red, green, blue = shown[:, 70, 60]
    assert green > red and green > blue
    assert torch.equal(shown[:, 2, 2], torch.ones(3))


def test_a_shape_says_where_the_box_and_the_head_are():
    layers = box(0.25, 0.5, 0.75, 1.0) | box(0.6, 0.25, 0.7, 0.6)
    shape = shape_of(layers.numpy(), False)
    assert (shape.left, shape.top, shape.right, shape.bottom) == pytest.approx((0.25, 0.25, 0.75, 1.0), abs=0.01)
    assert shape.head == pytest.approx(0.65, abs=0.02) and not shape.opaque
    assert list(COLOURS)[shape.hue] in ("blue", "navy")
    assert shape_of(box(0, 0, 1, 1).numpy(), False).opaque


# What is said and what is shown


def test_the_kinds_are_those_of_the_shares():
    assert KINDS.keys() == SHARES.keys() | scenes.SIMPLE.keys() | {"restyled"}  # which there is where a model drew some
    for shares in (SHARES, scenes.PLAIN, scenes.SIMPLE):
        assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_made_staged_and_drawn(cast, cutouts, kind):
    made = many(cast, kind, 24)
    assert all(scene.text == scene.text.strip() and "  " not in scene.text and "{" not in scene.text for scene in made)
    shown = drawn(staged(made[:8]), cutouts, 16, torch.Generator().manual_seed(0))
    assert shown.shape == (8, 3, 16, 16) and shown.isfinite().all() and shown.abs().max() <= 1


def test_a_tinted_thing_is_called_by_its_colour(cast):
    told = Counter()
    for scene in many(cast, "single", 1500):
        (layer,) = scene.layers
        if layer.tinted:
            near = min(COLOURS, key=lambda c: sum((a - b) ** 2 for a, b in zip(COLOURS[c], layer.tint, strict=True)))
            told[any(word in scene.text for word in ALSO.get(near, (near,)))] += 1
    assert told[True] > 100 and told[False] < 0.06 * told[True]  # jitter makes a neighbour of one colour in twenty


def test_as_many_are_shown_as_are_said(cast):
    numbers = {word: number for number, word in phrases.NUMBERS.items()}
    counted = [scene for scene in many(cast, "count") if scene.text.split()[0] in numbers]
    assert len(counted) > 200
    assert all(len(scene.layers) == numbers[scene.text.split()[0]] for scene in counted)


def test_where_no_number_is_said_there_are_about_so_many(cast):
    fitting, found = {"two": (2, 2), "some": (3, 5), "many": (6, 7)}, Counter()
    for scene in many(cast, "count", 1500):
        for ways, (least, most) in fitting.items():
            starts = [way.split("{}")[0] for way in phrases.AMOUNTS[ways] if way != "{}"]
            if any(scene.text.startswith(start) for start in starts) and scene.text not in phrases.FLOCKS.values():
                flock = any(scene.text.startswith(words) for words in phrases.FLOCKS.values())
                assert flock or least <= len(scene.layers) <= most, scene.text
                found[ways] += 1
    assert all(found[ways] > 20 for ways in fitting)


def test_what_is_said_to_be_small_is_smaller_than_what_is_said_to_be_large(cast):
    tall = {size: [] for size in phrases.SIZES}
    for scene in many(cast, "single", 3000):
        for size, words in phrases.SIZES.items():
            if scene.text.removeprefix("a ").removeprefix("an ").startswith(tuple(words)):
                (layer,) = scene.layers
                shape = cast.shapes[layer.index]
                tall[size].append(max(shape.height, shape.width) / layer.place[1])
    assert min(map(len, tall.values())) > 20
    assert max(tall["small"]) < 0.5 < 0.85 < min(tall["large"])


def test_people_together_are_as_many_as_is_said(cast):
    found = Counter()
    for seed in range(120):
        scene = groups.gathering(cast, random.Random(seed))
        if scene is None:
            continue
        names = [cast.subjects[layer.index].called for layer in scene.layers]
        assert {cast.kind[name].category for name in names} == {"person"}
        across = [centre(layer, cast)[0] for layer in scene.layers]
        assert all(b - a > 0.1 for a, b in itertools.pairwise(across))
        if "family" in scene.text:
            assert 3 <= len(names) <= 5 and set(names[:2]) <= set(groups.FAMILY[0])
        elif scene.text.startswith(("a crowd", "many", "lots")):
            assert len(names) >= 5
        else:
            number = {word: k for k, word in phrases.NUMBERS.items()}.get(scene.text.split()[0], len(names))
            assert "people" in scene.text and 3 <= len(names) <= 6 and number == len(names)
        found[scene.text.split()[0]] += 1
    assert len(found) > 5


def test_a_pair_of_scissors_is_one(cast):
    said = {phrases.amount(2, "scissors", random.Random(seed)) for seed in range(50)}
    assert said == {"two scissors"}
    assert {"two cats", "a pair of cats", "a couple of cats"} == {phrases.amount(2, "cats", random.Random(k)) for k in range(90)}


def test_no_caption_ends_in_the_number_of_a_drawing(cutouts):
    known = [replace(subject, caption=f"{subject.caption} 2") for subject in cutouts.subjects]
    numbered = Casting(known, cutouts.shapes)
    assert not any(c.isdigit() for scene in many(numbered, "single", 600) for c in scene.text.replace("3d", ""))


def test_a_bridge_over_a_river_stands_in_it_and_not_in_the_sky(cast, monkeypatch):
    monkeypatch.setattr(cast, "named", lambda names, chance: Thing(cast.painted["cat"][0], names[0], names[0], {}))
    for seed in range(40):
        scene = groups.crossing(cast, random.Random(seed))
        (layer,) = scene.layers
        (x, _), (_, down, _, up) = centre(layer, cast), layer.place
        foot = ((cast.shapes[layer.index].bottom * 2 - 1 - up) / down + 1) / 2
        assert scene.text in ("a bridge over a river", "a bridge across a river") and scene.ground is not None
        assert x == pytest.approx(0.5, abs=0.02) and 0.75 < foot < 0.9
    monkeypatch.setattr(cast, "named", lambda names, chance: None)
    assert groups.crossing(cast, random.Random(0)) is None
    assert not any("over" in words for words in phrases.RELATED["above"])


@pytest.mark.parametrize("relation", phrases.RELATED)
def test_relations_are_as_they_are_said(cast, relation):
    chance = random.Random(1)
    a, b = (Thing(cast.painted[name][0], name, name, {}) for name in ("cat", "dog"))
    for _ in range(50):
        two = relations.Two(a, b, 0.4, 0.5, 0.9, None)
        layers = relations._LAID[relation](cast, two, relation, chance)
        (ax, ay), (bx, by) = (next(centre(x, cast) for x in layers if x.index == t.index) for t in (a, b))
        order = [layer.index for layer in layers]
        match relation:
            case "left of":
                assert ax < bx - 0.3
            case "right of":
                assert ax > bx + 0.3
            case "next to" | "and":
                assert abs(ax - bx) > 0.3
            case "on" | "above":
                assert ay < by - 0.15
            case "under":
                assert ay > by + 0.15
            case "in front of":
                assert order == [b.index, a.index]
            case "behind":
                assert order == [a.index, b.index]


@pytest.mark.parametrize(("name", "caption"), [("chair", "chair"), ("chair", "event seat"), ("bed", "bed"), ("bench", "bench")])
def test_somebody_sits_in_a_seat_and_upon_anything_else(name, caption):
    """Of whatever caption: on the top of the back nobody sits."""
    pictures = {"cat": box(0.2, 0.3, 0.8, 0.9), name: box(0.3, 0.1, 0.7, 0.95), "table": box(0.1, 0.4, 0.9, 0.9)}
    subjects = [Subject(n, "noto", n, n, "object", 3, "g") for n in pictures]
    subjects[1] = replace(subjects[1], caption=caption)
    cast = Casting(subjects, [shape_of(picture.numpy(), False) for picture in pictures.values()])
    cat, seat, table = (Thing(k, s.caption, s.caption, {}) for k, s in enumerate(subjects))
    for seed in range(20):
        two = relations.Two(cat, seat, 0.5, 0.5, 0.9, None)
        below, above = relations._upon(cast, two, "on", random.Random(seed))
        assert (below.index, above.index) == (1, 0)
        (top, foot), (head, stands) = edges(below, cast), edges(above, cast)
        tall = foot - top
        assert top + 0.4 * tall < stands < foot - 0.3 * tall and head > 0
        assert centre(above, cast)[0] == pytest.approx(centre(below, cast)[0], abs=0.02)
        below, above = relations._upon(cast, two._replace(b=table), "on", random.Random(seed))
        assert edges(above, cast)[1] == pytest.approx(edges(below, cast)[0] + 0.05, abs=0.01)
        below, above = relations._upon(cast, two, "above", random.Random(seed))
        assert edges(above, cast)[1] < edges(below, cast)[0] + 0.02


def test_some_compositions_are_kept_out_of_training(cutouts, cast, monkeypatch):
    share = sum(unseen("red", k) for k in range(4000)) / 4000
    assert share == pytest.approx(1 / 20, abs=0.01)
    for module in (casting, relations, scenes):
        monkeypatch.setattr(module, "unseen", lambda *words: True)
    chance = random.Random(0)
    assert all(relations.pair(cast, chance) is None for _ in range(50))
    assert not any(layer.tinted for kind in KINDS for scene in many(cast, kind, 60) for layer in scene.layers)
    new = Casting(cutouts.subjects, cutouts.shapes, new=True)
    assert any(relations.pair(new, chance) for _ in range(50))


def test_what_is_kept_out_is_not_shown_under_a_second_name(monkeypatch):
    """A feline is shown by the paintings of a cat: what is not to be seen of a cat is not to be seen of a feline."""
    judged(monkeypatch, {}, {"feline": ["cat", "lion"]})
    said = [(word, *rest) for word in (*COLOURS, 2, 3, 4, 5) for rest in ((), ("dog",))]
    assert [unseen(*words, "feline") for words in said] == [unseen(*words, "cat") for words in said]
    assert [unseen("feline", *words) for words in said] == [unseen("cat", *words) for words in said]
    assert any(unseen(*words, "cat") != unseen(*words, "lion") for words in said)


def test_what_is_kept_out_is_kept_out_of_filled_icons_too(cutouts, monkeypatch):
    """An icon has no colours of its own: what fills it is chosen, and said."""
    monkeypatch.setattr(casting, "unseen", lambda colour, name: colour in ("red", "purple", "yellow"))
    icons = [k for k, s in enumerate(cutouts.subjects) if s.style == "icon"]
    cast = Casting(cutouts.subjects, cutouts.shapes, [k in icons for k in range(len(cutouts))])
    told = [scene.text for kind in ("single", "icon") for scene in many(cast, kind, 400)]
    grounds = (" background", " on ")
    plain = [text for text in told if not any(word in text for word in grounds)]
    assert len(plain) > 200 and not any(word in text.split() for text in plain for word in ("red", "purple", "yellow"))
    assert any("orange" in text for text in plain)


def test_some_looks_of_a_thing_are_shown_oftener(cutouts, cast):
    chance = random.Random(0)
    shown = Counter(cutouts.subjects[cast.thing("cat", chance).index].style for _ in range(4000))
    looks = casting.LOOKS
    assert shown["fluent 3d"] / shown["noto"] == pytest.approx(looks["fluent 3d"] / looks["noto"], rel=0.1)
    icons = Casting(cutouts.subjects * 2, cutouts.shapes * 2, [s.style == "icon" for s in cutouts.subjects] * 2)
    first, second = Counter(icons.thing("cat", chance).index for _ in range(4000)).most_common()
    assert first[0] == icons.icons["cat"][0] and first[1] / second[1] == pytest.approx(2**1.5, rel=0.15)


def test_the_drawing_that_most_agree_on_is_shown_most(monkeypatch):
    """Of twenty windmills one was a pinwheel, and it came first."""
    tall, odd = [box(0.3, 0.1, 0.7, 0.8), box(0.4, 0.2, 0.8, 0.9), box(0.25, 0.05, 0.6, 0.85)], box(0.1, 0.4, 0.9, 0.6)
    pictures = [odd, *tall, odd]
    names = ["windmill"] * 4 + ["bridge"]
    shapes = [shape_of(p.numpy(), True) for p in pictures]
    outlines = np.stack([cutouts_room._outline(p.numpy(), s) for p, s in zip(pictures, shapes, strict=True)])
    subjects = [Subject(name, "icon", concept=name, name=name) for name in names]
    typical = cutouts_room._with_typical(outlines, subjects, shapes)
    assert 1.5 * typical[0].typical < min(s.typical for s in typical[1:4]) and typical[4].typical == 0
    shown = Counter(Casting(subjects, typical).thing("windmill", random.Random(k)).index for k in range(2000))
    assert min(shown, key=shown.get) == 0 and set(shown) == {0, 1, 2, 3}


def judged(monkeypatch, known: dict[str, tuple], alike: dict[str, list[str]] | None = None) -> None:
    """Let ``known`` and ``alike`` be all that somebody has said of what people know things by."""
    monkeypatch.setattr(casting, "ASKED", {name: casting.Known(*told) for name, told in known.items()})
    monkeypatch.setattr(casting, "ALIKE", alike or {})


def test_what_people_ask_for_is_shown_far_oftener_however_few_drew_it(cutouts, monkeypatch):
    judged(monkeypatch, {"mote": (0,), "moth": (2,), "cat": (3,), "dog": (3,), "yak": (2,)})
    drawn_by = {"mote": 1, "mite": 1, "moth": 1, "cat": 1, "dog": 4, "yak": 4}
    subjects = [Subject(name, "noto", name=name, category="animal") for name, number in drawn_by.items() for _ in range(number)]
    cast = Casting(subjects, [cutouts.shapes[0]] * len(subjects))
    weight = {name: cast.weight(name) for name in drawn_by}
    one = [replace(s, style="icon") for s in subjects]
    for name, least in (("mote", 2.5), ("mite", 2.0), ("moth", 2.0), ("cat", 3.0)):  # of an icon alone too
        asked = casting.ASKED.get(name, casting.Known()).asked
        wanted = least * casting.TAKEN[asked] * casting.OFTEN["animal"] ** 0.5
        assert Casting(one, [cutouts.shapes[0]] * len(one)).weight(name) == weight[name] == pytest.approx(wanted)
    assert weight["mote"] < weight["mite"] < weight["moth"] < weight["yak"] < weight["cat"] == weight["dog"]
    assert weight["cat"] > 10 * weight["mote"] and weight["cat"] > 5 * weight["mite"]
    chosen = Counter(cast.choose("any", random.Random(k)) for k in range(6000))
    for name in drawn_by:
        assert chosen[name] / 6000 == pytest.approx(weight[name] / sum(weight.values()), rel=0.3)


@pytest.mark.parametrize(
    ("source", "drawing"),
    [
        ("@iconify-json/game-icons", "game-icons:windmill"),
        ("game-icons@1.2.3", "game-icons:windmill"),
        ("@iconify-json/streamline-flex@1.2.3", "streamline-flex:windmill"),
        ("Open Clip Art Library", "Open:windmill"),
        ("mozilla/fxemoji", "mozilla:windmill"),
        ("", ":windmill"),
    ],
)
def test_a_drawing_is_told_by_its_set_and_its_caption_there(source, drawing):
    assert Subject("windmill", source=source).drawing == drawing


@pytest.fixture
def windmills(cutouts) -> Callable[[], Casting]:
    """Casts a painting, six icons, of which two are called alike in their set, and a picture without a ground."""
    painting, icon, opaque = (next(k for k, s in enumerate(cutouts.subjects) if s.concept == c) for c in ("cat", "dog", "sunset"))
    mill = Subject("windmill", "icon", name="windmill", category="building", size=5, where="g")
    sets = [("mill", "a"), ("windmill", "b"), ("windmill", "b"), ("mill", "b"), ("windmill", "c"), ("windmill", "d")]
    subjects = [replace(mill, style="fluent 3d", source="a")]
    subjects += [replace(mill, caption=caption, source=source) for caption, source in sets]
    subjects += [replace(mill, style="noto", source="sight")]
    shapes = [cutouts.shapes[k] for k in (painting, *[icon + 2] * 6, opaque)]
    return lambda: Casting(subjects, shapes)


@pytest.mark.parametrize(("drawing", "known"), [("b:windmill", 2), ("b:windmill#2", 3), ("b:mill", 4), ("a:windmill", 0)])
def test_a_thing_is_shown_most_by_the_drawing_it_is_known_by(windmills, drawing, known, monkeypatch):
    def shown(**how) -> Counter:
        return Counter(windmills().thing("windmill", random.Random(k), **how).index for k in range(1500))

    judged(monkeypatch, {})
    before, painted = shown(), shown(style="fluent 3d")
    judged(monkeypatch, {"windmill": (2, drawing)})
    share, chance = shown()[known] / 1500, before[known] / 1500
    assert share > 0.5 and share == pytest.approx(casting.BEST + (1 - casting.BEST) * chance, abs=0.04)
    # Where a style is asked for, that comes first.
    assert shown(style="fluent 3d")[known] == pytest.approx(painted[known], abs=60)


@pytest.mark.parametrize(("drawing", "share"), [("b:windmill", 0.33), ("a:windmill", 0.9), ("", 0.9)])
def test_the_icon_that_a_thing_is_known_by_is_seldom_called_a_cartoon(windmills, drawing, share, monkeypatch):
    """The others are told from the paintings by that; this one is what the bare noun means."""
    judged(monkeypatch, {"windmill": (2, drawing)})
    cast, chance = windmills(), random.Random(0)
    thing = Thing(2, "windmill", "windmill", {"mask": True})
    told = [settings.styled(cast, thing, chance) for _ in range(2000)]
    assert sum(text != "windmill" for text in told) / 2000 == pytest.approx(share, abs=0.04)
    assert all(any(word in text for word in phrases.FILLED) for text in told if text != "windmill")


def test_as_an_icon_a_thing_is_shown_most_by_the_one_it_is_known_by(windmills, monkeypatch):
    def shown(drawing: str) -> Counter:
        judged(monkeypatch, {"windmill": (2, drawing)})
        cast = windmills()
        return Counter(scenes.icon(cast, random.Random(k)).layers[0].index for k in range(1200))

    ranks = [1 / k**1.5 for k in range(1, 7)]
    first, fourth = ranks[0] / sum(ranks), ranks[3] / sum(ranks)
    assert shown("b:mill")[4] / 1200 == pytest.approx(0.5 + 0.5 * fourth, abs=0.04)
    for drawing in ("", "a:windmill"):  # none, or one that is no icon
        assert set(shown(drawing)) == {1, 2, 3, 4, 5, 6} and shown(drawing)[1] / 1200 == pytest.approx(first, abs=0.04)


def test_every_icon_is_learned_whether_people_ask_for_it_or_not(cutouts, monkeypatch):
    """Of most things icons are all that there is, and of icons nothing is seen but what is shown as one."""
    judged(monkeypatch, {"mote": (0,), "cat": (3,), "yak": (1,)})
    at = next(k for k, s in enumerate(cutouts.subjects) if s.concept == "cat" and s.style == "icon")
    subject = cutouts.subjects[at]
    names = ["mote", "cat", *["yak"] * 4]
    cast = Casting([replace(subject, caption=name, name=name) for name in names], [cutouts.shapes[at]] * len(names))
    told = [scenes.icon(cast, random.Random(k)) for k in range(1200)]
    shown = Counter(names[scene.layers[0].index] for scene in told)
    for name, wanted in (("mote", 1 / 4), ("cat", 1 / 4), ("yak", 1 / 2)):
        assert shown[name] / 1200 == pytest.approx(wanted, abs=0.04)
    assert all(scene.layers[0].place[0] > 0 for scene in told)  # one look is learned sooner than two
    assert any(scene.layers[0].place[0] < 0 for scene in (scenes.single(cast, random.Random(k)) for k in range(20)))


def test_what_is_filled_is_in_no_style(cutouts, monkeypatch):
    """Words of style are of paintings: said of filled icons, "flat" and "cartoon" would come to mean these."""
    judged(monkeypatch, {})
    icons = [k for k, s in enumerate(cutouts.subjects) if s.style == "icon"]
    alone = Casting([cutouts.subjects[k] for k in icons], [cutouts.shapes[k] for k in icons])
    made = [scenes.single(alone, random.Random(k)) for k in range(1500)]
    styles = {word for words in phrases.STYLES.values() for word in words} - {"icon", *phrases.SOLID, *phrases.OUTLINE}
    texts = [scene.text for scene in made]
    assert not [text for text in texts if " style" in text or any(f" {word} " in f" {text} ".replace(",", "") for word in styles)]
    assert not styles & set(phrases.FILLED)
    assert sum(any(f"{word} of " in text for word in phrases.FILLED) for text in texts) > 300


@pytest.mark.parametrize("drawing", ["b:windmill#3", "e:windmill", "c:mill", "b:wind"])
def test_a_drawing_that_is_not_there_changes_nothing(windmills, drawing, monkeypatch):
    def shown() -> list[Thing]:
        return [windmills().thing("windmill", random.Random(k)) for k in range(300)]

    judged(monkeypatch, {"windmill": (2,)})
    before = shown()
    judged(monkeypatch, {"windmill": (2, drawing)})
    assert shown() == before


def test_a_drawing_without_a_ground_is_in_no_scene_though_it_is_what_a_thing_is_known_by(windmills, monkeypatch):
    judged(monkeypatch, {"windmill": (2, "sight:windmill")})
    cast, chance = windmills(), random.Random(0)
    assert not any(cast.shapes[cast.thing("windmill", chance).index].opaque for _ in range(300))
    seen = sum(cast.shapes[cast.thing("windmill", chance, plain=True).index].opaque for _ in range(1500))
    assert seen / 1500 > casting.BEST - 0.04


@pytest.mark.parametrize(("judgement", "colour"), [((2, "b:windmill"), "gray"), ((2, "b:windmill", "purple"), "purple")])
def test_an_icon_that_a_thing_is_known_by_has_its_own_colour_where_none_is_said(windmills, judgement, colour, monkeypatch):
    judged(monkeypatch, {"windmill": judgement})
    monkeypatch.setattr(casting, "unseen", lambda *words: False)
    cast, chance = windmills(), random.Random(0)
    assert cast.own_colour("windmill") == colour
    things = [cast.named(["windmill"], chance) for _ in range(300)]
    fills = [thing.colours["fills"][:3] for thing in things if thing.index == 2]
    assert len(fills) > 150 and all(thing.name == thing.bare for thing in things if thing.index == 2)
    assert np.abs(np.array(fills) - COLOURS[colour]).max() < 0.09


def test_a_thing_is_shown_by_paintings_of_what_is_like_it(cutouts, monkeypatch):
    """A red apple is an apple, and a feline is a cat."""
    alike = {"horse": ["dog", "cat"], "bird": ["fish"], "feline": ["lion", "cat"], "ship": ["boat"], "pet": ["tree"]}
    judged(monkeypatch, {}, alike)
    used = [(s.name, s.style) not in (("horse", "noto"), ("horse", "fluent 3d")) for s in cutouts.subjects]
    used = [u and (s.name != "tree" or s.style == "icon") for u, s in zip(used, cutouts.subjects, strict=True)]
    cast, chance = Casting(cutouts.subjects, cutouts.shapes, used), random.Random(0)

    def shown(name: str) -> set[tuple[str, bool]]:
        indices = {cast.thing(name, chance).index for _ in range(400)}
        return {(cutouts.subjects[k].name, cutouts.subjects[k].style == "icon") for k in indices}

    assert shown("horse") == {("dog", False), ("cat", False), ("horse", True)}  # its icons remain
    assert shown("bird") == {("fish", False), ("bird", False), ("bird", True)}
    assert shown("feline") == {("cat", False)} and shown("cat") == {("cat", False), ("cat", True)}
    assert cast.kind["feline"] == ("feline", "animal", 2, "gi") and cast.kind["horse"] == ("horse", "animal", 4, "g")
    # What has paintings of nothing is no word, nor is what is like an icon.
    assert {"ship", "pet"}.isdisjoint(cast.names) and set(cast.names) == {thing[0] for thing in THINGS} | {"feline"}


@pytest.fixture
def usual(cutouts, monkeypatch) -> Casting:
    """What people ask for: cats, trees and men, and felines, but no wolves."""
    known = {"cat": (3,), "tree": (2,), "man": (2,), "dog": (0,), "feline": (2,), "wolf": (0,)}
    judged(monkeypatch, known, {"feline": ["cat"], "wolf": ["cat"], "hound": ["cat"], "plant": ["flower"]})
    return Casting(cutouts.subjects, cutouts.shapes, ordinary=True)


def test_an_ordinary_cast_has_what_people_ask_for_in_colours_of_its_own(usual, cutouts):
    assert usual.names == ["cat", "feline", "man", "tree"]
    chance = random.Random(0)
    assert not any(usual.tint(name, chance, 1.0) for name in usual.names for _ in range(200))
    icons = Casting(cutouts.subjects, cutouts.shapes, [s.style == "icon" for s in cutouts.subjects], ordinary=True)
    things = [icons.thing("cat", chance) for _ in range(200)]
    assert all(thing.name == thing.bare for thing in things)
    assert np.std([thing.colours["fills"][:3] for thing in things], axis=0).max() < 0.08


def test_what_is_shown_without_words_is_ordinary_and_in_no_manner(usual, cast, monkeypatch):
    assert Director(cast, usual).ordinary is cast  # of so few things they are not all that is shown
    monkeypatch.setattr(scenes, "ENOUGH", 4)
    director, chance = Director(cast, usual), random.Random(0)
    made = [director.plain(chance, 0.2) for _ in range(1500)]
    shown = Counter(cast.subjects[layer.index].name for scene in made for layer in scene.layers)
    assert set(shown) == {"cat", "man", "tree"} and min(shown.values()) > 50
    assert not any(scene.manner for scene in made) and not any(layer.tinted for scene in made for layer in scene.layers)
    # Places are among them, and what stands in one; nothing of several kinds is.
    assert any(not scene.layers for scene in made) and any(scene.layers and scene.ground for scene in made)
    anything = [director.scene(chance) for _ in range(500)]
    assert {cast.subjects[layer.index].name for scene in anything for layer in scene.layers} > set(shown)
    alone = Director(cast)
    assert {cast.subjects[x.index].name for _ in range(300) for x in alone.plain(chance, 0.2).layers} > set(shown)


def test_an_ordinary_thing_is_shown_by_paintings_of_what_nobody_asks_for(cutouts, monkeypatch):
    """An apple is asked for, a red apple is not, and there are paintings of that alone."""
    judged(monkeypatch, {"pet": (3,), "dog": (0,), "tree": (2,)}, {"pet": ["dog"], "hound": ["dog"]})
    cast, chance = Casting(cutouts.subjects, cutouts.shapes, ordinary=True), random.Random(0)
    assert cast.names == ["pet", "tree"] and {"pet", "tree"} >= {name for name, drawings in cast.painted.items() if drawings}
    assert {cutouts.subjects[cast.thing("pet", chance).index].name for _ in range(50)} == {"dog"}
    assert {cutouts.subjects[x.index].name for _ in range(300) for x in Director(cast).plain(chance, 0.2).layers} == {
        "dog",
        "tree",
    }


def test_a_share_of_what_is_shown_without_words_is_simply_drawn(usual, cast, cutouts, monkeypatch):
    monkeypatch.setattr(scenes, "ENOUGH", 4)
    simple = [s.name == "fish" for s in cutouts.subjects]
    drawings, chance = Casting(cutouts.subjects, cutouts.shapes, simple), random.Random(0)
    director, made = Director(cast, usual, drawings), Counter()
    for _ in range(1500):
        scene = director.plain(chance, 0.3)
        shown = {cast.subjects[layer.index].name for layer in scene.layers}
        assert shown in (set(), {"fish"}) or "fish" not in shown
        made["fish" in shown, scene.ground is not None] += 1
        assert not scene.manner
    there, alone = made[True, True], made[True, False]
    assert (there + alone) / 1500 == pytest.approx(0.3, abs=0.03) and min(there, alone) > 60
    told = [director.scene(chance) for _ in range(300)]
    assert any({cast.subjects[layer.index].name for layer in scene.layers} - {"fish"} for scene in told)


def test_a_fruit_bowl_is_a_bowl_of_fruit(cutouts):
    things = (("fruit bowl", "container"), ("flower vase", "container"), ("ink bottle", "container"), ("fruit", "food"))
    things += (("flower", "plant"), ("ink", "object"))
    subjects = [Subject(name, "noto", concept=name, name=name, category=kind) for name, kind in things]
    cast, chance = Casting(subjects, cutouts.shapes[: len(things)]), random.Random(0)
    said = {k: {cast.called(k, things[k][0], chance) for _ in range(50)} for k in range(3)}
    assert said == {0: {"fruit bowl", "bowl of fruit"}, 1: {"flower vase", "vase of flowers"}, 2: {"ink bottle"}}


def test_a_filled_icon_has_one_colour_of_its_own_unless_another_is_said(cutouts):
    """What a caption doesn't say and chance decides can't be learned but as a blur."""
    icons = Casting(cutouts.subjects, cutouts.shapes, [s.style == "icon" for s in cutouts.subjects])
    chance = random.Random(0)
    inks = {True: [], False: []}
    for _ in range(200):
        thing = icons.thing("cat", chance)
        inks[thing.name == thing.bare].append(thing.colours["fills"][:3])
    spread = {silent: np.std(fills, axis=0).max() for silent, fills in inks.items()}
    assert spread[True] < 0.08 < 0.3 < spread[False]


def test_icons_are_shown_where_a_thing_has_only_poor_paintings(cutouts, monkeypatch):
    """A single clumsy painting would else be all that is learned of a windmill."""
    judged(monkeypatch, {})
    icon, painting = (
        next(k for k, s in enumerate(cutouts.subjects) if (s.style == "icon") == wanted) for wanted in (True, False)
    )
    chance, share = random.Random(0), {}
    for style in ("line emoji", "fluent 3d"):
        subjects = [replace(cutouts.subjects[painting], name="cat", style=style)] + [cutouts.subjects[icon]] * 6
        shapes = [cutouts.shapes[painting]] + [cutouts.shapes[icon]] * 6
        cast = Casting(subjects, shapes)
        assert set(cast.names) == {"cat"}
        share[style] = sum(cast.thing("cat", chance).index > 0 for _ in range(1000)) / 1000
    assert share["fluent 3d"] < 0.25 and share["line emoji"] > 0.5


@pytest.mark.parametrize(("name", "colour"), [("fire", "orange"), ("pile of wood", "brown"), ("tree house", "brown")])
def test_an_icon_has_the_colour_of_its_kind_unless_another_is_said(cutouts, name, colour):
    icon = next(k for k, s in enumerate(cutouts.subjects) if s.style == "icon")
    cast = Casting([replace(cutouts.subjects[icon], name=name, caption=name)], [cutouts.shapes[icon]], new=True)
    assert cast.own_colour(name) == colour
    chance = random.Random(0)
    things = [cast.named([name], chance) for _ in range(50)]
    assert all(thing.name == thing.bare for thing in things)
    assert np.std([thing.colours["fills"][:3] for thing in things], axis=0).max() < 0.08


def test_what_is_dark_is_no_darker_for_a_light_tint():
    """A dark bird in yellow is yellow, not brown."""
    dark = np.zeros((24, 24, 4), np.uint8)
    dark[4:20, 4:20] = (40, 40, 40, 255)
    pictures = torch.from_numpy(dark).permute(2, 0, 1)[None]
    layer = casting.Layer(0, (1.0, 1.0, 0.0, 0.0), tint=COLOURS["yellow"], tinted=1.0, shadow=(0.5, 0.5, 1.0, 0.0))
    seen = cutouts_room._laid(torch.ones(1, 3, 24, 24), pictures, torch.tensor([layer.row()]))[0, :, 12, 12]
    assert seen[0] > 0.5 and seen[2] < 0.3


def test_opaque_pictures_have_no_ground_and_are_in_no_scene(cast):
    opaque = {k for k, shape in enumerate(cast.shapes) if shape.opaque}
    assert opaque
    for kind in KINDS:
        for scene in many(cast, kind, 150):
            if any(layer.index in opaque for layer in scene.layers):
                assert kind in ("single", "restyled") and scene.paper == (1.0, 1.0, 1.0) and "background" not in scene.text


def test_what_has_a_direction_is_never_mirrored(cast):
    arrows = {k for k, s in enumerate(cast.subjects) if s.handed}
    flips = [layer.place[0] < 0 for scene in many(cast, "single", 3000) for layer in scene.layers if layer.index in arrows]
    assert flips and not any(flips)
    others = [layer.place[0] < 0 for scene in many(cast, "single", 600) for layer in scene.layers if layer.index not in arrows]
    assert sum(others) / len(others) == pytest.approx(0.5, abs=0.08)


def test_hats_are_above_and_smaller_than_who_wears_them(cast):
    worn = [s for s in many(cast, "worn", 300) if any(f" {word} " in s.text for word in ("wearing",))]
    assert len(worn) > 50
    for scene in worn:
        who, hat = scene.layers[-2:]
        assert centre(hat, cast)[1] < centre(who, cast)[1] and abs(hat.place[1]) > abs(who.place[1])


def test_somebody_is_what_the_hat_says(cast, monkeypatch):
    """A king is a man with a crown; as nothing is said of a colour, nothing has been given one."""
    monkeypatch.setattr(cast, "_iconic", lambda *_: 0.5)
    made = [scene for scene in many(cast, "worn", 6000) if {"king", "queen"} & set(scene.text.split())]
    said, fills = Counter(), []
    for scene in made:
        who, hat = scene.layers
        assert cast.subjects[hat.index].name == "crown" and cast.subjects[who.index].style != "icon"
        assert cast.subjects[who.index].name in (("man", "old man") if "king" in scene.text.split() else ("woman",))
        assert not who.tinted and scene.text.startswith(("a king", "a queen"))
        silent = "crown" not in scene.text
        said["king" in scene.text, silent] += 1
        if silent:
            assert not hat.tinted
            fills += [hat.fills[:3]] if hat.mask else []
    assert len(said) == 4 and min(said.values()) > 15
    assert fills and np.abs(np.array(fills) - COLOURS[cast.own_colour("crown")]).max() < 0.09
    assert not any("cowboy" in scene.text for scene in many(cast, "worn", 1000))  # there is no hat of one


@pytest.fixture
def dressing(monkeypatch) -> Callable[[dict], tuple[Casting, list[Scene]]]:
    """Casts pictures by their names, and makes scenes of who wears or holds what."""

    def made(pictures: dict[str, torch.Tensor]) -> tuple[Casting, list[Scene]]:
        judged(monkeypatch, {})
        kinds = {"hat": ("clothing", "b"), "cup": ("container", "h"), "cat": ("animal", "g"), "cat face": ("face", "g")}
        subjects = [Subject(name, "noto", name, name, kinds[name][0], 1, kinds[name][1]) for name in pictures]
        cast = Casting(subjects, [shape_of(picture.numpy(), False) for picture in pictures.values()])
        return cast, [scene for k in range(400) if (scene := groups.worn(cast, random.Random(k)))]

    return made


ITEMS = {"hat": box(0.2, 0.3, 0.8, 0.7), "cup": box(0.3, 0.3, 0.7, 0.8)}
TAILED = box(0.1, 0.5, 0.8, 0.9) | box(0.75, 0.1, 0.85, 0.6)  # from the side: what is uppermost is the tail


def test_an_animal_wears_its_hat_on_the_face_of_which_the_bare_name_is_said(dressing):
    cast, made = dressing({**ITEMS, "cat": TAILED, "cat face": box(0.2, 0.2, 0.8, 0.8)})
    bare = [scene for scene in made if "face" not in scene.text]
    assert len(bare) > 100 and cast.frontal("cat") == "cat face" and cast.frontal("hat") == "hat"
    shown = {frozenset(cast.subjects[layer.index].name for layer in scene.layers) for scene in made}
    assert shown == {
        frozenset({"hat", "cat face"}),
        frozenset({"cup", "cat"}),
        frozenset({"cup", "cat face"}),
    }  # a head has no hands
    assert all(" cat " in f"{scene.text} " for scene in bare) and any("wearing" in scene.text for scene in bare)
    assert cast.frontal("cat face") == "cat face"  # which may be named as a host itself
    _, without = dressing({**ITEMS, "cat": box(0.2, 0.2, 0.8, 0.8)})
    assert any("wearing" in scene.text for scene in without)


def test_who_has_the_uppermost_part_far_aside_wears_no_hat(dressing):
    """It would sit on the tail."""
    cast, made = dressing({**ITEMS, "cat": TAILED})
    assert len(made) > 50
    assert {cast.subjects[scene.layers[-1].index].name for scene in made} == {"cup"}
    cast, made = dressing({**ITEMS, "cat": box(0.1, 0.5, 0.8, 0.9) | box(0.35, 0.1, 0.55, 0.6)})
    assert Counter(cast.subjects[scene.layers[-1].index].name for scene in made)["hat"] > 0.5 * len(made)


@pytest.fixture
def kitchen(monkeypatch) -> Casting:
    """Vessels and what is put into them, each painted once, upright and lying."""
    judged(monkeypatch, {})
    boxes = {"bowl": (0.1, 0.5, 0.9, 0.9), "basket": (0.2, 0.3, 0.8, 0.9), "vase": (0.35, 0.1, 0.65, 0.9)}
    boxes |= {"rose": (0.35, 0.1, 0.65, 0.9), "tulip": (0.3, 0.2, 0.7, 0.8), "pear": (0.3, 0.2, 0.7, 0.9)}
    boxes |= {"banana": (0.1, 0.4, 0.9, 0.7), "cucumber": (0.1, 0.4, 0.9, 0.6), "carrot": (0.2, 0.2, 0.8, 0.8)}
    subjects = [Subject(name, "noto", concept=name, name=name, category="object", size=1, where="i") for name in boxes]
    return Casting(subjects, [shape_of(box(*sides).numpy(), False) for sides in boxes.values()])


def edges(layer: Layer, cast: Casting) -> tuple[float, float]:
    """Where a layer's box begins and ends in the frame, from above."""
    shape, (_, down, _, up) = cast.shapes[layer.index], layer.place
    return tuple(((y * 2 - 1 - up) / down + 1) / 2 for y in (shape.top, shape.bottom))


def test_what_is_served_looks_out_of_what_holds_it(kitchen):
    told = Counter()
    for seed in range(600):
        scene = groups.served(kitchen, random.Random(seed))
        *within, vessel = scene.layers  # which hides what is in it
        names, held_by = [kitchen.subjects[x.index].name for x in within], kitchen.subjects[vessel.index].name
        (what,) = [w for w, known in casting.HELD.items() if held_by in known["vessels"] and set(names) <= set(known["things"])]
        (rim, foot), (middle, _) = edges(vessel, kitchen), centre(vessel, kitchen)
        half = kitchen.shapes[vessel.index].width / vessel.place[1] / 2
        for layer in within:
            top, bottom = edges(layer, kitchen)
            assert top < rim - 0.03 and rim < bottom < foot - 0.02, names
            assert abs(centre(layer, kitchen)[0] - middle) < half
        alike = len(set(names)) == 1 and plural(names[0]) in scene.text
        content = plural(names[0]) if alike else what
        ways = [f"a {held_by} {how} {content}" for how in ("of", "with", "full of")]
        assert scene.text.startswith((*ways, f"{content} in a {held_by}")), scene.text
        told[what, alike] += 1
    assert len(told) == 6 and min(told.values()) > 20
    assert not any(layer.tinted for layer in scene.layers) and groups.served in groups.GROUPS


def test_a_vessel_is_called_by_its_name_whatever_its_caption(kitchen):
    """A bowl of fruit, not a "bowl with spoon" of fruit."""
    subjects = [replace(s, caption="bowl with spoon") if s.name == "bowl" else s for s in kitchen.subjects]
    cast = Casting(subjects, kitchen.shapes, [s.name in ("bowl", "pear", "banana") for s in subjects])
    made = [groups.served(cast, random.Random(k)).text for k in range(600) if groups.served(cast, random.Random(k))]
    assert len(made) > 100 and all("a bowl" in text and "spoon" not in text for text in made)


def test_nothing_is_served_without_a_vessel_or_what_is_put_into_it(kitchen):
    for name in ("bowl", "pear"):
        few = Casting(kitchen.subjects, kitchen.shapes, [s.name == name for s in kitchen.subjects])
        assert not any(groups.served(few, random.Random(k)) for k in range(40))


@pytest.mark.parametrize(("kind", "time", "share"), [("field", "night", 0.3), ("field", "day", 0), ("space", "night", 0)])
def test_now_and_then_a_thing_is_told_by_the_time_alone(cast, monkeypatch, kind, time, share):
    """An owl at night; by day, and where it makes no difference, it is told by the place."""
    monkeypatch.setattr(scenes, "chosen_place", lambda _, chance: places.made(kind, time, chance))
    texts = [s.text for s in many(cast, "here", 600) if s.ground is not None]
    timed = [text for text in texts if not any(there in text for there in phrases.PLACES[kind][0])]
    assert len(texts) > 500 and len(timed) / len(texts) == pytest.approx(share, abs=0.06 if share else 0)
    assert all(text.endswith(phrases.TIMES[time]) for text in timed)


def test_pictures_of_which_nothing_is_known_are_shown_alone(cutouts):
    plain = [Subject(s.caption, s.style) for s in cutouts.subjects]
    director = Director(Casting(plain, cutouts.shapes))
    assert director.shares.keys() == {"single", "icon"}
    assert all(len(director.scene(random.Random(k)).layers) == 1 for k in range(50))


@pytest.mark.parametrize("style", ["noto", "icon"])
@pytest.mark.parametrize("names", [[thing[0]] for thing in THINGS] + [["chef", "top hat"]])
def test_a_few_pictures_of_few_kinds_make_scenes_all_the_same(cutouts, names, style):
    """Neither flyers nor beasts are among them, nothing to hold or nothing painted: what is there is shown."""
    used = [s.name in names and s.style == style for s in cutouts.subjects]
    few = Casting(cutouts.subjects, cutouts.shapes, used)
    for kind in KINDS:
        for scene in many(few, kind, 40):
            assert {cutouts.subjects[layer.index].name for layer in scene.layers} <= set(names) and scene.text


def test_a_manner_is_named(cast):
    director, chance = Director(cast), random.Random(0)
    words = {
        "oil": "oil",
        "watercolour": "watercolo",
        "pencil": ("pencil", "sketch"),
        "charcoal": "charcoal",
        "pixels": "pixel art",
    }
    words |= {"glass": "stained glass", "photo": "photo", "lithograph": ("lithograph", "engraving", "etching")}
    for name in MANNERS:
        for _ in range(30):
            scene = director.scene(chance, manner=name)
            told = words[name] if isinstance(words[name], tuple) else (words[name],)
            assert scene.manner == name and any(word in scene.text for word in told), scene.text
    assert not director.scene(chance, "icon").manner


# Places and manners


@pytest.mark.parametrize("kind", phrases.PLACES)
def test_places_can_be_drawn_at_any_time(kind):
    for time in set(phrases.TIMES_OF[kind]):
        place = places.made(kind, time, random.Random(3))
        row = place.ground.row()
        assert len(row) == LENGTH
        shown = draw_grounds(torch.tensor([row]), 48, torch.Generator().manual_seed(0))
        assert shown.shape == (1, 3, 48, 48) and shown.isfinite().all() and 0 <= shown.min() and shown.max() <= 1
        assert shown.std() > 0.01
        assert torch.equal(shown, draw_grounds(torch.tensor([row]), 48, torch.Generator().manual_seed(0)))
        assert places.where(place, random.Random(0)) and places.called(place, random.Random(0))


def test_nights_are_darker_than_days():
    for kind in ("field", "city", "mountains", "sea"):
        day, night = (
            torch.tensor([places.made(kind, time, random.Random(k)).ground.row() for k in range(4)]) for time in ("day", "night")
        )
        shown = [draw_grounds(rows, 32, torch.Generator().manual_seed(0)).mean() for rows in (day, night)]
        assert shown[1] < 0.6 * shown[0]


def test_the_floor_begins_at_the_horizon():
    row = Ground(
        sky_top=(0, 0, 1), sky_low=(0, 0, 1), horizon=0.5, floor_near=(1, 0, 0), floor_far=(1, 0, 0), texture=g.PLAIN
    ).row()
    shown = draw_grounds(torch.tensor([row]), 40, torch.Generator().manual_seed(0))[0]
    assert (shown[2, :19] > 0.9).all() and (shown[0, :19] < 0.1).all() and (shown[0, 21:] > 0.9).all()


def test_a_mound_is_one_hill_with_its_top_in_the_middle():
    hill = g.Ridge(g.MOUND, 1.0, 0.6, colour=(1, 0, 0))
    row = Ground(sky_top=(0, 0, 1), sky_low=(0, 0, 1), horizon=1.2, near=hill).row()
    shown = draw_grounds(torch.tensor([row]), 100, torch.Generator().manual_seed(0))[0]
    tops = [int((column[0] > 0.5).nonzero()[0]) for column in shown[:, :, 5:-5].unbind(2)]
    assert min(tops) == pytest.approx(40, abs=1) and tops[0] > 85 and tops[-1] > 85
    middle = tops.index(min(tops))
    assert tops[:middle] == sorted(tops[:middle], reverse=True) and tops[middle:] == sorted(tops[middle:])
    assert abs(tops.index(min(tops)) - 45) < 8 and all((column[0, 98] > 0.5) for column in shown[:, :, 5:-5].unbind(2))


@pytest.mark.parametrize("time", ["day", "sunset", "night"])
def test_a_castle_on_a_hill_stands_with_its_foot_on_the_mound(monkeypatch, time):
    """Just below the foot is the hill, a little above it the sky."""
    judged(monkeypatch, {})
    monkeypatch.setattr(Casting, "fitting", lambda *_: "hilltop")
    monkeypatch.setattr(scenes, "chosen_place", lambda kind, chance: places.made(kind, time, chance))
    cast = Casting([Subject("castle", "noto", "castle", "castle", "building", 5, "g")], [shape_of(box(*WHOLE).numpy(), False)])
    made = [scenes.here(cast, random.Random(k)) for k in range(60)]
    made = [scene for scene in made if scene.ground.near.outline == g.MOUND]
    assert len(made) > 40 and "hilltop" not in casting.LAND  # where two or more are shown, some would stand before the hill
    said = phrases.PLACES["hilltop"][0]
    shown = draw_grounds(torch.tensor([s.ground.row() for s in made]), SIZE, torch.Generator().manual_seed(0))
    for scene, picture in zip(made, shown, strict=True):
        assert scene.text.endswith(phrases.TIMES[time]) or any(there in scene.text for there in said)
        (layer,) = scene.layers
        (top, foot), (x, _) = edges(layer, cast), centre(layer, cast)
        assert top > 0 and 0.6 < foot < 0.8
        column, hill = picture[:, :, round(x * SIZE)], torch.tensor(scene.ground.near.colour)
        below, above = ((column[:, round(y * SIZE)] - hill).abs().max() for y in (foot + 0.025, foot - 0.06))
        assert below < 0.1 and above > max(2 * below, 0.08), (scene.text, below, above)


def test_of_several_in_a_place_each_is_seen(cast):
    """Up to five stand in a row; more in two, those behind between those before, and not hidden by them."""
    thing = Thing(cast.painted["cat"][0], "cat", "cat", {})
    for seed, number in itertools.product(range(20), (2, 3, 4, 5, 6, 7)):
        place, chance = places.made("field", "day", random.Random(seed)), random.Random(seed)
        layers = [scenes._among(cast, thing, k, number, place, chance) for k in range(number)]
        feet = sorted(round(edges(layer, cast)[1], 1) for layer in layers)
        assert number > 5 or feet[-1] - feet[0] < 0.11
        xs = sorted(centre(layer, cast)[0] for layer in layers)
        assert min(b - a for a, b in itertools.pairwise(xs)) > 0.03
        tops = [edges(layer, cast)[0] for layer in layers]
        assert number < 6 or max(tops[: number // 3]) < min(tops[number // 2 :]) - 0.02


def test_a_green_hill_has_no_white_tip():
    for seed in range(12):
        place = places.made("hilltop", "day", random.Random(seed))
        shown = draw_grounds(torch.tensor([place.ground.row()]), 64, torch.Generator().manual_seed(seed))[0]
        top = round((place.standing[0]) * 64)
        assert (shown[1, top + 1 : top + 5, 31:33] > shown[0, top + 1 : top + 5, 31:33]).all()  # greener than it is red


def test_hats_are_within_the_frame(cast):
    for scene in many(cast, "worn", 400):
        if any(word in scene.text for word in ("wearing", " in a ")) and len(scene.layers) == 2:
            assert edges(scene.layers[-1], cast)[0] > -0.02, scene.text


def test_a_name_that_says_a_colour_has_no_other():
    subjects = [Subject(name, "icon", name, name, "object", 2, "g") for name in ("red carpet", "carpet")]
    shapes = [shape_of(np.concatenate([enclosed(x := box(0.2, 0.2, 0.8, 0.8)[3].numpy()), x[None]]), True)] * 2
    cast, chance = Casting(subjects, shapes), random.Random(0)
    assert cast.own_colour("red carpet") == "red" and not any(cast.tint("red carpet", chance, 1.0) for _ in range(50))
    assert all(cast.thing("red carpet", chance).name.count("red") == 1 for _ in range(50))
    assert any(cast.tint("carpet", chance, 1.0) for _ in range(50))


def test_what_is_in_an_odd_place_is_said_to_be_there(monkeypatch):
    """An owl at night is anywhere; a whale in the desert is there, whatever the time."""
    judged(monkeypatch, {})
    monkeypatch.setattr(Casting, "fitting", lambda *_: "lake")
    cast = Casting([Subject("whale", "noto", "whale", "whale", "animal", 5, "w")], [shape_of(box(*WHOLE).numpy(), False)])
    kinds, timed = [], 0
    monkeypatch.setattr(scenes, "chosen_place", lambda kind, chance: (kinds.append(kind), settings.chosen_place(kind, chance))[1])
    for k in range(3000):
        scene = scenes.here(cast, random.Random(k))
        there = [phrase for table in (phrases.PLACES, phrases.SNOWY) for phrase in table.get(kinds[-1], ((),))[0]]
        said = any(phrase in scene.text for phrase in there)
        assert said or kinds[-1] == "lake", scene.text
        timed += not said
    assert timed > 100 and len({*kinds}) > 15


def test_what_is_not_counted_is_not_counted(monkeypatch):
    judged(monkeypatch, {})
    subjects = [Subject(name, "noto", name, name, "food", 1, "i") for name in ("bread", "apple")]
    cast = Casting(subjects, [shape_of(box(*WHOLE).numpy(), False)] * 2)
    assert all("bread" not in scene.text for k in range(100) if (scene := scenes.count(cast, random.Random(k))))


WHOLE = (0.1, 0.1, 0.9, 0.9)


@pytest.mark.parametrize("name", MANNERS)
@pytest.mark.parametrize("size", [64, 128])
def test_manners_change_a_picture_and_keep_its_range(cutouts, name, size):
    x = torch.nn.functional.interpolate((alone(cutouts, [0, 4, 8], 128) + 1) / 2, size=size, mode="area")
    made = [MANNERS[name][0](x, torch.Generator().manual_seed(2)) for _ in range(2)]
    assert made[0].shape == x.shape and torch.equal(*made)
    assert made[0].min() >= 0 and made[0].max() <= 1 and made[0].isfinite().all()
    assert (made[0] - x).square().mean().sqrt() > 0.02


def test_what_is_photographed_stands_before_a_wall_with_a_shadow_below_it():
    x = torch.ones(6, 3, SIZE, SIZE)
    x[:, :, 40:80, 44:84] = torch.tensor([0.8, 0.2, 0.2])[:, None, None]
    plain, made = (exposed(p, torch.Generator().manual_seed(0)) for p in (torch.ones_like(x), x))
    assert made.amin(1)[:, 5:-5, 5:-5].max() < 0.9
    below, above = (slice(86, 92), slice(54, 84)), (slice(28, 34), slice(44, 74))
    darker = [(plain - made)[:, :, rows, columns].mean((1, 2, 3)) for rows, columns in (below, above)]
    assert (darker[0] > 0.05).all() and (darker[0] > 2 * darker[1]).all()


@pytest.mark.parametrize("side", [64, 128, 192])
def test_a_photograph_is_an_instant_print_on_a_desk(side):
    x = torch.ones(6, 3, side, side) * torch.tensor((0.2, 0.5, 0.8))[:, None, None]
    made = MANNERS["photo"][0](x, torch.Generator().manual_seed(0))
    assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1

    def at(across: float, down: float) -> torch.Tensor:
        return made[:, :, round(down * side), round(across * side)]

    card, corner = (at(0.5, 0.06), at(0.11, 0.45), at(0.5, 0.9)), at(0.01, 0.5)
    assert all(colour.min() > 0.9 for colour in card) and corner.max() < 0.6  # white above, beside and below; a desk beyond
    shown = at(0.5, 0.45)
    assert (shown[:, 2] > shown[:, 0] + 0.25).all()  # and within what was to be shown
    assert len({tuple(row.tolist()) for row in (corner * 100).round()}) > 1  # not always on the same desk


def test_drawings_without_colour_have_none(cutouts):
    x = (alone(cutouts, [0, 4], SIZE) + 1) / 2
    for name in ("pencil", "charcoal"):
        made = MANNERS[name][0](x, torch.Generator().manual_seed(0))
        assert (made.amax(1) - made.amin(1)).max() < 0.08


def test_what_is_in_the_sky_is_above_the_place_and_keeps_its_light(cast, monkeypatch):
    monkeypatch.setattr(cast, "named", lambda names, chance: Thing(cast.painted["bird"][0], names[0], names[0], {}))
    found = Counter()
    for seed in range(80):
        scene = groups.heavens(cast, random.Random(seed))
        (layer,) = scene.layers
        what = next(what for what in groups.HEAVENLY if what in scene.text)
        assert any(scene.text.endswith(words) for words in phrases.BELOW.values()) and scene.ground is not None
        assert centre(layer, cast)[1] < 0.4 and layer.light == (1.0, 1.0, 1.0)
        found[what] += 1
    assert found.keys() == groups.HEAVENLY.keys()
    monkeypatch.setattr(cast, "named", lambda names, chance: None)
    assert groups.heavens(cast, random.Random(0)) is None


def test_what_is_white_is_not_on_white_paper(cast):
    seen = 0
    for kind in ("single", "count", "pair"):
        for scene in many(cast, kind, 2500):
            for layer in scene.layers:
                colour = layer.ink if layer.mask else layer.tint if layer.tinted else None
                if colour is not None and scene.ground is None and not (cast.shapes[layer.index].opaque):
                    assert sum(abs(a - b) for a, b in zip(colour, scene.paper, strict=True)) > 0.4, scene.text
                    seen += min(colour) > 0.9
    assert seen > 60


def test_paper_that_can_stay_stays(cast):
    thing = Thing(0, "a cat", "cat", {"tint": (1.0, 1.0, 1.0), "tinted": 1.0})
    for chance in map(random.Random, range(30)):
        other = settings.contrasting(settings.Backdrop(), [thing], chance)
        assert min(other.paper) < 0.8 and (not other.said or "background" in other.said)
    blue = settings.Backdrop(None, " on blue", (0.1, 0.2, 0.9))
    assert settings.contrasting(blue, [thing], random.Random(0)) is blue
    dark = Thing(0, "a cat", "cat", {"mask": True, "ink": (0.1, 0.2, 0.9)})
    assert settings.contrasting(blue, [dark], random.Random(0)) == settings.Backdrop()
    assert settings.contrasting(settings.Backdrop(), [Thing(0, "a cat", "cat", {})], random.Random(0)) == settings.Backdrop()


def test_what_is_within_looks_out_over_the_rim_and_is_behind_the_vessel(cast, monkeypatch):
    monkeypatch.setattr(groups, "WITHIN", {k: {**w, "vessels": ["cup"]} for k, w in groups.WITHIN.items()})
    cup = set(cast.painted["cup"])
    found = [scene for seed in range(120) if (scene := groups.within(cast, random.Random(seed)))]
    assert len(found) > 40
    for scene in found:
        thing, below = scene.layers
        assert below.index in cup and " in" in scene.text

        def span(layer):
            (_, scale, _, up), shape = layer.place, cast.shapes[layer.index]
            return (((y * 2 - 1 - up) / scale + 1) / 2 for y in (shape.top, shape.bottom))

        (top, foot), (brim, base) = span(thing), span(below)
        assert -0.01 < top < brim < foot < base < 1 or any(w["rim"] > 0.15 and k in scene.text for k, w in groups.WITHIN.items())


def test_somebody_has_something_low_before_them_or_above(cast, monkeypatch):
    """A boy holding a ball, a girl with a kite, and what eats has it under its head, whichever way it looks."""
    names = [name for name in cast.painted if cast.painted[name] and name != "sunset"][:4]
    shapes = [shape._replace(head=shape.left + 0.36 * shape.width) for shape in cast.shapes]
    monkeypatch.setattr(cast, "shapes", shapes)
    tables = {
        "low": {"who": names, "things": names, "said": ["holding", "with"]},
        "high": {"who": names, "things": names, "said": ["with"], "above": True},
        "eaten": {"own": [f"{names[0]} {names[1]}"], "said": ["eating"]},
    }
    for kind, known in tables.items():
        monkeypatch.setattr(groups, "HAVING", {kind: known})
        found = [scene for seed in range(120) if (scene := groups.having(cast, random.Random(seed)))]
        mirrored = Counter()
        assert len(found) > 60
        for body, thing in (scene.layers for scene in found):
            (top, foot), (upper, lower) = edges(body, cast), edges(thing, cast)
            (x, _), (at, _) = centre(body, cast), centre(thing, cast)
            wide = cast.shapes[body.index].width / abs(body.place[0])
            mirrored[body.place[0] < 0] += 1
            assert -0.02 < min(top, upper) and max(foot, lower) < 1.02 and body.index != thing.index
            if kind == "high":
                assert upper < top + 0.15 and abs(at - x) == pytest.approx(0.36, abs=0.02)
            elif kind == "low":
                assert upper > top + 0.3 * (foot - top) and abs(at - x) == pytest.approx(0.3 * wide, abs=0.03)
            else:
                assert at - x == pytest.approx((-0.14 if body.place[0] > 0 else 0.14) * wide, abs=0.03)
        assert len(mirrored) == 2
    monkeypatch.setattr(cast, "shapes", [shape._replace(head=shape.right) for shape in shapes])  # a tail
    assert not [seed for seed in range(40) if groups.having(cast, random.Random(seed))]
    assert groups.having in groups.GROUPS


def test_any_painting_is_shown_now_and_then(monkeypatch):
    """One of a name that hardly anybody asks for, in a style that is rarely chosen."""
    judged(monkeypatch, {})
    styles = ["noto"] * 9 + ["colour icon"]
    subjects = [Subject(f"cat {k}", style, "cat", "cat", "animal", 2, "g") for k, style in enumerate(styles)]
    cast, chance = Casting(subjects, [shape_of(box(0.2, 0.2, 0.8, 0.8).numpy(), False)] * 10), random.Random(0)

    def rare(every: float) -> float:
        monkeypatch.setattr(scenes, "EVERY", every)
        return sum(scenes.single(cast, chance).layers[0].index == 9 for _ in range(4000)) / 4000

    usual = rare(0.0)
    assert usual < 0.02 and rare(1.0) == pytest.approx(0.1, abs=0.02)
    assert rare(0.5) == pytest.approx((0.1 + usual) / 2, abs=0.02)
    cast.ordinary = True  # of what is asked for where nothing is said, that is not wanted
    assert rare(1.0) < 0.02


def test_a_caption_that_says_another_colour_than_the_name_is_not_said(monkeypatch):
    """What is called a black cat in one set is purple, and the table says so."""
    judged(monkeypatch, {})
    names = {"black cat": "purple cat", "black dog": "dog"}
    subjects = [Subject(caption, "noto", name=name) for caption, name in names.items()]
    cast = Casting(subjects, [shape_of(box(0.2, 0.2, 0.8, 0.8).numpy(), False)] * 2)
    told = [{cast.called(k, s.called, random.Random(n)) for n in range(100)} for k, s in enumerate(subjects)]
    assert told == [{"purple cat"}, {"black dog", "dog"}]
    assert {cast.painting(1, "dog", random.Random(n), "blue").bare for n in range(100)} == {"dog"}
