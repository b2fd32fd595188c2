"""How classifier-free guidance adds what a condition changes: at which timesteps, and which part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phosphene.errors import UserError, require_finite

if TYPE_CHECKING:  # the command line checks its options with this module, before torch is imported
    from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """The update ``toward - away`` of guidance, bent. As it is by default, it is added whole, at every timestep.

    ``interval`` (low, high, both included): at other timesteps there is no guidance, and ``toward`` is all that is asked.
    High noise is where it costs variety, low noise where it adds glare and little else (Kynkäänniemi et al. 2024; glyph).
    ``parallel``: how much is kept of the part of the update along the clean estimate. That part makes colours glare, the
    part across it makes the picture more like its prompt (Sadat et al. 2024, "adaptive projected guidance", without its
    momentum). ``norm``: the longest that the update of the clean estimate may be, as its root mean square; theirs is a sum
    over the picture, and so depends on its size. UserError where one of them is out of range.
    """

    interval: tuple[int, int] | None = None
    parallel: float = 1.0
    norm: float | None = None

    def __post_init__(self) -> None:
        if self.interval is not None and not (len(self.interval) == 2 and 0 <= self.interval[0] <= self.interval[1]):
            bounds = ",".join(str(t) for t in self.interval)
            raise UserError(f"--guidance-interval {bounds}: give its lowest and its highest timestep, such as 200,800.")
        require_finite("--guidance-parallel", self.parallel)
        if self.norm is not None and not (self.norm > 0 and math.isfinite(self.norm)):
            raise UserError(f"--guidance-norm {self.norm:g}: must be a finite number above 0; leave it out for no bound.")

    def acts(self, t: int) -> bool:
        """Whether there is guidance at timestep ``t``."""
        return self.interval is None or self.interval[0] <= t <= self.interval[1]

    def combined(self, toward: Tensor, away: Tensor, scale: float, x: Tensor, abar: float) -> Tensor:
        """The guided noise. toward, away: estimates of the noise in ``x`` (B, C, H, W), whose level is ``abar``.

        With equal estimates it is that estimate, whatever the scale.
        """
        update = toward - away
        if self.parallel == 1 and self.norm is None:
            return away + scale * update
        signal, sigma = math.sqrt(abar), math.sqrt(1 - abar)
        if self.norm is not None:
            length = update.square().mean((1, 2, 3), keepdim=True).sqrt() * (sigma / max(signal, 1e-8))
            update = update * (self.norm / length.clamp(min=1e-12)).clamp(max=1)
        # The clean estimate but for its scale, by which the projection does not change. Its update is that of the noise
        # but for sign and scale, so that what is parallel there is parallel here.
        clean = x - sigma * toward
        share = (update * clean).sum((1, 2, 3), keepdim=True) / clean.square().sum((1, 2, 3), keepdim=True).clamp(min=1e-12)
        return toward + (scale - 1) * (update + (self.parallel - 1) * share * clean)


PLAIN = Guidance()
