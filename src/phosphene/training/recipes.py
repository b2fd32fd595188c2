"""Recipes: what is trained, how, and for how long. The defaults are the assignment's (DESIGN section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from phosphene.errors import UserError
from phosphene.models.digits import TARGETS
from phosphene.schedule import KINDS

NETWORKS = ("denoiser", "time", "class", "classifier")
DATA_FREE = ("data", "out", "resume", "device", "compile")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides which weights come out; two runs of one recipe on one CPU are bit-identical."""

    network: str  # one of NETWORKS
    dataset: str = "mnist"
    epochs: int = 20
    width: int = 64
    batch_size: int = 128
    lr: float = 1e-3
    lr_decay: float = 0.1  # the factor lost over the whole run, a constant factor each epoch; 1 keeps the rate
    seed: int = 180
    objective: str = "noise"  # one of models.digits.TARGETS; diffusion only
    schedule: str = "linear"
    timesteps: int = 300
    time_spread: float = 0.0  # of the logit-normal that timesteps are drawn from; 0 draws them uniformly
    time_mean: float = 0.0  # of that logit-normal: below 0 are more of the cleaner pictures, above 0 of the noisier
    drop: float = 0.1  # share of examples whose class is withheld
    sigma: float = 0.5  # of the denoiser's noise
    ema: float = 0.999
    keep: tuple[int, ...] = ()  # epochs whose models are kept, besides the last

    def __post_init__(self) -> None:
        def check(option: str, value: Any, good: bool, remedy: str) -> None:
            if not good:
                raise UserError(f"--{option} {value}: {remedy}.")

        check("network", self.network, self.network in NETWORKS, f"choose one of {', '.join(NETWORKS)}")
        check("epochs", self.epochs, self.epochs >= 1, "must be at least 1")
        check("width", self.width, self.width >= 1, "must be at least 1; the assignment's is 64 (denoiser: 128)")
        check("batch-size", self.batch_size, self.batch_size >= 2, "must be at least 2, for BatchNorm")
        check("lr", self.lr, math.isfinite(self.lr) and self.lr > 0, "must be a positive number, such as 1e-3")
        check("lr-decay", self.lr_decay, 0 < self.lr_decay <= 1, "must lie in (0, 1]")
        check("seed", self.seed, 0 <= self.seed < 2**40, "must lie in 0..2^40")
        check("objective", self.objective, self.objective in TARGETS, f"choose one of {', '.join(TARGETS)}")
        check("schedule", self.schedule, self.schedule in KINDS, f"choose one of {', '.join(KINDS)}")
        check("timesteps", self.timesteps, self.timesteps >= 2, "must be at least 2")
        check("time-spread", self.time_spread, 0 <= self.time_spread < math.inf, "must be 0 (uniform) or above, such as 1")
        check("time-mean", self.time_mean, math.isfinite(self.time_mean), "must be a finite number, such as 0")
        check("drop", self.drop, 0 <= self.drop < 1, "must lie in [0, 1)")
        check("sigma", self.sigma, math.isfinite(self.sigma) and self.sigma > 0, "must be positive")
        check("ema", self.ema, 0 <= self.ema < 1, "must lie in [0, 1); 0.999 is usual, 0 keeps no average")
        check("keep", self.keep, all(1 <= e <= self.epochs for e in self.keep), f"epochs must lie in 1..{self.epochs}")

    def to_json(self) -> dict:
        return {**asdict(self), "keep": list(self.keep)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{k: tuple(v) if k == "keep" else v for k, v in values.items() if k in known})
        except TypeError as error:
            raise UserError(f"recipe.json: is incomplete or damaged ({error}); start the run anew.") from error


_ASSIGNMENT: dict[str, dict[str, Any]] = {
    "denoiser": {"epochs": 5, "width": 128, "batch_size": 256, "lr": 1e-4, "lr_decay": 1.0, "keep": (1, 5)},
    "time": {"keep": (5, 20)},
    "class": {"keep": (5, 20)},
    "classifier": {"width": 32, "epochs": 20, "batch_size": 256, "lr": 2e-3, "lr_decay": 0.01},
}

_FLOW: dict[str, Any] = {"schedule": "straight", "timesteps": 1000, "time_spread": 1.0, "lr_decay": 0.5, "ema": 0.9995}


def recipe(network: str, **changes: Any) -> Recipe:
    """The assignment's recipe for ``network`` with ``changes``; a change of None is none.

    The flow objective comes with its own straight schedule, a fine grid of times, and the settings that proved best for
    it (docs/results-mnist.md), unless they are named.
    """
    if network not in NETWORKS:
        raise UserError(f"train {network}: unknown; choose one of {', '.join(NETWORKS)}.")
    changes = {name: value for name, value in changes.items() if value is not None}
    settings = {**_ASSIGNMENT[network], **changes}
    if settings.get("objective") == "flow":
        settings = {**settings, **_FLOW, **changes}
    epochs = settings.get("epochs", Recipe.epochs)
    if "keep" not in changes:
        settings["keep"] = tuple(e for e in settings.get("keep", ()) if e <= epochs)
    return Recipe(network=network, **settings)
