"""What decides a stage's training, but the pictures. Without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phosphene.defaults import MOST_PICTURE_WIDTH, OWN_USUAL, SEED, one_of
from phosphene.errors import UserError, require_timesteps
from phosphene.training.options import RECIPE, RESTARTED, RESUMED, BaseRecipe, option, whole

HELD_OUT = 40
NETWORKS = ("cascade", "upscaler", "retrieval", "student", "unprompted")
MOST = {
    "images": 10**11,
    "batch_size": 2**20,
    "micro_batch": 2**20,
    "hidden": 2**13,
    "layers": 100,
    "held_out": 2**20,
    "rank": 2**10,
    "picture_width": MOST_PICTURE_WIDTH,
}
"""Of sizes, which are checked before memory is taken for them."""
TARGETS = ("sample", "epsilon", "v_prediction")
OPTIMIZERS = ("adamw", "muon")
PAINTERS = ("cascade", "upscaler")
DIFFERENCES = ("student", "unprompted")
"""Those that learn what is added to the weights of a cascade's first stage."""
READERS = ("cascade", "retrieval")
WHOLE = ("cascade", "upscaler", "retrieval")
"""Those that learn all of their weights."""


@dataclass(frozen=True)
class CascadeRecipe(BaseRecipe):
    """Everything that decides what is learned, but the pictures."""

    network: str = "cascade"
    images: int = option(4_000_000, "Pictures to see in all.", change=RESUMED)
    batch_size: int = option(512, "Pictures of a step.", change=RESUMED)
    micro_batch: int = option(
        0, "Pictures of a pass of each process; the gradient is the whole batch's. 0: 32 on a CPU, all on a GPU.", change=RESUMED
    )
    optimizer: str = option("adamw", "adamw, or muon for the blocks' matrices.", WHOLE, change=RESTARTED)
    lr: float = option(1e-3, "Learning rate.", change=RESUMED)
    warmup: int = option(500, change=RESUMED)  # steps
    cooldown: float = option(0.0, "Last share of images or minutes, in which the rate falls.", change=RESUMED)
    weight_decay: float = option(0.01, change=RESUMED)
    ema: float = option(0.9995, "Memory of the moving average of the weights.", change=RESUMED)
    shift: float = option(
        1.0, "Above 1, more of the timesteps are near to noise.", (*PAINTERS, "unprompted"), change=RESUMED
    )  # see StageTrainer.loss
    listens: float = option(
        0.0, "Share of the rate at which a taught text encoder learns along; 0: not at all.", ("cascade",), change=RESTARTED
    )
    seed: int = option(SEED, "Of weights, stories and noise.", change=RESUMED, min=0, max=2**32 - 1)
    drop: float = option(0.1, "Share of captions withheld.", READERS, change=RESUMED)
    simple: float = option(
        0.2, "Share of simple drawings among what is shown without words.", ("cascade", "unprompted"), change=RESUMED
    )
    target: str = option("sample", f"Predict {one_of(TARGETS)}.", PAINTERS)
    most: float = option(20.0, change=RESUMED)  # bound of the weight 1 / (1 - abar) that makes the loss one of velocities
    size: int = 64
    patch: int = option(4, "Side of the patches, in pixels.", PAINTERS)
    hidden: int = option(320, "Width of the transformer.", PAINTERS)
    layers: int = option(8, "Blocks of the transformer.", PAINTERS)
    heads: int = option(5, "Attention heads.", PAINTERS)
    picture_width: int = option(
        96, "Width of the picture tower's first blocks; twice that for a judge that learns long.", ("retrieval",)
    )
    text_width: int = 192
    text_layers: int = 3
    text_heads: int = 4
    vocabulary: int = 4096
    length: int = 40  # tokens of a prompt
    turned: float = option(
        0.0,
        "Share of the pictures that are turned or mirrored by chance: for a judge of illusions.",
        ("retrieval",),
        change=RESUMED,
    )
    level: int = option(300, change=RESUMED)  # of the upscaler: the small picture is noised up to this timestep
    held_out: int = option(HELD_OUT, "One concept in so many is not trained with but measured by; 0: none.", change=RESUMED)
    rank: int = option(8, "Rank of what is added to each matrix.", DIFFERENCES)
    visits: tuple[int, ...] = option((999, 833, 600, 300), "Timesteps at which the student is asked.", ("student",))
    guidance: float = option(OWN_USUAL.guidance, "Of the teacher; the student has it built in.", ("student",))
    distils: str = ""  # where the stage lies that a student learns from, or that a difference is one to
    taught: bool = False  # the text encoder comes from another model and stays as it is

    def __post_init__(self) -> None:
        self.require("network", self.network in NETWORKS, f"choose one of {', '.join(NETWORKS)}")
        self.require("optimizer", self.optimizer in OPTIMIZERS, f"choose one of {', '.join(OPTIMIZERS)}")
        self.require("target", self.target in TARGETS, f"choose one of {', '.join(TARGETS)}")
        for name in ("images", "batch_size", "size", "patch", "hidden", "layers", "heads", "picture_width", "vocabulary"):
            self.require(name, getattr(self, name) >= 1, "must be at least 1")
        self.require_at_most(MOST)
        self.require("hidden", self.hidden % self.heads == 0, f"must be a multiple of the {self.heads} heads")
        self.require("patch", self.size % self.patch == 0, f"must divide the size, {self.size}")
        self.require("lr", math.isfinite(self.lr) and self.lr > 0, "must be a positive number, such as 1e-3")
        self.require("ema", 0 <= self.ema < 1, "must lie in [0, 1)")
        self.require("turned", 0 <= self.turned <= 1, "must lie in 0..1")
        self.require("drop", 0 <= self.drop < 1 or (self.drop == 1 and self.network == "unprompted"), "must lie in [0, 1)")
        self.require("simple", 0 <= self.simple <= 1, "must lie in 0..1")
        self.require("micro_batch", self.micro_batch >= 0, "must be 0, for what is usual, or more")
        self.require("held_out", self.held_out >= 0, "must be 0, to learn every concept, or more")
        self.require("cooldown", 0 <= self.cooldown <= 1, "must lie in 0..1")
        self.require("shift", math.isfinite(self.shift) and self.shift > 0, "must be a positive number, such as 1.5")
        self.require("rank", self.rank >= 1, "must be at least 1")
        self.require("guidance", math.isfinite(self.guidance), "must be a number, such as 4")
        require_timesteps("--visits", self.visits)
        self.require("visits", self.visits[0] < 1000, "must lie in 0..999, the model's timesteps")
        self.require("listens", 0 <= self.listens <= 1, "must lie in 0..1")

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
    "student": {
        "images": 256_000,
        "batch_size": 128,
        "lr": 2e-3,
        "warmup": 50,
        "cooldown": 0.5,
        "ema": 0.995,
        "drop": 0.0,
        "held_out": 0,
        "taught": True,
    },
    "unprompted": {
        "images": 2_000_000,
        "lr": 2e-3,
        "warmup": 100,
        "cooldown": 0.7,
        "ema": 0.995,
        "shift": 1.5,
        "drop": 1.0,
        "simple": 0.5,
        "held_out": 0,
        "rank": 16,
        "taught": True,
    },
}


