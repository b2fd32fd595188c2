"""Inpainting: new content where a mask is white, the picture as it was elsewhere.

After every step, what is to be kept is replaced by the original, noised as far as the step has come (Part A; Lugmayr et
al. 2022, RePaint, eq. 8). Jumps back to noise, ``Sampling.resample``, let what is new agree with what surrounds it.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from phosphene.defaults import BLENDS
from phosphene.drawing import Task
from phosphene.errors import UserError, require_one_of
from phosphene.expression import clamped_mask
from phosphene.frequency import low_pass
from phosphene.images import fitted, to_tensor
from phosphene.pyramid import blend as blended
from phosphene.readers import read_mask, read_picture
from phosphene.tasks.generate import asking


def inpaint(image: Tensor, mask: Tensor, prompt: str | None = None, *, negative: str | None = None) -> Task:
    """Repaint ``image`` (1, C, H, W; in [-1, 1], of the first stage's size) where ``mask`` (1, 1, H, W; 0..1) is 1.

    Where the mask is 0 the first stage's picture is the original, bit for bit; between, a mixture. UserError where sizes
    do not fit or the mask leaves nothing to repaint.
    """
    if mask.shape != (1, 1, *image.shape[2:]) or len(image) != 1:
        raise UserError(f"MASK: is {tuple(mask.shape)} for a picture {tuple(image.shape)}; give one of each, as high and wide.")
    mask = clamped_mask(mask, "MASK")
    if float(mask.max()) < 0.5:  # at every step what is drawn counts for less than what is kept, so that it never comes up
        size = "x".join(str(n) for n in mask.shape[:-3:-1])
        raise UserError(
            f"MASK: is nowhere white at the model's {size} pixels, so nothing would be repainted; paint more of it white."
        )
    at = cache(mask.to)  # moved once a run: the loop must not wait for the device
    return Task(
        asking([prompt], negative),
        image=image,
        edit=lambda drawn, original: at(drawn.device) * drawn + (1 - at(drawn.device)) * original,
    )


def read(image: Path, mask: Path) -> tuple[Image.Image, Image.Image]:
    """Picture and mask in files; UserError where they cannot be read, or one is larger than the other."""
    original, white = read_picture(image), read_mask(mask)
    if original.size != white.size:
        sizes = [f"{w}x{h}" for w, h in (white.size, original.size)]
        raise UserError(f"MASK {mask}: is {sizes[0]} and the picture {sizes[1]}; give a mask of the picture's size.")
    return original, white


def fit(original: Image.Image, white: Image.Image, size: tuple[int, int], how: str = "crop") -> tuple[Tensor, Tensor]:
    """Picture (1, 3, H, W; in [-1, 1]) and mask (1, 1, H, W; 0..1) at ``size``, fitted alike; what is padded is kept."""
    where = fitted(Image.merge("RGB", [white] * 3), size, how)
    if how == "pad":
        inside = fitted(Image.new("RGB", white.size, "black"), size, how)
        where = Image.composite(Image.new("RGB", where.size), where, inside.convert("L"))
    return to_tensor(fitted(original, size, how)), (to_tensor(where.convert("L")) + 1) / 2


def blend(result: Tensor, original: Tensor, mask: Tensor, how: str) -> Tensor:
    """``result`` (B, C, H, W) over ``original`` (1, C, H, W) by ``mask`` (1, 1, H, W), one of BLENDS."""
    require_one_of("--blend", how, BLENDS)
    if how == "none":
        return result
    original = original.to(result).expand_as(result)
    mask = mask.to(result)
    if how == "paste":
        return mask * result + (1 - mask) * original
    # Each level is a blur wide: the mask is soft by as much, and reaches no further than its own white.
    levels = max(2, min(5, min(result.shape[-2:]).bit_length() - 4))
    return blended(result, original, low_pass(mask, 1.0).expand(len(result), -1, -1, -1), levels)


def seam_text(picture: Tensor, mask: Tensor) -> str:
    """The :func:`seam` of one picture, as it is said."""
    value = float(seam(picture, mask))
    return "no border" if math.isnan(value) else f"{value:.2f}"


def seam(picture: Tensor, mask: Tensor) -> Tensor:
    """How much more picture changes across the border of the mask than beside it, (B,): 1 is no seam at all.

    The mean step of brightness between neighbours on either side of the border, over that between the pairs next to
    them. picture: (B, C, H, W); mask: (1, 1, H, W), of which half white counts as inside. Where that has no border, NaN.
    """
    inside = (mask[0, 0] >= 0.5).to(picture.device)
    across, beside, pairs, others = 0.0, 0.0, 0, 0
    for x, m in ((picture, inside), (picture.mT, inside.T)):
        step = (x[..., 1:] - x[..., :-1]).abs().mean(1)  # (B, H, W - 1)
        border = m[:, 1:] != m[:, :-1]
        near = torch.zeros_like(border)
        near[:, 1:] |= border[:, :-1]
        near[:, :-1] |= border[:, 1:]
        near &= ~border
        across, pairs = across + (step * border).sum((1, 2)), pairs + int(border.sum())
        beside, others = beside + (step * near).sum((1, 2)), others + int(near.sum())
    if not pairs or not others:
        return torch.full((len(picture),), math.nan)
    return (across / pairs) / (beside / others).clamp(min=1e-6)
