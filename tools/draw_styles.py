"""Draw things of which there are icons alone in every style, and keep what is in it: a shard to train with.

    python benchmarks/styles.py SHARDS --out eyes --device cuda
    python tools/draw_styles.py MODEL --data SHARDS --icons SHARDS --judge JUDGE --eyes eyes --out styles/0.tar --minutes 5

No picture shows how such a thing looks in a style, and what a model makes of "a sticker of a trowel" at its first seed is a
filled icon more often than not. Of several it has it once or twice, the more surely when it is led away from the same thing
without a word of style. With ``--icons`` every other round goes on from icons, noised (SDEdit, Meng et al. 2022): those keep
their shape. So the model learns from what it draws well itself (expert iteration, Anthony et al. 2017; of text, STaR,
Zelikman et al. 2022): a picture is kept where the networks of benchmarks/styles.py take it for its style, and where of
all names its own is among the FIRST to JUDGE, a folder of phosphene train retrieval. What learned from them can be asked
again, which keeps more of them. ``--measured`` names the shards of which glyph_results.py asks for things: those are left
out, so that they stay unseen. What measures the result should be others than who chose.
"""

from __future__ import annotations

import argparse
import random
import sys
import tarfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import torch
from shrink_shards import add
from torch import Tensor

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, Task, run
from phosphene.evaluation.matching import Judge, open_judge
from phosphene.expression import cond, guide, mean
from phosphene.images import to_images
from phosphene.models import text
from phosphene.models.cascade import open_cascade
from phosphene.models.stage import Stage
from phosphene.sampler import last
from phosphene.training.text_to_image.captions import DRAWN, Subject
from phosphene.training.text_to_image.casting import Casting, Scene
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.phrases import with_article
from phosphene.training.text_to_image.staging import drawn, staged

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from judge import compositions
from styles import CALLED, KEPT, Eyes

EACH = 3
"""So many pictures are kept of a thing in a style."""
STEPS = 16
ROUNDS = ((3.0, 4), (2.0, 0), (4.0, 3), (5.0, 0), (4.0, 4), (3.0, 3))
"""How far each round leads away from the thing without its style, and from which of the STEPS on: from noise, or from an icon."""
SURE, FIRST = 0.5, 1
"""How surely a picture must be in the design of its style, and among how many names that fit it best its own must be: what is
learned from soft shapes is drawn softer still (docs/embedded-model.md)."""
DESIGNS = torch.eye(len(KEPT) + 1)
DESIGNS[0, 1] = DESIGNS[1, 0] = 1
"""3d and glossy are one, drawn as a model and as gradients, and are hardly to be told apart at 64 pixels."""


class Wanted(NamedTuple):
    """A thing and its style, by their numbers."""

    name: int
    style: int


def names_of(data: Path, measured: Path | None) -> list[str]:
    """The things of ``data`` of which there are icons alone, without those asked for when ``measured`` is the data."""
    cutouts = Cutouts.open(data, 16)
    cast = Casting(cutouts.subjects, cutouts.shapes)
    names = [name for name in cast.names if cast.icons[name] and not cast.painted[name] and len(name.split()) <= 2]
    if measured is None:
        return names
    known = Cutouts.open(measured, 16)
    asked = {c.object for count in (100, 300) for c in compositions(known, count)}
    return [name for name in names if name not in asked]


class Chooser:
    """Says which pictures are what they were asked for; without a ``judge``, which are in their style."""

    def __init__(self, judge: Judge | None, eyes: Eyes, names: Sequence[str]) -> None:
        self.judge, self.eyes = judge, eyes
        told = [with_article(f"{word} {name}") for word in CALLED for name in names]
        self.texts = None if judge is None else judge.texts(told).view(len(CALLED), len(names), -1)

    def right(self, pictures: Tensor, wanted: Sequence[Wanted]) -> list[bool]:
        """Of (N, 3, 64, 64) in [-1, 1]."""
        names = torch.tensor([w.name for w in wanted], device=pictures.device)
        styles = torch.tensor([w.style for w in wanted], device=pictures.device)
        said = self.eyes.say(pictures)
        surely = (said @ DESIGNS.to(said.device)).gather(1, styles[:, None])[:, 0] >= SURE
        sure = surely & (said.argmax(1) == styles)
        if self.judge is None:
            return sure.tolist()
        fits = torch.einsum("nd,nkd->nk", self.judge.pictures(pictures), self.texts[styles])
        better = (fits > fits.gather(1, names[:, None])).sum(1)
        return (sure & (better < FIRST)).tolist()


