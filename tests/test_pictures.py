"""Laws of the figures for text-to-image models, and of the sheets they are shown on."""

from __future__ import annotations

import judge as measure
import pytest
import torch
import torch.nn.functional as F
from judge import (
    GROUND,
    ICON,
    INKS,
    Composition,
    composed,
    compositions,
    confusion,
    diversity,
    in_style,
    made,
    nearest,
    ranks,
    score,
    seen,
    shares,
    things,
)
from PIL import Image

from phosphene.errors import UserError
from phosphene.images import MUTED, font, sheet
from phosphene.training.text_to_image import casting
from phosphene.training.text_to_image.captions import COLOURS, Subject, held_out
from phosphene.training.text_to_image.casting import Known
from phosphene.training.text_to_image.cutouts import Cutouts, Shape
from phosphene.training.text_to_image.phrases import STYLES
from phosphene.training.text_to_image.staging import alone

STYLE_NAMES = ("fluent 3d", "noto", "icon")


class Knowing:
    """A judge for whom a picture means what its first pixels say: a vector for each word."""

    def __init__(self, words):
        self.words = {word: k for k, word in enumerate(words)}

    def texts(self, prompts):
        rows = torch.zeros(len(prompts), len(self.words))
        for row, prompt in zip(rows, prompts, strict=True):
            for word in prompt.split():
                if word in self.words:
                    row[self.words[word]] = 1
        return F.normalize(rows, dim=1)

    def pictures(self, pictures):
        return F.normalize(pictures.flatten(1)[:, : len(self.words)], dim=1)

    def draw(self, prompts):
        return F.pad(self.texts(prompts), (0, 192 - len(self.words))).view(-1, 3, 8, 8)


@pytest.fixture(scope="module")
def gallery() -> Cutouts:
    """Things that are only painted, only icons, both; each picture a random one of its own."""
    generator = torch.Generator().manual_seed(0)
    subjects = []
    for k in range(40):
        of = (("fluent 3d", "noto"), ("icon",), STYLE_NAMES)[k % 3]
        subjects += [Subject(f"thing{k}", style, concept=f"thing{k}") for style in of]
    pictures = torch.randint(0, 256, (len(subjects), 4, 4, 4), generator=generator, dtype=torch.uint8)
    pictures = pictures.repeat_interleave(4, 2).repeat_interleave(4, 3)
    pictures[:, 3] = 255
    pictures[[s.style == "icon" for s in subjects], :3] = 0  # nothing is enclosed
    return Cutouts(pictures, subjects, [Shape(0.0, 0.0, 1.0, 1.0, 0.5, 0.5, True, True, False, -1)] * len(subjects))


def test_ranks_count_what_fits_better():
    judge = Knowing(["cat", "dog", "red", "blue"])
    prompts = ["cat", "red cat", "dog", "blue dog"]
    drawn = judge.draw(["red cat", "dog", "cat"])
    assert ranks(judge, drawn, prompts, [1, 2, 0]).tolist() == [0, 0, 0]
    assert ranks(judge, drawn, prompts, [0, 3, 2]).tolist() == [1, 1, 2]  # "dog" and "blue dog" tie for the cat
    assert score(judge, judge.draw(prompts), prompts) == (1.0, 1.0, 4)
    assert score(judge, judge.draw(prompts[::-1]), prompts).top1 == 0
    with pytest.raises(UserError, match="give one for each"):
        ranks(judge, drawn, prompts, [0])


def test_seen_captions_are_distinct_and_of_all_styles(gallery):
    asked = seen(gallery, 30)
    assert len({a.prompt for a in asked}) == 30 and asked == seen(gallery, 30) and asked != seen(gallery, 30, seed=1)
    styles = [gallery.subjects[a.index].style for a in asked]
    assert {styles.count(s) for s in STYLE_NAMES} == {10}
    for a in asked:
        subject = gallery.subjects[a.index]
        assert (
            not held_out(subject.concept)
            and subject.caption in a.prompt
            and STYLES.get(subject.style, (subject.style,))[0] in a.prompt
        )


