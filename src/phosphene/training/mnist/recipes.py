"""Recipes: what is trained, how, and for how long. The defaults are the assignment's (DESIGN section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phosphene.defaults import DATASETS, MOST_STEPS, NETWORKS, OBJECTIVES, SCHEDULES, SEED, one_of
from phosphene.errors import UserError
from phosphene.training.options import RECIPE, BaseRecipe, option

DIFFUSION = ("time", "class")
MOST = {"epochs": 10**6, "width": 1024, "batch_size": 2**20}
"""Of sizes, which are checked before memory is taken for them: that of a network grows with the square of its width."""
LARGEST_MEASURED = 8192
"""The largest batch at which two processes were timed beside one: docs/scale.md has the table."""


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """Everything that decides which weights come out; two runs of one recipe on one CPU are bit-identical."""

    network: str  # one of NETWORKS
    dataset: str = option("mnist", f"{one_of(DATASETS)}; digits needs no files.")
    epochs: int = option(20, "Passes over the pictures.")
    width: int = option(64, "Channels of the first level.")
    batch_size: int = option(128, "Of all processes together.")
    lr: float = option(1e-3, "Adam's learning rate.")
    lr_decay: float = option(0.1, "Factor lost over the whole run, a constant factor each epoch; 1 keeps the rate.")
    seed: int = option(SEED, "Of weights, order and noise.", min=0, max=2**32 - 1)
    objective: str = option("noise", f"{one_of(OBJECTIVES)}.", DIFFUSION)
    schedule: str = option("linear", f"{one_of(SCHEDULES)}.", DIFFUSION)
    timesteps: int = option(300, "T of the schedule.", DIFFUSION)
    time_spread: float = option(0.0, "Of the logit-normal timesteps are drawn from; 0: uniformly.", DIFFUSION)
    time_mean: float = option(0.0, "Of that logit-normal: below 0 favours cleaner pictures.", DIFFUSION)
    drop: float = option(0.1, "Share of examples whose class is withheld.", ("class",))
    sigma: float = option(0.5, "Of the noise it learns to remove.", ("denoiser",))
    ema: float = option(0.999, "Memory of the moving average of the weights.")
    keep: tuple[int, ...] = option((), "Epochs whose models are kept besides the last, such as 5,20.")

    def __post_init__(self) -> None:
        self.require("network", self.network in NETWORKS, f"choose one of {', '.join(NETWORKS)}")
        self.require("epochs", self.epochs >= 1, "must be at least 1")
        self.require("width", self.width >= 1, "must be at least 1; the assignment's is 64 (denoiser: 128)")
        self.require("batch_size", self.batch_size >= 2, "must be at least 2, for BatchNorm")
        self.require_at_most(MOST)
        self.require("lr", math.isfinite(self.lr) and self.lr > 0, "must be a positive number, such as 1e-3")
        self.require("lr_decay", 0 < self.lr_decay <= 1, "must lie in (0, 1]")
        self.require("seed", 0 <= self.seed < 2**40, "must lie in 0..2^40")
        self.require("objective", self.objective in OBJECTIVES, f"choose one of {', '.join(OBJECTIVES)}")
        self.require("schedule", self.schedule in SCHEDULES, f"choose one of {', '.join(SCHEDULES)}")
        self.require("timesteps", 2 <= self.timesteps <= MOST_STEPS, f"must lie in 2..{MOST_STEPS}")
        self.require("dataset", self.dataset in DATASETS, f"choose one of {', '.join(DATASETS)}")
        self.require("time_spread", 0 <= self.time_spread <= 100, "must lie in 0 (uniform)..100, such as 1")
        self.require("time_mean", math.isfinite(self.time_mean), "must be a finite number, such as 0")
        self.require("drop", 0 <= self.drop < 1, "must lie in [0, 1)")
        self.require("sigma", math.isfinite(self.sigma) and self.sigma > 0, "must be positive")
        self.require("ema", 0 <= self.ema < 1, "must lie in [0, 1); 0.999 is usual, 0 keeps no average")
        self.require("keep", all(1 <= e <= self.epochs for e in self.keep), f"epochs must lie in 1..{self.epochs}")


def shared_in_vain(batch_size: int, processes: int) -> str:
    """What to say where one GPU alone is faster than so many that share a batch, by what was measured; else nothing."""
    if processes == 1 or batch_size > LARGEST_MEASURED:
        return ""
    measured = "two H200 learned 22,200 images a second of batches of 128 and 65,900 of 8,192, one alone 65,700 and 133,300"
    return f"one process is faster than {processes} at a --batch-size of {batch_size}: {measured}"


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


def resumed(network: str, out: Path, **changes: Any) -> Recipe:
    """The recipe of the run in ``out``, but for ``changes`` that are not None. UserError where it cannot be read."""
    if not (out / RECIPE).exists():
        return recipe(network, **changes)  # the run says what is missing
    saved = Recipe.read(out)
    if changes.get("keep") is None:
        # Of kept epochs, those beyond a shorter --epochs would be complained of first, and they were not asked for.
        changes["keep"] = tuple(e for e in saved.keep if e <= (changes.get("epochs") or saved.epochs))
    return saved.changed({**changes, "network": network})
