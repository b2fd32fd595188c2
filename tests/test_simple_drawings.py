"""tools/simple_drawings.py: what it draws is what people ask for, is seen on white paper, and is trained on."""

from __future__ import annotations

import random
import sys
import tarfile
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from phosphene.training.text_to_image import phrases
from phosphene.training.text_to_image.captions import MASK, Subject
from phosphene.training.text_to_image.casting import ASKED, FLAT, LOOKS, ORDINARY, PEN
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.pictures import read
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.stories import Stories

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.append(str(TOOLS))
import simple_drawings as tool  # noqa: E402
from simple_shapes import INK, PAINTS, PALE, Hand, drawn  # noqa: E402
from words import Table  # noqa: E402

SIZE, EACH = 64, 3


def written(path: Path, *argv: object) -> Path:
    """The shard that the tool writes at ``path``, with few drawings of each thing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "EACH", EACH)
        patch.setattr(sys, "argv", ["simple_drawings.py", str(path), "--size", str(SIZE), *map(str, argv)])
        tool.main()
    return path


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("drawings") / "simple.tar")


@pytest.fixture(scope="module")
def drawings(shard) -> list[tuple[np.ndarray, Subject]]:
    """(S, S, 4) in 0..1, with what each shows."""
    return [(np.asarray(image.convert("RGBA")) / 255, subject) for image, subject in read(shard)]


def extent(there: np.ndarray) -> np.ndarray:
    """Top, bottom, left, right of what is there."""
    found = [np.flatnonzero(there.any(axis)) for axis in (1, 0)]
    return np.array([side for lines in found for side in (lines[0], lines[-1] + 1)])


def on_white(image: np.ndarray) -> np.ndarray:
    return image[..., :3] * image[..., 3:] + 1 - image[..., 3:]


# What is drawn


def test_every_thing_is_known_and_asked_for():
    known = Table(TOOLS / "captions.tsv").by_name()
    for name in tool.DRAWINGS:
        assert known[name].category and 1 <= known[name].size <= 6 and known[name].where, name
        assert ASKED[name].asked >= ORDINARY, name
    assert len(tool.DRAWINGS) == len(tool.buildings.ALL) + len(tool.things.ALL)


def test_training_reads_the_shard_with_what_is_known_of_each_thing(drawings):
    known = Table(TOOLS / "captions.tsv").by_name()
    assert Counter((s.name, s.style) for _, s in drawings) == dict.fromkeys(product(tool.DRAWINGS, (FLAT, PEN)), EACH)
    for image, subject in drawings:
        assert image.shape == (SIZE, SIZE, 4)
        assert (subject.called, subject.category, subject.size, subject.where) == known[subject.caption]
        assert subject.concept == f"drawn {subject.name}" and subject.source == "phosphene"


def test_the_styles_have_words_and_are_seldom_what_a_bare_noun_shows():
    assert MASK not in (FLAT, PEN)
    for style in (FLAT, PEN):
        assert phrases.STYLES[style] and phrases.SAID[style] > 0 and LOOKS[style] < min(LOOKS[s] for s in ("noto", "fluent 3d"))


def test_the_same_call_gives_the_same_bytes(shard, tmp_path):
    assert written(tmp_path / "again.tar").read_bytes() == shard.read_bytes()
    with tarfile.open(shard) as tar:
        names = tar.getnames()
    assert len(set(names)) == len(names) == 2 * 2 * EACH * len(tool.DRAWINGS)


# How


def test_no_two_drawings_of_a_thing_are_alike(drawings):
    of = defaultdict(list)
    for image, subject in drawings:
        of[subject.name, subject.style].append(on_white(image))
    for what, made in of.items():
        for a, b in combinations(made, 2):
            assert np.abs(a - b).mean() > 0.01, what


def test_each_fills_its_frame_and_is_cut_off_nowhere(drawings):
    for image, subject in drawings:
        there = image[..., 3] > 0.5
        top, bottom, left, right = extent(there)
        assert max(bottom - top, right - left) > 0.6 * SIZE, subject
        assert there.mean() > (0.02 if subject.style == PEN else 0.06), subject
        edges = there[0], there[-1], there[:, 0], there[:, -1]
        assert max(edge.mean() for edge in edges) < 0.2, subject


def test_a_pen_draws_lines_of_one_colour(drawings):
    share = defaultdict(list)
    for image, subject in drawings:
        there = image[..., 3] > 0.5
        top, bottom, left, right = extent(there)
        share[subject.style].append(there[top:bottom, left:right].mean())
        inks = image[there][:, :3]
        if subject.style == PEN:
            assert np.quantile(np.abs(inks - np.median(inks, 0)), 0.95) < 0.12, subject
    assert max(share[PEN]) < 0.5 and np.mean(share[PEN]) < 0.25 < 0.5 < np.mean(share[FLAT])


def test_the_whole_of_a_drawing_is_seen_on_white_paper(drawings):
    """A white snowman needs an outline, and a white cup's handle too."""
    for image, subject in drawings:
        seen = on_white(image).min(2) < 0.84
        assert np.abs(extent(seen) - extent(image[..., 3] > 0.5)).max() <= 2, subject


