"""Small early drawings of many prompts, which tell what may share a picture: how they are drawn, and the sheet that keeps them.

What a picture shows is settled at high noise. So a *sketch* of a prompt is what the model takes the clean picture for when it
has come a fifth of the way from noise, 16x16 pixels, from a few seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.frequency import REFERENCE_SIZE
from phosphene.images import save_png, to_images, to_tensor
from phosphene.models.stage import Stage
from phosphene.models.tokens import without_accents
from phosphene.readers import read_picture, read_provenance
from phosphene.sampler import last
from phosphene.tasks.generate import generate
from phosphene.tasks.score import Reading
from phosphene.tasks.tried import Tried, read_tried

SIDE = 16
"""Pixels of a sketch along a side: broad shapes, and no more, are there to be shared so early."""
SHARES = (1.0, 0.8)
"""Of the schedule: the two timesteps that a sketch takes."""
COLUMNS, AT_ONCE = 16, 32
MOST = 8192
"""Sketches of a sheet: each is compared with each."""
AGAIN = "make a sheet with tools/concept_sheet.py"


def tidy(prompt: str) -> str:
    """``prompt`` in lower case and with single spaces."""
    return " ".join(prompt.lower().split())


SIGNS = ".,;:!?…\"'()[]#“”‘’"
"""What people put around words, and no thing is called by."""


def bare(prompt: str) -> str:
    """``prompt`` tidied, without an article and without signs around its words."""
    plain = " ".join(filter(None, (word.strip(SIGNS) for word in without_accents(tidy(prompt)).split())))
    article, _, rest = plain.partition(" ")
    return rest if rest and article in ("a", "an", "the") else plain


class Concepts(NamedTuple):
    """N prompts, ``sketches`` of each, (N, seeds, C, 16, 16) in [-1, 1], and the guidance scale that those were drawn at.

    ``hard``: those that somebody who saw them drawn alone did not name: nobody's partners. ``tried``: pairs of them that were
    drawn as anagrams.
    """

    prompts: tuple[str, ...]
    sketches: Tensor
    guidance: float
    hard: frozenset[str] = frozenset()
    tried: tuple[Tried, ...] = ()

    @property
    def each(self) -> int:
        return self.sketches.shape[1]

    @property
    def mean(self) -> Tensor:
        """What all have in common, (C, 16, 16): a thing amid white."""
        return self.sketches.mean((0, 1))

    def of(self, prompt: str) -> Concepts | None:
        """Those of one ``prompt``, whatever its case, spaces and article; None where it is not among them."""
        at = next((k for k, known in enumerate(self.prompts) if bare(known) == bare(prompt)), None)
        if at is None:
            return None
        return self._replace(prompts=self.prompts[at : at + 1], sketches=self.sketches[at : at + 1])

    def joined(self, more: Concepts) -> Concepts:
        """These, and after them ``more``."""
        return self._replace(prompts=self.prompts + more.prompts, sketches=torch.cat([self.sketches, more.sketches]))


def small(pictures: Tensor) -> Tensor:
    """(..., C, H, W) to (..., C, 16, 16), each pixel the mean of what it covers."""
    return _resized(pictures, (SIDE, SIDE), "area")


def large(sketches: Tensor, size: tuple[int, int] = (REFERENCE_SIZE, REFERENCE_SIZE)) -> Tensor:
    """(..., C, 16, 16) to (..., C, *size), without smoothing: ``small`` undoes it where the sizes divide."""
    return _resized(sketches, size, "nearest")


def _resized(pictures: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    whole = F.interpolate(pictures.reshape(-1, *pictures.shape[-3:]), size, mode=mode)
    return whole.view(*pictures.shape[:-2], *size)


def seen(sketches: Tensor, look: Reading) -> Tensor:
    """``sketches`` looked at by ``look``, which is of pictures of 64 pixels. (..., C, 16, 16) to the same."""
    return small(look(large(sketches).flatten(0, -4))).view(sketches.shape)


def drawn(stage: Stage, prompts: Sequence[str], each: int, guidance: float) -> Concepts:
    """Sketches of ``prompts`` by the first stage of a cascade, from ``each`` seeds.

    A sketch is what a run of two timesteps, SHARES of the schedule, ends at: the clean estimate at the second.
    """
    times = [round(share * (stage.schedule.steps - 1)) for share in SHARES]
    # In pure noise guidance has little to go by, and a row more to pay (Kynkäänniemi et al. 2024).
    how, sketches = Sampling("ddim", timesteps=times, guidance=guidance, guidance_interval=(0, times[1]), max_rows=64), []
    plain = tuple(map(tidy, prompts))
    for start in range(0, len(plain), AT_ONCE):
        part = [prompt for prompt in plain[start : start + AT_ONCE] for _ in range(each)]
        seeds = [SEED + k % each for k in range(len(part))]
        sketches.append(small(last(run(generate(part), stage, seeds, sampling=how)).clamp(-1, 1)).cpu())
    return Concepts(plain, torch.cat(sketches).unflatten(0, (-1, each)), guidance)


def write(concepts: Concepts, path: Path, **story: object) -> None:
    """Write ``concepts`` as a PNG of all sketches, with the prompts, and ``story``, in what it says of itself."""
    count, each, channels = concepts.sketches.shape[:3]
    rows = -(-count // COLUMNS)
    cells = torch.ones(rows * COLUMNS, each, channels, SIDE, SIDE)
    cells[:count] = concepts.sketches
    whole = cells.view(rows, COLUMNS * each, channels, SIDE, SIDE).permute(2, 0, 3, 1, 4)
    hard = [prompt for prompt in concepts.prompts if prompt in concepts.hard]
    known = {"prompts": concepts.prompts, "each": each, "guidance": concepts.guidance, "hard": hard}
    save_png(to_images(whole.reshape(1, channels, rows * SIDE, -1))[0], path, {**story, **known})


def read(path: Path, option: str = "--concepts") -> Concepts:
    """What :func:`write` wrote, to an eighth bit, and the pairs that were tried, where a .tsv of the same name has some.

    UserError, naming ``option``, where ``path`` holds nothing such.
    """
    story = read_provenance(path)
    prompts, each, guidance = (story.get(name) for name in ("prompts", "each", "guidance"))
    hard = story.get("hard", [])
    lists = all(isinstance(of, list) and all(isinstance(p, str) and p == tidy(p) != "" for p in of) for of in (prompts, hard))
    numbers = type(each) is int and each >= 1 and isinstance(guidance, int | float) and abs(guidance) < 1e6
    if not (lists and numbers and 1 < len(prompts) == len(set(prompts)) and set(hard) <= set(prompts)):
        raise UserError(f"{option} {path}: does not say what it shows; {AGAIN}.")
    if len(prompts) * each > MOST:
        raise UserError(
            f"{option} {path}: has {len(prompts)} prompts with {each} sketches each; {AGAIN}, of {MOST} in all at most."
        )
    picture, rows = read_picture(path, option), -(-len(prompts) // COLUMNS)
    wanted = (COLUMNS * each * SIDE, rows * SIDE)
    if picture.size != wanted:
        size, right = (f"{width}x{height}" for width, height in (picture.size, wanted))
        raise UserError(f"{option} {path}: is {size} pixels, and {len(prompts)} prompts take {right}; {AGAIN}.")
    cells = to_tensor(picture)[0].view(3, rows, SIDE, COLUMNS * each, SIDE).permute(1, 3, 0, 2, 4)
    sketches = cells.reshape(-1, each, 3, SIDE, SIDE)[: len(prompts)].contiguous()
    return Concepts(tuple(prompts), sketches, float(guidance), frozenset(hard), read_tried(path.with_suffix(".tsv"), prompts))
