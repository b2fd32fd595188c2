"""Styles: who tells them (benchmarks/styles.py), what a model draws in them (tools/draw_styles.py), and how it is learned."""

from __future__ import annotations

import random
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import draw_styles
import style_sheets
import styles
from shrink_shards import add

from phosphene.errors import UserError
from phosphene.images import to_images
from phosphene.training.text_to_image import phrases
from phosphene.training.text_to_image.captions import DRAWN, MASK, Subject
from phosphene.training.text_to_image.casting import Casting
from phosphene.training.text_to_image.cutouts import Cutouts, Shape
from phosphene.training.text_to_image.scenes import RESTYLED, SHARES, Director

SHAPE = Shape(0.1, 0.1, 0.9, 0.9, 0.5, 0.5, False, True, False, -1)


def stripes(chance: random.Random, upright: bool) -> torch.Tensor:
    """(3, 64, 64) in [-1, 1]: a striped box of some size and place on white."""
    side, x, y = chance.randrange(24, 44), chance.randrange(2, 18), chance.randrange(2, 18)
    along, picture = torch.arange(64) // 3 % 2, torch.ones(3, 64, 64)
    pattern = along[None, :].expand(64, 64) if upright else along[:, None].expand(64, 64)
    picture[:, y : y + side, x : x + side] = torch.where(pattern > 0, 0.2, -0.8)[y : y + side, x : x + side]
    return picture


def test_frames_show_no_size_and_no_place():
    large, small = torch.ones(2, 1, 3, 64, 64)
    large[..., 2:60, 4:62] = small[..., 10:39, 30:59] = -1.0
    large[..., 30:40, 20:30] = small[..., 24:29, 38:43] = 0.3
    assert (styles.framed(large) - styles.framed(small)).abs().mean() < 0.08  # along the edges
    assert (large - small).abs().mean() > 0.8


def test_a_white_picture_stays_white():
    assert styles.framed(torch.ones(2, 3, 64, 64)).eq(1).all()


def test_eyes_tell_what_they_learned_and_are_the_same_when_read_again(tmp_path):
    chance = random.Random(0)
    labels = torch.arange(96) % 2
    pictures = torch.stack([stripes(chance, bool(k)) for k in labels])
    eyes = styles.Eyes([styles.learned(styles.packed(pictures[:64]), labels[:64], seed, 40, 4) for seed in (1, 2)])
    said = eyes.say(pictures[64:])
    found = styles.table(said, labels[64:])
    assert found["right"] > 0.9 and found["of"] == 32
    assert sum(found[styles.CALLED[0]].values()) == pytest.approx(1)
    eyes.save(tmp_path)
    assert torch.allclose(styles.Eyes.open(tmp_path).say(pictures[64:]), said, atol=1e-6)


class Seen:
    """A judge and eyes that find in a picture what its first pixels say: the number of a name, and of a style."""

    device = torch.device("cpu")

    def texts(self, prompts):
        return torch.eye(4)[[int(prompt[-1]) for prompt in prompts]]

    def pictures(self, pictures):
        return torch.eye(4)[said(pictures, 0)] + 0.1 * torch.arange(4)

    def say(self, pictures):
        return torch.eye(6)[said(pictures, 1)]


def said(pictures, place):
    """Of 0 to 5, in the brightness of a corner of 8 pixels."""
    return ((pictures[:, 0, 4, 4 + 8 * place] + 1) * 2.5).round().long()


def saying(*rows):
    pictures = torch.zeros(len(rows), 3, 64, 64)
    for k, row in enumerate(rows):
        for place, number in enumerate(row):
            pictures[k, :, :8, 8 * place : 8 * place + 8] = number / 2.5 - 1
    return pictures


def a_chooser():
    return draw_styles.Chooser(Seen(), Seen(), [f"thing {k}" for k in range(4)])


def test_a_picture_is_kept_for_its_style_and_for_its_name():
    pictures = saying((2, 1), (2, 3), (3, 1), (3, 1))
    wanted = [draw_styles.Wanted(*w) for w in ((2, 1), (2, 1), (0, 1), (2, 1))]
    # its own; in another style; three names before its own; one
    assert a_chooser().right(pictures, wanted) == [True, False, False, False]


