"""How well a picture reads as each of several prompts, each in its own view: judged by the denoiser that drew it.

A diffusion classifier (Li et al. 2023): noise the picture, and the prompt that helps most to tell the noise is the one
it shows. Alignment and concealment are those of Visual Anagrams (Geng et al. 2024, section 4.2), which asks CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene import drawing
from phosphene.defaults import IF_USUAL
from phosphene.errors import UserError
from phosphene.models.stage import Stage
from phosphene.sampler import draw, generators

TIMES = (0.35, 0.5, 0.65, 0.8)
"""At these shares of the schedule what a picture shows is neither plain to see nor gone."""
SHARPNESS = 50.0
READS = 0.5
"""A picture reads where each reading is more surely its own prompt than all others and none together."""

Reading = Callable[[Tensor], Tensor]
"""From a picture to how it is looked at: a view's ``apply``, a blur."""


class Score(NamedTuple):
    """Of N pictures. ``gain``: (N, readings, prompts), the share of the noise's error that a prompt explains.

    ``alignment``: (N,), the gain of the prompt that is understood least in its own reading. ``concealment``: (N,), how
    surely each reading is told from the other prompts, 0..1. ``worst``: (N,), how surely the weakest reading is told from
    the other prompts and from no prompt at all: what shows neither thing clearly must not win by being no third.
    """

    gain: Tensor
    alignment: Tensor
    concealment: Tensor
    worst: Tensor

    @property
    def score(self) -> Tensor:
        """What the choice of the best goes by, (N,)."""
        return self.worst


def alignment_and_concealment(similarity: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    """Of (N, readings, prompts), how well each reading fits each prompt, reading k being asked to fit prompt k: both (N,).

    Alignment is the least of what fits its own. Concealment, 0..1, is how surely a reading is told from the other prompts, by a
    softmax of ``sharpness`` times the similarity over the prompts, in the mean. Source: Geng et al. 2024, section 4.2.
    """
    chance = (similarity * sharpness).softmax(2)
    own, sure = (of.diagonal(dim1=1, dim2=2) for of in (similarity, chance))
    return own.amin(1), sure.mean(1)


@torch.no_grad()
def score(
    stage: Stage,
    pictures: Tensor,
    prompts: Sequence[str],
    looks: Sequence[Reading],
    seed: int = 0,
    max_rows: int = 64,
    shares: Sequence[float] = TIMES,
) -> Score:
    """How well ``pictures`` (N, C, H, W), looked at by ``looks[k]``, show ``prompts[k]`` and none of the others.

    They are noised to each of ``shares`` of the schedule.
    """
    if len(prompts) != len(looks) or len(prompts) < 2:
        raise UserError(f"--best-of: {len(prompts)} prompts for {len(looks)} readings; give two or more, one for each.")
    if (usual := getattr(stage, "usual", IF_USUAL)).timesteps is not None:
        raise UserError(f"--model: is distilled, and knows too few timesteps to judge what it drew; {usual.instead}.")
    schedule, device = stage.schedule, stage.device
    embeddings = torch.stack([stage.embed(p) for p in (None, *prompts)]).to(device)
    times = [round(share * (schedule.steps - 1)) for share in shares]
    # All pictures, readings and prompts meet the same noise: only then do their errors compare.
    noises = draw(generators(range(seed, seed + len(times))), len(times), stage.image_shape, device)
    errors = torch.zeros(len(pictures), len(looks), len(embeddings), device=device)
    each = max(max_rows // len(embeddings), 1)
    for row, look in enumerate(looks):
        viewed = look(pictures.to(device))
        for t, noise in zip(times, noises, strict=True):
            for part in torch.arange(len(pictures), device=device).split(each):
                xt = schedule.add_noise(viewed[part], t, noise.expand_as(viewed[part]))
                rows = xt.repeat_interleave(len(embeddings), 0)
                asked = embeddings.repeat(len(part), *[1] * (embeddings.ndim - 1))
                answer = stage(rows, torch.full((len(rows),), t, device=device), asked).noise
                wrong = (answer - noise).square().flatten(1).mean(1).view(len(part), len(embeddings))
                errors[part, row] += wrong / wrong[:, :1].clamp(min=1e-8) / len(times)
    gain = 1 - errors[..., 1:]
    aligned, concealed = alignment_and_concealment(gain, SHARPNESS)
    sure = (F.pad(gain, (0, 1)) * SHARPNESS).softmax(2).diagonal(dim1=1, dim2=2)  # no prompt explains nothing: 0
    return Score(*(found.cpu() for found in (gain, aligned, concealed, sure.amin(1))))


def read_best(asks: drawing.Asks, prompts: Sequence[str], looks: Sequence[Reading], **more: object) -> drawing.Task:
    """What ``asks`` says, to be read as ``prompts[k]`` by ``looks[k]``: best is what reads so by :func:`score`."""
    readings = [drawing.Reading(prompt, look) for prompt, look in zip(prompts, looks, strict=True)]
    return drawing.Task(asks, judge=lambda stage, pictures, _: score(stage, pictures, prompts, looks), readings=readings, **more)
