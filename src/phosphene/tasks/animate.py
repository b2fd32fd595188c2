"""Animation: a picture turns into what it shows through a view, and back; pieces fly along their paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from phosphene.images import INK, PAPER, font, to_images
from phosphene.moved import Moved, pixel_centres
from phosphene.pieces import Rubik
from phosphene.views import Identity, Mirror, Negate, Turn, View
from phosphene.warps import Warp

MARGIN = 0.22
"""Of the picture's side, on each side of it: room for corners and pieces on the way."""
REST, MOVE = 14, 26
"""Frames of standing still and of moving."""
SIDE = 256
SECONDS = (2 * REST + 2 * MOVE) / 20


def turn_css(view: View | Warp) -> str:
    """The CSS transform by which a page shows ``view``; "invert" for a negative, nothing for views that move pieces."""
    if isinstance(view, Negate):
        return "invert"
    if isinstance(view, Mirror):
        return "scaleX(-1)" if view.axis == -1 else "scaleY(-1)"
    return f"rotate({-90 * view.quarters if view.quarters < 3 else 90}deg)" if isinstance(view, Turn) else ""


def eased(share: float) -> float:
    """0..1 to 0..1, slow at both ends."""
    return share * share * (3 - 2 * share)


def turn_frames(picture: Tensor, view: View | Warp, captions: tuple[str, str]) -> Iterator[Image.Image]:
    """Frames of ``picture`` (3, S, S; in [-1, 1]) as it is, turning into what ``view`` shows, and back."""
    large, scale = _enlarged(picture)
    return _there_and_back(lambda share: on_the_way(large, view, share, scale), captions)


def sliding_frames(sheets: Tensor, captions: Sequence[str]) -> tuple[list[Image.Image], float]:
    """Frames of transparencies ``sheets`` (N, 3, S, S; in [-1, 1]) that slide over each other until they lie as one, and back.

    ``captions`` are those of the sheets, and last of all together; and how many seconds the frames take.
    """
    large, _ = _enlarged(sheets)
    return list(_there_and_back(lambda share: slid(large, share), (" + ".join(captions[:-1]), captions[-1]))), SECONDS


def _enlarged(x: Tensor) -> tuple[Tensor, int]:
    """``x`` (..., S, S), each of its pixels so many wide and high that it has about SIDE, and how many those are."""
    scale = max(1, round(SIDE / x.shape[-1]))
    return x.repeat_interleave(scale, -1).repeat_interleave(scale, -2), scale


def _there_and_back(look: Callable[[float], Tensor], captions: tuple[str, str]) -> Iterator[Image.Image]:
    """What ``look`` shows at shares of the way: standing still, moving, standing still at the end, and back."""

    def frame(share: float) -> Image.Image:
        return _captioned(look(share), captions[share >= 0.5], abs(2 * share - 1))

    first, final = frame(0.0), frame(1.0)
    moving = [frame(eased((k + 1) / (MOVE + 1))) for k in range(MOVE)]
    yield from [first] * REST + moving + [final] * REST + moving[::-1]


def slid(sheets: Tensor, share: float) -> Tensor:
    """``sheets`` (N, 3, S, S) on a bright table, ``share`` of the way from side by side to one upon the other: (3, S', W)."""
    count, _, height, side = sheets.shape
    room = round(MARGIN * side)
    pitch = side + room
    table = torch.ones(3, height + 2 * room, (count - 1) * pitch + side)
    for k, sheet in enumerate((sheets + 1) / 2):
        left = round((1 - share) * k * pitch + share * (count - 1) / 2 * pitch)
        table[:, room : room + height, left : left + side] *= sheet.to(table)
    return 2 * table - 1


def readings(picture: Tensor, views: Sequence[View | Warp], captions: Sequence[str]) -> tuple[list[Image.Image], float]:
    """Frames of an anagram (3, S, S) turning from what it is into each of its other readings, and how many seconds they take."""
    plain = next((caption for v, caption in zip(views, captions, strict=True) if isinstance(v, Identity)), "")
    others = [(v, (plain, caption)) for v, caption in zip(views, captions, strict=True) if not isinstance(v, Identity)]
    return [frame for v, both in others for frame in turn_frames(picture, v, both)], SECONDS * len(others)


