"""Laws of the readers: what a file holds is read as it is meant, or refused in one sentence; nothing else happens."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from phosphene.errors import UserError
from phosphene.images import save_png
from phosphene.readers import (
    MOST_TEXT,
    PROVENANCE,
    read_cutout,
    read_json,
    read_mask,
    read_picture,
    read_provenance,
)
from phosphene.training.text_to_image.pictures import count, premultiplied, read


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes, pixels: bytes = b"") -> bytes:
    """A PNG by hand: one grey bit a pixel, with the chunks ``more`` ahead of the picture."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + rest


def told(text: bytes, compressed: bool = False) -> bytes:
    """The chunk with a provenance."""
    flag, text = (b"\1\0", zlib.compress(text)) if compressed else (b"\0\0", text)
    return chunk(b"iTXt", PROVENANCE.encode() + b"\0" + flag + b"\0\0" + text)


def grey(values: np.ndarray, path: Path) -> Path:
    Image.fromarray(values).save(path)
    return path


# Pictures

RAMP = np.tile(np.linspace(0, 1, 16), (16, 1))


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        ((RAMP * 65535).astype(np.uint16), "png"),
        ((RAMP * 65535).astype(np.uint16), "tif"),
        ((RAMP * 255).astype(np.int32), "tif"),
        ((RAMP * 65535).astype(np.int32), "tif"),
        ((RAMP * (2**31 - 1)).astype(np.int32), "tif"),
        (RAMP.astype(np.float32), "tif"),
        ((RAMP * 255).astype(np.float32), "tif"),
    ],
    ids=["16-png", "16-tiff", "32-of-8", "32-of-16", "32", "float", "float-of-8"],
)
def test_grey_of_many_bits_is_the_same_grey(tmp_path, values, suffix):
    found = np.asarray(read_picture(grey(values, tmp_path / f"deep.{suffix}")))
    assert np.abs(found[..., 0] - RAMP * 255).max() <= 1 and (found == found[..., :1]).all()
    content = (tmp_path / f"deep.{suffix}").read_bytes()
    assert np.array_equal(np.asarray(read_cutout(content, "it"))[..., :3], found)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-1.0], [1e9], [0, 1.2], [0, 300.0]])
def test_grey_without_a_white_is_refused(tmp_path, values):
    path = grey(np.resize(np.array(values, dtype=np.float32), (8, 8)), tmp_path / "odd.tif")
    with pytest.raises(UserError, match=r"odd\.tif: has values from .*scale them"):
        read_picture(path)


@pytest.mark.parametrize("most", [255, 4095])
def test_grey_of_fewer_bits_than_it_has_room_for_is_refused(tmp_path, most):
    """It would come out black."""
    path = grey((RAMP * most).astype(np.uint16), tmp_path / "dark.png")
    with pytest.raises(UserError, match=rf"dark\.png: has values from 0 to {most}; scale them to 0\.\.65535"):
        read_picture(path)


def test_what_sharpening_leaves_above_white_is_white(tmp_path):
    """And below black it is black."""
    assert np.asarray(read_picture(grey((RAMP - 0.02).astype(np.float32), tmp_path / "low.tif"))).min() == 0
    found = np.asarray(read_picture(grey((RAMP * 1.03).astype(np.float32), tmp_path / "sharp.tif")))
    assert found.max() == 255 and np.abs(found[..., 0] - np.minimum(RAMP * 1.03, 1) * 255).max() <= 1


def test_pixels_of_another_kind_are_refused(tmp_path):
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
    with pytest.raises(UserError, match=r"lab\.tif: has pixels of the kind LAB"):
        read_picture(tmp_path / "lab.tif")


@pytest.mark.parametrize(("name", "kind"), [("drawing.eps", "EPS"), ("picture.ppm", "PPM"), ("icon.ico", "ICO")])
def test_formats_that_are_not_promised_are_not_opened(tmp_path, name, kind):
    Image.new("RGB", (16, 16)).save(tmp_path / name, kind)
    with pytest.raises(UserError, match="cannot be read as a picture"):
        read_picture(tmp_path / name)
    (tmp_path / "picture.png").write_bytes((tmp_path / name).read_bytes())  # whatever it is called
    with pytest.raises(UserError, match="cannot be read as a picture"):
        read_picture(tmp_path / "picture.png")


