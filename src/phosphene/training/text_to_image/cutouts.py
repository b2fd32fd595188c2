"""Captioned cut-outs in memory, and how they are laid over each other on the device.

A picture is kept as (4, S, S) bytes: red, green and blue times alpha, and alpha. A one-colour icon has no colours of its own,
so its first three channels say instead which parts of the paper its lines enclose (the largest, and two groups of others):
filled with colours, an outline becomes a coloured drawing. A layer is a row of numbers: where, in what colours.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.devices import compiled_on_gpu
from phosphene.readers import read_cutout
from phosphene.training.text_to_image.captions import COLOURS, MASK, WHITE, Colour, Subject
from phosphene.training.text_to_image.grounds import constant, numbers
from phosphene.training.text_to_image.pictures import contents, premultiplied


class Layer(NamedTuple):
    """One cut-out in the frame: which, and how it lies there."""

    index: int
    place: tuple[float, float, float, float]  # see placed
    mask: bool = False  # an icon, with ink and fills
    ink: Colour = (0.0, 0.0, 0.0)
    fills: tuple[float, ...] = (-1.0,) * 9  # of the three groups of parts; negative: left clear
    tint: Colour = (0.0, 0.0, 0.0)
    tinted: float = 0.0
    light: Colour = WHITE  # what the scene's light leaves of each colour
    shadow: tuple[float, float, float, float] = (0.5, 0.5, 1.0, 0.0)  # x, y, half width in the frame, strength
    shade: float = 0.0  # how much darker the foot is than the head

    def row(self) -> list[float]:
        """All but the index as floats, in the order of the fields."""
        return numbers(self[1:])


LAYER = {name: len(numbers((part,))) for name, part in zip(Layer._fields[1:], Layer(0, (0.0,) * 4)[1:], strict=True)}
"""How many numbers of a row each field has."""


class Shape(NamedTuple):
    """What a scene has to know of a cut-out: its box in the unit square, its head, its colour."""

    left: float
    top: float
    right: float
    bottom: float
    head: float  # x of the middle of what is uppermost
    head_width: float
    opaque: bool
    solid: bool  # of an icon: filled, not outlined
    parts: bool  # of an icon: it encloses parts that can be filled
    hue: int  # index of the colour most of it has, -1 where it has several
    typical: float = 0.0  # how much it looks like the others of its name, 0..1

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def longest(self) -> float:
        """Its longer side, but no less than what may be divided by."""
        return max(self.width, self.height, 0.05)


PALETTE = np.asarray(list(COLOURS.values()), np.float32) * 255


def shape_of(layers: np.ndarray, mask: bool) -> Shape:
    """Of (4, S, S) bytes."""
    alpha = layers[3].astype(np.float32)
    if mask:
        alpha = np.maximum(alpha, layers[:3].astype(np.float32).sum(0).clip(0, 255))
    size = alpha.shape[0]
    there = alpha > 96
    if not there.any():
        return Shape(0.0, 0.0, 1.0, 1.0, 0.5, 0.5, True, True, False, -1)
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    strip = there[top : top + max(2, round((bottom - top) * 0.13))]
    # The uppermost run: its first rows say where, the end of the strip how wide.
    first = np.flatnonzero(strip[: max(1, len(strip) // 2)].any(0))
    middle = float(np.median(first)) + 0.5
    last = strip[-1]
    at = int(min(max(middle, 0), size - 1))
    begin = at
    while begin > 0 and last[begin - 1]:
        begin -= 1
    end = at
    while end < size - 1 and last[end + 1]:
        end += 1
    width = max(end - begin, 0.2 * (right - left))
    area = there.sum()
    solid = bool((layers[3] > 128).sum() > 0.66 * area) if mask else True
    parts = bool(mask and (layers[:3].astype(np.int32).sum(0) > 128).sum() > 0.02 * area)
    scale = 1 / size
    opaque = bool(not mask and (layers[3] > 250).mean() > 0.93)
    box = (float(v) * scale for v in (left, top, right, bottom, middle, width))
    return Shape(*box, opaque, solid, parts, -1 if mask else _hue(layers))


def _hue(layers: np.ndarray) -> int:
    """The colour that most of (4, S, S) bytes has, as its index in COLOURS; -1 where it has several or none."""
    colours = layers[:3, layers[3] > 200].T.astype(np.float32)
    if not len(colours):
        return -1
    vivid = colours[colours.max(1) - colours.min(1) > 70]
    if len(vivid) <= 0.4 * len(colours):
        return -1
    counts = np.bincount(((vivid[:, None] - PALETTE[None]) ** 2).sum(2).argmin(1), minlength=len(PALETTE))
    return int(counts.argmax()) if counts.max() > 0.6 * len(vivid) else -1


def enclosed(alpha: np.ndarray) -> np.ndarray:
    """(3, S, S) bytes: what the lines of an icon (S, S) enclose: the largest part, and the others in two groups.

    Parts reach under the lines around them, so that no paper shows between fill and line.
    """
    from scipy import ndimage

    line = alpha > 110
    labels, count = ndimage.label(~line)
    found = np.zeros((3, *alpha.shape), np.uint8)
    if count == 0:
        return found
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    inner = [k for k in range(1, count + 1) if k not in border and areas[k] >= 5]
    if not inner:
        return found
    group = np.zeros(count + 1, np.uint8)
    for place, k in enumerate(sorted(inner, key=lambda k: -areas[k])):
        group[k] = 1 if place == 0 else 2 + place % 2
    kept = group[labels]
    reach, (rows, columns) = ndimage.distance_transform_edt(kept == 0, return_indices=True)
    near = kept[rows, columns]
    under = line & (reach <= 6)
    for k in range(3):
        found[k] = np.where((kept == k + 1) | (under & (near == k + 1)), 255, 0)
    return found


OUTLINE = 16
"""Outlines are compared at so many cells a side."""


def _outline(layers: np.ndarray, shape: Shape) -> np.ndarray:
    """What (4, S, S) bytes cover, its box brought into the middle of a square: (OUTLINE * OUTLINE,) in 0..1."""
    size = layers.shape[-1]
    left, right, top, bottom = (round(v * size) for v in (shape.left, shape.right, shape.top, shape.bottom))
    cover = layers.max(0)[top : max(bottom, top + 1), left : max(right, left + 1)].astype(np.float32) / 255
    high, wide = cover.shape
    side = max(high, wide)
    square = np.zeros((side, side), np.float32)
    square[(side - high) // 2 : (side + high) // 2, (side - wide) // 2 : (side + wide) // 2] = cover
    cells = F.adaptive_avg_pool2d(torch.from_numpy(square)[None], OUTLINE)
    return cells.flatten().numpy()


def _with_typical(outlines: np.ndarray, subjects: Sequence[Subject], shapes: Sequence[Shape]) -> list[Shape]:
    """``shapes``, each told how much its outline overlaps those of the same name: the mean of intersection over union.

    Among twenty drawings of a windmill this finds the one that is a pinwheel, whoever named it.
    """
    alike, found = defaultdict(list), list(shapes)
    for k, subject in enumerate(subjects):
        alike[subject.called, subject.drawn].append(k)
    for rows in alike.values():
        if len(rows) > 1:
            one, other = outlines[rows][:, None], outlines[rows][None]
            overlap = np.minimum(one, other).sum(2) / np.maximum(one, other).sum(2).clip(1e-6)
            for k, mean in zip(rows, (overlap.sum(1) - 1) / (len(rows) - 1), strict=True):
                found[k] = shapes[k]._replace(typical=float(mean))
    return found


def _prepared(entries: list[tuple[bytes, str, Subject]], size: int) -> tuple[np.ndarray, list[Shape], np.ndarray]:
    """Of each entry the picture, its shape and its outline."""
    pictures, shapes = np.empty((len(entries), 4, size, size), np.uint8), []
    outlines = np.empty((len(entries), OUTLINE**2), np.float32)
    for k, (content, where, subject) in enumerate(entries):
        layers = premultiplied(read_cutout(content, where), size).numpy()
        if subject.style == MASK:
            layers = np.concatenate([enclosed(layers[3]), layers[3:]])
        pictures[k] = layers
        shapes.append(shape_of(layers, subject.style == MASK))
        outlines[k] = _outline(layers, shapes[-1])
    return pictures, shapes, outlines


PART = 256
"""Pictures that a process prepares at a time; fewer are not worth a process."""


class Cutouts:
    """Captioned pictures: ``pictures`` (N, 4, S, S) bytes on a device, their ``subjects`` and ``shapes``."""

    def __init__(self, pictures: Tensor, subjects: list[Subject], shapes: list[Shape]) -> None:
        self.pictures, self.subjects, self.shapes = pictures, subjects, shapes

    @classmethod
    def open(cls, path: Path, size: int) -> Cutouts:
        """All pictures of ``path`` at ``size`` pixels, on the CPU; see :func:`phosphene.training.text_to_image.pictures.read`."""
        found = [(content, str(where), subject) for content, where, subject in contents(Path(path))]
        if len(found) <= PART:
            parts = [_prepared(found, size)]
        else:
            jobs = [found[k : k + PART] for k in range(0, len(found), PART)]
            with ProcessPoolExecutor(os.cpu_count()) as pool:
                parts = list(pool.map(_prepared, jobs, repeat(size)))
        pictures, shapes, outlines = zip(*parts, strict=True)
        subjects = [s for _, _, s in found]
        shapes = _with_typical(np.concatenate(outlines), subjects, [s for some in shapes for s in some])
        return cls(torch.from_numpy(np.concatenate(pictures)), subjects, shapes)

    def to(self, device: torch.device | str) -> Cutouts:
        return Cutouts(self.pictures.to(device), self.subjects, self.shapes)

    def __len__(self) -> int:
        return len(self.subjects)


def placed(
    x: float, y: float, scale: float, at: tuple[float, float], mirrored: bool = False
) -> tuple[float, float, float, float]:
    """Scales and shifts of a layer that shows a picture ``scale`` times as wide as the frame, its point ``at`` on (x, y).

    Both points are in the unit square. A mirrored picture is turned about ``at``. Scales, across (negative mirrors) and down,
    are widths of the picture that the frame shows; shifts, left and up, halves of the picture.
    """
    across, down = (-1 / scale if mirrored else 1 / scale), 1 / scale
    return across, down, across * (1 - 2 * x) + 2 * at[0] - 1, down * (1 - 2 * y) + 2 * at[1] - 1


def lay(under: Tensor, pictures: Tensor, index: Tensor, layers: Tensor) -> Tensor:
    """``under`` (B, 3, S, S) in 0..1 with one cut-out upon each: ``index`` (B,), ``layers`` (B, L) their rows."""
    return _laid(under, pictures[index], layers)


@compiled_on_gpu
def _laid(under: Tensor, pictures: Tensor, layers: Tensor) -> Tensor:
    """``lay`` with the picture of each, (B, 4, P, P) bytes."""
    size, count = under.shape[-1], len(under)
    parts = dict(zip(LAYER, layers.split(list(LAYER.values()), 1), strict=True))

    def wide(name: str) -> Tensor:
        return parts[name][:, :, None, None]

    x, y, half, strength = (p[:, None, None, None] for p in parts["shadow"].unbind(1))
    centres = (torch.arange(size, device=under.device, dtype=under.dtype) + 0.5) / size
    across, down = (centres[None, None, None, :] - x) / half, (centres[None, None, :, None] - y) / (0.28 * half)
    under = under * (1 - strength * torch.exp(-(across.square() + down.square())))
    zero = torch.zeros(count, device=under.device)
    scale_x, scale_y, left, up = parts["place"].unbind(1)
    theta = torch.stack([torch.stack([scale_x, zero, left], 1), torch.stack([zero, scale_y, up], 1)], 1)
    grid = F.affine_grid(theta, [count, 4, size, size], align_corners=False)
    seen = F.grid_sample(pictures.float() / 255, grid, "bilinear", align_corners=False)
    colour, alpha = seen[:, :3], seen[:, 3:]
    mask = wide("mask")
    fills = parts["fills"].view(count, 3, 3)
    told = (fills[:, :, :1] >= 0).float()  # which groups are filled
    filled = torch.einsum("bkhw,bkc->bchw", colour, fills.clamp(min=0) * told)
    solid = (colour * told[:, :, :, None]).sum(1, keepdim=True).clamp(max=1)
    # Lines are drawn above what they enclose.
    inked = alpha * wide("ink") + (1 - alpha) * filled
    colour = torch.where(mask > 0, inked, colour)
    alpha = torch.where(mask > 0, alpha + (1 - alpha) * solid, alpha)
    light = colour.mul(constant((0.3, 0.59, 0.11), under.device)).sum(1, keepdim=True)
    tint = wide("tint")
    # A light tint lights up what is dark: dark yellow would be taken for brown.
    lit = tint.mul(constant((0.3, 0.59, 0.11), under.device)).sum(1, keepdim=True)
    bright = (light / alpha.clamp(min=0.02)).clamp(1e-4, 1) ** (1 - 0.55 * lit)
    ramp = torch.where(bright < 0.55, tint * (0.25 + 0.75 * bright / 0.55), tint + (1 - tint) * (bright - 0.55) / 0.45 * 0.75)
    colour = colour + (ramp * alpha - colour) * wide("tinted")
    # The picture's own height, 0 at its upper edge.
    height = (grid[..., 1] * 0.5 + 0.5)[:, None].clamp(0, 1)
    colour = colour * wide("light") * (1 + wide("shade") * (0.35 - height))
    return under * (1 - alpha) + colour.clamp(min=0).minimum(alpha)
