"""Checkpoints: one safetensors file, replaced by rename, that holds all that decides the rest of a run, and a sum over it.

Nothing of one is used before all of it is checked: the sum, then names, shapes and types of all tensors, then the position.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models import weights
from phosphene.training.muon import Muon
from phosphene.training.options import CHECKPOINT, BaseRecipe

NAME = CHECKPOINT

Networks = Mapping[str, nn.Module]
Optimisers = Sequence[torch.optim.Optimizer]


class Resumable(Protocol):
    """A trainer whose state is tensors and a position.

    Once ``stopping`` is set it ends after the step in progress.
    """

    recipe: BaseRecipe
    stopping: bool

    @property
    def finished(self) -> bool: ...

    def state(self) -> tuple[dict[str, Tensor], dict]: ...

    def restore(self, tensors: dict[str, Tensor], position: dict) -> None: ...  # ValueError: it does not fit


def gathered(networks: Networks, optimisers: Optimisers, **others: Tensor) -> dict[str, Tensor]:
    """Copies on the CPU of all weights and statistics, of what the optimisers remember, and of ``others``."""
    found = _weights(networks) | others
    for name, parameter, optimiser in _learned(optimisers):
        found |= {f"{name}.{k}": v for k, v in optimiser.state.get(parameter, {}).items()}
    return {k: v.detach().cpu().clone() for k, v in found.items()}


def scatter(tensors: Mapping[str, Tensor], networks: Networks, optimisers: Optimisers, steps: int, **others: Tensor) -> None:
    """Put back what :func:`gathered` found after the optimisers had made so many ``steps``.

    ValueError, before anything is changed, where a tensor is missing or too many, or its shape or type is another.
    """
    own = _weights(networks) | others
    moments = {
        f"{name}.{k}": (parameter, k, optimiser)
        for name, parameter, optimiser in _learned(optimisers)
        if steps
        for k in _remembered(optimiser, parameter)
    }
    for name in sorted(tensors.keys() ^ (own.keys() | moments.keys())):
        raise ValueError(f"{name} is {'too many' if name in tensors else 'missing'}")
    for name, value in own.items():
        _require_like(name, tensors[name], value.shape, value.dtype)
    for name, (parameter, k, optimiser) in moments.items():
        _require_like(name, tensors[name], _remembered(optimiser, parameter)[k], torch.float32)
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
    for name, (parameter, k, optimiser) in moments.items():
        value = tensors[name]
        # Moments lie in memory as their parameter does, or a fused step would round differently.
        like = parameter if value.shape == parameter.shape else value.to(parameter.device)
        optimiser.state[parameter].setdefault(k, torch.empty_like(like)).copy_(value)


def _weights(networks: Networks) -> dict[str, Tensor]:
    return {f"{name}.{k}": v for name, network in networks.items() for k, v in network.state_dict().items()}


def _learned(optimisers: Optimisers) -> Iterator[tuple[str, Tensor, torch.optim.Optimizer]]:
    """Every parameter with a name for its state, and who keeps it."""
    for k, optimiser in enumerate(optimisers):
        for index, parameter in enumerate(_parameters(optimiser)):
            yield f"optimiser.{k}.{index}", parameter, optimiser


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def _remembered(optimiser: torch.optim.Optimizer, parameter: Tensor) -> dict[str, torch.Size]:
    """What ``optimiser`` remembers of ``parameter`` once it has made a step, and its shapes."""
    if not isinstance(optimiser, Muon):
        return {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    alike = [p for p in _parameters(optimiser) if p.shape == parameter.shape]  # the first keeps the momentum of all
    return {"momentum": torch.Size([len(alike), *parameter.shape])} if parameter is alike[0] else {}


def _require_like(name: str, value: Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
    if (value.shape, value.dtype) != (shape, dtype):
        found, wanted = (
            f"{str(t).removeprefix('torch.')} {'x'.join(map(str, s))}".strip()
            for t, s in ((value.dtype, value.shape), (dtype, shape))
        )
        raise ValueError(f"{name} is {found} instead of {wanted}")


def save(trainer: Resumable, path: Path) -> None:
    """Write the trainer's state to ``path``; a kill at any moment leaves the old file or the new one."""
    tensors, position = trainer.state()
    told = {"position": json.dumps(position), "recipe": json.dumps(trainer.recipe.to_json())}
    weights.save(tensors, path, metadata={**told, "sha256": _sum(tensors, told)})


def load(trainer: Resumable, path: Path) -> None:
    """Continue ``trainer`` from ``path``; UserError where the file is missing, damaged or of another recipe."""
    anew = "start a new run in another --out"
    try:
        tensors = weights.load(path)
    except UserError as error:  # whose remedy is a model's
        raise UserError(f"{str(error).rpartition('; ')[0]}; {anew}.") from error
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
        if _sum(tensors, {name: told[name] for name in ("position", "recipe")}) != told["sha256"]:
            raise UserError(f"{path}: is damaged (its content has another SHA-256 than it says); {anew}.")
        recipe, position = trainer.recipe.from_json(json.loads(told["recipe"])), json.loads(told["position"])
    except UserError:
        raise
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no checkpoint of a run ({error}); {anew}.") from error
    trainer.recipe.require_same(recipe, path.parent)
    try:
        trainer.restore(tensors, position)
    except (ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path}: does not fit this network ({str(error).splitlines()[0]}); {anew}.") from error


def untouched(path: Path) -> bool:
    """Whether ``path`` is the checkpoint of a run that has learned nothing yet: its optimisers remember nothing."""
    try:
        with safe_open(path, framework="pt") as file:
            return not any(name.startswith("optimiser.") for name in file.keys())  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError):
        return False


def _sum(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    """SHA-256 of names, types, shapes and bytes of ``tensors``, and of what is ``told`` beside them."""
    found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()
