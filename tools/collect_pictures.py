"""Make the captioned pictures again from the packages they come in: ``python tools/collect_pictures.py PICTURES``.

Emoji and icons are npm packages of Iconify (``@iconify-json/NAME``: SVG by name, and who made it under which licence), clip
art is Debian's ``openclipart-svg``. What is drawn is decided by ``captions.tsv`` beside this script: a drawing whose name is
not in it, or is called ``-`` there, is left out. A row for ``SET:CAPTION`` or ``STYLE:CAPTION`` overrides that for
``CAPTION``: the mouse of one set is an animal and that of another lies beside a keyboard.

Every set becomes one WebDataset shard, ``SET.tar``. The same packages give the same bytes. Wants npm, and resvg_py.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from shrink_shards import straight
from words import Table

from phosphene.errors import UserError
from phosphene.files import replacing
from phosphene.training.text_to_image.captions import MASK
from phosphene.training.text_to_image.pictures import premultiplied

EMOJI = {
    "fluent-emoji": "fluent color",
    "fluent-emoji-flat": "fluent flat",
    "noto": "noto",
    "fxemoji": "firefox",
    "twemoji": "twemoji",
    "noto-v1": "noto v1",
    "emojione": "emojione",
    "streamline-emojis": "line emoji",
    "emojione-monotone": MASK,
}
"""Sets whose names are those of Unicode, and the styles they are drawn in."""
_ICONS = """basil bi boxicons bxs carbon covid fa6-solid fa7-solid flat-color-icons fluent fluent-color fontisto foundation
game-icons gis guidance healthicons hugeicons icon-park icon-park-solid icon-park-twotone iconoir ion lets-icons lucide
majesticons maki map marketeq material-symbols mdi meteocons mingcute mynaui nimbus ph proicons raphael ri solar stash
streamline streamline-cyber streamline-flex streamline-freehand streamline-freehand-color streamline-kameleon-color
streamline-plump streamline-plump-color streamline-sharp streamline-stickies-color streamline-ultimate
streamline-ultimate-color subway tabler teenyicons temaki uil uis vaadin whh wi zondicons"""
ICONS = tuple(_ICONS.split())
"""Sets of icons, in one colour or, where their packages say so, in several (``COLOURED``)."""
COLOURED = "colour icon"
CLIP_ART, CLIP_ART_STYLE, DEBIAN = "clip-art", "clip art", "openclipart-svg"

FREE = ("MIT", "ISC", "Apache-2.0", "OFL-1.1", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0")
"""Licences under which pictures may be learned from with no more than a credit."""
UPSTREAM = {"noto": "OFL-1.1", "fxemoji": "CC-BY-4.0"}
"""What the artists' own licence files say where the package says Apache-2.0, the licence of their programs."""
AUTHORS = {"game-icons": "Lorc, Delapouite and contributors"}
"""Who made a set, where its package does not name them."""

MOST = 2
"""Pictures of one caption and one set: more of them are the same drawing with another line width."""
LEAST_INK, MOST_INK = 0.04, 0.97
"""Shares of a picture that may be covered; what covers more is a tile, unless it is one in several colours."""
_STYLE_WORDS = """outline outlined fill filled filledalt solid bold linear broken duotone line thin light regular rounded round
sharp twotone alt color colour duo stroke variant flat free icon remix fa o f"""
STYLE_WORDS = frozenset(_STYLE_WORDS.split())
"""Words of icons' names that say how the thing is drawn, not what it is."""
FULL = re.compile("fill|solid|bold|duotone")
"""Names of full drawings, which come before outlines."""
FLUENT = re.compile(r"(24|28|32|48)-filled$")
"""Fluent draws every icon for up to eight sizes, and the smallest with hardly anything in them."""
ABSTRACT = ("buttons", "computer", "logos", "shapes", "signs_and_symbols")
"""Folders of clip art that shows no things."""
LARGEST = 600_000
"""Characters of an SVG of clip art; those beyond are traced photographs and take minutes."""


class Drawing(NamedTuple):
    """An SVG with the names it may be found by in the table, the most particular first."""

    key: str
    captions: tuple[str, ...]
    svg: str


class Source(NamedTuple):
    """A set of drawings: who made it, and the style they are drawn in."""

    name: str
    source: str
    style: str
    license: str
    author: str
    version: str


def bare(name: str) -> str:
    """The name of an icon without style words and digits: ``dog`` for ``dog-2-fill``."""
    words = [re.sub(r"\d+$", "", word) for word in re.split("[-_ ]+", name.lower()) if word not in STYLE_WORDS]
    return " ".join(word for word in words if word)


