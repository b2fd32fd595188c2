"""Models that are told by their difference to another's weights: distilled to a few steps, or adapted to other pictures.

A folder of one holds ``distilled.json`` (whose teacher, at which guidance, to which timesteps) or ``adapted.json`` (from which
base) and ``difference.safetensors``: of a matrix ``NAME.down`` (rank, in) and ``NAME.up`` (rank, out), whose product is added to
it (Hu et al. 2022, LoRA), of all other weights what is added to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from phosphene.defaults import MOST_STEPS, MOST_WEIGHT, Usual
from phosphene.errors import UserError, require_timesteps
from phosphene.models import weights
from phosphene.models.folders import AGAIN, DISTILLED, difference_of
from phosphene.readers import read_json_file

DIFFERENCE = "difference.safetensors"
DOWN, UP = ".down", ".up"


class Told(NamedTuple):
    """What ``distilled.json`` says."""

    timesteps: tuple[int, ...]  # that it was taught at, the only ones it knows
    guidance: float  # of its teacher, and built in: it is asked once a step
    upscale_steps: int | None = None  # of the second stage; None: as with the teacher
    teacher: str = ""  # a name or a folder

    @property
    def usual(self) -> Usual:
        """How it is sampled: between its timesteps straight on, as DDIM does."""
        return Usual("ddim", None, 1.0, self.timesteps, self.teacher)


def read(folder: Path) -> Told | None:
    """What is told of the model in ``folder``; None where it is none that was distilled."""
    path, (file, teacher) = folder / DISTILLED, difference_of(folder) or ("", "")
    if file != DISTILLED:
        return None
    told = read_json_file(path, AGAIN)
    timesteps, guidance = told.get("timesteps"), told.get("guidance")
    if not isinstance(timesteps, list) or not all(type(t) is int for t in timesteps):
        raise UserError(f"{path}: timesteps {str(timesteps)[:40]} are no list of whole numbers; {AGAIN}.")
    require_timesteps(str(path), timesteps)
    if type(guidance) not in (int, float) or not abs(guidance) <= MOST_WEIGHT:
        raise UserError(f"{path}: guidance {str(guidance)[:40]} is no number of at most {MOST_WEIGHT:,}; {AGAIN}.")
    if (steps := told.get("upscale_steps")) is not None and (type(steps) is not int or not 1 <= steps <= MOST_STEPS):
        raise UserError(f"{path}: upscale_steps {str(steps)[:40]} is no number of steps; {AGAIN}.")
    return Told(tuple(timesteps), float(guidance), steps, teacher)


@torch.no_grad()
def add(network: nn.Module, path: Path) -> None:
    """Add to ``network`` the difference in ``path``; UserError where that does not fit it."""
    own, given = network.state_dict(), {name: weights.real(value, name, path) for name, value in weights.load(path).items()}
    for name in dict.fromkeys(name.removesuffix(DOWN).removesuffix(UP) for name in given):
        try:
            if name in given and name + UP not in given:
                change = given[name].view_as(own[name])
            else:
                up, down = given[name + UP], given[name + DOWN]
                fits = up.ndim == down.ndim == 2 and (up.shape[1], down.shape[1]) == own[name].shape and name not in given
                if not fits:  # which is seen before memory is taken for the product
                    raise LookupError(name)
                change = up.T @ down
            own[name].copy_(own[name].float() + change.to(own[name].device))
        except (LookupError, RuntimeError) as error:  # a part is missing, or is of another shape
            why = f"does not fit the network that it is a difference to (first: {name})"
            raise UserError(f"{path}: {why}; {AGAIN}.") from error
