"""tools/collect_pictures.py on a package of three drawings made here."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import refusal
from PIL import Image

from phosphene.training.tables import lines
from phosphene.training.text_to_image.captions import COLOURS
from phosphene.training.text_to_image.casting import DRESSED, HELD, SEATS
from phosphene.training.text_to_image.pictures import read

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.append(str(TOOLS))
import collect_pictures as tool  # noqa: E402
from words import Table, plain  # noqa: E402

DISC = '<circle cx="8" cy="8" r="6" fill="currentColor"/>'
DRAWINGS = {
    "ball-2-fill": DISC,
    "ring": '<circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" stroke-width="2"/>',
    "logo": '<rect x="2" y="2" width="12" height="12" fill="currentColor"/>',
    "unheard-of": DISC,
}
ROWS = """caption\tname\tcategory\tsize\twhere
ball\tball\ttoy\t1\tig
lucide:ring\tgold ring\tobject\t1\tb
logo\t-\t\t\t
ring\tboxing ring\tplace\t5\tp
"""

drawn = pytest.mark.skipif(find_spec("resvg_py") is None, reason="takes resvg_py: pip install 'phosphene[dev]'")


@pytest.fixture
def table(tmp_path) -> Table:
    (tmp_path / "captions.tsv").write_text(ROWS)
    return Table(tmp_path / "captions.tsv")


def package(folder: Path, name: str = "lucide", licence: str = "ISC", palette: bool = False) -> Path:
    """A package of Iconify with ``DRAWINGS``."""
    files = {
        "package": {"version": "1.2.3"},
        "icons": {"prefix": name, "height": 16, "icons": {icon: {"body": body} for icon, body in DRAWINGS.items()}},
        "info": {"license": {"spdx": licence}, "author": {"name": "A. Hand"}, "palette": palette},
    }
    path = folder / f"iconify-json-{name}-1.2.3.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for stem, told in files.items():
            data = json.dumps(told).encode()
            entry = tarfile.TarInfo(f"package/{stem}.json")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def collected(package: Path, table: Table, shard: Path, size: int = 32) -> dict[str, tuple[Image.Image, dict]]:
    """The pictures of a shard made from ``package``, with their JSON, by key."""
    tool.collect(*tool.opened(package), table, shard, size, set())
    with tarfile.open(shard) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    keys = [name.removesuffix(".json") for name in files if name.endswith(".json")]
    return {key: (Image.open(io.BytesIO(files[f"{key}.webp"])), json.loads(files[f"{key}.json"])) for key in keys}


@drawn
def test_captions_follow_the_table_and_dropped_names_are_dropped(tmp_path, table):
    told = {key: told for key, (_, told) in collected(package(tmp_path), table, tmp_path / "lucide.tar").items()}
    made_by = {"style": "icon", "source": "@iconify-json/lucide", "license": "ISC", "author": "A. Hand"}
    assert told == {
        "lucide_ball-2-fill": {"caption": "ball", "name": "ball", "category": "toy", "size": 1, "where": "ig", **made_by},
        "lucide_ring": {"caption": "ring", "name": "gold ring", "category": "object", "size": 1, "where": "b", **made_by},
    }


@drawn
def test_masks_are_black_and_alpha_is_what_is_covered(tmp_path, table):
    image, _ = collected(package(tmp_path), table, tmp_path / "lucide.tar", size=64)["lucide_ball-2-fill"]
    values = np.asarray(image.convert("RGBA"))
    assert values[..., :3].max() == 0
    assert values[..., 3].mean() / 255 == pytest.approx(np.pi * 6**2 / 16**2, abs=0.005)
    assert values[32, 32, 3] == 255 and values[0, 0, 3] == 0


@drawn
def test_coloured_sets_are_no_masks(tmp_path, table):
    made = collected(package(tmp_path, palette=True), table, tmp_path / "lucide.tar")
    assert {told["style"] for _, told in made.values()} == {tool.COLOURED}


@drawn
def test_the_same_package_gives_the_same_bytes(tmp_path, table):
    made = package(tmp_path)
    for name in ("a", "b"):
        collected(made, table, tmp_path / f"{name}.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@drawn
def test_a_picture_comes_once_in_one_style_and_under_one_name(tmp_path, table):
    source, drawings = tool.opened(package(tmp_path))
    twice = [drawing for drawing in drawings if drawing.captions[1] == "ball"] * 2
    assert tool.collect(source, twice, table, tmp_path / "twice.tar", 32, set()) == 1


@drawn
def test_training_reads_the_shards(tmp_path, table):
    collected(package(tmp_path), table, tmp_path / "lucide.tar")
    assert sorted((image.size, subject.caption) for image, subject in read(tmp_path / "lucide.tar")) == [
        ((32, 32), "ball"),
        ((32, 32), "ring"),
    ]


def test_white_on_black_is_a_hole():
    image = Image.new("RGBA", (4, 4), "black")
    image.paste("white", (0, 0, 2, 4))
    assert np.asarray(tool.mask(image)).tolist() == [[[0, 0, 0, 0]] * 2 + [[0, 0, 0, 255]] * 2] * 4


def test_names_lose_style_words_and_digits():
    assert [tool.bare(name) for name in ("dog-2-fill", "fire-station-24-outlined", "mouse")] == ["dog", "fire station", "mouse"]


def test_a_row_for_a_set_or_a_style_overrides_the_caption(tmp_path):
    rows = ["mouse\tcomputer mouse\tdevice\t1\ti", "noto:mouse\tmouse\tanimal\t1\tg", "bi:mouse\t-\t\t\t"]
    (tmp_path / "captions.tsv").write_text("\n".join([ROWS.splitlines()[0], *rows]))
    table = Table(tmp_path / "captions.tsv")

    def found(name, style):
        words = table.find(tool.Source(name, "", style, "", "", ""), ["mouse"])
        return words and words[1].name

    assert found("noto", "noto") == found("another", "noto") == "mouse"
    assert found("mdi", "icon") == "computer mouse" and found("bi", "icon") is None


def test_what_the_table_says_is_found_by_name_too(table):
    found = table.by_name()
    assert found["gold ring"] == ("gold ring", "object", 1, "b") and found["boxing ring"].category == "place"
    assert "lucide:ring" not in found and "ring" not in found and all(words.name == name for name, words in found.items())


def test_what_may_not_be_used_or_read_is_refused(tmp_path):
    refusal(lambda: tool.opened(package(tmp_path, licence="CC-BY-NC-4.0")), "CC-BY-NC-4.0")
    (tmp_path / "broken.tgz").write_bytes(b"no package")
    refusal(lambda: tool.opened(tmp_path / "broken.tgz"), "broken.tgz")
    (tmp_path / "broken.tsv").write_text("caption\nball\n")
    refusal(lambda: Table(tmp_path / "broken.tsv"), "--captions", "broken.tsv")


def test_the_table_is_sound():
    """Every row has five columns, a name its words, and a name the same words wherever it stands."""
    rows = [line.split("\t") for line in (TOOLS / "captions.tsv").read_text().splitlines()[1:]]
    assert len({plain(row[0]) for row in rows}) > 0.99 * len(rows)
    words = {}
    for caption, name, category, size, where in rows:
        if name == "-":
            assert not category + size + where, caption
        else:
            assert category and size in "123456" and set(where) <= set("gawibhp"), caption
            assert words.setdefault(name, (category, size, where)) == (category, size, where), caption


def test_what_things_are_known_by_is_sound():
    """Every name stands once and is one that something is called by, a drawing is called by the name it is known for."""
    table = Table(TOOLS / "captions.tsv")
    names = {line.split("\t")[1] for line in (TOOLS / "captions.tsv").read_text().splitlines()[1:]} - {"-"}
    asked, alike = (lines(f"text_to_image/{name}.tsv") for name in ("asked", "alike"))
    assert all(len(row) == 4 and row[1] in ("0", "1", "2", "3") for row in asked)
    assert {colour for *_, colour in asked} <= {"", *COLOURS}
    assert all(len(row) == 2 and row[0] not in row[1].split("; ") for row in alike)
    for rows in (asked, alike):
        told = [row[0] for row in rows]
        assert len(set(told)) == len(told) and all(name == name.strip().lower() and name for name in told)
    others = {other for _, also in alike for other in also.split("; ")}
    held = {name for known in HELD.values() for part in ("vessels", "things") for name in known[part]}
    worn = {name for hat, who in DRESSED.items() for name in (hat, *who)}
    seats = set(SEATS) - {name for name, _ in alike}
    for known in (others, held, worn, seats, {name for name, *_ in asked} - {name for name, _ in alike}):
        assert not known - names
    assert all(0 < height < 1 for height in SEATS.values())
    for name, _, drawing, _ in asked:
        if drawing:
            (made_by, caption), number = drawing.partition("#")[0].split(":"), drawing.partition("#")[2]
            assert number in ("", "2") and caption == plain(caption), drawing  # of one caption a set has two: MOST
            styles = [tool.MASK, tool.COLOURED, tool.CLIP_ART_STYLE]
            assert name in [row.name for style in styles if (row := table.row(made_by, style, caption))], drawing
