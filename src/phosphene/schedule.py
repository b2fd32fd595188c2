"""Noise schedules: the forward process, the clean estimate, and the posterior of any jump t -> s.

A schedule is a table of ``abar``, the cumulative product of alphas (Ho et al. 2020, eq. 4). Everything else follows
from it, so that strided sampling is no special case: a jump from t to s has ``alpha = abar_t / abar_s`` and
``beta = 1 - alpha``. The table lives in float64 on the CPU; coefficients leave it as Python floats and meet the
picture in float32, so no rounding of the table reaches a half-precision model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.errors import UserError, require_one_of, require_steps

CLEAN = -1
"""The timestep that stands for the clean image: ``abar(CLEAN) == 1``."""


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) of a jump t -> s: mean ``x0 * x0_hat + xt * x_t``, and the variances one may add to it."""

    x0: float
    xt: float
    large: float  # beta of the jump: exact if the data were unit Gaussian noise
    small: float  # beta (1 - abar_s) / (1 - abar_t): exact if the data were one point


@dataclass(frozen=True)
class NoiseSchedule:
    """How much of the picture is left at each timestep.

    ``config`` rebuilds the schedule with :func:`schedule_from`; ``abar`` is a float64 CPU tensor of shape (T,),
    strictly decreasing inside (0, 1).
    """

    config: Mapping[str, object]
    abar: Tensor = field(repr=False, compare=False)
    _roots: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        inside = self.abar.ndim == 1 and len(self.abar) > 0 and bool((self.abar > 0).all() and (self.abar < 1).all())
        if not inside or not bool((self.abar[1:] < self.abar[:-1]).all()):
            raise UserError(f"schedule {dict(self.config)}: abar must decrease strictly inside (0, 1); choose smaller betas.")

    @property
    def steps(self) -> int:
        """T, the number of timesteps it was trained with."""
        return len(self.abar)

    def level(self, t: int) -> float:
        """abar at timestep ``t`` in -1..T-1; 1 at -1."""
        if not CLEAN <= t < self.steps:
            raise UserError(f"timestep {t}: must lie in -1..{self.steps - 1} for this schedule.")
        return 1.0 if t == CLEAN else float(self.abar[t])

    def signal_and_noise(self, t: int | Tensor, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """``sqrt(abar_t)`` and ``sqrt(1 - abar_t)``: floats for an int ``t``, float32 (B, 1, 1, 1) for a (B,) tensor.

        A tensor holds timesteps 0..T-1: what a network is trained or asked at. Only an int may be -1.
        """
        if isinstance(t, int):
            abar = self.level(t)
            return math.sqrt(abar), math.sqrt(1 - abar)
        if like.device not in self._roots:
            # Square roots are taken in float64, where 1 - abar is still exact for the first timesteps.
            self._roots[like.device] = tuple(a.sqrt().float().to(like.device) for a in (self.abar, 1 - self.abar))
        signal, noise = self._roots[like.device]
        return signal[t].view(-1, 1, 1, 1), noise[t].view(-1, 1, 1, 1)

    def add_noise(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """Forward process: ``sqrt(abar_t) x0 + sqrt(1 - abar_t) noise``. x0, noise: (B, C, H, W); t: int or (B,)."""
        signal, sigma = self.signal_and_noise(t, x0)
        return signal * x0 + sigma * noise

    def clean_estimate(self, xt: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """x0 from a noise estimate: ``(xt - sqrt(1 - abar_t) noise) / sqrt(abar_t)``."""
        signal, sigma = self.signal_and_noise(t, xt)
        return (xt - sigma * noise) / signal

    def posterior(self, t: int, s: int) -> Posterior:
        """Coefficients of the jump ``t -> s``, ``-1 <= s < t``. Source: Ho et al. 2020, eq. 6-7, for any stride."""
        if not s < t:
            raise UserError(f"jump {t} -> {s}: timesteps must decrease.")
        abar_t, abar_s = self.level(t), self.level(s)
        alpha = abar_t / abar_s
        beta = 1 - alpha
        left = (1 - abar_s) / (1 - abar_t)
        return Posterior(x0=math.sqrt(abar_s) * beta / (1 - abar_t), xt=math.sqrt(alpha) * left, large=beta, small=beta * left)

    def timesteps(self, count: int, spacing: str = "linspace") -> list[int]:
        """``count`` timesteps, decreasing.

        ``linspace`` runs evenly from T-1 to 0; ``leading`` is ``arange(count) * (T // count)`` reversed, as the
        DeepFloyd pipelines have it; ``trailing`` runs evenly from T-1 and stops one stride short of -1.
        """
        total = self.steps
        if not 1 <= count <= total:
            raise UserError(f"--steps {count}: must lie in 1..{total}, the timesteps of this model.")
        grids = {
            "linspace": torch.linspace(total - 1, 0, count, dtype=torch.float64).round(),
            "leading": torch.arange(count - 1, -1, -1) * (total // count),
            "trailing": (torch.arange(count, 0, -1, dtype=torch.float64) * (total / count)).round() - 1,
        }
        require_one_of("spacing", spacing, grids)
        return [int(t) for t in grids[spacing]]


def linear(steps: int = 300, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """Betas on a straight line (Ho et al. 2020). With the defaults, those of the MNIST chapter, x_T keeps 22 % of x0."""
    betas = torch.linspace(beta_start, beta_end, _counted(steps), dtype=torch.float64)
    config = {"kind": "linear", "steps": steps, "beta_start": beta_start, "beta_end": beta_end}
    return NoiseSchedule(config, (1 - betas).cumprod(0))


def rescaled_linear(steps: int = 300, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """The linear schedule with sqrt(abar) shifted and stretched so that x_T is noise (Lin et al. 2024, algorithm 1).

    An exact zero would make the clean estimate at T-1 a division by zero, so the last abar is 2^-24 (or half of the
    one before, in tables so fine that it is smaller).
    """
    plain = linear(steps, beta_start, beta_end)
    root = plain.abar.sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root.square()
    abar[-1] = min(2.0**-24, float(abar[-2]) / 2)
    return NoiseSchedule({**plain.config, "kind": "rescaled-linear"}, abar)


def squared_cosine(steps: int = 1000, max_beta: float = 0.999) -> NoiseSchedule:
    """abar = cos^2, by betas capped at ``max_beta`` (Nichol & Dhariwal 2021, eq. 17); that of DeepFloyd IF."""
    grid = torch.arange(_counted(steps) + 1, dtype=torch.float64) / steps
    ideal = torch.cos((grid + 0.008) / 1.008 * math.pi / 2).square()
    betas = (1 - ideal[1:] / ideal[:-1]).clamp(max=max_beta)
    return NoiseSchedule({"kind": "squared-cosine", "steps": steps, "max_beta": max_beta}, (1 - betas).cumprod(0))


def straight(steps: int = 1000) -> NoiseSchedule:
    """The straight path of flow matching, ``(1 - r) x0 + r noise``, in this package's variance-preserving coordinates.

    Dividing that path by its standard deviation gives ``abar = (1 - r)^2 / ((1 - r)^2 + r^2)``: the same pictures in
    another scale, so that every solver here also samples flow models, and DDIM on this schedule *is* Euler's method.
    r = (t + 1) / (T + 1), hence r = 0 at t = -1 and r < 1 at T - 1. Source: Liu et al. 2023 (rectified flow).
    """
    r = torch.arange(1, _counted(steps) + 1, dtype=torch.float64) / (steps + 1)
    return NoiseSchedule({"kind": "straight", "steps": steps}, (1 - r).square() / ((1 - r).square() + r.square()))


def _counted(steps: int) -> int:
    if type(steps) is not int:
        raise UserError(f"schedule: steps {steps!r} is no whole number; give one.")
    require_steps("--timesteps", steps)
    return steps


KINDS = {"linear": linear, "rescaled-linear": rescaled_linear, "squared-cosine": squared_cosine, "straight": straight}


def schedule_from(config: Mapping[str, object]) -> NoiseSchedule:
    """The schedule that ``config`` (as kept in a model's config.json) describes."""
    settings = dict(config)
    kind = settings.pop("kind", None)
    require_one_of("schedule kind", kind, KINDS)
    try:
        return KINDS[kind](**settings)
    except TypeError as error:
        raise UserError(f"schedule {dict(config)}: {error}.") from error
