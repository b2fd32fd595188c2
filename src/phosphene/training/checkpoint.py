"""Checkpoints: one safetensors file, replaced by rename, that holds all that decides the rest of a run."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.files import require_writable
from phosphene.models import weights
from phosphene.training.options import RECIPE, BaseRecipe

NAME = "checkpoint.safetensors"

Networks = Mapping[str, nn.Module]
Optimisers = Sequence[torch.optim.Optimizer]


class Resumable(Protocol):
    """A trainer whose state is tensors and a position.

    Once ``stopping`` is set it ends after the step in progress.
    """

    recipe: BaseRecipe
    stopping: bool

    def state(self) -> tuple[dict[str, Tensor], dict]: ...

    def restore(self, tensors: dict[str, Tensor], position: dict) -> None: ...  # KeyError, RuntimeError: it does not fit


def begin(out: Path, resume: bool) -> None:
    """UserError where no run can start in the folder ``out``, or where ``resume`` finds none to go on with."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder.")
    if resume and not (out / NAME).exists():
        left = (out / "model").is_dir()  # the weights, without what else decides the rest of the run
        remedy = f"go on from its weights, --from {out / 'model'}, in another --out" if left else "start the run without --resume"
        raise UserError(f"--resume: {out} holds no {NAME}; {remedy}.")
    if not resume and any((out / name).exists() for name in (RECIPE, "model")):
        raise UserError(f"--out {out}: already holds a run; continue it with --resume or choose another folder.")
    require_writable(out / RECIPE, "--out")


def gathered(networks: Networks, optimisers: Optimisers, **others: Tensor) -> dict[str, Tensor]:
    """Copies on the CPU of all weights and statistics, of what the optimisers remember, and of ``others``."""
    found = {f"{name}.{k}": v for name, network in networks.items() for k, v in network.state_dict().items()} | others
    for name, parameter, optimiser in _learned(optimisers):
        found |= {f"{name}.{k}": v for k, v in optimiser.state.get(parameter, {}).items()}
    return {k: v.detach().cpu().clone() for k, v in found.items()}


def scatter(tensors: Mapping[str, Tensor], networks: Networks, optimisers: Optimisers) -> None:
    """Put back what :func:`gathered` has of networks and optimisers. Raises KeyError or RuntimeError where it does not fit."""

    def of(name: str) -> dict[str, Tensor]:
        return {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{name}.")}

    for name, network in networks.items():
        network.load_state_dict(of(name))
    for name, parameter, optimiser in _learned(optimisers):
        state = optimiser.state[parameter]
        for k, v in of(name).items():
            # Moments lie in memory as their parameter does, or a fused step would round differently.
            like = parameter if v.shape == parameter.shape else v.to(parameter.device)
            state.setdefault(k, torch.empty_like(like)).copy_(v)


def _learned(optimisers: Optimisers) -> Iterator[tuple[str, Tensor, torch.optim.Optimizer]]:
    """Every parameter with a name for its state, and who keeps it."""
    for k, optimiser in enumerate(optimisers):
        parameters = (p for group in optimiser.param_groups for p in group["params"])
        for index, parameter in enumerate(parameters):
            yield f"optimiser.{k}.{index}", parameter, optimiser


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
    trainer.recipe.require_same(recipe, path.parent)
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
