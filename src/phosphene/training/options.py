"""Recipes say of each field what it is for: the command line makes its options of that, and imports no torch for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from phosphene.defaults import SEED


def option(default: Any, help: str, networks: Sequence[str] = (), **limits: float) -> Any:
    """A field of a recipe that is an option on the command line: of ``networks``, or of all. ``limits``: min, max."""
    return field(default=default, metadata={"help": help, "networks": tuple(networks), "limits": limits})


def options_of(recipe: type, network: str) -> dict[str, Any]:
    """The fields of ``recipe`` that are options of ``network``, with their metadata."""
    options = {each.name: each.metadata for each in fields(recipe) if "help" in each.metadata}
    return {name: told for name, told in options.items() if network in (told["networks"] or (network,))}


PAINTERS = ("cascade", "upscaler")
READERS = ("cascade", "retrieval")


@dataclass(frozen=True)
class StageOptions:
    """What may be changed of a stage's recipe, text_to_image.stage_trainer's, by the names of its fields. None: as it has it."""

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
