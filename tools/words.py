"""What ``captions.tsv`` says of captions: a name, a category, a size, and where such a thing is found."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from phosphene.errors import UserError


class Named(Protocol):
    """A set of drawings."""

    name: str
    style: str


class Words(NamedTuple):
    """What the table says of a picture. ``size`` is 1 (fits a hand) to 6 (a hill), ``where`` letters of g a w i b h p."""

    name: str
    category: str
    size: int
    where: str


def plain(caption: str) -> str:
    """``caption`` as names of files have it: lower case, single spaces, no punctuation."""
    return re.sub("[^a-z0-9:]+", " ", re.sub("['’]", "", caption.lower())).strip()


class Table:
    """The rows of ``captions.tsv``, found whatever the punctuation."""

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text().splitlines()[1:]
            self._rows = {plain(c): Words(n, k, int(s or 0), w) for c, n, k, s, w in (line.split("\t") for line in lines)}
        except (OSError, ValueError) as error:
            raise UserError(f"--captions {path}: is no table of caption, name, category, size and where ({error}).") from error
        self._joined = {caption.replace(" ", ""): caption for caption in self._rows}

    def by_name(self) -> dict[str, Words]:
        """What is said of each name."""
        return {words.name: words for words in self._rows.values()}

    def find(self, source: Named, captions: Iterable[str]) -> tuple[str, Words] | None:
        """The first of ``captions`` that the table has, and its words; None where it has none or says ``-``."""
        for caption in map(plain, captions):
            if source.name == "fxemoji":  # the only one that writes names in one word
                caption = self._joined.get(caption, caption)
            if (words := self.row(source.name, source.style, caption)) is not None:
                return None if words.name == "-" else (caption, words)
        return None

    def row(self, name: str, style: str, caption: str) -> Words | None:
        """Of ``caption`` in the set ``name``, in a style, or anywhere; the name of what is no plain thing is ``-``."""
        rows = (self._rows.get(plain(row)) for row in (f"{name}:{caption}", f"{style}:{caption}", caption))
        return next((words for words in rows if words is not None), None)