class Icons:
    """Icons of things, filled with colours as training fills them."""

    def __init__(self, data: Path, device: str) -> None:
        cutouts = Cutouts.open(data, 80)
        self.cast = Casting(cutouts.subjects, cutouts.shapes)
        self.cutouts = Cutouts(cutouts.pictures.to(device), cutouts.subjects, cutouts.shapes)

    def shown(self, names: Sequence[str], chance: random.Random) -> Tensor:
        """One of each of ``names`` on white: (N, 3, 64, 64) in [-1, 1]."""
        things = [self.cast.thing(name, chance) for name in names]
        scenes = [Scene("", [self.cast.hang(thing, 0.5, 0.5, 0.85, None, chance)]) for thing in things]
        return drawn(staged(scenes).to(self.cutouts.pictures.device), self.cutouts, 64)


def led(
    stage: Stage,
    prompts: Sequence[str],
    bare: Sequence[str],
    strength: float,
    seed: int,
    batch: int,
    begun: Tensor | None = None,
    start: int = 0,
) -> Tensor:
    """Pictures of ``prompts``, away from ``bare``; always ``batch`` at a time, for the sake of compiled networks.

    ``begun``: (N, 3, 64, 64) to go on from at step ``start``; None: from noise.
    """
    asked, without = ([*texts, *[texts[-1]] * (batch - len(texts))] for texts in (prompts, bare))

    def asks(_: object, scale: float):
        return mean(guide(cond(*asked), scale), cond(*asked), cond(*without), weights=[1, strength, -strength])

    if begun is not None:
        begun = torch.cat([begun, begun[-1:].expand(batch - len(begun), -1, -1, -1)])
    task = Task(asks, image=begun, starts=None if begun is None else (start,))
    found = last(run(task, stage, range(seed, seed + batch), sampling=Sampling("dpm", STEPS)))
    return found[: len(prompts)].float().clamp(-1, 1)


def chosen(
    before: Path, chooser: Chooser, left: dict[Wanted, int], names: Sequence[str], device: str = "cpu"
) -> list[tuple[Wanted, Tensor]]:
    """What of the pictures in ``before`` is right and still wanted, as (3, 64, 64) in [-1, 1]; takes it off ``left``."""
    drawings, numbers, kept = Cutouts.open(before, 64), {name: k for k, name in enumerate(names)}, []
    kept_in = [(k, s) for k, s in enumerate(drawings.subjects) if s.drawn and s.style in KEPT]
    told = [(k, Wanted(numbers.get(s.called, -1), KEPT.index(s.style))) for k, s in kept_in]
    told = [(k, wanted) for k, wanted in told if wanted in left]
    for start in range(0, len(told), 512):
        rows, asked = zip(*told[start : start + 512], strict=True)
        shown = drawings.pictures[list(rows), :3].float() / 127.5 - 1  # opaque, as main() writes them
        right = chooser.right(shown.to(device), asked)
        for wanted, picture in compress(zip(asked, shown, strict=True), right):
            if left[wanted]:
                kept.append((wanted, picture))
                left[wanted] -= 1
    return kept


