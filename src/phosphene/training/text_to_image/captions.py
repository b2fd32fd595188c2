"""What pictures are called: captions with what is known of the thing, names of colours, everyday words and synonyms."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phosphene.errors import UserError
from phosphene.files import is_special, replacing
from phosphene.readers import read_json_file
from phosphene.training.tables import lines, table
from phosphene.training.text_to_image.recipe import HELD_OUT

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = table("text_to_image/colours.toml")["names"]
ALSO: dict[str, tuple[str, ...]] = table("text_to_image/colours.toml")["also"]
WHITE = (1.0, 1.0, 1.0)


def jittered(colour: Colour, chance: random.Random, by: float = 0.05) -> Colour:
    """A colour near ``colour``."""
    return tuple(min(max(c + chance.uniform(-by, by), 0.0), 1.0) for c in colour)


def spoken(colour: str, chance: random.Random) -> str:
    """One of the words for ``colour``."""
    return chance.choice(ALSO.get(colour, (colour,)))


MASK = "icon"
"""The style whose pictures are alpha masks, to be filled with any ink."""
DRAWN = "drawn by a model"
"""The source of pictures of tools/draw_styles.py."""
HANDED = frozenset(table("text_to_image/words.toml")["handed"])
"""Words of pictures that must not be mirrored: lettering and directions."""
EVERYDAY = {caption: tuple(names.split(", ")) for caption, names in lines("text_to_image/everyday.tsv")}
"""What people say for things that Unicode calls otherwise; WordNet, of which nouns are used, does not know it."""


def held_out(concept: str, one_in: int = HELD_OUT) -> bool:
    """Whether ``concept`` is kept out of training, all its styles together, where one in so many is; 0 keeps none out."""
    return one_in > 0 and random.Random(f"held out {concept}").randrange(one_in) == 0


@dataclass(frozen=True)
class Subject:
    """One captioned picture; all but the caption may be empty.

    ``name`` is what people call the thing; ``category``, ``size`` (1 fits a hand ... 6 a hill, 0 unknown) and ``where``
    (letters: g ground, a air, w water, i indoors, b worn, h held, p a place itself) say how it goes into a scene; ``source``
    is the set it comes from.
    """

    caption: str
    style: str = ""
    concept: str = ""
    name: str = ""
    category: str = ""
    size: int = 0
    where: str = ""
    source: str = ""

    @property
    def drawn(self) -> bool:
        """Whether a model drew it, in a style that nobody has painted the thing in."""
        return self.source == DRAWN

    @classmethod
    def from_json(cls, values: Mapping) -> Subject:
        """From the JSON beside a picture: ``caption`` is needed, ``style`` and ``concept`` are not."""
        caption = values.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            raise UserError(f"caption {caption!r}: must be a text; every picture needs one.")
        size = values.get("size")
        size = size if isinstance(size, int) and 0 <= size <= 6 else 0
        more = {key: str(values.get(key) or "") for key in ("style", "name", "category", "where", "source")}
        return cls(caption.strip().lower(), concept=str(values.get("concept") or caption), size=size, **more)

    @property
    def called(self) -> str:
        """What people call the thing, or else its caption."""
        return self.name or self.caption

    @property
    def drawing(self) -> str:
        """The set it comes from, whatever its version, and its caption there: game-icons:windmill."""
        return f"{re.split('[@/ ]', self.source.removeprefix('@iconify-json/'))[0]}:{self.caption}"

    @property
    def handed(self) -> bool:
        """Whether its mirror image would be wrong."""
        return not HANDED.isdisjoint(self.caption.replace(",", " ").replace("-", " ").split())


MOST_WORDNET = 100 * 2**20
"""Bytes of a file of WordNet's, of which the largest has 16 MB."""


