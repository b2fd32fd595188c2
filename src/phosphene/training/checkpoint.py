"""Checkpoints: one safetensors file, replaced by rename, that holds all that decides the rest of a run."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from phosphene.errors import UserError
from phosphene.models import weights

NAME = "checkpoint.safetensors"


class Resumable(Protocol):
    """A trainer whose state is tensors and a position; its recipe has ``to_json`` and ``from_json``.

    Once ``stopping`` is set it ends after the step in progress.
    """

    recipe: Any
    stopping: bool

    def state(self) -> tuple[dict[str, Tensor], dict]: ...

    def restore(self, tensors: dict[str, Tensor], position: dict) -> None: ...  # KeyError, RuntimeError: it does not fit


def save(trainer: Resumable, path: Path) -> None:
    """Write the trainer's state to ``path``; a kill at any moment leaves the old file or the new one."""
    tensors, position = trainer.state()
    weights.save(tensors, path, metadata={"position": json.dumps(position), "recipe": json.dumps(trainer.recipe.to_json())})


def load(trainer: Resumable, path: Path) -> None:
    """Continue ``trainer`` from ``path``; UserError where the file is missing, damaged or of another recipe."""
    tensors = weights.load(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        recipe, position = trainer.recipe.from_json(json.loads(metadata["recipe"])), json.loads(metadata["position"])
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


@contextmanager
def asked_to_stop(trainer: Resumable) -> Iterator[None]:
    """Ctrl-C ends the run after the step in progress: between steps the state is whole, within one it is not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: setattr(trainer, "stopping", True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
