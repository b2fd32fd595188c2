"""Names and numbers that the command line, the studio and what computes share. No torch here: --help does not wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SEED = 180
GUIDANCE, UPSCALE_GUIDANCE = 7.0, 4.0
"""Of both stages of text to image: the defaults of diffusers."""
DIGIT_GUIDANCE, AMBIGRAM_GUIDANCE = 5.0, 8.0
CASCADE = "glyph"
"""The cascade that ships with the package."""

NOISE_LEVEL = 250
"""How noisy a super-resolution stage is shown the small picture, where nobody says: the default of diffusers."""
OWN_NOISE_LEVEL = 100
"""The same of our upscalers: enough to hide what the first stage got wrong, little enough to keep what it drew."""


class Steps(NamedTuple):
    """How many timesteps a solver visits where nobody says: of a cascade's 1000, and of an MNIST model's."""

    cascade: int
    digits: int


SOLVERS = {"ancestral": Steps(34, 300), "ddim": Steps(34, 50), "dpm": Steps(20, 8), "heun": Steps(20, 8)}
"""Of each solver in ``sampler.SOLVERS``. 34, Part A's number, are every 29th timestep of the 1000."""

MOST_STEPS = 100_000
"""Timesteps of a schedule at most: checked before there is a table, for the number may come from a file."""
OBJECTIVES = ("noise", "velocity", "flow")
"""What an MNIST network may predict."""
SCHEDULES = ("linear", "rescaled-linear", "squared-cosine", "straight")
"""Of ``schedule.KINDS``."""
DATASETS = ("mnist", "fashion", "digits", "idx")
NETWORKS = ("denoiser", "time", "class", "classifier")
"""Of the MNIST chapter."""
OFFLOADS = ("none", "stages", "layers")
"""What may wait in main memory until it is needed: nothing, the stage that is not at work, all layers but the one at work."""


def one_of(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}"
