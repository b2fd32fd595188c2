"""Captioned pictures for the cascade: read from shards or a folder, held on the device, composed there batch by batch.

A picture is kept with its transparency, premultiplied, as (4, S, S) bytes. Composing turns, fills and places it: a mask
is filled with ink, the picture is mirrored, moved and scaled a little, and what is transparent shows the paper.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from phosphene.errors import UserError
from phosphene.training.captions import Subject

SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")


def read(path: Path) -> Iterator[tuple[Image.Image, Subject]]:
    """Captioned pictures of ``path``: WebDataset shards (``KEY.webp`` + ``KEY.json``), one shard, or a folder of pictures.

    In a folder each picture has a ``NAME.json`` like that of the shards or a ``NAME.txt`` with its caption beside it;
    a picture without either is called by its file name. UserError where nothing is found or a file is damaged.
    """
    for content, where, subject in _contents(Path(path)):
        yield _opened(content, where), subject


def _contents(path: Path) -> Iterator[tuple[bytes, object, Subject]]:
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
    picture, told, key = None, None, None
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                stem, _, suffix = member.name.rpartition(".")
                if stem != key:
                    picture, told, key = None, None, stem
                content = tar.extractfile(member).read()
                if suffix == "json":
                    told = json.loads(content)
                elif f".{suffix.lower()}" in SUFFIXES:
                    picture = content
                if picture is not None and told is not None:
                    yield picture, f"{shard}/{key}", Subject.from_json(told)
                    picture, told = None, None
    except UserError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError, AttributeError) as error:
        raise UserError(f"{shard}: is damaged or no tar of pictures and JSON ({error}); fetch or make it again.") from error


def _beside(file: Path) -> Subject:
    told, text = file.with_suffix(".json"), file.with_suffix(".txt")
    try:
        if told.exists():
            return Subject.from_json(json.loads(told.read_text()))
        return Subject.from_json(
            {"caption": text.read_text() if text.exists() else file.stem.replace("-", " ").replace("_", " ")}
        )
    except UserError:
        raise
    except (ValueError, AttributeError) as error:
        raise UserError(f"{told if told.exists() else text}: cannot be read ({error}); mend or remove it.") from error


def _opened(content: bytes, where: object) -> Image.Image:
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


class Gallery:
    """Captioned pictures in memory: ``pictures`` (N, 4, S, S) bytes on a device, and their ``subjects``."""

    def __init__(self, pictures: Tensor, subjects: list[Subject]) -> None:
        self.pictures, self.subjects = pictures, subjects

    @classmethod
    def open(cls, path: Path, size: int) -> Gallery:
        """All pictures of ``path`` (see :func:`read`) at ``size`` pixels, on the CPU."""
        found = list(_contents(Path(path)))
        with ThreadPoolExecutor() as threads:
            pictures = list(threads.map(lambda one: premultiplied(_opened(one[0], one[1]), size), found))
        return cls(torch.stack(pictures), [subject for _, _, subject in found])

    def to(self, device: torch.device | str) -> Gallery:
        return Gallery(self.pictures.to(device), self.subjects)

    def __len__(self) -> int:
        return len(self.subjects)

    def compose(self, index: Tensor, ink: Tensor, paper: Tensor, place: Tensor, size: int) -> Tensor:
        """Pictures (B, 3, size, size) in [-1, 1].

        ``index`` (B,): which; ``ink`` (B, 3) in 0..1, or negative for the picture's own colours; ``paper`` (B, 3) in
        0..1; ``place`` (B, 4): horizontal scale (negative mirrors), vertical scale, shift left and up in halves of
        the picture's width. Scales above 1 shrink it.
        """
        layers = self.pictures[index].float() / 255
        colour, alpha = layers[:, :3], layers[:, 3:]
        filled = ink[:, :1, None, None] >= 0
        colour = torch.where(filled, ink[:, :, None, None] * alpha, colour)
        across, down, left, up = place.unbind(1)
        zero = torch.zeros_like(across)
        theta = torch.stack([torch.stack([across, zero, left], 1), torch.stack([zero, down, up], 1)], 1)
        grid = F.affine_grid(theta, [len(index), 4, size, size], align_corners=False)
        # Moving a picture at its own resolution would blur it by half a pixel where lines are drawn between pixels.
        sharp = size == layers.shape[-1]
        mode = "bicubic" if sharp else "bilinear"
        placed = F.grid_sample(torch.cat([colour, alpha], 1), grid, mode, align_corners=False)
        return (placed[:, :3] + (1 - placed[:, 3:]) * paper[:, :, None, None]).clamp(0, 1) * 2 - 1