@pytest.mark.parametrize("name", ["cup", "snowman", "cat", "house", "rocket"])
def test_none_of_many_drawings_is_lost_on_white_paper(name):
    for k in range(60):
        chance = random.Random(k)
        image = np.asarray(drawn(list(tool.DRAWINGS[name](Hand(chance))), FLAT, SIZE, chance)) / 255
        seen = on_white(image).min(2) < 0.84
        assert np.abs(extent(seen) - extent(image[..., 3] > 0.5)).max() <= 2, k


@pytest.mark.parametrize(("paint", "always"), [("white", True), ("cream", True), ("red", False), ("green", False)])
def test_what_is_pale_is_outlined_always_and_the_rest_now_and_then(paint, always):
    assert (sum(PAINTS[paint]) > PALE) == always
    outlined = 0
    for k in range(40):
        chance = random.Random(k)
        image = np.asarray(drawn([Hand(chance).box(0.2, 0.2, 0.8, 0.8, PAINTS[paint], bold=True)], FLAT, 128, chance)).astype(int)
        ink = (image[..., :3].max(2) < 110) & (image[..., 3] > 128)
        if ink.any():  # all the way round
            outlined += 1
            assert np.abs(extent(ink) - extent(image[..., 3] > 128)).max() <= 1
        assert np.abs(image[40:88, 40:88, :3] - PAINTS[paint]).max() < 3
    assert outlined == 40 if always else 4 < outlined < 24


@pytest.mark.parametrize("style", [FLAT, PEN])
def test_what_is_nearer_hides_what_is_behind_it_from_the_pen_too(style):
    hand = Hand(random.Random(0))
    parts = [hand.line((0.1, 0.5), (0.9, 0.5), fill=INK), hand.box(0.3, 0.3, 0.7, 0.7, PAINTS["red"], bold=True)]
    alone, both = (np.asarray(drawn(some, style, 128, random.Random(1))).astype(int) for some in (parts[:1], parts))
    lines = [(image[..., :3].max(2) < 110) & (image[..., 3] > 60) for image in (alone, both)]
    middle, aside = (slice(50, 78), slice(50, 78)), (slice(50, 78), slice(16, 32))
    assert lines[0][middle].any() and lines[0][aside].any() and lines[1][aside].any() and not lines[1][middle].any()


# In training


@pytest.fixture(scope="module")
def cutouts(shard) -> Cutouts:
    """The drawings, and of each thing as many paintings."""
    simple = Cutouts.open(shard, 20)
    painted = [replace(s, style="fluent 3d", concept=s.name, source="") for s in simple.subjects]
    return Cutouts(simple.pictures.repeat(2, 1, 1, 1), [*simple.subjects, *painted], simple.shapes * 2)


def told(cutouts: Cutouts, **changes) -> tuple[Counter, Counter]:
    """How often scenes of a training show drawings (True) or anything else, without words and with them."""
    recipe = CascadeRecipe(drop=0.5, batch_size=16, **changes)
    stories, counts = Stories(cutouts, None, recipe, None), (Counter(), Counter())
    for k, row in product(range(100), range(16)):
        scene, text = stories.scene(k, row)
        styles = {cutouts.subjects[layer.index].style for layer in scene.layers}
        if styles:
            counts[bool(text)][styles <= {FLAT, PEN}] += 1
    return counts


def test_a_share_of_the_pictures_without_words_are_such_drawings(cutouts):
    silent, said = told(cutouts, held_out=0)
    assert silent[True] / silent.total() == pytest.approx(0.2, abs=0.06)
    assert said[True] / said.total() < 0.06


def test_without_such_drawings_none_are_missed(cutouts):
    subjects = [replace(s, style="noto") for s in cutouts.subjects]
    silent, said = told(Cutouts(cutouts.pictures, subjects, cutouts.shapes), held_out=0)
    assert not silent[True] and not said[True] and silent.total() > 500


def test_drawings_that_are_held_out_are_not_shown_in_training(cutouts):
    recipe, shown = CascadeRecipe(drop=0.9, batch_size=16, held_out=4), {}
    for split in ("train", "held out"):
        stories = Stories(cutouts, None, recipe, None, split)
        layers = [layer for k, row in product(range(60), range(16)) for layer in stories.scene(k, row)[0].layers]
        shown[split] = {s.concept for s in (cutouts.subjects[layer.index] for layer in layers) if s.style in (FLAT, PEN)}
    assert len(shown["train"]) > 10 and len(shown["held out"]) > 2 and not shown["train"] & shown["held out"]
