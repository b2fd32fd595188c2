"""Which text belongs to which picture: two towers that meet in one space.

    text (B, L) -- T5 encoder -- mean over its tokens -- linear --> unit vectors (B, 128)
    picture (B, 3, S, S) -- patches of 4 -- [ depthwise 5x5, MLP ] at S/4, S/8, S/16 -- mean -- linear --> unit vectors (B, 128)

The cosine of the two is high where they belong together (CLIP, Radford et al. 2021). It teaches the text encoder of a
cascade what words look like, and judges whether a picture shows what was asked for. The blocks of the picture tower
are ConvNeXt's (Liu et al. 2022, figure 4) with one group norm in place of the layer norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models.t5 import T5Encoder

PATCH = 4
WIDTH = 96
"""Of the first blocks; those at S/8 are five thirds as wide, those at S/16 eight thirds."""
SPACE = 128


class Block(nn.Module):
    """Each channel with its surroundings, then each place with its channels; added to what came."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.wide, self.narrow = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.gelu(self.wide(self.norm(self.near(x)))))


class PictureEncoder(nn.Module):
    """(B, 3, S, S) in [-1, 1], S a multiple of 16, to (B, 128)."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        widths = (width, width * 5 // 3, width * 8 // 3)
        layers: list[nn.Module] = [nn.Conv2d(3, width, PATCH, PATCH), nn.GroupNorm(1, width)]
        for k, wide in enumerate(widths):
            if k:
                layers += [nn.GroupNorm(1, widths[k - 1]), nn.Conv2d(widths[k - 1], wide, 2, 2)]
            layers += [Block(wide), Block(wide)]
        self.layers = nn.Sequential(*layers)
        self.norm, self.out = nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], SPACE)
        self.to(memory_format=torch.channels_last)  # twice as fast on CPUs

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return self.out(self.norm(self.layers(x).mean((2, 3))))


class Space(nn.Module):
    """Where texts and pictures of ``size`` pixels meet. ``sharpness``: logarithm of what cosines are multiplied by."""

    def __init__(self, text_width: int, size: int, width: int = WIDTH) -> None:
        super().__init__()
        self.config = {"size": size, "text_width": text_width, "width": width}
        self.picture, self.text = PictureEncoder(width), nn.Linear(text_width, SPACE)
        self.sharpness = nn.Parameter(torch.tensor(2.66))  # 1 / 0.07, as CLIP starts


class Retrieval(nn.Module):
    """Both towers: a text encoder, and the space in which what it reads meets pictures. ``width``: of the picture tower."""

    def __init__(self, text: T5Encoder, size: int = 64, width: int = WIDTH) -> None:
        super().__init__()
        if size % (4 * PATCH):
            raise UserError(f"--size {size}: must be a multiple of {4 * PATCH}.")
        self.text, self.space = text, Space(text.config["d_model"], size, width)

    def of_pictures(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] to unit vectors (B, 128)."""
        return F.normalize(self.space.picture(x).float(), dim=1)

    def of_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) to unit vectors (B, 128)."""
        read = mask[..., None].float()
        mean = (self.text(ids, mask).float() * read).sum(1) / read.sum(1).clamp(min=1)
        return F.normalize(self.space.text(mean).float(), dim=1)

    def forward(self, x: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The loss of each pair (B,): how surprising its text is among all given for the picture, and the reverse."""
        scores = self.of_pictures(x) @ self.of_texts(ids, mask).T * self.space.sharpness.exp().clamp(max=100)
        right = torch.arange(len(x), device=x.device)
        both = F.cross_entropy(scores, right, reduction="none") + F.cross_entropy(scores.T, right, reduction="none")
        return both / 2
