"""The readers of files from anywhere: pictures, masks, JSON, and what a PNG says of how it was made.

Whatever such a file holds, what comes of it is a value of the kind asked for or one UserError, in bounded memory.
"""

from __future__ import annotations

import io
import json
import re
import struct
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from phosphene.errors import UserError
from phosphene.files import exists, is_file, is_special

PROVENANCE = "phosphene"
"""The PNG text chunk that says, as JSON, how the picture was made."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What a picture may be. Pillow knows others, of which some (EPS) start programs."""

MOST_PIXELS = 50_000_000
"""Of a picture that is read: what a large camera takes. Beyond, a small file could fill the memory."""

MOST_TEXT = 4 * 2**20
"""Bytes of JSON that are read: of prompts for ten thousand pictures there are fewer."""

PAGE = "name a page's TOML file, such as examples/page.toml"
"""What to do where ``--config`` names no page of one's own."""

MOST_TOML = 2**18
"""The same of TOML, whose parser is slower."""

DEEP = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
"""A key of more parts than any here has: what Python's parser of TOML takes for one grows with their square."""

SAMPLES = Path(__file__).parent / "assets" / "images"
"""Pictures that ship with the package; their names will do where a picture is asked for."""

PLAIN = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's modes of eight bits that it turns into RGB as they are meant."""

FULL = {"I;16": (1, 65535), "I": (1, 255, 65535, 2**31 - 1), "F": (1, 255, 65535)}
"""What white may be in its other modes of grey: the first of these that no pixel is above."""
DARK = 16
"""By how much the brightest pixel is below white where that cannot be what was meant, as of 12 bits in 16: it would be black."""
ABOVE = 1.05
"""How far above white sharpening and resampling may leave a pixel in floating point; and as far below black."""

NEARLY = 16
"""Levels of 255 from black or white within which compression and rounding leave either."""


@contextmanager
def refusing(what: object, remedy: str) -> Iterator[None]:
    """Whatever a library raises in the block, at what it was given to read, becomes one UserError.

    What libraries written in Rust call a panic is no Exception to Python, but no Ctrl-C either.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not (isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"):
            raise
        raise UserError(f"{what}: cannot be loaded ({first_line(error)}); {remedy}.") from error


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


# Pictures


def sample(path: Path) -> Path | None:
    """The sample picture that ``path`` names, if no file of the reader's is called so."""
    file = SAMPLES / f"{path.name}.png"
    return file if len(path.parts) == 1 and is_file(file) and not exists(path) else None


def read_picture(path: Path, option: str = "IMAGE") -> Image.Image:
    """The RGB picture at ``path``, in sRGB, upright as its EXIF says, its transparency on white.

    ``path`` may be the name of a sample that ships with the package, such as ``clock-tower``. Grey of 16 and 32 bits is
    scaled (see FULL). UserError, naming ``option``, where it is missing, none of FORMATS, damaged, of another kind of
    pixels, smaller than 8 pixels or larger than MOST_PIXELS.
    """
    whole = _srgb(_opened(path, option), f"{option} {path}")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


def read_cutout(content: bytes, where: object) -> Image.Image:
    """The RGBA picture in the file ``content`` that lies at ``where``: as :func:`read_picture`, its transparency kept."""
    return _srgb(_decoded(io.BytesIO(content), str(where)), str(where))


def read_mask(path: Path, option: str = "MASK") -> Image.Image:
    """The mask at ``path``, of mode L: 255 where something is to be repainted, 0 where not.

    White says so, of whatever opacity on a clear layer; or, where a picture has transparent holes, those. Masks of 0 and 1
    count as black and white; an indexed mask whose colours are no greys (a label map) is white wherever its index is not 0.
    UserError as :func:`read_picture`, where all of it is black, white or one grey, and where other paint than black and
    white covers the lesser part of a clear layer: that may be what is to change, or what is to stay.
    """
    what = f"{option} {path}"
    mask = _white(_opened(path, option), what)
    if mask.max() == 1:
        mask = mask * 255
    if mask.max() < NEARLY:
        raise UserError(f"{what}: is all black, so nothing would be repainted; paint white what is to change.")
    if mask.min() > 255 - NEARLY:
        raise UserError(f"{what}: is all white, so nothing would be kept; paint black what is to stay.")
    if int(mask.max()) - int(mask.min()) < NEARLY:
        raise UserError(f"{what}: is one grey all over; paint white what is to change, and black what is to stay.")
    return Image.fromarray(mask)