def test_styles_that_are_behind_are_asked_for():
    left = {draw_styles.Wanted(name, style): 2 - (name == style) for name in range(3) for style in range(5)}
    assert draw_styles.due(left, [], 0) == list(left)  # at first all are
    assert draw_styles.due(left, [], 1) == list(left)
    left[2, 4] = 0
    kept = [draw_styles.Wanted(0, style) for style in (0, 0, 0, 0, 0, 1, 2, 2, 2, 3)]
    assert {w.style for w in draw_styles.due(left, kept, 1)} == {1, 3, 4}  # not of those above two, the average
    assert [w.name for w in draw_styles.due(left, kept, 1) if w.style == 4] == [0, 1]  # and nothing that is had
    left |= {draw_styles.Wanted(name, style): 0 for name in range(3) for style in (1, 3, 4)}
    assert {w.style for w in draw_styles.due(left, kept, 1)} == {2}  # the average is of styles that are still wanted
    left[0, 0] = 1
    assert {w.style for w in draw_styles.due(left, kept, 2)} == {0, 2}  # every other round all that is wanted


def test_3d_and_glossy_count_together_but_the_likelier_is_the_style(monkeypatch):
    unsure = torch.tensor([[0.3, 0.35, 0.1, 0.1, 0.1, 0.05], [0.3, 0.1, 0.45, 0.1, 0.05, 0.0]])
    monkeypatch.setattr(Seen, "say", lambda self, pictures: unsure[: len(pictures)])
    chooser = a_chooser()
    told = [[chooser.right(saying((2, 0), (2, 0)), [draw_styles.Wanted(2, style)] * 2)] for style in range(3)]
    assert told == [[[False, False]], [[True, False]], [[False, False]]]


def test_a_shard_of_what_is_small_can_be_lossless(tmp_path):
    """Lossy, colour is kept at half the size, and runs over its edge where a picture has but 64 pixels."""
    picture = torch.ones(3, 64, 64)
    picture[1:, ::2, 20:45] = -1  # red lines on white
    image, off = to_images(picture[None])[0].convert("RGBA"), []
    for k, lossless in enumerate((False, True)):
        (tmp_path / str(k)).mkdir()
        with tarfile.open(tmp_path / str(k) / "0.tar", "w") as tar:
            add(tar, "0", image, Subject("lines", "noto"), lossless)
        found = Cutouts.open(tmp_path / str(k), 64).pictures[0, :3].float() / 127.5 - 1
        off.append((found - picture).abs().mean().item())
    assert off[1] == 0 and off[0] > 0.05


def test_without_a_judge_pictures_are_kept_for_their_style():
    wanted = [draw_styles.Wanted(2, 1), draw_styles.Wanted(2, 1)]
    chooser = draw_styles.Chooser(None, Seen(), ["a", "b", "c"])
    assert chooser.right(saying((0, 1), (2, 3)), wanted) == [True, False]  # whatever it shows


def test_icons_that_drawings_go_on_from_are_filled_on_white(tmp_path):
    """Each of its name, with the colours that training fills icons with."""
    ring = Image.new("RGBA", (80, 80))
    ImageDraw.Draw(ring).ellipse((8, 8, 71, 71), outline="black", width=9)
    bar = Image.new("RGBA", (80, 80))
    ImageDraw.Draw(bar).rectangle((4, 34, 75, 45), fill="black")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, image in (("ring", ring), ("bar", bar)):
            add(tar, name, image, Subject(name, MASK, name, name, "object", 3, "i"))
    icons = draw_styles.Icons(tmp_path, "cpu")
    shown = icons.shown(["ring", "bar", "ring"], random.Random(0))
    assert shown.shape == (3, 3, 64, 64) and shown[:, :, 0, 0].eq(1).all()
    tall = [(picture.amin(0) < 0.9).any(1).sum().item() for picture in shown]
    assert tall[0] > 40 and tall[1] < 20 and tall[2] > 40
    assert (shown.amax(1) - shown.amin(1)).amax() > 0.5  # not in black and white


def test_what_is_gone_on_from_is_filled_up_to_a_batch():
    seen = []

    def drawn(task, stage, seeds, sampling):
        seen.append((task.image, task.starts, len(list(seeds)), sampling.steps))
        return iter([type("S", (), {"xt": torch.full((len(list(seeds)), 3, 64, 64), 2.0)})()])

    picture = torch.rand(2, 3, 64, 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw_styles, "run", drawn)
        found = draw_styles.led(None, ["a", "b"], ["c", "d"], 2.0, 7, 4, picture, 3)
        draw_styles.led(None, ["a", "b"], ["c", "d"], 2.0, 7, 4)
    assert found.shape == (2, 3, 64, 64) and found.max() == 1
    (image, starts, count, steps), bare = seen
    assert torch.equal(image[:2], picture) and torch.equal(image[2:], picture[1:].expand(2, -1, -1, -1))  # filled up
    assert (starts, count, steps) == ((3,), 4, draw_styles.STEPS) and bare[:2] == (None, None)


