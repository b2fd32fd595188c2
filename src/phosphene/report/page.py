"""Puts the sections on one page: a folder that opens from disk, with no script from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from phosphene import __version__
from phosphene.defaults import CASCADE, PART_B, SEED, one_of
from phosphene.devices import choose_device
from phosphene.errors import UserError, require_one_of
from phosphene.files import require_writable, sweep, write_text
from phosphene.readers import read_json_file
from phosphene.report import part_a, part_c  # noqa: F401  (declares its sections after those of Parts A and B, which it imports)
from phosphene.report.config import TITLE, Config, read_config
from phosphene.report.course import checklist
from phosphene.report.formulas import mathml
from phosphene.report.kept import CACHE, Made, Progress, made_sections, standing
from phosphene.report.part_b import EDITIONS
from phosphene.report.sections import SECTIONS, Desk, Section, chosen

if TYPE_CHECKING:
    import jinja2

TOGETHER = re.compile(r"""--[^ ]+ (?:"[^"]*"|(?!--)[^ ]+)|"[^"]*"|[^ ]+""")
"""What of a command stands on one line: an option with its value, a text in quotes, a word."""


def write(
    out: Path,
    device: str,
    progress: Progress,
    cascade: str = CASCADE,
    quick: bool = False,
    sections: Sequence[str] | None = None,
    config: Path | None = None,
    embeddings: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    part_b: str = "both",
) -> Path:
    """Make the page in the folder ``out`` and return its index.html.

    ``sections`` are names or numbers, and join those that stand on the page already; for None all, but for the edition of
    Part B that ``part_b``, ddpm, flow or both, leaves out. ``quick`` draws fewer
    pictures in fewer steps. ``config`` is a page of one's own (:mod:`~phosphene.report.config`), ``embeddings`` a file of prompt
    embeddings instead of a text encoder. What is there from before and would come out the same is kept; ``say`` is told what
    is not. UserError where a section, a model or something in the file is unknown, or ``out`` not writable.
    """
    require_one_of("--part-b", part_b, PART_B)
    left_out = [part for name, part in EDITIONS.items() if part_b not in (name, "both")]
    out, wanted = Path(out), chosen(sections, left_out)
    require_writable(out / "index.html")
    own = _titled(out, config)
    desk = Desk(out, str(choose_device(device)), cascade, quick, embeddings, config)
    if embeddings is not None:
        _require_prompts(desk, wanted, own)
    sweep(out, out / CACHE)
    made = {each.section.name: each for each in made_sections(desk, wanted, progress, own)}
    there, stale = standing(out)
    for title in stale:
        say(f"left out: {title}, which another version of phosphene made; name it in --sections to make it again")
    write_text(out / CACHE / "title", json.dumps({"title": own.title, "lead": own.lead}))
    write_text(out / "index.html", _html({each.section.name: each for each in there} | made, own))
    return out / "index.html"


def _titled(out: Path, config: Path | None) -> Config:
    """What the file ``config`` describes, or, where none is named, the title that the page in ``out`` has."""
    if config is not None:
        return read_config(config)
    try:
        held = read_json_file(out / CACHE / "title", "it is written again")
        return Config(str(held["title"]), str(held["lead"]))
    except (UserError, KeyError):
        return Config()


def _require_prompts(desk: Desk, sections: Sequence[Section], config: Config) -> None:
    """UserError, before anything is drawn, where a section asks for a prompt that is not among the embeddings."""
    text = desk.open(1)
    for each in sections:
        for name, value in (each.asks | dict(config.asked.get(each.name, {}))).items():
            try:
                text.encode(_prompts(value))
            except UserError as error:
                raise UserError(f"[sections.{each.name}] {name}: {error}") from error


def _prompts(value: object) -> list[str]:
    """The prompts in what a section asks for: its texts, but for empty ones, which ask for nothing."""
    if isinstance(value, tuple):
        return [prompt for each in value for prompt in _prompts(each)]
    return [value] if isinstance(value, str) and value else []


def templates(here: frozenset[str] = frozenset()) -> jinja2.Environment:
    """What the page's texts are read by; ``here`` are the sections on it: what one says another need not."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("phosphene.report", "."),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,  # a value that a section forgot is no gap in a sentence
    )
    environment.globals |= {"formula": lambda name: markupsafe.Markup(mathml(name)), "here": here}
    environment.filters |= {"kept_together": TOGETHER.findall, "joined": lambda words: one_of(words, "and")}
    return environment


def _html(made: dict[str, Made], config: Config) -> str:
    """The page that shows ``made``, by the sections' names, in the order of the sections."""
    environment = templates(frozenset(made))

    def prose(each: Made) -> str:
        texts = environment.get_template(f"text/{each.section.text}").module
        return getattr(texts, each.section.name.replace("-", "_"))(**each.content.values)

    shown = [made[each.name] for each in SECTIONS if each.name in made]
    told = {
        "parts": [(part, list(group)) for part, group in groupby(shown, key=lambda each: each.section.part)],
        "checklist": checklist({name: each.quick for name, each in made.items()}),
        "title": config.title or TITLE,
        "lead": config.lead,
        "prose": prose,
        "version": __version__,
        "models": list(dict.fromkeys(name for each in shown for name in each.models)),
        "lines": list(dict.fromkeys(each.line for each in shown)),
        "seed": SEED,
        "near": part_a.NEAR,
        "far": part_a.FAR,
        "width": part_a.WIDTH,
        "acuity": part_a.ACUITY,
        "quick": sum(each.quick for each in shown) / max(1, len(shown)),
    }
    return environment.get_template("page.html").render(**told)
