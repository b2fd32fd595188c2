"""Recipes: every field says what it is for, and whether a run that goes on may change it. The command line makes its
options of that, and imports no torch for it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from phosphene.errors import UserError
from phosphene.files import write_text

RECIPE, CHECKPOINT = "recipe.json", "checkpoint.safetensors"
WEIGHTS_ALONE = "train a new one in another --out"
"""What can be done with the models of a run that has no checkpoint."""
RESUMED, RESTARTED = "resumed", "restarted"
"""A field may change when a run is resumed, or only when it starts anew from weights, with a fresh optimiser."""


def option(default: Any, help: str = "", networks: Sequence[str] = (), change: str = "", **limits: float) -> Any:
    """A field of a recipe; with ``help`` an option on the command line, of ``networks`` or of all. ``limits``: min, max.

    ``change``: RESUMED, RESTARTED, or "" where it never may.
    """
    return field(default=default, metadata={"help": help, "networks": tuple(networks), "change": change, "limits": limits})


def options_of(recipe: type, network: str) -> dict[str, Mapping[str, Any]]:
    """The fields of ``recipe`` that are options of ``network``, with their metadata."""
    options = {each.name: each.metadata for each in fields(recipe) if each.metadata.get("help")}
    return {name: metadata for name, metadata in options.items() if network in (metadata["networks"] or (network,))}


KINDS = {"int": int, "float": int | float, "str": str, "bool": bool}
"""Types of a recipe's fields, as JSON has them."""


def require_resumable(out: Path, weights_alone: str = WEIGHTS_ALONE) -> None:
    """UserError where ``out`` holds no checkpoint to go on from; ``weights_alone`` is what to do with models without one."""
    if (out / CHECKPOINT).exists():
        return
    remedy = "start the run without --resume"
    if any(out.glob("model")) or any(out.glob("model-[0-9]*")):  # the weights, without what else decides the rest of the run
        remedy = weights_alone
    elif (out / RECIPE).exists():
        remedy = "it ended before its first step, start it again without --resume"
    raise UserError(f"--resume: {out} holds no {CHECKPOINT}; {remedy}.")


def require_recipe(out: Path) -> None:
    """UserError where the run in ``out`` no longer says what it trained."""
    if not (out / RECIPE).exists():
        raise UserError(f"--resume: {out} holds no {RECIPE}, which says what was trained; start a new run in another --out.")


def whole(position: Mapping[str, Any], name: str, most: float = math.inf) -> int:
    """The whole number called ``name`` of a position in a run, 0 to ``most``; ValueError where it is none."""
    value = position.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}, and should be a whole number from 0 to {most:g}")
    return value


@dataclass(frozen=True)
class BaseRecipe:
    """What decides a training, as JSON and back."""

    def require(self, name: str, good: bool, remedy: str) -> None:
        """UserError that names the option of the field ``name``, unless its value is ``good``."""
        if not good:
            raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: {remedy}.")

    def require_at_most(self, most: Mapping[str, float]) -> None:
        """UserError where the value of one of the fields in ``most`` is above what stands there."""
        for name, limit in most.items():
            self.require(name, getattr(self, name) <= limit, f"must be at most {limit}")

    def require_same(self, saved: Self, folder: Path, change: str = RESUMED) -> None:
        """UserError where this differs from the recipe ``saved`` in ``folder`` in a field that may not ``change``."""
        free = (RESUMED, RESTARTED)[: 1 if change == RESUMED else 2]
        for each in fields(self):
            own, other = getattr(self, each.name), getattr(saved, each.name)
            remedy = f"the run in {folder} has {other}; leave the option out, or start a new run in another --out"
            self.require(each.name, own == other or each.metadata.get("change") in free, remedy)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """This recipe with ``changes``; a change of None is none."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The recipe of :meth:`to_json`; fields that are no more are left out. UserError where it is damaged."""
        known = {each.name: each.type for each in fields(cls)}
        try:
            for name, value in values.items():
                kind = KINDS.get(known.get(name, ""), object)
                if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):
                    raise TypeError(f"{name} is {value!r}, and should be of type {known[name]}")
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})
        except (TypeError, AttributeError, OverflowError) as error:
            raise UserError(f"{RECIPE}: is incomplete or damaged ({error}); start the run anew.") from error

    def write(self, folder: Path) -> None:
        write_text(folder / RECIPE, json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What :meth:`write` wrote. UserError where it cannot be read."""
        from phosphene.readers import read_json_file  # which brings numpy, and --help does not wait for that

        return cls.from_json(read_json_file(folder / RECIPE, "start the run anew"))
