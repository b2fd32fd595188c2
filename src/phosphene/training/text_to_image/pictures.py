"""Captioned pictures as they lie on disk, shards or folders, and as bytes of one size."""

from __future__ import annotations

import csv
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from phosphene.errors import UserError
from phosphene.files import is_file
from phosphene.readers import read_cutout, read_json
from phosphene.training.text_to_image.captions import Subject

SUFFIXES = (".webp", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff")
METADATA = ("metadata.csv", "metadata.jsonl")
"""The captions of a folder, as Hugging Face's imagefolder has them: a row or line for each picture, its file_name and text."""
MOST_BYTES = 200 * 2**20
"""Of a file that is read: some of a tar take none there and fill the memory."""
MOST_HEADER, MOST_GLOBAL = 2**20, 100
"""Bytes of a name or other header in a tar, which is read before its member is known, and how many hold for the whole tar."""
TOLD = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
"""Members of a tar that say something of the next one, or of all."""
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)
DAMAGE += (zlib.error, LZMAError)
"""What the library raises at tars that are none."""
AGAIN = "mend or remove it"


class _Entry(NamedTuple):
    """A picture that was found; ``content`` reads its file."""

    content: Callable[[], bytes]
    where: str
    subject: Subject | None  # None: nothing says what it shows


class Count(NamedTuple):
    """How many pictures there are, and of how many something says what they show."""

    captioned: int
    pictures: int
    shards: bool

    def __str__(self) -> str:
        rest = "left out" if self.shards else "called by their file names"
        others = "" if self.captioned == self.pictures else f"; the others are {rest}"
        return f"{self.captioned:,} of {self.pictures:,} pictures have a caption{others}"


def read(path: Path) -> Iterator[tuple[Image.Image, Subject]]:
    """Captioned pictures of ``path``: WebDataset shards, one shard, or a folder of pictures with all that is below it.

    In shards a picture has a ``KEY.json`` or a ``KEY.txt``, else it is left out. In a folder what it shows is said by the
    first of these that is there: a line of a ``metadata.jsonl`` or ``metadata.csv`` in its folder or above (``file_name``, and
    ``text`` or ``caption``), a ``NAME.json`` like that of the shards, a ``NAME.txt``, the name of the folder below ``path``
    that it lies in, its own name. Hidden files are passed over. UserError where nothing is found or a file is damaged.
    """
    for content, where, subject in contents(Path(path)):
        yield read_cutout(content, where), subject


def contents(path: Path) -> Iterator[tuple[bytes, object, Subject]]:
    """The files of the pictures of ``path``, where each lies, and what it shows."""
    for entry in _entries(path):
        if entry.subject is not None:
            yield entry.content(), entry.where, entry.subject
        elif not _shards(path):
            yield entry.content(), entry.where, Subject.from_json({"caption": _words(Path(entry.where).stem) or "a picture"})


def count(path: Path) -> Count:
    """How many pictures :func:`read` finds at ``path``, and how many have a caption; no picture is read for that."""
    said = [entry.subject is not None for entry in _entries(path)]
    return Count(sum(said), len(said), bool(_shards(path)))


def _entries(path: Path) -> Iterator[_Entry]:
    if not path.exists():
        raise UserError(f"--data {path}: does not exist; name a folder of shards or of pictures.")
    shards, found = _shards(path), False
    for entry in (e for shard in shards for e in _of_shard(shard)) if shards else _of_folder(path):
        found = True
        yield entry
    if not found:
        raise UserError(f"--data {path}: holds neither .tar shards nor pictures ({', '.join(SUFFIXES)}).")


def _shards(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.glob("*.tar") if not _hidden(p.name) and is_file(p))  # a pipe may never end


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _of_shard(shard: Path) -> Iterator[_Entry]:
    """Pictures whose files follow each other under one key, as WebDataset has it."""
    try:
        with tarfile.open(shard, tarinfo=_Header) as tar:
            key, files = None, {}
            for member in tar:
                tar.members.clear()  # or a small file that unpacks to very many would fill the memory
                if len(tar.pax_headers) > MOST_GLOBAL:
                    raise ValueError(f"more than {MOST_GLOBAL} global headers")
                if not member.isfile() or _hidden(member.name):
                    continue
                stem, _, suffix = member.name.rpartition(".")
                if stem != key:
                    yield from _of_key(tar, f"{shard}/{key}", files)
                    key, files = stem, {}
                files[f".{suffix.lower()}"] = member
            yield from _of_key(tar, f"{shard}/{key}", files)
    except UserError:
        raise
    except DAMAGE as error:
        reason = str(error).partition(":\n")[0]
        raise UserError(f"{shard}: is damaged or no tar of pictures and captions ({reason}); fetch or make it again.") from error