def due(left: Mapping[Wanted, int], kept: Sequence[Wanted], rounds: int) -> list[Wanted]:
    """What to ask for after so many ``rounds``: all that is wanted, and in between what is of styles that are behind.

    Of some six times as many pictures are right as of others, and what is learned is what there is most of. But of a style
    that is behind there may be nothing more to be had, so the others have every other round.
    """
    counts, wanted = Counter(w.style for w in kept), [w for w, count in left.items() if count]
    if rounds % 2 == 0:
        return wanted
    styles = {w.style for w in wanted}
    return [w for w in wanted if counts[w.style] * len(styles) <= sum(counts[s] for s in styles)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, help="shards that tell which things there are")
    parser.add_argument("--names", type=Path, help="or a list of them, a line each")
    parser.add_argument("--measured", type=Path, metavar="SHARDS", help="leave out what is asked for to measure")
    parser.add_argument("--judge", type=Path, help="without one pictures are kept for their style alone")
    parser.add_argument("--eyes", type=Path, required=True, help="folder of benchmarks/styles.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="a folder of shards of former runs, which are chosen from first")
    parser.add_argument("--icons", type=Path, metavar="SHARDS", help="every other round goes on from icons of these")
    parser.add_argument("--each", type=int, default=EACH, help="pictures of a thing in a style")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=16, help="pictures at a time")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("K", "N"), help="every N-th thing from the K-th on")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if (options.data is None) == (options.names is None):
        parser.error("give --data or --names, one of them")
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    names = options.names.read_text().split("\n") if options.names else names_of(options.data, options.measured)
    names = [name for name in names if name]
    judge = None if options.judge is None else open_judge(options.judge, options.device)
    chooser = Chooser(judge, Eyes.open(options.eyes, options.device), names)
    icons = None if options.icons is None else Icons(options.icons, options.device)
    turns = [turn for turn in ROUNDS if icons is not None or turn[1] == 0]
    text.MOST_KNOWN = len(names) * (len(KEPT) + 1)  # every other round asks for nearly all of them again
    stage = open_cascade(options.model, options.device, stages=1).stages[0]
    if options.device != "cpu":
        stage.network.compile()
    left = {Wanted(k, s): options.each for k in range(options.part[0], len(names), options.part[1]) for s in range(len(KEPT))}
    kept: list[tuple[Wanted, Tensor]] = []
    if options.before is not None:
        kept = chosen(options.before, chooser, left, names, options.device)
        print(f"{len(kept)} kept of those before", flush=True)
    seed, rounds, chance, ended = options.seed + 10**6 * (1 + options.part[0]), 0, random.Random(options.seed), False
    while not ended and (todo := due(left, [wanted for wanted, _ in kept], rounds)):
        chance.shuffle(todo)
        before, (strength, begins) = len(kept), turns[rounds % len(turns)]
        for start in range(0, len(todo), options.batch):
            if ended := time.monotonic() - begun > 60 * options.minutes:
                break
            part = todo[start : start + options.batch]
            prompts = [with_article(f"{CALLED[w.style]} {names[w.name]}") for w in part]
            bare = [with_article(names[w.name]) for w in part]
            noised = icons.shown([names[w.name] for w in part], chance) if begins else None
            found = led(stage, prompts, bare, strength, seed, options.batch, noised, begins)
            seed += options.batch
            for wanted, picture, right in zip(part, found.cpu(), chooser.right(found, part), strict=True):
                if right:
                    kept.append((wanted, picture))
                    left[wanted] -= 1
        rounds += 1
        by_style = ", ".join(f"{sum(w.style == k for w, _ in kept)} {word}" for k, word in enumerate(CALLED))
        told = f"round {rounds}, {strength:g} from {begins}: {len(todo)} asked for, {len(kept) - before} kept"
        print(f"{told}; in all {by_style}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(options.out, "w") as tar:
        for number, (wanted, picture) in enumerate(kept):
            name, style = names[wanted.name], KEPT[wanted.style]
            image = to_images(picture[None])[0].convert("RGBA")
            told = Subject(name, style, name, name, source=DRAWN)
            add(tar, f"{options.part[0]}-{number:06d}", image, told, lossless=True, method=0)  # a GPU waits meanwhile
    print(f"{len(kept)} pictures of {sum(count < options.each for count in left.values())} of {len(left)} in {options.out}")


if __name__ == "__main__":
    main()