def _white(image: Image.Image, what: str) -> np.ndarray:
    """How white each pixel of a mask is meant to be, (H, W) bytes."""
    if image.mode.partition(";")[0] in ("I", "F"):
        found = np.unique(levels := np.asarray(image))
        if len(found) == 2 and found[0] == 0 and np.isfinite(found).all():  # black and one other level, whatever white would be
            return np.where(levels == 0, 0, 255).astype(np.uint8)
    labels = np.asarray(image) if image.mode == "P" else None
    rgba = np.asarray(_srgb(image, what))
    colour, alpha = rgba[..., :3], rgba[..., 3].astype(np.uint16)
    grey = np.asarray(Image.fromarray(colour).convert("L"))
    if labels is not None and alpha.min() == 255:
        coloured = (colour.max(2) != colour.min(2)).any()
        return np.where(labels > 0, 255, 0).astype(np.uint8) if coloured or grey.max() == 0 else grey
    if alpha.min() > 255 - NEARLY:
        return grey
    paint = alpha >= NEARLY
    seen = grey[paint]
    inked = seen.size > 0 and (seen > 255 - NEARLY).any() and ((seen < NEARLY) | (seen > 255 - NEARLY)).mean() > 0.9
    if inked:  # black and white on a clear layer is a mask that somebody painted, with a brush that may be thin
        return (grey * alpha // alpha.max()).astype(np.uint8)
    if seen.size and paint.mean() < 0.5:
        why = "is mostly clear, with paint on it that is not black and white, so that either may be what is to change"
        raise UserError(f"{what}: {why}; fill that with white, and the rest with black.")
    return (255 - alpha).astype(np.uint8)  # a picture with holes


def picture_file(path: Path, option: str) -> Path:
    """Where the picture called ``path`` lies, a sample's or the reader's own; UserError where it is no file."""
    path = sample(Path(path)) or Path(path)
    if not exists(path):
        known = ", ".join(sorted(file.stem for file in SAMPLES.glob("*.png")))
        raise UserError(f"{option} {path}: no such file; name a picture, or one of {known}.")
    if not is_file(path):
        raise UserError(f"{option} {path}: is no file, so it cannot be read as a picture; name one.")
    return path


def _opened(path: Path, option: str) -> Image.Image:
    """The picture called ``path``, decoded, upright, and large enough to show something."""
    image = _decoded(picture_file(path, option), f"{option} {path}")
    if min(image.size) < 8:
        raise UserError(f"{option} {path}: is {image.width}x{image.height}; give a picture of at least 8x8 pixels.")
    return image


def _decoded(source: Path | io.BytesIO, what: str) -> Image.Image:
    """The picture in ``source``, decoded, upright."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=FORMATS) as image:
            width, height = image.size
            if width * height <= MOST_PIXELS:
                image.load()
                return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise UserError(f"{what}: is too large ({error}); make it smaller.") from error
    except MemoryError:
        raise
    except Exception as error:  # of damaged files Pillow raises whatever comes, from struct.error to KeyError
        reason = str(error).partition("\n")[0]
        raise UserError(f"{what}: cannot be read as a picture ({reason}); give a PNG, JPEG or WebP.") from error
    raise UserError(f"{what}: is {width}x{height}; make it smaller than {MOST_PIXELS // 10**6} megapixels.")


def _srgb(image: Image.Image, what: str) -> Image.Image:
    """``image`` as RGBA of eight bits in sRGB."""
    if image.mode.partition(";")[0] in ("I", "F"):
        return _scaled(image, what).convert("RGBA")
    if image.mode not in PLAIN:
        raise UserError(f"{what}: has pixels of the kind {image.mode}, which is not read; save it as RGB of 8 bits.")
    whole = image.convert("RGBA")
    if not (profile := image.info.get("icc_profile")):
        return whole
    colour = image if image.mode == "CMYK" else image.convert("L") if image.mode in ("1", "L", "LA") else whole.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" not in ImageCms.getProfileDescription(own).lower():
            colour = ImageCms.profileToProfile(colour, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return whole  # a profile that is broken, or of other colours than the picture's, says nothing of them
    colour = colour.convert("RGB")
    colour.putalpha(whole.getchannel("A"))
    return colour


def _scaled(image: Image.Image, what: str) -> Image.Image:
    """Grey of 16 or 32 bits, whole or floating, as eight."""
    values = np.asarray(image).astype(np.float64)
    kind = "I;16" if image.mode.startswith("I;16") else image.mode
    most, above = values.max(), ABOVE if kind == "F" else 1
    white = next((full for full in FULL[kind] if most <= full * above), None) if np.isfinite(values).all() else None
    if white is None or values.min() < white * (1 - above) or (white != FULL[kind][0] and most <= white / DARK):
        held, usual = f"{values.min():g} to {most:g}", FULL[kind][kind != "F"]
        raise UserError(f"{what}: has values from {held}; scale them to 0..{usual}, or save it in 8 bits.")
    return Image.fromarray((values / white * 255).clip(0, 255).round().astype(np.uint8))


# JSON


def read_json(text: str | bytes, what: str, again: str) -> dict:
    """The JSON object in ``text``, which ``what`` names and ``again`` says how to mend. UserError where it is none.

    What Python's parser takes beyond JSON (NaN, Infinity) is refused, as is what would exhaust it.
    """
    if len(text) > MOST_TEXT:
        raise UserError(f"{what}: is more than {MOST_TEXT:,} bytes of JSON; {again}.")
    try:
        held = json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise UserError(f"{what}: is not readable JSON (it is nested too deep); {again}.") from error
    except ValueError as error:  # damaged, no UTF-8, or a number of thousands of digits
        reason = str(error).partition(";")[0]
        raise UserError(f"{what}: is not readable JSON ({reason}); {again}.") from error
    if not isinstance(held, dict):
        raise UserError(f"{what}: is no JSON object; {again}.")
    return held


def read_json_file(path: Path, again: str) -> dict:
    """The JSON object in the file ``path``: see :func:`read_json`."""
    return read_json(_content(path, str(path), again, MOST_TEXT, "JSON"), str(path), again)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


# Sizes


@contextmanager
def _reading(path: Path, what: str, again: str) -> Iterator[None]:
    """The block reads ``path``: UserError, naming ``what``, where that is no file, or the system refuses."""
    if is_special(path):
        raise UserError(f"{what}: is no file; {again}.")
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{what}: is missing; {again}.") from error
    except (OSError, ValueError) as error:  # a name too long, or with a zero in it, among others
        raise UserError(f"{what}: cannot be read ({getattr(error, 'strerror', None) or error}); {again}.") from error


def require_bounded(path: Path, most: int, again: str) -> None:
    """UserError, before any of it is read, unless ``path`` is a file of at most ``most`` bytes: a hole in one takes no disk."""
    with _reading(path, str(path), again):
        size = path.stat().st_size
    if size > most:
        raise UserError(f"{path}: is {size:,} bytes, of at most {most:,}; {again}.")


def _content(path: Path, what: str, again: str, most: int, kind: str) -> bytes:
    """What is in the file ``path``. UserError where that cannot be read, or is more than ``most`` bytes of the ``kind``."""
    with _reading(path, what, again), path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{what}: is more than {most:,} bytes of {kind}; {again}.")
    return content


# Lists


def read_lines(path: Path, what: str, again: str) -> list[str]:
    """The lines of the text file at ``path``. UserError where it is missing, too long, or no text in UTF-8."""
    content = _content(path, what, again, MOST_TEXT, "text")
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: is no text in UTF-8; {again}.") from error


def read_pairs_file(path: Path, option: str) -> list[tuple[str, str]]:
    """The pairs of prompts in the text file at ``path``, which ``option`` names: a line each, a comma or a tab between the two.

    Empty lines and those that begin with # say nothing. UserError where it is missing, no text, or a line is no pair.
    """
    what, again, pairs = f"{option} {path}", "write two prompts a line, with a comma between them", []
    if not exists(path):
        raise UserError(f"{what}: no such file; {again}.")
    for number, line in enumerate(read_lines(path, what, again), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        prompts = tuple(part.strip() for part in line.split("\t" if "\t" in line else ","))
        if len(prompts) != 2 or not all(prompts):
            raise UserError(f"{what}: line {number} is no pair of prompts; {again}.")
        pairs.append(prompts)
    if not pairs:
        raise UserError(f"{what}: holds no pairs; {again}.")
    return pairs


# TOML


def read_toml_file(path: Path, option: str, again: str) -> dict:
    """The tables of the TOML file at ``path``, which ``option`` names. UserError where it is none; ``again`` is the remedy."""
    what = f"{option} {path}"
    content = _content(path, what, again, MOST_TOML, "TOML")
    try:
        text = content.decode("utf-8-sig")  # some editors begin so
        held = None if DEEP.search(text) else tomllib.loads(text)
    except RecursionError as error:
        raise UserError(f"{what}: is no TOML that is read here (it is nested too deep); {again}.") from error
    except ValueError as error:  # damaged, no UTF-8, or a number of thousands of digits
        reason = str(error).partition(";")[0]
        raise UserError(f"{what}: is no TOML ({reason}); {again}.") from error
    if held is None:
        raise UserError(f"{what}: is no TOML that is read here (a key of very many parts); {again}.")
    return held


# What pictures say of themselves


def read_provenance(path: Path) -> dict:
    """How the PNG at ``path`` was made; UserError where it does not say.

    Only the text chunk is looked at, which is written uncompressed and ahead of the picture: nothing is decoded.
    """
    path = Path(path)
    if is_special(path):
        raise UserError(f"{path}: is no file; name a PNG made by phosphene.")
    try:
        with path.open("rb") as file:
            text = _text(file, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a picture ({error.strerror}); name a PNG made by phosphene.") from error
    if text is None:
        raise UserError(f"{path}: carries no provenance; only PNGs made by phosphene do.")
    return read_json(text, f"{path}: its provenance", "make the picture again")


def _text(file: io.BufferedIOBase, path: Path) -> bytes | None:
    """The text chunk PROVENANCE of a PNG."""
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        raise UserError(f"{path}: cannot be read as a picture (no PNG); only PNGs made by phosphene say how.")
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            break
        if kind != b"iTXt" or length > MOST_TEXT:
            file.seek(length + 4, io.SEEK_CUR)
            continue
        keyword, _, rest = file.read(length).partition(b"\0")
        file.seek(4, io.SEEK_CUR)
        if keyword == PROVENANCE.encode():
            if rest[:1] != b"\0":
                raise UserError(f"{path}: its provenance is compressed, as phosphene never writes it; make the picture again.")
            return rest[2:].split(b"\0", 2)[-1]
    return None