def test_compositions_are_of_things_that_lack_that_style(gallery):
    asked = compositions(gallery, 30)
    assert len(asked) == 30 == len({c.told() for c in asked})
    have = {s.caption: {x.style for x in gallery.subjects if x.caption == s.caption} for s in gallery.subjects}
    for c in asked:
        if c.template == "a {word} {object}":
            assert have[c.object] == {"icon"} and c.word in ("3d", "cartoon")
        else:
            assert "icon" not in have[c.object] and c.word in INKS
    with pytest.raises(UserError, match="give more pictures"):
        compositions(gallery, 90)


def test_paintings_are_asked_for_by_the_style_that_they_have(gallery):
    asked, pictures = in_style(gallery, 30)
    assert len(asked) == len(pictures) == 30 and [c.word for c in asked].count("3d") == 15
    assert {c.words for c in asked} == {("3d", "cartoon")}
    for c, picture in zip(asked, pictures, strict=True):
        of = [k for k, s in enumerate(gallery.subjects) if s.caption == c.object and STYLES.get(s.style, ("",))[0] == c.word]
        assert len(of) == 1 and gallery.subjects[of[0]].style != "icon"
        torch.testing.assert_close(picture, alone(gallery, of, 64)[0])


def test_a_judge_takes_a_style_for_another():
    judge, words = Knowing(["cat", "dog", "3d", "flat"]), ("3d", "flat")
    asked = [
        Composition("a {word} {object}", name, word, words) for name, word in (("cat", "3d"), ("dog", "flat"), ("cat", "flat"))
    ]
    assert confusion(judge, judge.draw(["3d cat", "flat dog", "3d"]), asked) == {
        "3d": {"3d": 1.0, "flat": 0.0},
        "flat": {"3d": 0.5, "flat": 0.5},
    }


def test_what_is_right_is_counted_by_kind():
    assert shares([True, False, True, True], ["icon", "icon", "3d", "icon"]) == {
        "3d": {"right": 1, "of": 1},
        "icon": {"right": 2, "of": 3},
    }
    with pytest.raises(ValueError, match="longer"):
        shares([True], ["icon", "icon"])


def test_things_are_told_apart_by_how_they_are_shown_and_how_often_they_are_asked_for(gallery, monkeypatch):
    monkeypatch.setattr(measure, "ASKED", {f"thing{k}": Known(k % 4) for k in range(40)})
    found = things(gallery)
    assert [thing.name for thing in found] == sorted({s.called for s in gallery.subjects})
    for thing in found:
        k, subject = int(thing.name.removeprefix("thing")), gallery.subjects[thing.index]
        assert thing.icons == (k % 3 == 1) == (subject.style == "icon") and subject.called == thing.name
        assert thing.kind == f"asked for {k % 4}, {'icons alone' if thing.icons else 'painted'}"
    some = things(gallery, 3)
    assert [thing.asked for thing in some] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3] and set(some) <= set(found)
    assert things(gallery, 3) == some != things(gallery, 3, seed=1) and len(things(gallery, 100)) == 40
    # What is shown by another's paintings, a tortoise by a turtle's, is painted.
    monkeypatch.setattr(casting, "ALIKE", {"thing1": ["thing0"]})
    other = next(thing for thing in things(gallery) if thing.name == "thing1")
    assert not other.icons and gallery.subjects[other.index].called == "thing0"


