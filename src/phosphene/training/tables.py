"""The tables beside the modules of this room (TOML, TSV), for people to read and add to."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@cache
def table(name: str) -> dict[str, Any]:
    """The TOML file ``name`` below this folder; its lists as tuples, as constants are."""
    return _frozen(tomllib.loads((HERE / name).read_text(encoding="utf-8")))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def lines(name: str) -> list[list[str]]:
    """The lines of the TSV file ``name`` below this folder, in their columns."""
    return [line.split("\t") for line in (HERE / name).read_text(encoding="utf-8").splitlines()]
