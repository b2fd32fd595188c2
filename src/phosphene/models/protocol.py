"""The seam between models and everything above them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol

from torch import Tensor

from phosphene.schedule import NoiseSchedule


class Estimate(NamedTuple):
    """What a denoiser says of a noisy picture. Both fields are shaped like it, (B, C, H, W)."""

    noise: Tensor  # the unit Gaussian noise it believes was added
    variance: Tensor | None = None  # in [-1, 1], from log of the small to log of the large variance; None if not learned


class Denoiser(Protocol):
    """Anything that can say which noise a picture holds, at a timestep, given a condition.

    One with an attribute ``shares = True`` may be given fewer pictures than embeddings: P pictures and k * P embeddings,
    all pictures under the first condition, then all under the second. It answers k * P estimates, and computes what
    does not depend on the condition once for each picture.
    """

    schedule: NoiseSchedule
    image_shape: tuple[int, int, int]
    value_range: tuple[float, float]  # of clean pictures

    def embed(self, condition: Hashable | None) -> Tensor:
        """What the network is told of ``condition``, without batch dimension; None is the null condition."""
        ...

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Estimate:
        """x: (B, C, H, W) float32; t: (B,) integer; embedding: (B, ...). The answer is float32, whatever runs inside."""
        ...
