"""Scenes become pictures: packed into tensors by whoever makes them up, drawn on the device a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.training.text_to_image.captions import MASK
from phosphene.training.text_to_image.cutouts import Cutouts, lay
from phosphene.training.text_to_image.grounds import draw_grounds
from phosphene.training.text_to_image.manners import MANNERS
from phosphene.training.text_to_image.scenes import Layer, Scene

FINER = 2
"""Small pictures are put together at so many times their size and averaged, so that little things keep their edges."""
LARGE = 128
"""From this size on they are not."""


class Stage(NamedTuple):
    """A batch of scenes. Row k of ``papers`` is scene k; layers and manners name the scenes they belong to."""

    papers: Tensor  # (B, 3)
    grounds: Tensor  # (G, grounds.LENGTH)
    grounded: Tensor  # (G,) which scenes
    index: Tensor  # (L,) pictures, in the order they are laid
    layers: Tensor  # (L, numbers of a layer)
    owners: Tensor  # (L,) scenes
    depths: tuple[int, ...]  # so many layers at a time, from back to front
    mannered: Tensor  # (M,) scenes, in the order of MANNERS
    counts: tuple[int, ...]  # so many of each manner

    def to(self, device: torch.device) -> Stage:
        return Stage(*(p.to(device, non_blocking=True) if isinstance(p, Tensor) else p for p in self))


def staged(scenes: Sequence[Scene]) -> Stage:
    """``scenes`` as tensors."""
    most = max((len(s.layers) for s in scenes), default=0)
    index, layers, owners, depths = [], [], [], []
    for depth in range(most):
        before = len(index)
        for k, scene in enumerate(scenes):
            if depth < len(scene.layers):
                index.append(scene.layers[depth].index)
                layers.append(scene.layers[depth].row())
                owners.append(k)
        depths.append(len(index) - before)
    grounded = [k for k, s in enumerate(scenes) if s.ground is not None]
    by_manner = [[k for k, s in enumerate(scenes) if s.manner == name] for name in MANNERS]
    return Stage(
        torch.tensor([s.paper for s in scenes], dtype=torch.float32),
        torch.tensor([scenes[k].ground.row() for k in grounded], dtype=torch.float32),
        torch.tensor(grounded, dtype=torch.long),
        torch.tensor(index, dtype=torch.long),
        torch.tensor(layers, dtype=torch.float32),
        torch.tensor(owners, dtype=torch.long),
        tuple(depths),
        torch.tensor([k for group in by_manner for k in group], dtype=torch.long),
        tuple(len(group) for group in by_manner),
    )


@torch.no_grad()
def drawn(stage: Stage, cutouts: Cutouts, size: int, generator: torch.Generator | None = None) -> Tensor:
    """The pictures (B, 3, size, size) in [-1, 1], on the device of ``cutouts`` and ``stage``."""
    side = size * FINER if size < LARGE else size
    picture = stage.papers[:, :, None, None].expand(-1, -1, side, side).contiguous()
    if len(stage.grounded):
        picture.index_copy_(0, stage.grounded, draw_grounds(stage.grounds, side, generator))
    begin = 0
    for count in stage.depths:
        part = slice(begin, begin + count)
        owners = stage.owners[part]
        picture.index_copy_(0, owners, lay(picture[owners], cutouts.pictures, stage.index[part], stage.layers[part]))
        begin += count
    begin = 0
    for (manner, _), count in zip(MANNERS.values(), stage.counts, strict=True):
        chosen = stage.mannered[begin : begin + count]
        if count:
            picture.index_copy_(0, chosen, manner(picture[chosen], generator))
        begin += count
    if side != size:
        picture = F.avg_pool2d(picture, side // size)
    return picture.clamp(0, 1) * 2 - 1


def alone(cutouts: Cutouts, index: Sequence[int], size: int) -> Tensor:
    """Cut-outs by themselves on white, icons in black: (N, 3, size, size) in [-1, 1]."""
    whole = (1.0, 1.0, 0.0, 0.0)
    scenes = [Scene("", [Layer(k, whole, mask=cutouts.subjects[k].style == MASK)]) for k in index]
    return drawn(staged(scenes).to(cutouts.pictures.device), cutouts, size)
