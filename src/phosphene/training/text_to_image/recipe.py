"""What decides a stage's training, but the pictures. Without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from phosphene.errors import UserError

HELD_OUT = 40
NETWORKS = ("cascade", "upscaler", "retrieval")
TARGETS = ("sample", "epsilon", "v_prediction")
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class CascadeRecipe:
    """Everything that decides what is learned, but the pictures."""

    network: str = "cascade"  # or "upscaler", or "retrieval" (retrieval.py)
    images: int = 4_000_000  # pictures seen in all
    batch_size: int = 512
    optimizer: str = "adamw"
    lr: float = 1e-3
    warmup: int = 500  # steps
    cooldown: float = 0.0  # last share of the run (its images or its time) in which the rate falls to zero; 0: it will go on
    weight_decay: float = 0.01
    ema: float = 0.9995
    shift: float = 1.0  # above 1, timesteps are drawn nearer to noise: u -> shift u / (1 + (shift - 1) u)
    listens: bool = False  # a taught text encoder goes on learning with the network
    seed: int = 180
    drop: float = 0.1  # share of captions withheld
    target: str = "sample"  # what the network predicts, in the words of diffusers
    most: float = 20.0  # bound of the weight 1 / (1 - abar) that makes the loss one of velocities
    size: int = 64
    patch: int = 4
    hidden: int = 320
    layers: int = 8
    heads: int = 5
    text_width: int = 192
    text_layers: int = 3
    text_heads: int = 4
    vocabulary: int = 4096
    length: int = 40  # tokens of a prompt
    level: int = 300  # of the upscaler: the small picture is noised up to this timestep
    held_out: int = HELD_OUT  # one concept in so many is not trained with but measured by; 0: none
    taught: bool = False  # the text encoder comes from a retrieval model and stays as it is

    def __post_init__(self) -> None:
        def check(option: str, good: bool, remedy: str) -> None:
            if not good:
                raise UserError(f"--{option.replace('_', '-')} {getattr(self, option)}: {remedy}.")

        check("network", self.network in NETWORKS, f"choose one of {', '.join(NETWORKS)}")
        check("optimizer", self.optimizer in OPTIMIZERS, f"choose one of {', '.join(OPTIMIZERS)}")
        check("target", self.target in TARGETS, f"choose one of {', '.join(TARGETS)}")
        for option in ("images", "batch_size", "size", "patch", "hidden", "layers", "heads", "vocabulary"):
            check(option, getattr(self, option) >= 1, "must be at least 1")
        check("hidden", self.hidden % self.heads == 0, f"must be a multiple of the {self.heads} heads")
        check("patch", self.size % self.patch == 0, f"must divide the size, {self.size}")
        check("lr", math.isfinite(self.lr) and self.lr > 0, "must be a positive number, such as 1e-3")
        check("ema", 0 <= self.ema < 1, "must lie in [0, 1)")
        check("drop", 0 <= self.drop < 1, "must lie in [0, 1)")
        check("held_out", self.held_out >= 0, "must be 0, to learn every concept, or more")
        check("cooldown", 0 <= self.cooldown <= 1, "must lie in 0..1")

    @property
    def steps(self) -> int:
        return -(-self.images // self.batch_size)

    def rate(self, step: int, begun: int = 0, time_left: float = 1.0) -> float:
        """The learning rate of a step: warm-up from where it was ``begun``, plateau, straight fall over the ``cooldown``.

        ``time_left`` is the share of the run's time that is left, where it has an end.
        """
        left = min((self.steps - step) / self.steps, max(time_left, 0.0))
        return self.lr * min(1.0, (step + 1 - begun) / self.warmup, left / self.cooldown if self.cooldown else 1.0)


_USUAL: dict[str, dict[str, Any]] = {
    "cascade": {},
    "upscaler": {"size": 256, "patch": 8, "hidden": 256, "layers": 6, "heads": 4, "batch_size": 256},
    "retrieval": {"images": 1_000_000, "lr": 5e-4, "weight_decay": 0.1, "ema": 0.998, "drop": 0.0},
}


def stage_recipe(network: str, **changes: Any) -> CascadeRecipe:
    """The usual recipe of ``network``, with ``changes``; a change of None is none."""
    changes = {name: value for name, value in changes.items() if value is not None}
    return CascadeRecipe(network=network, **{**_USUAL[network], **changes})
