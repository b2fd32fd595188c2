"""The detectors of benchmarks/held_out.py on pictures of which it is known what they show."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import held_out

from phosphene.training.text_to_image.captions import COLOURS, Subject
from phosphene.training.text_to_image.casting import Casting, unseen
from phosphene.training.text_to_image.cutouts import Shape

SIZE = 64
SHAPE = Shape(0.1, 0.1, 0.9, 0.9, 0.5, 0.5, False, True, False, -1)


def discs(places: list[tuple[int, int]], radius: int, colour: tuple[float, float, float]) -> torch.Tensor:
    """(3, S, S) in [-1, 1]: discs on white, lighter above than below, as a shaded drawing is."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    picture = torch.ones(3, SIZE, SIZE)
    for across, down in places:
        inside = (x - across).square() + (y - down).square() <= radius**2
        shade = 1.1 - 0.3 * (y - down + radius) / (2 * radius)
        picture = torch.where(inside, (torch.tensor(colour)[:, None, None] * shade).clamp(0, 1), picture)
    return picture * 2 - 1


@pytest.mark.parametrize("colour", held_out.INKS)
def test_colours_are_found(colour: str) -> None:
    picture = discs([(32, 32)], 20, COLOURS[colour])
    picture[:, 20:24, 24:40] = -1.0  # black lines are no colour
    assert held_out.colour_of(picture) == colour


@pytest.mark.parametrize("number", range(1, 6))
def test_things_are_counted(number: int) -> None:
    places = [(10 + 22 * (k % 3), 20 + 24 * (k // 3)) for k in range(number)]
    picture = discs(places, 9, COLOURS["red"])
    picture[:, 60:62, 2:5] = -1.0  # a crumb is no thing
    assert held_out.number_of(picture) == number


def test_paper_holds_nothing() -> None:
    assert held_out.number_of(torch.ones(3, SIZE, SIZE)) == 0


class Halves:
    """Knows things by their colour: a red one is an apple, a blue one a cup."""

    def pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        mean = ((1 - pictures) / 2).mean((2, 3))  # of what is missing from white
        return torch.stack([mean[:, 2], mean[:, 0]], 1)

    def texts(self, prompts: list[str]) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0] if "apple" in prompt else [0.0, 1.0] for prompt in prompts])


@pytest.mark.parametrize(("relation", "first", "second"), [("left of", (16, 32), (48, 32)), ("above", (32, 16), (32, 48))])
def test_sides_are_told(relation: str, first: tuple[int, int], second: tuple[int, int]) -> None:
    red, blue = discs([first], 10, (1.0, 0.0, 0.0)), discs([second], 10, (0.0, 0.0, 1.0))
    picture = torch.minimum(red, blue)
    opposite = {"left of": "right of", "above": "under"}[relation]
    assert held_out.sides_right(Halves(), picture, ("apple", relation, "cup"))
    assert held_out.sides_right(Halves(), picture, ("cup", opposite, "apple"))
    assert not held_out.sides_right(Halves(), picture, ("apple", opposite, "cup"))


def test_asked_for_is_only_what_training_leaves_out() -> None:
    names = [f"thing{k}" for k in range(60)]
    subjects = [Subject(name, "noto", name, name=name, category="object", size=2, where="gi") for name in names]
    casting, chance = Casting(subjects, [SHAPE] * len(subjects), new=True), random.Random(1)
    for case in held_out.colour_cases(casting, 8, chance):
        assert unseen(case.wanted, case.prompt.split()[-1]) and case.scene.layers[0].tinted
    for case in held_out.number_cases(casting, 8, chance):
        assert len(case.scene.layers) == case.wanted
        assert unseen(case.wanted, casting.subjects[case.scene.layers[0].index].name)
    for case in held_out.side_cases(casting, 8, chance):
        assert unseen(case.wanted[0], case.wanted[2]) and len(case.scene.layers) == 2
