"""Captioned pictures as they lie on disk, shards or folders, and as bytes of one size."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from phosphene.errors import UserError
from phosphene.training.text_to_image.captions import Subject

SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")


def read(path: Path) -> Iterator[tuple[Image.Image, Subject]]:
    """Captioned pictures of ``path``: WebDataset shards (``KEY.webp`` + ``KEY.json``), one shard, or a folder of pictures.

    In a folder each picture has a ``NAME.json`` like that of the shards or a ``NAME.txt`` with its caption beside it;
    a picture without either is called by its file name. UserError where nothing is found or a file is damaged.
    """
    for content, where, subject in contents(Path(path)):
        yield opened(content, where), subject


def contents(path: Path) -> Iterator[tuple[bytes, object, Subject]]:
    """The files of the pictures of ``path``, where each lies, and what it shows."""
    shards = [path] if path.suffix == ".tar" else sorted(path.glob("*.tar"))
    if not path.exists():
        raise UserError(f"--data {path}: does not exist; name a folder of shards or of pictures.")
    found = False
    for shard in shards:
        for entry in _of_shard(shard):
            found = True
            yield entry
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if not shards else ():
        found = True
        yield file.read_bytes(), file, _beside(file)
    if not found:
        raise UserError(f"--data {path}: holds neither .tar shards nor pictures ({', '.join(SUFFIXES)}).")


def _of_shard(shard: Path) -> Iterator[tuple[bytes, str, Subject]]:
    picture, metadata, key = None, None, None
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                stem, _, suffix = member.name.rpartition(".")
                if stem != key:
                    picture, metadata, key = None, None, stem
                content = tar.extractfile(member).read()
                if suffix == "json":
                    metadata = json.loads(content)
                elif f".{suffix.lower()}" in SUFFIXES:
                    picture = content
                if picture is not None and metadata is not None:
                    yield picture, f"{shard}/{key}", Subject.from_json(metadata)
                    picture, metadata = None, None
    except UserError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError, AttributeError) as error:
        raise UserError(f"{shard}: is damaged or no tar of pictures and JSON ({error}); fetch or make it again.") from error


def _beside(file: Path) -> Subject:
    metadata, text = file.with_suffix(".json"), file.with_suffix(".txt")
    try:
        if metadata.exists():
            return Subject.from_json(json.loads(metadata.read_text()))
        return Subject.from_json(
            {"caption": text.read_text() if text.exists() else file.stem.replace("-", " ").replace("_", " ")}
        )
    except UserError:
        raise
    except (ValueError, AttributeError) as error:
        raise UserError(f"{metadata if metadata.exists() else text}: cannot be read ({error}); mend or remove it.") from error


def opened(content: bytes, where: object) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content)).convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: is no picture that can be read ({error}).") from error


def premultiplied(image: Image.Image, size: int) -> Tensor:
    """(4, size, size) bytes: the picture squared by transparent margins, colours times alpha, resized with Lanczos.

    Premultiplied before resizing, so that the colour of transparent pixels does not bleed into the edges.
    """
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
