"""Is what was never shown together drawn together? Colours of things, numbers of them, and two things beside each other.

    python benchmarks/held_out.py MODEL --judge JUDGE --data SHARDS --out FOLDER [--count 100] [--solver dpm --steps 16]

Training leaves out one colour of a thing, number of a thing and pair of things side by side in twenty
(``casting.unseen``). These are asked for, on white paper, and the pictures are measured: colours and numbers by counting
pixels and blobs, sides by whether the judge (a folder of phosphene train retrieval) takes each half for what should be in it.
The same detectors measure the scenes as they would have been composed: what a perfect model would get. Blind to: whether a red
thing is the thing that was asked for, things that touch (two blobs become one), and halves that the judge knows no better than
chance.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import judge as measure
import torch
import torch.nn.functional as F
from judge import INKS
from scipy import ndimage
from torch import Tensor

from phosphene.defaults import OWN_USUAL
from phosphene.drawing import Sampling, run
from phosphene.evaluation.matching import open_judge
from phosphene.images import save_png, sheet, to_images
from phosphene.models.cascade import open_cascade
from phosphene.sampler import last
from phosphene.tasks.generate import generate
from phosphene.training.text_to_image.captions import COLOURS
from phosphene.training.text_to_image.casting import TINTS, WHITE, Casting, Scene, unseen
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.phrases import NUMBERS, plural, with_article
from phosphene.training.text_to_image.relations import pair
from phosphene.training.text_to_image.scenes import count, single
from phosphene.training.text_to_image.staging import drawn, staged

SIZE, SEED, ROWS = 64, 180, 100
SIDES = {"left of": 0, "right of": 0, "above": 1, "under": 1}
"""Relations that a cut through the middle tells, and the axis it goes across."""
DARK = 0.68
"""An orange whose brightest channel is lower is brown."""


class Case(NamedTuple):
    """A composition that training leaves out: the prompt, the scene that would show it, and what must be found."""

    prompt: str
    scene: Scene
    wanted: str | int | tuple[str, str, str]


def _on_white(scene: Scene | None) -> bool:
    return scene is not None and scene.ground is None and scene.paper == WHITE and not scene.manner


def _gathered(amount: int, attempt: Callable[[], Case | None]) -> list[Case]:
    """So many cases of different prompts; chance may need many attempts."""
    found: dict[str, Case] = {}
    while len(found) < amount:
        case = attempt()
        if case is not None:
            found.setdefault(case.prompt, case)
    return list(found.values())


def colour_cases(casting: Casting, amount: int, chance: random.Random) -> list[Case]:
    """Things in a colour (of INKS, black apart) that they never had."""
    inks = [ink for ink in INKS if ink in TINTS and ink != "black"]

    def attempt() -> Case | None:
        scene = single(casting, chance)
        if not _on_white(scene) or not scene.layers[0].tinted:
            return None
        layer = scene.layers[0]
        colour = min(TINTS, key=lambda c: sum((a - b) ** 2 for a, b in zip(COLOURS[c], layer.tint, strict=True)))
        name = casting.subjects[layer.index].name
        left_out = colour in inks and unseen(colour, name)
        return Case(with_article(f"{colour} {name}"), scene, colour) if left_out else None

    return _gathered(amount, attempt)


def number_cases(casting: Casting, amount: int, chance: random.Random) -> list[Case]:
    """Two to five of a thing that never were so many."""

    def attempt() -> Case | None:
        scene = count(casting, chance)
        if not _on_white(scene) or len(scene.layers) > 5:
            return None
        name, number = casting.subjects[scene.layers[0].index].name, len(scene.layers)
        return Case(f"{NUMBERS[number]} {plural(name)}", scene, number) if unseen(number, name) else None

    return _gathered(amount, attempt)


def side_cases(casting: Casting, amount: int, chance: random.Random) -> list[Case]:
    """Two things that never met, one of them left of, right of, above or under the other."""

    def attempt() -> Case | None:
        scene = pair(casting, chance)
        relation = next((r for r in SIDES if scene is not None and f" {r} " in scene.text), None)
        if not _on_white(scene) or relation is None:
            return None
        names = [casting.subjects[layer.index].name for layer in scene.layers]
        first, second = names if SIDES[relation] == 0 else reversed(names)
        prompt = f"{with_article(first)} {relation} {with_article(second)}"
        return Case(prompt, scene, (first, relation, second)) if unseen(first, second) else None

    return _gathered(amount, attempt)


def colour_of(picture: Tensor) -> str:
    """The colour of INKS that most of what is no grey has, by hue; (3, S, S) in [-1, 1]."""
    pixels = (picture.flatten(1).mT + 1) / 2
    vivid = pixels[pixels.amax(1) - pixels.amin(1) > 0.15]
    if len(vivid) < 0.01 * len(pixels):
        return "black"
    hues = [ink for ink in INKS if ink not in ("black", "brown")]
    palette, chroma = torch.tensor([COLOURS[name] for name in hues], device=picture.device), vivid - vivid.mean(1, keepdim=True)
    nearest = (F.normalize(chroma) @ F.normalize(palette - palette.mean(1, keepdim=True)).T).argmax(1)
    share = torch.zeros(len(hues), device=picture.device).index_add_(0, nearest, vivid.amax(1) - vivid.amin(1))
    found = hues[int(share.argmax())]
    dark = vivid[nearest == share.argmax()].amax(1).quantile(0.6) < DARK
    return "brown" if found == "orange" and dark else found


def number_of(picture: Tensor) -> int:
    """Blobs on white paper that are at least a third as large as the largest; (3, S, S) in [-1, 1]."""
    there = ndimage.binary_fill_holes(((picture + 1) / 2).amin(0).lt(0.8).cpu().numpy())
    labels, found = ndimage.label(there, structure=torch.ones(3, 3))
    areas = ndimage.sum_labels(there, labels, range(1, found + 1)) if found else []
    return sum(1 for area in areas if area >= max(areas) / 3)


def sides_right(judge: measure.Judge, picture: Tensor, wanted: tuple[str, str, str]) -> bool:
    """Whether the halves of (3, S, S) hold what is said, rather than the other way round."""
    first, relation, second = wanted
    halves = picture.chunk(2, 2 if SIDES[relation] == 0 else 1)
    # Each half in the middle of white paper, as the judge knows things.
    space = picture.shape[-1] // 4
    border = (space, space, 0, 0) if SIDES[relation] == 0 else (0, 0, space, space)
    whole = torch.stack([F.pad(half, border, value=1.0) for half in halves])
    scores = judge.pictures(whole) @ judge.texts([with_article(first), with_article(second)]).T
    straight = scores[0, 0] + scores[1, 1] > scores[0, 1] + scores[1, 0]
    return bool(straight if relation in ("left of", "above") else ~straight)


def share_right(pictures: Sequence[Tensor], cases: Sequence[Case], right: Callable[[Tensor, Case], bool]) -> float:
    """The share of ``pictures`` that show their case, 0..1."""
    return sum(right(picture, case) for picture, case in zip(pictures, cases, strict=True)) / len(cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100, help="of each kind")
    parser.add_argument("--solver", default="dpm")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=OWN_USUAL.guidance)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    judge = open_judge(options.judge, options.device)
    cutouts = Cutouts.open(options.data, round(SIZE * 1.25))
    casting, chance = Casting(cutouts.subjects, cutouts.shapes, new=True), random.Random("held out")
    stage = open_cascade(options.model, device=options.device).stages[0]
    sampling = Sampling(options.solver, options.steps, guidance=options.guidance, max_rows=2 * ROWS)
    kinds = {
        "colours": (colour_cases, lambda picture, case: colour_of(picture) == case.wanted),
        "numbers": (number_cases, lambda picture, case: number_of(picture) == case.wanted),
        "sides": (side_cases, lambda picture, case: sides_right(judge, picture, case.wanted)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {}
    for kind, (make, right) in kinds.items():
        cases = make(casting, options.count, chance)
        prompts = [case.prompt for case in cases]
        composed = drawn(staged([case.scene for case in cases]), cutouts, SIZE, torch.Generator().manual_seed(SEED))
        asked = [prompts[k : k + ROWS] for k in range(0, len(prompts), ROWS)]
        made = torch.cat([last(run(generate(part), stage, [SEED] * len(part), sampling=sampling)).cpu() for part in asked])
        figures[kind] = {"drawn": share_right(made, cases, right), "composed": share_right(composed, cases, right)}
        rows = [to_images(made[k : k + 10], 2) for k in range(0, len(made), 10)]
        save_png(sheet(rows, captions=[prompts[k : k + 10] for k in range(0, len(made), 10)]), options.out / f"{kind}.png")
    (options.out / "held-out.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
