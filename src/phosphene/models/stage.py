"""One stage of a cascade behind the Denoiser protocol, and what a super-resolution stage sees beside x."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.defaults import IF_USUAL, NOISE_LEVEL, Usual
from phosphene.errors import UserError
from phosphene.models.protocol import Estimate
from phosphene.models.scheduler import Scheduler
from phosphene.models.text import Text
from phosphene.schedule import NoiseSchedule


@dataclass(frozen=True, eq=False)
class Stage:
    """One model of a cascade, behind the Denoiser protocol. Pictures lie in [-1, 1]; conditions are prompts, or None.

    A super-resolution stage (one with ``low_res_schedule``, the schedule of the picture beside) sees the small picture, enlarged
    and noised to ``noise_level``, as further channels of x: see :meth:`low_res`.
    """

    network: nn.Module  # called like a UNet2DConditionModel of diffusers, with such a ``config``
    scheduler: Scheduler
    schedule: NoiseSchedule
    text: Text
    low_res_schedule: NoiseSchedule | None = None
    noise_level: int = NOISE_LEVEL
    runs_on: torch.device | None = None  # where it computes, if its weights may wait elsewhere
    usual: Usual = IF_USUAL  # how it is sampled where nobody says
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if self.low_res_schedule is not None and not 0 <= self.noise_level < self.low_res_schedule.steps:
            raise UserError(f"--noise-level {self.noise_level}: must lie in 0..{self.low_res_schedule.steps - 1}.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        size, channels = self.network.config.sample_size, self.network.config.in_channels
        height, width = (size, size) if isinstance(size, int) else size
        return (channels if self.low_res_schedule is None else channels // 2, height, width)

    @property
    def reads(self) -> bool:
        """Whether it is told of prompts; a super-resolution stage may go by the small picture alone."""
        return getattr(self.network, "reads", True)

    @property
    def device(self) -> torch.device:
        return self.runs_on or next(self.network.parameters()).device

    @property
    def learned(self) -> bool:
        """Whether the estimates have a variance."""
        return self.scheduler.variance_type == "learned_range" and self.network.config.out_channels == 2 * self.image_shape[0]

    def embed(self, condition: Hashable | None) -> Tensor:
        """The prompt's embedding (77, width), float32; the empty prompt's for None. Nothing, (0,), where none is read."""
        return self.text.embed(condition) if self.reads else torch.zeros(0)

    def low_res(self, small: Tensor, noise: Tensor) -> Tensor:
        """What a super-resolution stage sees beside x: ``small`` (B, C, h, w) enlarged, noised once to ``noise_level``.

        ``noise`` is (B, C, H, W), as the answer. Source: Ho et al. 2022 (cascaded diffusion), conditioning augmentation.
        """
        if self.low_res_schedule is None:
            raise UserError("stage: is no super-resolution stage; only those see a smaller picture.")
        level = torch.full((len(small),), self.noise_level, device=noise.device)
        noised = low_res_input(self.low_res_schedule, small, level, noise)
        return noised[:, :-1] if self.network.config.in_channels == 2 * self.image_shape[0] else noised

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Estimate:
        """x: (B, C, H, W), or with what :meth:`low_res` made after it; t: (B,); embedding: (B, 77, width)."""
        wanted = self.network.config.in_channels
        if x.shape[1] != wanted:
            hint = "" if self.low_res_schedule is None else "; a super-resolution stage sees a picture beside x"
            raise UserError(f"stage: needs pictures of {wanted} channels, these have {x.shape[1]}{hint}.")
        dtype = next(weight.dtype for weight in self.network.parameters() if weight.is_floating_point())
        level = None if self.low_res_schedule is None else torch.full_like(t, self.noise_level)
        answer = self.network(
            x.to(dtype).contiguous(memory_format=torch.channels_last),
            t,
            encoder_hidden_states=embedding,
            class_labels=level,
            return_dict=False,
        )[0].float()
        channels = self.image_shape[0]
        noise = self.scheduler.noise(self.schedule, x[:, :channels], t, answer[:, :channels])
        return Estimate(noise, answer[:, channels:] if self.learned else None)


def low_res_input(low_res_schedule: NoiseSchedule, small: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """``small`` (B, C, h, w) enlarged to the size of ``noise`` (B, C, H, W) and noised to ``level`` (B,), and the level.

    The answer is (B, C + 1, H, W); the last channel, level / T, is for networks that are told of it this way.
    """
    enlarged = F.interpolate(small.float(), noise.shape[-2:], mode="bilinear", align_corners=True)
    plane = (level.float() / low_res_schedule.steps).view(-1, 1, 1, 1).expand(-1, 1, *noise.shape[-2:])
    return torch.cat([low_res_schedule.add_noise(enlarged, level, noise), plane], 1)
