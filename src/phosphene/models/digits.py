"""The MNIST models behind the Denoiser protocol: one place turns what the network predicts into noise."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from phosphene.defaults import OBJECTIVES
from phosphene.errors import UserError, require_one_of
from phosphene.models.protocol import Estimate
from phosphene.schedule import NoiseSchedule


def to_target(schedule: NoiseSchedule, target: str, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """What the network is shown and what it should answer, for a training pair. x0, noise: (B, C, H, W); t: (B,).

    ``noise``: x_t and the noise (Ho et al. 2020). ``velocity``: x_t and ``signal * noise - sigma * x0`` (Salimans & Ho
    2022). ``flow``: the point ``(1 - r) x0 + r noise`` of the straight path and its direction ``noise - x0``.
    """
    signal, sigma = schedule.signal_and_noise(t, x0)
    xt = signal * x0 + sigma * noise
    if target == "noise":
        return xt, noise
    if target == "velocity":
        return xt, signal * noise - sigma * x0
    return xt / (signal + sigma), noise - x0


def from_target(schedule: NoiseSchedule, target: str, xt: Tensor, t: Tensor, predict) -> Tensor:
    """The noise estimate from ``predict(picture)``: the inverse of :func:`to_target`. xt: (B, C, H, W); t: (B,)."""
    if target == "noise":
        return predict(xt)
    signal, sigma = schedule.signal_and_noise(t, xt)
    if target == "velocity":
        return signal * predict(xt) + sigma * xt
    on_path = xt / (signal + sigma)
    return on_path + signal / (signal + sigma) * predict(on_path)


class DigitDiffusion:
    """A diffusion (or flow) model of 28x28 digits, conditioned on time and, where ``classes`` is not 0, on the class.

    Conditions are integers 0..classes-1, or None. ``network`` is a trained MnistUNet; it runs in its own dtype.
    """

    image_shape = (1, 28, 28)
    value_range = (0.0, 1.0)
    shares = True

    def __init__(self, network: nn.Module, schedule: NoiseSchedule, target: str = "noise") -> None:
        require_one_of("target", target, OBJECTIVES)
        self.network, self.schedule, self.target = network, schedule, target
        self.classes: int = network.config["classes"]

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def embed(self, condition: Hashable | None) -> Tensor:
        """One-hot (classes,) float32; zeros for None."""
        code = torch.zeros(self.classes)
        if condition is None:
            return code
        if not isinstance(condition, int) or not 0 <= condition < self.classes:
            known = f"choose 0..{self.classes - 1}" if self.classes else "this model knows no classes; sample it unconditionally"
            raise UserError(f"class {condition}: {known}.")
        code[condition] = 1
        return code

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Estimate:
        dtype = next(self.network.parameters()).dtype
        time = (t.float() / self.schedule.steps).to(dtype)
        code = embedding.to(dtype)

        def predict(pictures: Tensor) -> Tensor:
            viewed = pictures[: len(x)].to(dtype).contiguous(memory_format=torch.channels_last)
            return self.network(viewed, time, code).float()

        return Estimate(from_target(self.schedule, self.target, x.repeat(len(t) // len(x), 1, 1, 1), t, predict))
