"""Recipes: every field says what it is for, and whether a run that goes on may change it. The command line makes its
options of that, and imports no torch for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from phosphene.errors import UserError
from phosphene.files import write_text

RECIPE = "recipe.json"
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


@dataclass(frozen=True)
class BaseRecipe:
    """What decides a training, as JSON and back."""

    def require(self, name: str, good: bool, remedy: str) -> None:
        """UserError that names the option of the field ``name``, unless its value is ``good``."""
        if not good:
            raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: {remedy}.")

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
        known = {each.name for each in fields(cls)}
        try:
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