def test_objects_and_words_are_judged_apart():
    names, inks = ("cat", "dog"), ("red", "blue")
    judge = Knowing([*names, *inks])
    asked = [Composition("a {word} {object} icon", o, w, inks) for o in names for w in inks]
    right = judge.draw([c.told() for c in asked])
    assert composed(judge, right, asked) == (1.0, 1.0, 2, 2)
    wrong_colour = judge.draw([c.told(word=inks[c.word == "red"]) for c in asked])
    assert composed(judge, wrong_colour, asked)[:2] == (1.0, 0.0)
    wrong_object = judge.draw([c.told(object=names[c.object == "cat"]) for c in asked])
    assert composed(judge, wrong_object, asked)[:2] == (0.0, 1.0)


def test_compositions_made_of_real_pictures_show_what_they_say(gallery):
    """On paper of the colour, or tinted in it; the first picture of that name. Painted icons cannot be made."""
    half = Cutouts(gallery.pictures.clone(), gallery.subjects, gallery.shapes)
    half.pictures[:, :, :8] = 0  # the upper half is clear
    asked = [Composition(t, "thing0", "red", INKS) for t in (GROUND, ICON, "a {word} {object}")]
    able, (ground, icon) = made(half, asked, 16)
    assert able == asked[:2]
    red = torch.tensor(COLOURS["red"]) * 2 - 1
    assert (ground[:, 0, 0] - red).abs().max() < 0.02 and (icon[:, 0, 0] == 1).all()
    assert (ground - alone(half, [0], 16)[0])[:, 10:15, 2:-2].abs().max() < 0.02
    assert (icon[0, 9:] > icon[1, 9:]).float().mean() > 0.9 and (icon[0, 9:] > icon[2, 9:]).float().mean() > 0.9


def test_diversity_tells_one_prompt_from_many():
    judge = Knowing(["cat", "dog"])
    same, other = diversity(judge, judge.draw(["cat", "cat", "dog", "dog"]), 2)
    assert same == pytest.approx(0, abs=1e-6) and other == pytest.approx(1)


def test_the_nearest_picture_is_found(gallery):
    asked = [k for k, s in enumerate(gallery.subjects) if s.style != "icon"][5:8]  # these icons are all black squares
    pictures = alone(gallery, asked, 64)
    assert pictures.shape == (3, 3, 64, 64)
    distance, which = nearest(pictures, gallery)
    assert which.tolist() == asked and (distance < 0.2).all()  # enlarging softens the squares these are made of
    distance, _ = nearest(-pictures, gallery)
    assert (distance > 0.3).all()


def test_captions_stay_below_their_picture():
    def ink(captions):
        cells = [Image.new("RGB", (64, 64), "white") for _ in captions]
        return sheet([cells], captions=[captions])

    plain = ink(["a cat", "a dog"])
    for long in (
        "a cat face on a red background",
        "incomprehensibilities",
        "one two three four five six seven eight nine ten " * 3,
    ):
        picture = ink([long, ""])
        columns = [x for x in range(picture.width) for y in range(70, picture.height) if picture.getpixel((x, y)) == MUTED]
        assert columns and 3 <= min(columns) and max(columns) < 6 + 64 + 3
        assert plain.height <= picture.height <= plain.height + 2 * 16
    assert sheet([[Image.new("RGB", (64, 64))]], captions=[[""]]).height < plain.height


def test_labels_have_the_letters_that_people_type():
    """Two letters that a typeface lacks look alike in it: as the box that says so."""

    def shown(letter: str) -> bytes:
        return bytes(font(16, letter).getmask(letter))

    letters = "éïœñüçßøłčŽ½Ωжя→✓"
    assert len({shown(letter) for letter in letters}) == len(letters)
    plain = "a cat…"
    assert font(16, plain, "b").getname() == font(16).getname() != font(16, plain, "é").getname()
    labels = {
        "title": str,
        "captions": lambda text: [[text]],
        "row_labels": lambda text: [text],
        "column_labels": lambda text: [text],
    }
    for place, told in labels.items():
        first, second = (sheet([[Image.new("RGB", (64, 64))]], **{place: told(text)}) for text in ("é", "ж"))
        assert first.size != second.size or first.tobytes() != second.tobytes()