def test_training_sees_a_turned_photo_upright():
    base, content = Image.new("RGB", (30, 20), "white"), io.BytesIO()
    base.paste((255, 0, 0), (0, 0, 15, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: what is left comes up
    base.save(content, "JPEG", exif=exif, quality=95)
    found = read_cutout(content.getvalue(), "photo")
    assert found.mode == "RGBA" and found.size == (20, 30)
    assert found.getpixel((10, 3))[1] < 60 and found.getpixel((10, 26))[1] > 200


def test_colours_are_those_of_the_profile(tmp_path):
    """A profile whose red and blue are exchanged, made of sRGB's own: the tags of two of its primaries swapped."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = [128 + 4 + 12 * k for k in range(struct.unpack(">I", content[128:132])[0])]
    place = {bytes(content[at : at + 4]): at for at in entries}
    red, blue = place[b"rXYZ"], place[b"bXYZ"]
    content[red + 4 : red + 12], content[blue + 4 : blue + 12] = content[blue + 4 : blue + 12], content[red + 4 : red + 12]
    swapped = bytes(content).replace("sRGB".encode("utf-16-be"), "odds".encode("utf-16-be")).replace(b"sRGB", b"odds")
    for mode in ("RGB", "RGBA", "P"):
        red = Image.new("RGBA", (10, 10), (255, 0, 0, 255)).convert(mode)
        red.save(tmp_path / f"{mode}.png", icc_profile=swapped)
        found = read_picture(tmp_path / f"{mode}.png").getpixel((5, 5))
        assert found[2] > 250 and max(found[:2]) < 5
        red.save(tmp_path / f"{mode}.png", icc_profile=b"broken")
        assert read_picture(tmp_path / f"{mode}.png").getpixel((5, 5)) == (255, 0, 0)


def test_a_profile_leaves_what_is_transparent(tmp_path):
    content = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"s\0R\0G\0B", b"o\0d\0d\0s")
    Image.new("RGBA", (10, 10), (40, 90, 200, 77)).save(content, "PNG", icc_profile=profile)
    found = read_cutout(content.getvalue(), "it").getpixel((5, 5))
    assert found[3] == 77 and all(abs(a - b) <= 1 for a, b in zip(found, (40, 90, 200), strict=False))


def test_bombs_are_refused_before_memory_is_taken(tmp_path):
    bomb = png(20_000, 19_000, pixels=bytes(2501 * 19_000))
    assert len(bomb) < 50_000
    for content in (bomb, png(40_000, 40_000)):
        (tmp_path / "bomb.png").write_bytes(content)
        for reader in (lambda: read_picture(tmp_path / "bomb.png"), lambda c=content: read_cutout(c, "bomb.png")):
            with pytest.raises(UserError, match=r"bomb\.png: is .*make it smaller"):
                reader()
    for text in (chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), told(b"x" * 10**8, compressed=True)):
        (tmp_path / "text.png").write_bytes(png(16, 16, text, pixels=bytes(3 * 16)))
        with pytest.raises(UserError, match="cannot be read as a picture"):
            read_picture(tmp_path / "text.png")


def test_what_is_no_file_is_not_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    for reader in (read_picture, read_mask, read_provenance):
        for place in (tmp_path / "pipe.png", tmp_path):
            with pytest.raises(UserError, match="is no file"):
                reader(place)


# Masks


def disc(size: int = 32) -> np.ndarray:
    """Where a mask is white: (size, size) bool."""
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return x * x + y * y < (size / 3) ** 2


def layered(colour: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.broadcast_to(colour, (*alpha.shape, 3)), alpha]).astype(np.uint8))


def labels(colours: list[int]) -> Image.Image:
    image = Image.fromarray(disc().astype(np.uint8))
    image.putpalette(colours)
    return image


NOISE = np.random.default_rng(0).integers(0, 255, (32, 32, 3))
MASKS = {
    "white on black": Image.fromarray(disc().astype(np.uint8) * 255),
    "one bit": Image.fromarray(disc()),
    "0 and 1": Image.fromarray(disc().astype(np.uint8)),
    "0 and 1 of 16 bits": Image.fromarray(disc().astype(np.uint16)),
    "0 and 1 of 32 bits": Image.fromarray(disc().astype(np.int32)),
    "0 and 1 in floats": Image.fromarray(disc().astype(np.float32)),
    "16 bits": Image.fromarray(disc().astype(np.uint16) * 65535),
    "0 and 255 of 16 bits": Image.fromarray(disc().astype(np.uint16) * 255),
    "0 and 7 in floats": Image.fromarray(disc().astype(np.float32) * 7),
    "white strokes on a clear layer": layered(np.array([255, 255, 255]), disc() * 255),
    "thin white strokes on a clear layer": layered(np.array([255, 255, 255]), disc() * 120),
    "black and white, the outside clear": layered(
        disc()[..., None] * 255, np.where(np.arange(32) < 28, 255, 0) * np.ones((32, 1))
    ),
    "a photo with a hole": layered(NOISE, ~disc() * 255),
    "black with a hole": layered(np.zeros(3), ~disc() * 255),
    "indexed, maroon": labels([0, 0, 0, 128, 0, 0]),
    "indexed, both colours dark": labels([0, 0, 0, 1, 1, 1]),
    "indexed, black and white": labels([0, 0, 0, 255, 255, 255]),
    "indexed, all colours black": labels([0, 0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_is_white_where_it_says_so(tmp_path, kind):
    MASKS[kind].save(tmp_path / "mask.tif" if MASKS[kind].mode in "IF" else tmp_path / "mask.png")
    (file,) = tmp_path.iterdir()
    mask = read_mask(file)
    assert mask.mode == "L" and np.array_equal(np.asarray(mask) > 127, disc())
    assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_an_indexed_mask_whose_first_colour_is_white_is_read_by_its_colours(tmp_path):
    labels([255, 255, 255, 0, 0, 0]).save(tmp_path / "mask.png")
    assert np.array_equal(np.asarray(read_mask(tmp_path / "mask.png")) > 127, ~disc())


def test_a_soft_mask_stays_soft(tmp_path):
    soft = (RAMP * 255).astype(np.uint8)
    assert np.array_equal(np.asarray(read_mask(grey(soft, tmp_path / "soft.png"))), soft)


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (Image.new("L", (16, 16), 0), "black"),
        (Image.new("L", (16, 16), 3), "black"),
        (Image.new("L", (16, 16), 255), "white"),
        (Image.new("L", (16, 16), 252), "white"),
        (Image.new("L", (16, 16), 130), "one grey all over"),
        (layered(np.array([200, 0, 0]), disc() * 255), "mostly clear, with paint on it"),
        (layered(np.zeros(3), disc() * 255), "mostly clear, with paint on it"),
        (Image.new("RGBA", (16, 16), (255, 255, 255, 255)), "white"),
        (Image.new("RGBA", (16, 16), (0, 0, 0, 0)), "white"),
        (Image.new("I;16", (16, 16), 65535), "white"),
    ],
)
def test_a_mask_of_one_colour_is_refused(tmp_path, image, word):
    image.save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=rf"--mask .*mask\.png: is (all )?{word}"):
        read_mask(tmp_path / "mask.png", "--mask")


# JSON


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**5,
        '{"a":' * 10**5,
        '{"a": ' + "9" * 5000 + "}",
        "[]",
        "5",
        "null",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a"',
        b'{"a": "\xff"}',
        b"\xff\xfe",
        "",
        '{"a": "' + "x" * MOST_TEXT + '"}',
    ],
    ids=lambda text: repr(text[:12]),
)
def test_json_that_is_none_is_one_sentence(text):
    with pytest.raises(UserError, match=r"^it: is .*; mend it\.$"):
        read_json(text, "it", "mend it")


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_json_is_read_back(held):
    assert read_json(json.dumps(held), "it", "mend it") == held


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_an_object_or_refused(text):
    try:
        assert isinstance(read_json(text, "it", "mend it"), dict)
    except UserError as error:
        assert str(error).count("it: ") == 1


# Provenance


@given(st.dictionaries(st.text(), st.text()))
@settings(max_examples=30)
def test_what_is_written_is_read(tmp_path_factory, story):
    path = tmp_path_factory.mktemp("told") / "it.png"
    save_png(Image.new("L", (8, 8)), path, story)
    assert read_provenance(path) == story


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(40_000, 40_000, told(b"[" * 10**5)), "nested too deep"),
        (png(8, 8, told(b'{"a": ' + b"9" * 5000 + b"}")), "not readable JSON"),
        (png(8, 8, told(b"[]")), "no JSON object"),
        (png(8, 8, told(b"{" + b"\xff" * 9)), "not readable JSON"),
        (png(8, 8, told(zlib.compress(bytes(10**8)), compressed=True)), "compressed"),
        (png(8, 8, told(b"x" * 5 * 2**20)), "carries no provenance"),
        (png(8, 8), "carries no provenance"),
        (png(8, 8, told(b"{}"))[:55], "not readable JSON"),
        (b"GIF89a", "no PNG"),
        (b"", "no PNG"),
    ],
    ids=lambda value: repr(value[-12:]),
)
def test_what_says_nothing_is_one_sentence(tmp_path, content, words):
    (tmp_path / "it.png").write_bytes(content)
    with pytest.raises(UserError, match=rf"it\.png: .*{words}"):
        read_provenance(tmp_path / "it.png")


def test_a_picture_too_large_to_be_read_still_says_how_it_was_made(tmp_path):
    (tmp_path / "it.png").write_bytes(png(40_000, 40_000, told(b'{"command": "digits"}')))
    assert read_provenance(tmp_path / "it.png") == {"command": "digits"}


def valid() -> bytes:
    content, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_itxt(PROVENANCE, json.dumps({"command": "digits", "arguments": {"seed": 1}}))
    Image.new("RGBA", (9, 9), (1, 2, 3, 99)).save(content, "PNG", pnginfo=info)
    return content.getvalue()


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_damaged_pictures_are_read_or_refused(tmp_path_factory, changes, length):
    content = bytearray(valid()[: max(length, 1)] if length % 3 == 0 else valid())
    for at, value in changes:
        content[at % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content)
    for reader in (read_picture, read_mask, read_provenance, lambda p: read_cutout(p.read_bytes(), p)):
        try:
            reader(path)
        except UserError as error:
            assert "damaged.png" in str(error)


# Captioned pictures


def put(folder: Path, **files: str) -> Path:
    """Files in ``folder``, by their paths; what is called like a picture is one."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(("png", "jpg")):
            Image.new("RGB", (8, 8), "red").save(folder / name)
        else:
            (folder / name).write_text(text)
    return folder


def shard(path: Path, **files: str | bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            content = picture() if name.endswith(".png") and not content else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data := content if isinstance(content, bytes) else content.encode())
            tar.addfile(entry, io.BytesIO(data))
    return path


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "PNG")
    return content.getvalue()


FOLDERS = {
    "imagefolder": (
        {
            "0001.png": "",
            "more/0002.png": "",
            "metadata.jsonl": '{"file_name": "0001.png", "text": "A Fox"}\n\n{"file_name": "more/0002.png", "caption": "a hen"}',
        },
        ["a fox", "a hen"],
        "2 of 2 pictures have a caption",
    ),
    "imagefolder, a table": (
        {
            "0001.png": "",
            "more/0002.png": "",
            "metadata.csv": '\ufefffile_name,label,text\r\n0001.png,5,"A Fox, ""red"""\r\nmore/0002.png,,"a\nhen"\r\n',
        },
        ['a fox, "red"', "a hen"],
        "2 of 2 pictures have a caption",
    ),
    "imagefolder, a split": (
        {"train/0001.png": "", "train/metadata.jsonl": '{"file_name": "0001.png", "text": "a fox"}'},
        ["a fox"],
        "1 of 1 pictures have a caption",
    ),
    "classes": ({"red-fox/0001.png": "", "hen/0002.jpg": ""}, ["hen", "red fox"], "2 of 2 pictures have a caption"),
    "texts": (
        {"0001.png": "", "0001.TXT": "\ufeffA Fox\n", "0002.png": "", "0002.txt": "a\n hen"},
        ["a fox", "a hen"],
        "2 of 2 pictures have a caption",
    ),
    "JSON with text": ({"1.png": "", "1.json": '{"text": "a fox"}'}, ["a fox"], "1 of 1 pictures have a caption"),
    "some without": (
        {"red-fox.png": "", "0002.png": "", "0002.txt": "a hen"},
        ["a hen", "red fox"],
        "1 of 2 pictures have a caption; the others are called by their file names",
    ),
    "hidden": (
        {"fox.png": "", "fox.txt": "a fox", "._fox.png": "", ".trash/hen.png": "", "__MACOSX/fox.png": ""},
        ["a fox"],
        "1 of 1 pictures have a caption",
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_captions_are_found_where_people_put_them(tmp_path, kind):
    files, captions, said = FOLDERS[kind]
    put(tmp_path, **files)
    assert sorted(subject.caption for _, subject in read(tmp_path)) == captions
    assert str(count(tmp_path)) == said


def test_captions_of_shards_are_json_or_text(tmp_path):
    files = {"./a.png": "", "./a.txt": "A Fox", "._b.png": "x", "b.png": "", "b.JSON": '{"caption": "a hen"}', "c.png": ""}
    shard(tmp_path / "some.tar", **files)
    (tmp_path / ".hidden.tar").write_bytes(b"x")
    assert [subject.caption for _, subject in read(tmp_path)] == ["a fox", "a hen"]
    assert str(count(tmp_path)) == "2 of 3 pictures have a caption; the others are left out"
    assert str(count(tmp_path / "some.tar")) == str(count(tmp_path))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"1.png": "", "metadata.jsonl": '{"file_name": "2.png", "text": "a fox"}'}, "line 1: names '2.png', which is not there"),
        ({"1.png": "", "metadata.jsonl": '{"file_name": "\\u0000", "text": "a fox"}'}, "which is not there"),
        ({"1.png": "", "metadata.jsonl": '{"file_name": "1.png"}'}, "line 1: says no file_name with"),
        ({"1.png": "", "metadata.jsonl": '{"text": "a fox"}'}, "line 1: says no file_name with"),
        ({"1.png": "", "metadata.csv": "file_name,text\n2.png,a fox"}, r"csv: line 2: names '2.png', which is not there"),
        ({"1.png": "", "metadata.csv": "file_name,text\n1.png"}, r"csv: line 2: says no file_name with"),
        ({"1.png": "", "metadata.csv": "picture,text\n1.png,a fox"}, r"csv: line 2: says no file_name with"),
        ({"1.png": "", "metadata.csv": "file_name,text\n1.png," + "x" * 10**6}, r"csv: line \d: is no row of a table"),
        ({"1.png": "", "metadata.jsonl": "\n[1]"}, "line 2: is no JSON object"),
        ({"1.png": "", "1.json": '{"caption": 5}'}, r"1\.json: caption 5: must be a text"),
        ({"1.png": "", "1.json": "[" * 10**5}, r"1\.json: is not readable JSON"),
        ({"1.png": "", "1.json": '"a fox"'}, r"1\.json: is no JSON object"),
        ({"1.png": "", "1.txt": " "}, r"1\.txt: caption '': must be a text"),
    ],
)
def test_captions_that_are_none_are_one_sentence(tmp_path, files, words):
    put(tmp_path, **files)
    with pytest.raises(UserError, match=words):
        list(read(tmp_path))


def test_a_tar_member_larger_than_its_file_is_refused(tmp_path):
    """Such as a sparse one: what it takes in the tar is no measure of what it takes in memory."""
    member = tarfile.TarInfo("a.png")
    member.size = 4 * 2**30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(member.tobuf())
        file.truncate(2**32 + 2048)  # itself a hole
        file.seek(2**32 + 512)
        after = tarfile.TarInfo("a.txt")
        after.size = 5
        file.write(after.tobuf() + b"a fox".ljust(512, b"\0") + bytes(1024))
    with pytest.raises(UserError, match=r"a\.tar/a: is 4,294,967,296 bytes, of at most"):
        list(read(tmp_path))


def test_a_large_picture_is_prepared_in_little_memory():
    """50,000 x 900 pixels, squared, would be ten gigabytes."""
    wide = Image.new("RGBA", (50_000, 900), (200, 100, 50, 255))
    tracemalloc.start()
    layers = premultiplied(wide, 16)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    assert layers.shape == (4, 16, 16) and layers[3, 8].max() > 50 and layers[3, 0].max() == 0


def test_a_shard_that_is_none_is_one_line(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"this is no tar")
    refusal(lambda: list(read(tmp_path / "x.tar")), "x.tar: is damaged or no tar")