def test_what_was_kept_before_is_chosen_anew(tmp_path):
    asked = [(2, 1), (2, 1), (2, 3), (1, 4), (2, 1)]
    shown = saying((2, 1), (2, 1), (2, 4), (1, 4), (2, 1))
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for k, ((name, style), picture) in enumerate(zip(asked, shown, strict=True)):
            called = Subject(f"thing {name}", styles.KEPT[style], f"thing {name}", f"thing {name}", source=DRAWN)
            add(tar, f"{k}", to_images(picture[None])[0].convert("RGBA"), called, lossless=True)
    left = {draw_styles.Wanted(2, 1): 2, draw_styles.Wanted(2, 3): 2}
    kept = draw_styles.chosen(tmp_path, a_chooser(), left, [f"thing {k}" for k in range(4)])
    assert [wanted for wanted, _ in kept] == [(2, 1), (2, 1)] and list(left.values()) == [0, 2]
    assert all((picture - shown[0]).abs().max() <= 1 / 127 for _, picture in kept)  # as it was drawn


def test_a_style_is_right_by_its_letter_and_fine_by_its_design():
    key = {"1": "glyph, 3d", "2": "glyph, 3d", "3": "glyph, flat", "4": "paintings, sticker"}
    said = {"1": "A", "2": "B", "3": "A", "4": "E"}
    with pytest.raises(UserError, match="none of ABCDE of number 4"):
        style_sheets.score(key, {**said, "4": "F"})
    first, second = style_sheets.score(key, said).split("\n")
    assert first == "glyph: 1 of 3; 2 where 3d and glossy are one" and second.startswith("paintings: 1 of 1; 1 ")


def test_no_painting_of_the_reference_is_asked_for():
    known = [Subject(f"thing {k}", style, f"thing {k}", f"thing {k}") for k in range(40) for style in styles.KEPT]
    known += [replace(subject, source=DRAWN) for subject in known]
    rows, found = style_sheets.paintings(Cutouts(torch.zeros(0), known, []), 4, random.Random(0))
    assert [len(row) for row in rows] == [style_sheets.THINGS] * 5 and len(found) == 20
    for row, style in zip(rows, styles.KEPT, strict=True):
        assert [known[k].name for k in row] == [known[k].name for k in rows[0]] and {known[k].style for k in row} == {style}
    assert not {known[k].name for row in rows for k in row} & {known[k].name for _, k in found}
    assert len({known[k].name for _, k in found}) == 20 and not any(known[k].drawn for _, k in found)
    assert all(word == phrases.STYLES[known[k].style][0] for word, k in found)


def subjects(drawn: bool) -> list[Subject]:
    icons = [Subject(f"tool {k}", MASK, f"tool {k}", f"tool {k}", "object", 2, "g") for k in range(6)]
    painted = [Subject(f"cat {k}", "noto", f"cat {k}", f"cat {k}", "animal", 2, "g") for k in range(6)]
    styled = [Subject("tool 1", style, "tool 1", "tool 1", source=DRAWN) for style in (*styles.KEPT, styles.KEPT[0])]
    return [*icons, *painted, *(styled if drawn else ())]


def scenes_of(known: list[Subject], count: int = 1500):
    director, chance = Director(Casting(known, [SHAPE] * len(known))), random.Random(0)
    return [director.scene(chance) for _ in range(count)]


def test_what_a_model_drew_is_shown_alone_and_its_style_said():
    known = subjects(True)
    made = [s for s in scenes_of(known, 6000) if any(known[layer.index].drawn for layer in s.layers)]
    assert len(made) == pytest.approx(RESTYLED * 6000, rel=0.15)
    for scene in made:
        (layer,) = scene.layers
        assert "tool 1" in scene.text and not scene.manner and scene.ground is None
        assert any(word in scene.text for word in phrases.STYLES[known[layer.index].style])
    counts = Counter(known[scene.layers[0].index].style for scene in made)
    first, others = counts.pop(styles.KEPT[0]), counts.values()  # of which there are two pictures
    assert len(others) == len(styles.KEPT) - 1 and 1.2 < first * len(others) / sum(others) < 1.7


def test_where_no_model_drew_anything_the_scenes_are_the_same_kinds():
    assert "restyled" not in SHARES
    assert not any(layer.index >= 12 for scene in scenes_of(subjects(False)) for layer in scene.layers)
    assert Casting(subjects(True), [SHAPE] * 18).names == Casting(subjects(False), [SHAPE] * 12).names