class _Header(tarfile.TarInfo):
    """A header of a tar; ValueError where the library would read more than it needs to know of a member."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in TOLD and found.size > MOST_HEADER:
            raise ValueError(f"a name or header of {found.size:,} bytes, of at most {MOST_HEADER:,}")
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError("a file with holes: pack without --sparse")
        return found

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise ValueError("a file with holes: pack without --sparse")


def _of_key(tar: tarfile.TarFile, where: str, files: Mapping[str, tarfile.TarInfo]) -> Iterator[_Entry]:
    def content(member: tarfile.TarInfo) -> bytes:
        if member.size > MOST_BYTES:
            raise UserError(f"{where}: is {member.size:,} bytes, of at most {MOST_BYTES:,}; {AGAIN}.")
        return tar.extractfile(member).read()

    picture = next((member for suffix, member in files.items() if suffix in SUFFIXES), None)
    if picture is not None:
        captions = {suffix: content(files[suffix]) for suffix in (".json", ".txt") if suffix in files}
        yield _Entry(lambda: content(picture), where, _subject(captions, where))


def _of_folder(path: Path) -> Iterator[_Entry]:
    files = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(str(p.relative_to(path))))
    captions = {name: subject for file in files if file.name in METADATA for name, subject in _metadata(file).items()}
    beside = {(file.with_suffix(""), file.suffix.lower()): file for file in files}
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            continue
        subject = captions.get(file)
        if subject is None:
            named = {s: beside[file.with_suffix(""), s] for s in (".json", ".txt") if (file.with_suffix(""), s) in beside}
            where = " and ".join(str(each) for each in named.values())
            subject = _subject({suffix: _content(each) for suffix, each in named.items()}, where)
        if subject is None and file.parent != path:
            subject = Subject.from_json({"caption": _words(file.parent.name) or "a picture"})
        yield _Entry(lambda file=file: _content(file), str(file), subject)


def _content(file: Path) -> bytes:
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise UserError(f"{file}: is {size:,} bytes, of at most {MOST_BYTES:,}; {AGAIN}.")
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); {AGAIN}.") from error


def _metadata(file: Path) -> dict[Path, Subject]:
    """What one of METADATA says of the pictures in its folder and below."""
    captions = {}
    for where, held in (_rows if file.suffix == ".csv" else _lines)(file):
        name, subject = held.get("file_name"), _described(held, None, where)
        if not isinstance(name, str) or subject is None:
            raise UserError(f"{where}: says no file_name with its text or caption; {AGAIN}.")
        if file.parent / name not in captions and not is_file(file.parent / name):
            raise UserError(f"{where}: names {name!r}, which is not there; {AGAIN}.")
        captions[file.parent / name] = subject
    return captions


def _lines(file: Path) -> Iterator[tuple[str, dict]]:
    """Where each object of a .jsonl stands, and the object."""
    for number, line in enumerate(_content(file).splitlines(), 1):
        if line.strip():
            yield (where := f"{file}: line {number}"), read_json(line, where, AGAIN)


def _rows(file: Path) -> Iterator[tuple[str, dict]]:
    """Where each row of a .csv stands, and what it says of name and caption."""
    table = csv.DictReader(io.StringIO(_text(_content(file), str(file)), newline=""))
    try:
        for row in table:
            yield f"{file}: line {table.line_num}", {name: row.get(name) for name in ("file_name", "text", "caption")}
    except csv.Error as error:
        raise UserError(f"{file}: line {table.line_num}: is no row of a table ({error}); {AGAIN}.") from error


def _subject(files: Mapping[str, bytes], where: str) -> Subject | None:
    """What the JSON and the text beside a picture say that it shows; None where neither does."""
    return _described(read_json(files[".json"], where, AGAIN) if ".json" in files else {}, files.get(".txt"), where)


def _described(held: Mapping, text: bytes | None, where: str) -> Subject | None:
    caption = held.get("caption") or held.get("text")
    if caption is None and text is not None:
        caption = _text(text, where)
    if caption is None:
        return None
    if isinstance(caption, str):
        caption = " ".join(caption.split())
    try:
        return Subject.from_json({**held, "caption": caption})
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is no text in UTF-8 ({error.reason}); {AGAIN}.") from error


def _words(name: str) -> str:
    return " ".join(name.replace("-", " ").replace("_", " ").split())


def premultiplied(image: Image.Image, size: int) -> Tensor:
    """(4, size, size) bytes: the picture squared by transparent margins, colours times alpha, resized with Lanczos.

    Premultiplied before resizing, so that the colour of transparent pixels does not bleed into the edges. What is far
    larger is shrunk beforehand (Pillow premultiplies for that as well), so that it takes no more memory than a small one.
    """
    if (factor := max(image.size) // (4 * size)) > 1:
        image = image.reduce(factor)
    side = max(image.size)
    if image.size != (side, side):
        square = Image.new("RGBA", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    values = np.asarray(image, dtype=np.float32)
    values = np.concatenate([values[..., :3] * values[..., 3:] / 255, values[..., 3:]], axis=2)
    if side != size:
        planes = [Image.fromarray(values[..., k]).resize((size, size), Image.Resampling.LANCZOS) for k in range(4)]
        values = np.stack([np.asarray(p) for p in planes], axis=2)
    return torch.from_numpy(values.round().clip(0, 255).astype(np.uint8)).permute(2, 0, 1)