@dataclass
class Thesaurus:
    """Other words for the words of captions: ``same`` are synonyms, ``near`` are hypernyms and hyponyms."""

    same: dict[str, list[str]] = field(default_factory=dict)
    near: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_wordnet(cls, folder: Path, phrases: Iterable[str], most: int = 12) -> Thesaurus:
        """From WordNet's ``index.noun`` and ``data.noun`` (Debian: wordnet-base), for the nouns in ``phrases``.

        Only the first, most frequent sense of a noun is used. Words that stand for captions themselves are left out of
        ``near``: a fox must not be taught to be a wolf. UserError where a file is missing or damaged.
        """
        try:
            for name in ("index.noun", "data.noun"):
                if is_special(folder / name) or (folder / name).stat().st_size > MOST_WORDNET:
                    raise ValueError(f"{name} is no file of at most {MOST_WORDNET:,} bytes")
            index = (folder / "index.noun").read_text().splitlines()
            return cls._of_nouns(index, (folder / "data.noun").read_bytes(), {p.lower() for p in phrases}, most)
        except (OSError, ValueError, IndexError) as error:
            why = f"cannot be read as WordNet's ({error})"
            raise UserError(f"--wordnet {folder}: {why}; install Debian's wordnet-base, or name its folder.") from error

    @classmethod
    def _of_nouns(cls, index: Sequence[str], data: bytes, phrases: set[str], most: int) -> Thesaurus:
        first = {}
        for line in index:
            parts = line.split()
            if line[0] != " ":
                first[parts[0].replace("_", " ")] = int(parts[4 + int(parts[3]) + 2])
        nouns = {w for p in phrases for w in (p, *p.replace(",", " ").split()) if w in first}

        def synset(offset: int) -> tuple[list[str], list[tuple[str, int]]]:
            parts = data[offset : data.index(b"\n", offset)].decode().split(" | ")[0].split()
            count = int(parts[3], 16)
            words = [parts[4 + 2 * i].replace("_", " ").lower() for i in range(count)]
            rest = parts[5 + 2 * count :]
            links = [(rest[i], int(rest[i + 1])) for i in range(0, len(rest), 4) if rest[i + 2] == "n"]
            return words, links

        same, near = {}, {}
        for noun in sorted(nouns):
            words, links = synset(first[noun])
            same[noun] = [w for w in words if w != noun and len(w) > 2][:most]
            around = [synset(offset)[0][0] for kind, offset in links if kind in ("@", "~")]
            near[noun] = [w for w in around if w not in phrases and len(w) > 2][:most]
        return cls({k: v for k, v in same.items() if v}, {k: v for k, v in near.items() if v})

    @classmethod
    def load(cls, path: Path) -> Thesaurus:
        again = "name WordNet's folder, or a thesaurus.json"
        values = read_json_file(path, again)
        same, near = values.get("same"), values.get("near")
        for words in (same, near):
            lists = list(words.values()) if isinstance(words, dict) else [None]
            if not all(isinstance(each, list) and each and all(isinstance(word, str) for word in each) for each in lists):
                raise UserError(f"--wordnet {path}: is no thesaurus (it says no lists of words, same and near); {again}.")
        return cls(same, near)

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"same": self.same, "near": self.near}))

    def others(self, phrase: str) -> set[str]:
        """All words that it knows for ``phrase`` and for those in it."""
        known = (phrase, *phrase.split())
        return {other for w in known for words in (self.same, self.near) for other in words.get(w, ())}

    def reworded(self, phrase: str, chance: random.Random) -> str:
        """``phrase`` with one of its nouns (or all of it) put into another word, where one is known."""
        words = phrase.split()
        known = [w for w in (phrase, *words) if w not in COLOURS and (w in self.same or w in self.near)]
        if not known:
            return phrase
        word = chance.choice(known)
        choices: Sequence[str] = self.same.get(word, ())
        if not choices or (chance.random() < 0.4 and word in self.near):
            choices = self.near.get(word, choices)
        other = chance.choice(choices)
        return other if word == phrase else " ".join(other if w == word else w for w in words)
