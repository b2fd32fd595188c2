"""Pictures out: tensors to images, contact sheets, and PNGs that carry how they were made. What reads them is in readers.

Torch is imported where a tensor is made, so that what only concerns files is refused without it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from phosphene.defaults import FITS
from phosphene.errors import UserError, require_one_of
from phosphene.files import replacing, require_file, require_picture
from phosphene.readers import PROVENANCE

if TYPE_CHECKING:
    from torch import Tensor

PAPER, INK, MUTED = (250, 249, 246), (28, 27, 31), (120, 116, 110)
NIGHT = (31, 29, 35), (236, 233, 226), (170, 164, 153)
"""Paper, ink and what is muted on a dark page."""
SIGNS = frozenset("©«°±´·»‘’“”…‹›⁄™")
"""What Pillow's own typeface has beside ASCII."""


def to_images(pictures: Tensor, scale: int = 1) -> list[Image.Image]:
    """(B, 1 or 3, H, W) in [-1, 1] as 8-bit images, enlarged ``scale`` times without smoothing; ``to_tensor`` undoes it.

    UserError where a number is not finite.
    """
    if not bool(pictures.isfinite().all()):
        raise UserError("picture: holds numbers that are not finite (NaN), so there is nothing to show; check the model.")
    values = ((pictures.detach().cpu().double() + 1) / 2).float().clamp(0, 1)
    arrays = (values * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [enlarged(Image.fromarray(a[..., 0] if a.shape[-1] == 1 else a), scale) for a in arrays]


def to_tensor(*images: Image.Image) -> Tensor:
    """B images of one size, all RGB or all grey, as (B, 3 or 1, H, W) in [-1, 1]; ``to_images`` undoes it."""
    import torch

    arrays = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(arrays).view(*arrays.shape[:3], -1).permute(0, 3, 1, 2).float() / 127.5 - 1


def rescaled(pictures: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """``pictures`` from ``value_range`` to [-1, 1]. In float64, so that no pixel of 8 bits is rounded otherwise than before."""
    low, high = value_range
    return (pictures.detach().cpu().double() - low) / (high - low) * 2 - 1


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    """``image``, each of its pixels ``scale`` wide and high."""
    return image if scale == 1 else image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def fitted(image: Image.Image, size: tuple[int, int], fit: str = "crop") -> Image.Image:
    """``image`` at ``size``, height and width, in pixels: cropped to its middle, or padded with white."""
    require_one_of("--fit", fit, FITS)
    (height, width), most = size, image.width * image.height
    if fit == "pad" and min(image.size) * min(width * image.height, height * image.width) < most:
        raise UserError(f"--fit pad: of a picture of {image.width}x{image.height} nothing would be left; take --fit crop.")
    if fit == "crop":
        return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS, color="white")


def save_animation(frames: Sequence[Image.Image], path: Path, seconds: float) -> None:
    """Write equal ``frames``, shown for ``seconds`` in all, as GIF (endless) or MP4, by its name; by atomic rename."""
    path, rate = Path(path), len(frames) / seconds
    require_animation(path)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".gif":
            paletted = _paletted(frames)
            # GIF counts hundredths of a second.
            every = max(2, round(100 / rate)) * 10
            paletted[0].save(temporary, "GIF", save_all=True, append_images=paletted[1:], duration=every, loop=0, optimize=True)
        else:
            _write_mp4(frames, temporary, rate)


def _paletted(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """``frames`` in one palette of 255 colours, made of frames from all along the way."""
    some = frames[:: max(1, len(frames) // 8)]
    strip = Image.new("RGB", (sum(frame.width for frame in some), some[0].height))
    for k, frame in enumerate(some):
        strip.paste(frame, (k * some[0].width, 0))
    colours = strip.quantize(255, dither=Image.Dither.NONE).getpalette()
    palette = np.array(colours, dtype=np.int32).reshape(-1, 3)[:255]
    # Pillow looks each colour up in the palette, two seconds a frame of a smooth picture. Here colours that share their six
    # upper bits are looked up once for all frames.
    bits = [np.asarray(frame.convert("RGB"), dtype=np.int32) >> 2 for frame in frames]
    codes = [(b[..., 0] << 12) | (b[..., 1] << 6) | b[..., 2] for b in bits]
    found = np.unique(np.concatenate([np.unique(c) for c in codes]))
    middles = np.stack([found >> 12, (found >> 6) & 63, found & 63], axis=1) * 4 + 2
    table = np.zeros(1 << 18, dtype=np.uint8)
    for part in np.array_split(np.arange(len(found)), len(found) // 4096 + 1):
        table[found[part]] = ((middles[part, None] - palette) ** 2).sum(2).argmin(1)
    images = [Image.fromarray(table[c]) for c in codes]
    for image in images:
        image.putpalette(colours)  # makes it one of palette colours
    return images


def _write_mp4(frames: Sequence[Image.Image], path: Path, rate: float) -> None:
    """OSError where ffmpeg does not end well (imageio_ffmpeg's own writer does not look)."""
    from imageio_ffmpeg import get_ffmpeg_exe

    width, height = even = tuple(side + side % 2 for side in frames[0].size)  # as H.264 wants it
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"]
    command = [get_ffmpeg_exe(), "-y", "-v", "error", *given, "-pix_fmt", "yuv420p", "-f", "mp4", str(path)]
    pixels = b"".join(ImageOps.pad(frame.convert("RGB"), even, color=PAPER).tobytes() for frame in frames)
    done = subprocess.run(command, input=pixels, capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(said[-1] if said else f"ffmpeg ended with {done.returncode}")


def require_animation(path: Path, option: str = "--animate") -> None:
    """UserError where no animation can be written to ``path``."""
    from importlib.util import find_spec

    if Path(path).suffix.lower() not in (".gif", ".mp4"):
        raise UserError(f"{option} {path}: animations are GIF or MP4; choose a name that ends in .gif or .mp4.")
    if Path(path).suffix.lower() == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise UserError(f"{option} {path}: takes ffmpeg; pip install 'phosphene[video]', or choose a name that ends in .gif.")
    require_file(path, option)


def font(size: int, *texts: str) -> ImageFont.FreeTypeFont:
    """The typeface of labels: the one Pillow carries, or where that lacks a letter of ``texts``, matplotlib's, which has accents,
    Greek and Cyrillic."""
    if all(" " <= letter <= "~" or letter in SIGNS for letter in "".join(texts)):
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


class Sheet:
    """A contact sheet on paper: rows of equal images (None leaves a hole), labels above and left, captions below each.

    Captions are broken into lines as wide as their image; what three lines do not hold is cut. ``flows``: all rows are one
    sequence, which may be broken elsewhere where there is less room.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Image.Image | None]],
        column_labels: Sequence[str] = (),
        row_labels: Sequence[str] = (),
        captions: Sequence[Sequence[str]] = (),
        gap: int = 6,
        title: str = "",
        flows: bool = False,
    ) -> None:
        self.rows, self.column_labels, self.row_labels, self.captions = rows, column_labels, row_labels, captions
        self.gap, self.title, self.flows = gap, title, flows
        self.cell = next(image for row in rows for image in row if image is not None).size
        size = max(11, min(16, self.cell[0] // 5))
        told = [title, *column_labels, *row_labels, *chain(*captions)]
        self._write, self._heading = font(size, *told), font(round(size * 1.3), *told)
        label = max((int(self._write.getlength(each)) + 2 * gap for each in row_labels), default=0)
        top = gap + (round(size * 1.3) + 2 * gap if title else 0) + (size + gap if column_labels else 0)
        self._broken = [[_lines(each, self._write, self.cell[0] + gap // 2) for each in row] for row in captions]
        self._pitch = round(size * 1.2)
        below = [max(map(len, row)) * self._pitch + gap if any(row) else 0 for row in self._broken] or [0] * len(rows)
        self._left, self._tops = gap + label, list(accumulate((self.cell[1] + gap + under for under in below), initial=top))

    def place(self, row: int, column: int) -> tuple[int, int]:
        """The upper left corner of an image, x and y."""
        return self._left + column * (self.cell[0] + self.gap), self._tops[row]

    def draw(self, dark: bool = False) -> Image.Image:
        """The sheet as a picture, to lie on a light page or on a ``dark`` one."""
        paper_colour, ink, muted = NIGHT if dark else (PAPER, INK, MUTED)
        width, gap = self.place(0, max(map(len, self.rows)))[0], self.gap
        size = max(width, int(self._heading.getlength(self.title)) + 2 * gap), self._tops[-1]
        paper = Image.new("RGB", size, paper_colour)
        pen = ImageDraw.Draw(paper)
        if self.title:
            pen.text((gap, gap), self.title, ink, self._heading)
        for column, label in enumerate(self.column_labels):
            x, y = self.place(0, column)
            pen.text((x + self.cell[0] / 2, y - gap), label, ink, self._write, anchor="ms")
        for r, row in enumerate(self.rows):
            if self.row_labels:
                x, y = self.place(r, 0)
                pen.text((x - gap, y + self.cell[1] / 2), self.row_labels[r], ink, self._write, anchor="rm")
            for c, image in enumerate(row):
                x, y = self.place(r, c)
                if image is not None:
                    paper.paste(image, (x, y))
                for line, text in enumerate(self._broken[r][c] if self.captions else ()):
                    at = (x + self.cell[0] / 2, y + self.cell[1] + gap / 2 + line * self._pitch)
                    pen.text(at, text, muted, self._write, anchor="ma")
        return paper

    def parts(self) -> list[tuple[str, list[tuple[int, int, int, int, str]]]]:
        """The label of each row, and where on the picture its images lie: x, y, width and height, with the caption; where
        there are no captions, the row as a whole.
        """
        labels = self.row_labels or [""] * len(self.rows)
        if self.captions:
            cells = [[(*self.place(r, c), *self.cell, text) for c, text in enumerate(row)] for r, row in enumerate(self.captions)]
        else:
            widths = [len(row) * (self.cell[0] + self.gap) - self.gap for row in self.rows]
            cells = [[(*self.place(r, 0), width, self.cell[1], "")] for r, width in enumerate(widths)]
        return list(zip(labels, cells, strict=True))


def sheet(*rows: Any, **labels: Any) -> Image.Image:
    """A contact sheet, drawn: see :class:`Sheet`."""
    return Sheet(*rows, **labels).draw()


def broken(text: str, write: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """``text`` in lines no wider than ``width`` pixels, unless a word is."""
    lines: list[str] = []
    for word in text.split():
        if lines and write.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _lines(text: str, write: ImageFont.FreeTypeFont, width: int, most: int = 3) -> list[str]:
    """``text`` in at most ``most`` lines no wider than ``width`` pixels."""
    lines = broken(text, write, width)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + "…"]
    cut = []
    for line in lines:
        while write.getlength(line) > width and len(line) > 2:
            line = line.rstrip("…")[:-1] + "…"
        cut.append(line)
    return cut


def save_png(image: Image.Image, path: Path, provenance: dict | None = None) -> None:
    """Write a PNG by atomic rename, with ``provenance`` (JSON-able) in a text chunk.

    Pillow's ``optimize`` would take seven times as long for files three hundredths smaller.
    """
    require_picture(path)
    info = PngImagePlugin.PngInfo()
    if provenance is not None:
        info.add_itxt(PROVENANCE, json.dumps(provenance))
    with replacing(path) as temporary:
        image.save(temporary, "PNG", pnginfo=info)
