"""What the page shows of pictures: strips of them, what they are called, how like each other they are, and masks."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from phosphene.evaluation.likeness import psnr, ssim
from phosphene.images import Sheet
from phosphene.report.sections import Desk
from phosphene.tasks import inpaint as inpainting

CALLED = {
    "clock-tower": "a clock tower",
    "castle-hill": "a castle on a hill",
    "lighthouse": "a lighthouse by the sea",
    "sketch-house": "a house in a few strokes",
    "sketch-fish": "a fish in a few strokes",
    "sketch-face": "a face in a few strokes",
}
"""What the sample pictures show."""
SMALL = 128
"""Pixels of a picture on sheets with many."""


def likeness(x: Tensor, clean: Tensor) -> str:
    return f"{float(psnr(x, clean)):.1f} dB, {float(ssim(x, clean)):.2f}"


def gain(x: Tensor, other: Tensor, clean: Tensor) -> float:
    """How many decibels ``x`` is nearer to ``clean`` than ``other``, as both stand below the pictures: in tenths."""
    nearer, further = (round(float(psnr(each, clean)), 1) for each in (x, other))
    return round(nearer - further, 1)


def spread(pictures: Tensor) -> str:
    """How much of the range the pixels of ``pictures`` use: their standard deviation."""
    return f"{float(pictures.std()):.2f}"


def called(picture: Path) -> str:
    """What to call a picture: a sample by what it shows, another by its file."""
    return CALLED.get(str(picture), picture.stem.replace("-", " "))


def upper(text: str) -> str:
    """``text`` as it begins a sentence."""
    return text[:1].upper() + text[1:]


def strip(desk: Desk, pictures: Tensor | list[Tensor], labels: list[str], side: int = SMALL, abreast: int = 8) -> Sheet:
    """Pictures (C, H, W) side by side, at most ``abreast``, with what they are below."""
    cells = [desk.image(p, side) for p in pictures]
    rows = range(0, len(cells), abreast)
    return Sheet([cells[k : k + abreast] for k in rows], captions=[labels[k : k + abreast] for k in rows], flows=True)


def masked(desk: Desk, picture: Path, white: Path, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """A picture and its mask, (1, 3 and 1, H, W), of ``size`` or as the first stage sees them; see tasks/inpaint.py."""
    return inpainting.fit(*inpainting.read(picture, white), size or desk.stage.image_shape[1:])
