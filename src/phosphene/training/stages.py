"""What may be changed of a stage's recipe (``training/cascade.py``), by the names of its fields; no torch here.

Where nothing is said, the recipe's own number for that network holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from phosphene.defaults import SEED
from phosphene.training.options import option

PAINTERS = ("cascade", "upscaler")
READERS = ("cascade", "retrieval")


@dataclass(frozen=True)
class StageOptions:
    """None: as the recipe has it."""

    images: int | None = option(None, "Pictures to see in all.")
    batch_size: int | None = option(None, "Pictures of a step.")
    optimizer: str | None = option(None, "adamw, or muon for the blocks' matrices.")
    lr: float | None = option(None, "Learning rate.")
    cooldown: float | None = option(None, "Last share of images or minutes, in which the rate falls.")
    ema: float | None = option(None, "Memory of the moving average of the weights.")
    seed: int | None = option(None, f"Of weights, stories and noise; {SEED} by default.", min=0, max=2**32 - 1)
    drop: float | None = option(None, "Share of captions withheld.", READERS)
    target: str | None = option(None, "Predict sample, epsilon or v_prediction.", PAINTERS)
    patch: int | None = option(None, "Side of the patches, in pixels.", PAINTERS)
    hidden: int | None = option(None, "Width of the transformer.", PAINTERS)
    layers: int | None = option(None, "Blocks of the transformer.", PAINTERS)
    heads: int | None = option(None, "Attention heads.", PAINTERS)
    held_out: int | None = option(None, "One concept in so many is not trained with but measured by; 0: none.")
