"""Say whose pictures are learned from: ``python tools/picture_credits.py FOLDER... > docs/pictures.md``.

Counts the pictures of shards (tools/collect_pictures.py, or older ones) that the table keeps, set by set, and writes the
credits that their licences ask for.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from collect_pictures import CLIP_ART, EMOJI, ICONS, UPSTREAM, Source, Table

TITLES = {
    "fluent-emoji": "Fluent Emoji",
    "fluent-emoji-flat": "Fluent Emoji, flat",
    "noto": "Noto Emoji",
    "noto-v1": "Noto Emoji, first version",
    "fxemoji": "FxEmojis",
    "emojione": "EmojiOne 2",
    "emojione-monotone": "EmojiOne 2, one colour",
    "bi": "Bootstrap Icons",
    "bxs": "Boxicons Solid",
    "fa6-solid": "Font Awesome 6 Solid",
    "fa7-solid": "Font Awesome 7 Solid",
    "fluent": "Fluent Icons",
    "fluent-color": "Fluent Icons, coloured",
    "gis": "Font-GIS",
    "icon-park": "IconPark",
    "icon-park-solid": "IconPark Solid",
    "icon-park-twotone": "IconPark TwoTone",
    "ion": "IonIcons",
    "map": "Map Icons",
    "mdi": "Material Design Icons",
    "ph": "Phosphor",
    "ri": "Remix Icon",
    "uil": "Unicons",
    "uis": "Unicons Solid",
    "whh": "WebHostingHub Glyphs",
    "wi": "Weather Icons",
    "game-icons": "game-icons.net",
    CLIP_ART: "Open Clip Art",
}
"""Sets that are not called by the names of their packages."""
OLDER = {
    "microsoft/fluentui-emoji": "fluent-emoji",
    "googlefonts/noto-emoji": "noto",
    "mozilla/fxemoji": "fxemoji",
    "game-icons/icons": "game-icons",
    "Open Clip Art Library": CLIP_ART,
}
"""Other places that sets were taken from, by a part of what shards call them."""
NAMELESS = {"fluent-emoji": "Microsoft Corporation", "noto": "Google Inc", "fxemoji": "Mozilla"}
"""Authors of sets whose older shards name none."""
SHORT = {"Creative Commons Public Domain Dedication": "CC0-1.0"}
FEW = 3
"""More authors than that are named in the credits alone."""

HEAD = """# The pictures

What text-to-image models of the project may learn from: {pictures:,} pictures of {names:,} things, in {sets} sets. None of them
is in the repository or in the package. Make them from the packages they come in with

    python tools/collect_pictures.py PICTURES --sets SET...      without --sets: all but clip-art

Packages get newer, and the 3D style of Fluent Emoji is in none of them, so the numbers will not be quite the same. These are
of the shards that the project trains on, as the table keeps them:

    python tools/picture_credits.py PICTURES > docs/pictures.md

| pictures | set | package | author | licence |
|---:|---|---|---|---|
"""
TABLE = """
## The table

`tools/captions.tsv` says what the pictures show, a row for every caption:

- `caption`: the name of a drawing in its set. `SET:CAPTION` and `STYLE:CAPTION` are for one set or one style.
- `name`: what people call it; `-` for what is no plain thing (interface symbols, brands, letters, flags) and is left out.
- `category`: animal, person, face, body, food, plant, vehicle, building, place, furniture, tool, clothing, instrument, toy,
  sport, container, device, weather, celestial, object, symbol, activity or fantasy.
- `size`: 1 fits a hand, 2 is carried with two arms, 3 as a person, 4 a horse or car, 5 a house or tree, 6 a hill or the sea.
- `where`, letters: g on the ground, a in the air, w in or on water, i indoors or on a table, b on the body, h in a hand,
  p is a place.

Two more tables lie beside the code that makes scenes of the pictures (src/phosphene/training/text_to_image/): `asked.tsv` says of
a name how often people would ask for it (0 hardly ever to 3), by which of its drawings a stranger would know it and in which
colour; `alike.tsv` by whose paintings it may be shown as well. Both are judgements of people who looked at the names, and at all
drawings of each, and knew no prompt that the model is judged by.
"""
CREDITS = """
## Credits

Sets under CC-BY licences, which ask for the names of set, author and licence and for what was changed:

"""


def called(source: str) -> str:
    """The name of the set that a shard calls ``source``."""
    older = [name for part, name in OLDER.items() if part in source]
    return older[0] if older else source.removeprefix("@iconify-json/")


def title(name: str) -> str:
    return TITLES.get(name) or name.replace("-", " ").title()


def package(name: str) -> str:
    if name == CLIP_ART:
        return "Debian's openclipart-svg"
    return f"@iconify-json/{name}" if name in {*EMOJI, *ICONS} else ""


def told(folders: list[Path]) -> Iterator[Mapping]:
    """The JSON of every picture of the shards in ``folders``."""
    for shard in sorted(shard for folder in folders for shard in folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    yield json.load(tar.extractfile(member))


def page(folders: list[Path], table: Table) -> str:
    """The page in Markdown."""
    sets: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    names = set()
    for one in told(folders):
        name = called(one["source"])
        found = table.find(Source(name, "", one["style"], "", "", ""), [one["caption"]])
        if found:
            licence = UPSTREAM.get(name) or SHORT.get(one["license"], one["license"])
            sets[name, licence][one.get("author") or NAMELESS.get(name, "its contributors")] += 1
            names.add(found[1].name)
    ordered = sorted(sets.items(), key=lambda entry: (-entry[1].total(), entry[0]))
    lines = []
    for (name, licence), authors in ordered:
        who = ", ".join(a for a, _ in authors.most_common()) if len(authors) <= FEW else f"{len(authors)} authors"
        lines.append(f"| {authors.total():,} | {title(name)} | {package(name)} | {who} | {licence} |")
    credits = [
        f"- {title(name)}, by {', '.join(a for a, _ in authors.most_common())}. {licence}. Changed: rasterised."
        for (name, licence), authors in ordered
        if licence.startswith("CC-BY-")
    ]
    pictures, count = sum(authors.total() for authors in sets.values()), len({name for name, _ in sets})
    head = HEAD.format(pictures=pictures, names=len(names), sets=count)
    return head + "\n".join(lines) + "\n" + TABLE + CREDITS + "\n".join(credits) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of shards")
    parser.add_argument("--captions", type=Path, default=Path(__file__).with_name("captions.tsv"))
    options = parser.parse_args()
    print(page(options.folders, Table(options.captions)), end="")


if __name__ == "__main__":
    main()
