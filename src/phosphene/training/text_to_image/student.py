"""Distilling a cascade's first stage to a few steps: the student answers in one evaluation what its teacher finds in several.

From noise the student walks its own few timesteps. Between two of them the teacher, guided, starts where the student stands and
takes small steps of DPM-Solver++; the clean estimate that would have led there in one step of DDIM is what the student should
have said. So it learns to go on from its own mistakes, guidance becomes part of it, and no picture is needed, only prompts
(Salimans & Ho 2022, progressive distillation; Meng et al. 2023, of guided models). What it learns is of low rank (LoRA, Hu et
al. 2022), beside biases and tables: the difference is small enough to ship.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.files import write_text
from phosphene.models import distilled, tokens
from phosphene.models.folders import DISTILLED
from phosphene.sampler import Row, ddim, dpm_solver
from phosphene.schedule import CLEAN, NoiseSchedule
from phosphene.training.text_to_image.low_rank import DifferenceTrainer
from phosphene.training.text_to_image.stage_trainer import Painter
from phosphene.training.text_to_image.stories import Batch

WAY = (0.0, 0.15, 0.43, 0.71)
"""Where the teacher stops between two of the student's timesteps; its first step, of first order, is the shortest."""
LOOKS = 2
"""At every so many-th of those it is asked what to lead away from; what that adds to its clean estimate holds until then."""


class Leg(NamedTuple):
    """From one of the student's timesteps to the next: its own step, and the teacher's."""

    own: Row
    rows: list[Row]
    weight: float  # of the loss, which is that of the velocity; see StageTrainer.loss


def legs(schedule: NoiseSchedule, timesteps: tuple[int, ...], most: float) -> list[Leg]:
    """What the student's ``timesteps`` ask of it and of its teacher; the weight of a leg is at most ``most``."""
    found = []
    for own in ddim(schedule, timesteps):
        end = max(own.s, 0)
        stops = dict.fromkeys([*(round(own.t - part * (own.t - end)) for part in WAY), end])
        rows = dpm_solver(schedule, list(stops))
        found.append(Leg(own, rows if own.s == CLEAN else rows[:-1], min(1 / (1 - schedule.level(own.t)), most)))
    return found


class StudentTrainer(DifferenceTrainer):
    """As for the stages, on the same stories, of which nothing but the words is needed."""

    def __init__(self, recipe, *others, **named) -> None:
        super().__init__(recipe, *others, **named)
        self.legs = legs(self.schedule, recipe.visits, recipe.most)
        nothing = tokens.encode(self.tokenizer, [""], recipe.length, self.tokenizer.get_vocab_size())
        self.nothing = [part.to(self.device) for part in nothing]

    def lower(self, painter: Painter) -> None:
        self.teacher = copy.deepcopy(painter.image).requires_grad_(False).to(self.device)
        if self.device.type == "cuda":
            self.teacher.to(torch.bfloat16)
        super().lower(painter)

    @property
    def told(self) -> distilled.Told:
        """What is told of the student."""
        return distilled.Told(self.recipe.visits, self.recipe.guidance, teacher=self.recipe.distils)

    def tell(self, folder: Path) -> None:
        write_text(folder / DISTILLED, json.dumps(self.told._asdict(), indent=2) + "\n")

    def compile(self) -> None:
        super().compile()
        for block in self.teacher.transformer_blocks:
            block.compile()

    def composed(self, batch: Batch) -> Tensor:
        return torch.empty(len(batch.ids), 3, self.recipe.size, self.recipe.size, device=self.device)

    @torch.no_grad()
    def led(self, x: Tensor, rows: list[Row], text: Tensor, mask: Tensor) -> Tensor:
        """Where the guided teacher comes to from ``x`` by ``rows``; ``text`` and ``mask`` are of the prompts, then of none."""
        dtype = next(self.teacher.parameters()).dtype
        both = self.teacher.prepare(text.to(dtype), mask.bool())
        prompts = type(both)(*(part[: len(x)] for part in both))
        previous = update = torch.zeros_like(x)
        for k, row in enumerate(rows):
            looks = k % LOOKS == 0
            shown = torch.cat([x, x]) if looks else x
            t = torch.full((len(shown),), row.t, device=x.device)
            answers = self.teacher(shown.to(dtype), t, both if looks else prompts).float()
            toward = answers[: len(x)]
            update = toward - answers[len(x) :] if looks else update
            x0 = (toward + (self.recipe.guidance - 1) * update).clamp(-1, 1)
            x, previous = row.xt * x + row.x0 * x0 + row.previous * previous, x0
        return x

    def loss(
        self, network: Painter, x0: Tensor, ids: Tensor, mask: Tensor, generator: torch.Generator, shift: float = 1.0
    ) -> Tensor:
        """Of each prompt, (B,), the squared errors of the clean estimates along the student's way, summed over its legs."""
        with torch.no_grad():
            text = torch.cat([network.text(ids, mask), network.text(*self.nothing).expand(len(ids), -1, -1)])
        both = torch.cat([mask, self.nothing[1].expand(len(ids), -1)])
        x, total = torch.randn(x0.shape, generator=generator, device=self.device), torch.zeros(len(ids), device=self.device)
        for own, rows, weight in self.legs:
            wanted = (self.led(x, rows, text, both) - own.xt * x) / own.x0
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                t = torch.full((len(ids),), own.t, device=self.device)
                answer = network.image(x, t, text[: len(ids)], mask.bool()).float()
            total = total + weight * (answer - wanted).square().mean((1, 2, 3))
            x = own.xt * x + own.x0 * answer.detach().clamp(-1, 1)
        return total
