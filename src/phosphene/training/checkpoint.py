"""Checkpoints: one safetensors file, replaced by rename, that holds all that decides the rest of a run."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from phosphene.errors import UserError
from phosphene.models import weights as files
from phosphene.training.loop import Trainer
from phosphene.training.recipes import Recipe

NAME = "checkpoint.safetensors"


def save(trainer: Trainer, path: Path) -> None:
    """Write the trainer's state to ``path``; a kill at any moment leaves the old file or the new one."""
    tensors, position = trainer.state()
    files.save(tensors, path, metadata={"position": json.dumps(position), "recipe": json.dumps(trainer.recipe.to_json())})


def load(trainer: Trainer, path: Path) -> None:
    """Continue ``trainer`` from ``path``; UserError where the file is missing, damaged or of another recipe."""
    tensors = files.load(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        recipe, position = Recipe.from_json(json.loads(metadata["recipe"])), json.loads(metadata["position"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: is no checkpoint of a run ({error}); start the run anew.") from error
    differing = [k for k, v in recipe.to_json().items() if trainer.recipe.to_json()[k] != v]
    if differing:
        name = differing[0]
        raise UserError(
            f"--{name.replace('_', '-')} {getattr(trainer.recipe, name)}: the run in {path.parent} has "
            f"{getattr(recipe, name)}; leave the option out, or choose another --out."
        )
    try:
        trainer.restore(tensors, position)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{path}: does not fit this network ({str(error).splitlines()[0]}); start the run anew.") from error