def npm_package(name: str, folder: Path) -> Path:
    """The package of the set ``name`` in ``folder``, fetched by npm unless it lies there."""
    return _only(folder, f"iconify-json-{name}-[0-9]*.tgz", "npm", ["pack", f"@iconify-json/{name}", "--silent"])


def debian_package(folder: Path) -> Path:
    """Debian's package of clip art in ``folder``, fetched by apt-get unless it lies there."""
    return _only(folder, f"{DEBIAN}_*.deb", "apt-get", ["download", DEBIAN])


def _only(folder: Path, pattern: str, program: str, arguments: list[str]) -> Path:
    """The one file of ``folder`` that ``pattern`` fits, brought there by a program if there is none."""
    if not list(folder.glob(pattern)):
        fetched(program, arguments, folder)
    there = list(folder.glob(pattern))
    if len(there) != 1:
        raise UserError(f"--packages {folder}: has {len(there)} files {pattern}; keep one.")
    return there[0]


def fetched(program: str, arguments: list[str], folder: Path) -> None:
    """Run ``program`` in ``folder``; UserError where it is not there or fails."""
    if shutil.which(program) is None:
        raise UserError(f"{program} {arguments[0]}: {program} is not installed; put the packages into --packages yourself.")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1].rstrip(".")
        raise UserError(f"{program} {' '.join(arguments[:2])}: failed ({reason}).")


def opened(package: Path) -> tuple[Source, list[Drawing]]:
    """What an npm package of Iconify holds; UserError where that is damaged or its licence is none of ``FREE``."""
    try:
        with tarfile.open(package) as tar:
            about, icons, info = (json.load(tar.extractfile(f"package/{f}.json")) for f in ("package", "icons", "info"))
        name, told, author = icons["prefix"], info["license"].get("spdx"), info["author"]["name"]
        drawings = list(_drawings(name, icons))
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{package}: is damaged or no package of Iconify; fetch it again.") from error
    if told not in FREE:
        raise UserError(f"{package}: its licence is {told}, none of {', '.join(FREE)}; leave the set out.")
    style = EMOJI.get(name) or (COLOURED if info.get("palette") else MASK)
    source = f"@iconify-json/{name}"
    license, author = UPSTREAM.get(name, told), AUTHORS.get(name, author)
    return Source(name, source, style, license, author, about["version"]), drawings


def _drawings(name: str, icons: Mapping) -> Iterator[Drawing]:
    """The icons of a package, full ones first. A tone of skin is a name that no table has."""
    for icon in sorted(icons["icons"], key=lambda icon: (FULL.search(icon) is None, icon)):
        if name == "fluent" and not FLUENT.search(icon):
            continue
        captions = (icon,) if name in EMOJI else (icon, bare(icon))
        yield Drawing(f"{name}_{icon}", captions, _svg(icons["icons"][icon], icons))


def _svg(icon: Mapping, icons: Mapping) -> str:
    """The SVG of an icon in the middle of a square. Sizes that an icon does not give are those of its set, or 16."""
    left, top = (icon.get(k, icons.get(k, 0)) for k in ("left", "top"))
    width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
    side = max(width, height)
    box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}" color="#000">{icon["body"]}</svg>'


def unpacked(package: Path) -> tuple[Source, list[Drawing]]:
    """The clip art of Debian's package: called by the title its author gave it, or by its file's name."""
    version = package.name.split("_")[1].replace("%3a", ":")
    with tempfile.TemporaryDirectory() as folder:
        fetched("dpkg-deb", ["-x", str(package.resolve()), folder], Path(folder))
        art = Path(folder) / "usr/share/openclipart/svg"
        drawings = [_clip(file, art) for file in sorted(art.rglob("*.svg")) if file.relative_to(art).parts[0] not in ABSTRACT]
    source = Source(CLIP_ART, "Open Clip Art Library", CLIP_ART_STYLE, "CC0-1.0", "contributors to Open Clip Art", version)
    return source, [drawing for drawing in drawings if len(drawing.svg) <= LARGEST]


def _clip(file: Path, art: Path) -> Drawing:
    svg = file.read_text(errors="replace")
    title = re.search("<dc:title[^>]*>([^<]+)", svg)
    stem = re.sub("(_[a-z]+)?_(0?[0-9]+|r)?$", "", file.stem.lower())  # NAME_AUTHOR_01
    titles = [html.unescape(title[1])] if title else []
    names = tuple(re.sub("[0-9]+", " ", name) for name in (*titles, file.stem, stem))
    return Drawing(re.sub("[^a-z0-9-]+", "_", f"{CLIP_ART}_{file.relative_to(art).with_suffix('')}".lower()), names, svg)