def stage_recipe(network: str, **changes: Any) -> CascadeRecipe:
    """The usual recipe of ``network``, with ``changes``; a change of None is none."""
    return CascadeRecipe(network=network, **_USUAL[network]).changed(changes)


def difference_recipe(network: str, stage: Path, **changes: Any) -> CascadeRecipe:
    """The usual recipe of a difference (of DIFFERENCES) to the stage in a folder, with ``changes``; a change of None is none."""
    saved, _ = saved_recipe(stage)
    if saved.network != "cascade" or saved.target != "sample":
        told = f"is a {saved.network} that predicts {saved.target}"
        raise UserError(f"--from {stage}: {told}; this learns from a cascade's first stage that predicts sample.")
    sizes = ("size", "patch", "hidden", "layers", "heads", "text_width", "text_layers", "text_heads", "vocabulary", "length")
    known = {name: getattr(saved, name) for name in sizes} | {"distils": str(Path(stage).resolve())}
    return stage_recipe(network, **known).changed(changes)


def weights_alone(out: Path) -> str:
    """What can be done with the model of a run in ``out`` that has no checkpoint."""
    return f"go on from its weights, --from {out / 'model'}, in another --out"


def saved_recipe(model: Path) -> tuple[CascadeRecipe, int]:
    """The recipe that the weights in the folder ``model`` were trained by, and how many pictures they have seen."""
    from phosphene.readers import read_json_file  # which brings numpy, and --help does not wait for that

    again = "name the model folder of a run"
    try:
        values = read_json_file(Path(model) / RECIPE, again)
        return CascadeRecipe.from_json(values.get("recipe")), whole(values, "images")
    except ValueError as error:
        raise UserError(f"--from {model}: cannot be gone on from ({error}); {again}.") from error
