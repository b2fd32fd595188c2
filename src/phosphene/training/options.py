"""Recipes say of each field what it is for: the command line makes its options of that, and imports no torch for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any


def option(default: Any, help: str, networks: Sequence[str] = (), **limits: float) -> Any:
    """A field of a recipe that is an option on the command line: of ``networks``, or of all. ``limits``: min, max."""
    return field(default=default, metadata={"help": help, "networks": tuple(networks), "limits": limits})


def options_of(recipe: type, network: str) -> dict[str, Any]:
    """The fields of ``recipe`` that are options of ``network``, with their metadata."""
    options = {each.name: each.metadata for each in fields(recipe) if "help" in each.metadata}
    return {name: told for name, told in options.items() if network in (told["networks"] or (network,))}
