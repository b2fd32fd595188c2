"""What a page is made of is kept beside it: nothing is drawn twice, what was stopped goes on, a section joins those there.

What a section made is kept with a digest of everything it depends on: the package's code, the models, the options, what the
page of one's own asks of it. What the page says is no part of that: text is put in anew whenever it is written.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from phosphene.errors import UserError
from phosphene.files import is_file, sha256, write_text
from phosphene.models import folders
from phosphene.models.cascade import describe
from phosphene.models.folders import is_cascade, locate
from phosphene.readers import read_json_file
from phosphene.report.config import Config
from phosphene.report.sections import SECTIONS, Content, Desk, Figure, Section

CACHE = ".kept"
"""The folder, beside the pictures, that says what was made from what."""


@dataclass
class Made:
    """A section that stands on a page, with what its author says of it, and how it was made."""

    section: Section
    content: Content
    text: str
    quick: bool
    models: list[str]
    """The text-to-image models that drew, if any did."""
    line: str
    """The command that makes the page; with --sections the section."""


OWN = ("text", "quick", "models", "line")
"""What is kept of a section beside its content."""
Progress = Callable[[str, int, int, float], None]
"""Is told a section's title, how many are done, of how many, and the seconds that are left."""


def made_sections(desk: Desk, sections: Sequence[Section], progress: Progress, config: Config | None = None) -> Iterator[Made]:
    """Each of ``sections`` with what it says and shows, made now or kept from before."""
    describe(desk.cascade)  # refused before there is a folder
    config = config or Config()
    digests = {each.name: _digest(desk, config.asked.get(each.name, {})) for each in sections}
    held = {each.name: _cached(desk.out, each, "digest", digests[each.name]) for each in sections}
    price = 0 if desk.quick else 1
    ahead, spent, paid = sum(each.cost[price] for each in sections if held[each.name] is None), 0.0, 0.0
    for done, each in enumerate(sections):
        made = held[each.name]
        progress(each.title, done, len(sections), _left(ahead, paid, spent))
        if made is None:
            begun = time.perf_counter()
            desk.begin(each)
            content = each.make(desk, **config.asked.get(each.name, {}))
            spent, paid = spent + time.perf_counter() - begun, paid + each.cost[price]
            made = Made(each, content, "", desk.quick, desk.opened, desk.page_line)
        made.text = config.texts.get(each.name, made.text)
        _keep(desk.out, made, digests[each.name])
        yield made
    progress("done", len(sections), len(sections), 0.0)


def _left(ahead: float, paid: float, spent: float) -> float:
    """The seconds that are left of sections that cost ``ahead``, when those that cost ``paid`` took ``spent``.

    What costs little says little of this machine, for it may have waited for a model or a file. So the costs themselves, taken
    as seconds, have as much to say as a tenth of the page.
    """
    known = 0.1 * ahead
    return (ahead - paid) * (spent + known) / (paid + known) if ahead else 0.0


def standing(out: Path) -> tuple[list[Made], list[str]]:
    """Sections that stand on the page in ``out``, and titles of those that an older version of the package made."""
    found = {each: _cached(out, each, "code", _code()) for each in SECTIONS if (out / CACHE / f"{each.name}.json").is_file()}
    return [made for made in found.values() if made], [each.title for each, made in found.items() if not made]


@cache
def _code() -> str:
    """A digest of the package's code: what it draws may change with any line."""
    root = Path(__file__).parent.parent
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        whole.update(file.read_bytes())
    return whole.hexdigest()


def _models(desk: Desk) -> str:
    """A digest of the models' sums; of a cascade from elsewhere its files' names, sizes and dates."""
    sums = [path.read_text() for path in sorted(folders.EMBEDDED.glob(f"*/{folders.SUMS}"))]
    if is_cascade(desk.cascade):
        place = locate(desk.cascade)
        found = sorted(file for file in place.rglob("*") if file.is_file())
        sums += [f"{file.relative_to(place)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in found]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _digest(desk: Desk, asked: Mapping[str, Any]) -> str:
    """Of what a section depends on; of pictures and embeddings their content."""

    def told(value: Any) -> str:
        if isinstance(value, tuple):
            return f"({','.join(told(each) for each in value)})"
        if isinstance(value, Path) and value.is_file():
            return f"{value} {sha256(value)}"
        return repr(value)

    parts = [_code(), _models(desk), desk.cascade, desk.device, str(desk.quick), told(desk.embeddings)]
    return hashlib.sha256("\n".join([*parts, told(tuple(sorted(asked.items())))]).encode()).hexdigest()


def _keep(out: Path, made: Made, digest: str) -> None:
    files = [file for figure in made.content.figures for file in (figure.file, figure.dark) if file]
    pictures = {file: sha256(out / file) for file in files}
    entry = {"digest": digest, "code": _code(), "pictures": pictures, "values": made.content.values}
    entry["figures"] = [asdict(figure) for figure in made.content.figures]
    entry |= {key: getattr(made, key) for key in OWN}
    write_text(out / CACHE / f"{made.section.name}.json", json.dumps(entry))


def _cached(out: Path, each: Section, what: str, digest: str) -> Made | None:
    """A section that was made of the same, if its pictures are still there and are what they were."""
    try:
        held = read_json_file(out / CACHE / f"{each.name}.json", "it is made again")
        same = all(is_file(out / file) and sha256(out / file) == sum for file, sum in held["pictures"].items())
        if held[what] != digest or not same:
            return None
        content = Content(*(Figure(**figure) for figure in held["figures"]), **held["values"])
        return Made(each, content, *(held[key] for key in OWN))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return None