def render(drawing: Drawing, source: Source, size: int) -> Image.Image | None:
    """``drawing`` at ``size`` pixels, a mask where the style says so; None where it cannot be drawn or shows next to nothing."""
    large = 2 * size if source.name == CLIP_ART else size  # whose margins are cut off
    svg_to_bytes = resvg()
    try:  # without the fonts of this machine: lettering would differ on the next
        png = svg_to_bytes(svg_string=drawing.svg, width=large, skip_system_fonts=True)
        image = Image.open(io.BytesIO(png)).convert("RGBA")
    except (ValueError, OSError):
        return None
    if source.name == CLIP_ART:
        image = image.crop(image.getbbox())
    if image.size != (size, size):
        image = straight(premultiplied(image, size).permute(1, 2, 0).numpy())
    return _kept(mask(image) if source.style == MASK else image)


def resvg():
    """The function that draws; imported late, because nothing but drawing wants it."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise UserError("resvg_py: is not installed, and SVG is drawn by it; install it with pip install resvg_py.") from error
    return svg_to_bytes


def mask(image: Image.Image) -> Image.Image:
    """The drawing of a one-colour icon as coverage: black, with alpha; what is white on black is a hole."""
    values = np.asarray(image, dtype=np.float32)
    covered = values[..., 3] * (1 - values[..., :3].mean(axis=2) / 255)
    layers = np.zeros(values.shape, dtype=np.uint8)
    layers[..., 3] = covered.round()
    return Image.fromarray(layers, "RGBA")


def _kept(image: Image.Image) -> Image.Image | None:
    values = np.asarray(image, dtype=np.float32)
    ink = values[..., 3].mean() / 255
    tile = ink >= MOST_INK and values[..., :3].std() <= 15
    return None if ink <= LEAST_INK or tile else image


def fingerprint(image: Image.Image) -> bytes:
    """Alike for pictures that are nearly the same: where it gets lighter from left to right, on a grid of eight by eight."""
    values = np.asarray(image.resize((9, 8), Image.Resampling.BILINEAR), dtype=np.float32)
    shade = values[..., 3] * (0.5 + values[..., :3].mean(axis=2) / 255)
    return np.packbits(shade[:, 1:] > shade[:, :-1]).tobytes()


def add(tar: tarfile.TarFile, key: str, image: Image.Image, told: Mapping) -> None:
    """One captioned picture of a shard; masks are kept exactly."""
    content = io.BytesIO()
    lossless = told["style"] == MASK
    image.save(content, "WEBP", lossless=lossless, exact=lossless, quality=92, method=4)
    for suffix, data in (("webp", content.getvalue()), ("json", json.dumps(told, ensure_ascii=False).encode())):
        entry = tarfile.TarInfo(f"{key}.{suffix}")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def collect(source: Source, drawings: Iterable[Drawing], table: Table, shard: Path, size: int, seen: set) -> int:
    """Write ``shard``; how many pictures it has. ``seen`` are those before: none comes twice in one style and under one name."""
    counts: Counter[str] = Counter()
    with replacing(shard) as path, tarfile.open(path, "w") as tar:
        for drawing in drawings:
            found = table.find(source, drawing.captions)
            if found is None or (source.name != CLIP_ART and counts[found[0]] == MOST):
                continue
            caption, words = found
            image = render(drawing, source, size)
            if image is None or (mark := (source.style, words.name, fingerprint(image))) in seen:
                continue
            seen.add(mark)
            counts[caption] += 1
            told = {"caption": caption, "style": source.style, **words._asdict(), "source": source.source}
            add(tar, drawing.key, image, {**told, "license": source.license, "author": source.author})
    return counts.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="folder for the shards")
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where packages lie or are fetched to")
    parser.add_argument("--sets", nargs="+", metavar="SET", default=[*EMOJI, *ICONS], help="default: all but clip-art")
    parser.add_argument("--captions", type=Path, default=Path(__file__).with_name("captions.tsv"))
    parser.add_argument("--size", type=int, default=96)
    options = parser.parse_args()
    unknown = set(options.sets) - {*EMOJI, *ICONS, CLIP_ART}
    if unknown:
        parser.error(f"--sets {' '.join(sorted(unknown))}: choose from {', '.join([*EMOJI, *ICONS, CLIP_ART])}.")
    if options.size < 16:
        parser.error(f"--size {options.size}: must be at least 16.")
    try:
        resvg()
        table, seen, total = Table(options.captions), set(), 0
        for name in options.sets:
            clips = name == CLIP_ART
            source, drawings = (
                unpacked(debian_package(options.packages)) if clips else opened(npm_package(name, options.packages))
            )
            count = collect(source, drawings, table, options.target / f"{name}.tar", options.size, seen)
            print(f"{name} {source.version}: {count:,} pictures", flush=True)
            total += count
        print(f"{total:,} pictures in {options.target}")
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
