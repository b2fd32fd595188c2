"""A page of one's own: a TOML file with its title, and for each section what it says, its prompts, photos and masks.

    title = "My project"

    [sections.guided]
    text = "What I saw."
    prompt = "a castle"

A section may ask for what its function in part_a, part_b or part_c has as parameters, and for ``text``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from phosphene.defaults import LEAST_BLUR, MOST_BLUR
from phosphene.errors import UserError
from phosphene.files import exists
from phosphene.readers import PAGE, read_picture, read_toml_file, sample
from phosphene.report.sections import SECTIONS, Section

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""What HTML may not hold, and a terminal obeys."""
TITLE = "Fun with diffusion models"


@dataclass(frozen=True)
class Config:
    """What a page of one's own says and asks for. ``texts`` and ``asked`` are by the sections' names."""

    title: str = ""
    lead: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_config(path: Path) -> Config:
    """The page of one's own that the file at ``path`` describes; paths in it are relative to it.

    UserError, naming the file and the key, where a key is none, a value is not what it should be, or a picture cannot be read.
    """
    path = Path(path)
    held = read_toml_file(path, "--config", PAGE)
    _known(path, "", held, ("title", "lead", "sections"))
    title, lead = (_value(path, key, held.get(key, ""), str) for key in ("title", "lead"))
    tables = held.get("sections", {})
    if not isinstance(tables, dict):
        raise UserError(f"--config {path}: sections must be tables, such as [sections.{SECTIONS[0].name}].")
    named = {key: each for each in SECTIONS for key in (each.name, each.number)}
    asked: dict[str, dict[str, Any]] = {}
    for key, table in tables.items():
        if key not in named:
            names = ", ".join(each.name for each in SECTIONS)
            raise UserError(f"--config {path}: sections.{_told(key)} is no section; choose of {names}, or their numbers.")
        each = named[key]
        if each.name in asked:
            raise UserError(f"--config {path}: sections.{each.name} stands there twice, by name and number; leave one out.")
        asked[each.name] = _section(path, key, table, each)
    texts = {name: own.pop("text") for name, own in asked.items() if "text" in own}
    return Config(title, lead, texts, asked)


def _section(path: Path, key: str, table: Any, each: Section) -> dict[str, Any]:
    """The values of the table ``key``, as the section wants them."""
    if not isinstance(table, dict):
        raise UserError(f"--config {path}: sections.{key} must be a table, [sections.{each.name}].")
    kinds = {"text": str} | each.kinds
    _known(path, f"sections.{key}.", table, tuple(kinds))
    return {name: _value(path, f"sections.{key}.{name}", value, kinds[name]) for name, value in table.items()}


def _told(key: str) -> str:
    """``key`` on one line, whatever it holds."""
    return key[:80] if key.isprintable() else json.dumps(key)[:80]


def _known(path: Path, above: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"--config {path}: {above}{_told(key)} is no key here; the keys are {', '.join(keys)}.")


def _value(path: Path, key: str, value: Any, kind: Any) -> Any:
    """``value`` as ``kind``: text, a number, a picture's path, or a tuple of such."""
    parts = get_args(kind)
    if kind is float and type(value) in (int, float) and LEAST_BLUR <= value <= MOST_BLUR:  # all numbers here are sigmas
        return float(value)
    if kind is str and isinstance(value, str):
        if CONTROL.search(value):
            raise UserError(f"--config {path}: {key} holds control characters, which no page shows; leave them out.")
        return value
    if kind is Path and isinstance(value, str) and value.isprintable():
        return _picture(path, key, value)
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if value and len(value) == len(kinds):
            held = enumerate(zip(value, kinds, strict=True))
            return tuple(_value(path, f"{key}[{k}]", each, part) for k, (each, part) in held)
    raise UserError(f"--config {path}: {key} must be {_said(kind)}.")


def _picture(path: Path, key: str, value: str) -> Path:
    """Where the picture called ``value`` lies: in the folder of the page at ``path``, or among the samples."""
    picture, what = path.parent / value, f"--config {path}: {key}"
    if not exists(picture):
        if sample(Path(value)) is None:
            raise UserError(f"{what} {value}: no such file in the folder of the page; name a picture there, or a sample's name.")
        picture = Path(value)
    elif not picture.resolve().is_relative_to(path.parent.resolve()):
        # Whoever wrote the page is not always whoever makes it, and then shows it to others.
        raise UserError(f"{what} {value}: lies outside the folder of the page; put a copy into it.")
    read_picture(picture, what)
    return picture


def _said(kind: Any) -> str:
    """What a value of ``kind`` is, in words."""
    parts = get_args(kind)
    if not parts:
        return {str: "text", float: f"a number from {LEAST_BLUR} to {MOST_BLUR}", Path: "the path of a picture"}[kind]
    if parts[-1] is Ellipsis:
        return f"a list, each of it {_said(parts[0])}"
    return f"a list of {' and '.join(_said(part) for part in parts)}"