def sliding(x: Tensor, view: Rubik, share: float = 1.0, scale: int = 1) -> Tensor:
    """``x`` (..., S, S), enlarged ``scale`` times, ``share`` of the way (0..1) to what ``view`` shows, slide after slide."""
    begin, side = (scale * n for n in view.cut(x.shape[-1] // scale))
    whole, x = slice(begin, begin + view.grid * side), x.clone()
    for number, (way, line, by) in enumerate(view.slides()):
        part, own = min(max(4 * share - number, 0.0), 1.0), slice(begin + line * side, begin + (line + 1) * side)
        at = (..., own, whole) if way == 0 else (..., whole, own)
        x[at] = x[at].roll(round(part * by * side), -1 - way)
    return x


def on_the_way(picture: Tensor, view: View | Warp, share: float, scale: int = 1) -> Tensor:
    """``picture`` (3, S, S), ``share`` of the way to what ``view`` shows, with a margin of paper: (3, S', S').

    Pieces fly where the view has a plan of them, but those of a Rubik's face slide one after the other; through a warp, places
    of the picture go to where they are seen; where the path is unknown, one picture fades into the other. Where the picture
    was enlarged ``scale`` times, the view is still that of the picture before.
    """
    room = round(MARGIN * picture.shape[-1])
    paper = (torch.tensor(PAPER) / 127.5 - 1).to(picture)[:, None, None]
    if hasattr(view, "plan") and not isinstance(view, Rubik):
        return _flying(picture, view, share, room, paper, scale)
    if isinstance(view, Rubik):
        picture = sliding(picture, view, share, scale)
    elif isinstance(view, Warp):
        picture = _warped(picture, view, share)
    elif not isinstance(view, Identity | Negate | Mirror | Turn):  # of its path nothing is known: one fades into the other
        viewed = view.apply(picture[:, ::scale, ::scale])
        picture = picture.lerp(viewed.repeat_interleave(scale, -2).repeat_interleave(scale, -1), share)
    x = torch.cat([picture - paper, torch.ones_like(picture[:1])])  # what lies around is paper
    x = F.pad(x, (room, room, room, room))
    if isinstance(view, Negate):
        x[:3] += x[3:] * ((1 - 2 * share) * (x[:3] + paper) - x[:3] - paper)
    elif isinstance(view, Mirror):
        grown = math.cos(math.pi * share)  # as a card is turned: first narrow, then seen from behind
        grown = grown if abs(grown) > 0.02 else 0.02
        x = _bent(x, (1 / grown, 1.0) if view.axis == -1 else (1.0, 1 / grown), 0.0)
    elif isinstance(view, Turn):
        quarters = view.quarters if view.quarters < 3 else -1
        x = _bent(x, (1.0, 1.0), quarters * math.pi / 2 * share)
    return x[:3] + paper


def _bent(x: Tensor, scale: tuple[float, float], angle: float) -> Tensor:
    """Scaled across and down, and turned counter-clockwise by ``angle``."""
    cosine, sine = math.cos(angle), math.sin(angle)
    theta = torch.tensor([[cosine * scale[0], -sine * scale[0], 0.0], [sine * scale[1], cosine * scale[1], 0.0]])
    grid = F.affine_grid(theta[None].to(x), [1, *x.shape], align_corners=False)
    return F.grid_sample(x[None], grid, align_corners=False)[0]


def _warped(picture: Tensor, warp: Warp, share: float) -> Tensor:
    """``picture`` (3, S, S), ``share`` of the way to what is seen of it."""
    size = picture.shape[-1]
    place = warp.on_the_way(pixel_centres(size) * 2 / size - 1, share).flip(1)  # x first
    grid = place.view(1, size, size, 2).to(picture)
    return F.grid_sample(picture[None], grid, padding_mode="border", align_corners=False)[0]


class _Pieces(NamedTuple):
    """Of each pixel, in the order in which they are laid: where it comes from, and what the path of its piece is made of."""

    order: Tensor
    offset: Tensor  # from the middle of its piece
    source: Tensor
    path: Tensor
    outward: Tensor
    angle: Tensor


@lru_cache(maxsize=2)
def _pieces(view: Moved, size: int, scale: int) -> _Pieces:
    small, at = view.plan(size // scale), pixel_centres(size)
    piece = small.piece.view(size // scale, -1).repeat_interleave(scale, 0).repeat_interleave(scale, 1).flatten()
    plan = small._replace(piece=piece, source=small.source * scale, target=small.target * scale)
    path = plan.target - plan.source
    order = path.norm(dim=1)[plan.piece].argsort(stable=True)  # those that go far fly above those that stay
    piece = plan.piece[order]
    # A little outwards on the way, so that pieces part before they pass.
    outward = ((plan.source + plan.target) / 2 - size / 2) * (path.norm(dim=1, keepdim=True) > 0) / 4
    if len(small.source) == len(small.piece):  # every pixel for itself: apart they would show the paper between them
        outward = torch.zeros_like(outward)
    turns = (plan.turns + 1) % 4 - 1  # three quarters one way are one the other way
    parts = (at[order] - plan.source[piece], plan.source[piece], path[piece], outward[piece], turns[piece] * math.pi / 2)
    return _Pieces(order, *(part.float() for part in parts))


def _flying(picture: Tensor, view: Moved, share: float, room: int, paper: Tensor, scale: int) -> Tensor:
    """Pieces on their paths, turning as they go."""
    size = picture.shape[-1]
    side, pieces = size + 2 * room, _pieces(view, size, scale)
    cosine, sine = (pieces.angle * share).cos(), (pieces.angle * share).sin()
    y, x = pieces.offset.unbind(1)
    offset = torch.stack([cosine * y - sine * x, sine * y + cosine * x], 1)
    middle = pieces.source + share * pieces.path + math.sin(math.pi * share) * pieces.outward
    place = (middle + offset + (room - 0.5)).round().long()
    # Each pixel is laid twice, once a step aside, so that turning leaves no holes; where several come to lie, the last is seen.
    number = torch.arange(1, len(place) + 1)
    topmost = torch.zeros(side * side, dtype=torch.long)
    for aside in (1, 0) if 0 < share < 1 and bool(pieces.angle.any()) else (0,):
        rows, columns = (place + aside).clamp(0, side - 1).unbind(1)
        laid = torch.zeros_like(topmost).scatter_reduce(0, rows * side + columns, number, "amax")
        topmost = torch.where(laid > 0, laid, topmost)
    colours = torch.cat([paper.flatten(1).expand(3, 1), picture.flatten(1)[:, pieces.order]], 1)
    return colours[:, topmost].view(3, side, side)


def _captioned(picture: Tensor, caption: str, strength: float) -> Image.Image:
    """With ``caption`` below, as dark as ``strength`` says."""
    (image,) = to_images(picture[None])
    write = font(max(12, image.width // 20), caption)
    whole = Image.new("RGB", (image.width, image.height + image.width // 12), PAPER)
    whole.paste(image, (0, 0))
    ink = tuple(round(p + (i - p) * strength) for p, i in zip(PAPER, INK, strict=True))
    ImageDraw.Draw(whole).text((image.width / 2, image.height - image.width // 24), caption, ink, write, anchor="mm")
    return whole
