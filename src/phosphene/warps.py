"""Warps: what is seen of a picture by other means than moving its pixels: turned by any angle, in a mirror, through a glass.

A warp says where on the picture each place of what is seen lies. What a pixel shows is a weighted mean of the picture
around there: of few pixels, by a cubic, where the picture is enlarged, and where it is shrunk of all that the pixel
covers and somewhat more, so that hardly anything aliases. So a warp is linear, and keeps plain colours; but it is not
orthogonal: noise seen through it is no longer unit noise, and it is no view. Pictures are drawn through it by
:class:`phosphene.folds.Seen`.

Places are (y, x), down and to the right, both -1..1 within the picture. Pictures are square.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.defaults import PRINTED
from phosphene.frequency import REFERENCE_SIZE
from phosphene.moved import Mark, pixel_centres, require_square
from phosphene.notation import view_parts

MOST_SAMPLES = 8
"""Along either side of a pixel: how finely what it covers is sampled, at most, where the picture is shrunk."""


@dataclass(frozen=True)
class Warp(ABC):
    """What is seen of a picture, given by :meth:`source`. Hashable and comparable by value, as views are."""

    @property
    @abstractmethod
    def mark(self) -> Mark:
        """What a printed picture needs for it."""

    @abstractmethod
    def source(self, at: Tensor) -> Tensor:
        """Where on the picture lies what is seen at the places ``at``: (N, 2) to (N, 2), float64."""

    def on_the_way(self, at: Tensor, share: float) -> Tensor:
        """:meth:`source` where the picture is only ``share`` of the way to what is seen, 0..1: for animations."""
        return at + share * (self.source(at) - at)

    def apply(self, x: Tensor) -> Tensor:
        """What is seen of pictures (..., C, S, S), of the same shape."""
        return self._weighed(x).seen(x)

    def adjoint(self, x: Tensor) -> Tensor:
        """The transpose of :meth:`apply`: inner products with what is seen are those of this with the picture."""
        return self._weighed(x).adjoint(x)

    def noise(self, x: Tensor, fresh: Tensor) -> Tensor:
        """Unit noise for what is seen, as like as may be to the unit noise ``x`` of the picture (both (..., C, S, S)).

        Each pixel of ``x`` goes to one pixel of what is seen, that in which it weighs most; where several meet, their sum
        over the root of their number; where none comes, ``fresh``. So no pixel counts twice, and unit noise comes out, as by
        the sums of Chang et al. 2024 ("How I Warped Your Noise"), who part each pixel into small ones.
        """
        joined = self._weighed(x).joined
        empty = joined.begins.diff() == 0
        return torch.where(empty.view(x.shape[-2:]), fresh, joined(x))

    def norm(self) -> float:
        """By how much the square of a picture's length may grow, about: the largest eigenvalue of the normal matrix."""
        return _norm(self)

    def _weighed(self, x: Tensor) -> Weights:
        require_square(self, x)
        return _weights(self, x.shape[-1], x.device, x.dtype)


@dataclass(frozen=True)
class Rotated(Warp):
    """The disc that touches the picture's edges, turned counter-clockwise by ``degrees``; around it nothing moves."""

    degrees: float = 135.0

    def __str__(self) -> str:
        return f"rotate:{self.degrees:g}"

    @property
    def mark(self) -> Mark:
        turn, way = (self.degrees, "left") if self.degrees <= 180 else (360 - self.degrees, "right")
        how = f"Cut out the circle, and turn it in its place to the {way} by {turn:g} degrees: its tick comes to the triangle."
        return Mark("disc", how)

    def source(self, at: Tensor) -> Tensor:
        return self.on_the_way(at, 1.0)

    def on_the_way(self, at: Tensor, share: float) -> Tensor:
        angle = math.radians(self.degrees if self.degrees <= 180 else self.degrees - 360) * share
        (y, x), cosine, sine = at.unbind(1), math.cos(angle), math.sin(angle)
        turned = torch.stack([cosine * y + sine * x, cosine * x - sine * y], 1)
        return torch.where(at.norm(dim=1, keepdim=True) < 1, turned, at)


@dataclass(frozen=True)
class Cylinder(Warp):
    """What a mirror in the shape of a cylinder shows that stands on the picture, to an eye before and above it.

    By the law of reflection, exactly: a ray from the eye through each place of what is seen meets the cylinder, is thrown
    back, and falls upon the paper. (Anamorphoses in such mirrors are drawn since the 17th century.)
    """

    RADIUS: ClassVar[float] = 0.3
    AXIS: ClassVar[float] = -0.15  # the y of the place where it stands; x is 0
    ELEVATION: ClassVar[float] = math.radians(60)  # of the eye above the paper
    EYE: ClassVar[float] = 8.0  # how far the eye is from the point of the axis that it looks at
    HEIGHT: ClassVar[float] = 0.335  # of that point above the paper
    REACH: ClassVar[float] = 0.27  # half the side of what is seen, at that point

    def __str__(self) -> str:
        return "cylinder"

    @property
    def mark(self) -> Mark:
        half = PRINTED / 2
        down, before = (half * self.EYE * of(self.ELEVATION) / 10 for of in (math.sin, math.cos))
        return Mark(
            "stand",
            f"Stand a mirror in the shape of a cylinder on the circle, {2 * half * self.RADIUS:.0f} mm in diameter and 10 cm "
            f"high, and look into it from where the triangle points, {down:.0f} cm above the table and {before:.0f} cm away.",
        )

    def source(self, at: Tensor) -> Tensor:
        """In a frame that has the axis at 0, y away from the eye and z upwards."""
        sine, cosine = math.sin(self.ELEVATION), math.cos(self.ELEVATION)
        right, up, forward, point = at.new_tensor([[1, 0, 0], [0, sine, cosine], [0, cosine, -sine], [0, 0, self.HEIGHT]])
        eye = point - self.EYE * forward
        ray = F.normalize(point + self.REACH * (at[:, 1:] * right - at[:, :1] * up) - eye, dim=1)
        # Where its distance from the axis is the radius first: a quadratic in the way it has gone.
        a, b = ray[:, :2].square().sum(1), ray[:, :2] @ eye[:2]
        gone = (-b - (b.square() - a * (eye[:2].square().sum() - self.RADIUS**2)).sqrt()) / a
        met = eye + gone[:, None] * ray
        normal = F.pad(met[:, :2] / self.RADIUS, (0, 1))
        back = ray - 2 * (ray * normal).sum(1, keepdim=True) * normal
        fallen = met - met[:, 2:] / back[:, 2:] * back
        return torch.stack([self.AXIS - fallen[:, 1], fallen[:, 0]], 1)


@dataclass(frozen=True)
class Cone(Warp):
    """What a mirror in the shape of a cone shows that stands on the middle of the picture, to an eye high above its tip.

    It turns the picture inside out: its rim shows what is beside it, its tip the circle farthest away. Rays come straight
    down, and go on by the law of reflection.
    """

    RADIUS: ClassVar[float] = 0.36
    STEEP: ClassVar[float] = 2.0  # its height over its radius

    def __str__(self) -> str:
        return "cone"

    @property
    def mark(self) -> Mark:
        wide = PRINTED * self.RADIUS
        return Mark(
            "stand",
            f"Stand a mirror in the shape of a cone on the circle, {wide:.0f} mm in diameter and {wide / 2 * self.STEEP:.0f} mm "
            "high, and look down upon its tip from as high as you can.",
        )

    def source(self, at: Tensor) -> Tensor:
        """What is seen is as wide as the cone; its corners see the paper beside it."""
        at = self.RADIUS * at
        away = at.norm(dim=1, keepdim=True)
        # A slope of angle a throws what comes straight down back at 2 a from the vertical: for the height z that is fallen
        # yet, it goes outwards by z tan(180 - 2 a) degrees.
        outward = self.STEEP * 2 * self.STEEP / (self.STEEP**2 - 1)
        seen = (away + (self.RADIUS - away) * outward) / away.clamp(min=1e-9)
        return torch.where(away < self.RADIUS, seen * at, at)


@dataclass(frozen=True)
class Lens(Warp):
    """The middle of the picture, ``times`` as large: through a magnifying glass."""

    times: int = 2

    def __str__(self) -> str:
        return f"lens:{self.times}"

    @property
    def mark(self) -> Mark:
        return Mark("square", f"Look at what is within the marks alone, {self.times} times as large: through a magnifying glass.")

    def source(self, at: Tensor) -> Tensor:
        return at / self.times

    def on_the_way(self, at: Tensor, share: float) -> Tensor:
        return at / self.times**share


WARPS: dict[str, Warp] = {"rotate": Rotated(), "cylinder": Cylinder(), "cone": Cone(), "lens": Lens()}


def warp(name: str) -> Warp:
    """The warp called ``name``: ``rotate:60`` turns by so many degrees, ``lens:3`` enlarges so many times."""
    known, number, _ = view_parts(name)
    return WARPS[known] if number is None else type(WARPS[known])(number)


class _Sums(NamedTuple):
    """Weighted sums of pixels: the n-th is of ``pixels[begins[n] : begins[n + 1]]``, by ``weights``."""

    pixels: Tensor
    weights: Tensor
    begins: Tensor

    @classmethod
    def of(cls, rows: Tensor, pixels: Tensor, weights: Tensor, count: int) -> _Sums:
        order = rows.argsort(stable=True)
        begins = F.pad(torch.bincount(rows, minlength=count).cumsum(0), (1, 0))
        return cls(pixels[order], weights[order], begins)

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(-2).flatten(0, -2)
        # By fours, which are vectors to a processor: ten times as fast as by threes.
        fours = F.pad(flat, (0, 0, 0, -len(flat) % 4)).unflatten(0, (-1, 4)).mT.contiguous()  # (fours, pixels, 4)
        how = {"mode": "sum", "per_sample_weights": self.weights, "include_last_offset": True}
        summed = torch.stack([F.embedding_bag(self.pixels, four, self.begins, **how) for four in fours])
        return summed.mT.flatten(0, 1)[: len(flat)].reshape(x.shape)

    def to(self, device: torch.device, dtype: torch.dtype) -> _Sums:
        return _Sums(self.pixels.to(device), self.weights.to(device, dtype), self.begins.to(device))


class Weights(NamedTuple):
    """A warp of pictures of one size, as sums."""

    seen: _Sums
    adjoint: _Sums
    joined: _Sums  # of noise, see :meth:`Warp.noise`


@lru_cache(maxsize=16)
def _weights(warp: Warp, size: int, device: torch.device, dtype: torch.dtype) -> Weights:
    if device.type != "cpu" or dtype != torch.float64:
        whole = _weights(warp, size, torch.device("cpu"), torch.float64)
        return Weights(*(sums.to(device, dtype) for sums in whole))
    count = size * size
    rows, pixels, weights = _taps(warp, size)
    # Each pixel of the picture goes where it weighs most: of its weights the last in this order.
    order = weights.argsort(stable=True)
    order = order[pixels[order].argsort(stable=True)]
    heaviest = order[pixels[order].diff(append=torch.tensor([count])) != 0]
    goal, comes = rows[heaviest], pixels[heaviest]
    share = torch.bincount(goal, minlength=count)[goal].double().rsqrt()
    three = ((rows, pixels, weights), (pixels, rows, weights), (goal, comes, share))
    return Weights(*(_Sums.of(*each, count) for each in three))


@lru_cache(maxsize=64)
def _norm(warp: Warp) -> float:
    """By power iteration, in small pictures: in larger ones, which show the same, it hardly differs."""
    x = torch.ones(1, REFERENCE_SIZE, REFERENCE_SIZE, dtype=torch.float64)
    x[:, ::2, 1::2] = 0.5  # not quite plain
    for _ in range(40):
        x = warp.adjoint(warp.apply(x / x.norm()))
    return float(x.norm())


def _taps(warp: Warp, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixel of what is seen shows which pixel of the picture, and how much of it: each pair once."""
    centres = pixel_centres(size) * 2 / size - 1
    fine = _fineness(warp, centres, size)
    found = []
    for samples in fine.unique().tolist():
        rows = (fine == samples).nonzero()[:, 0]
        # Where the picture is shrunk, over twice the pixel's width, by weights that fall from its middle: a mean over it
        # alone would let through a fifth of the finest stripes.
        asides = pixel_centres(1) - 0.5 if samples == 1 else pixel_centres(2 * samples) / samples - 1  # in pixels
        shares = (1 - asides.abs()).prod(1)
        for aside, share in zip(asides, shares / shares.sum(), strict=True):
            at = (centres[rows] + aside * 2 / size).clamp(-1, 1)  # beyond, a mirror may show nothing
            place = (warp.source(at) + 1) * size / 2 - 0.5
            found.append(_interpolated(rows, place, size, float(share), _cubic if samples == 1 else _linear))
    rows, pixels, weights = (torch.cat(each) for each in zip(*found, strict=True))
    pairs, which = (rows * size**2 + pixels).unique(return_inverse=True)
    whole = torch.zeros(len(pairs), dtype=torch.float64).index_add_(0, which, weights)
    kept = whole.abs() > 1e-9
    return pairs[kept] // size**2, pairs[kept] % size**2, whole[kept]


def _fineness(warp: Warp, centres: Tensor, size: int) -> Tensor:
    """How many samples a side each pixel needs (N,): as many as it covers pixels of the picture, in the direction of most."""
    step = torch.eye(2, dtype=torch.float64) / size  # half a pixel
    down, right = ((warp.source(centres + s) - warp.source(centres - s)) * size / 2 for s in step)
    stretch = torch.linalg.matrix_norm(torch.stack([down, right], 2), ord=2)
    return (stretch - 0.25).ceil().clamp(1, MOST_SAMPLES).long()


def _cubic(d: Tensor) -> Tensor:
    """The kernel of Keys 1981 (a = -1/2): what is a polynomial of second degree stays as it is."""
    inner, outer = 1 + d.square() * (1.5 * d - 2.5), 2 - d * (4 - d * (2.5 - 0.5 * d))
    return torch.where(d <= 1, inner, torch.where(d < 2, outer, 0.0))


def _linear(d: Tensor) -> Tensor:
    return (1 - d).clamp(min=0)


def _interpolated(
    rows: Tensor, place: Tensor, size: int, share: float, kernel: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What weighs ``share`` of the picture at ``place`` (N, 2; in pixels), between whose pixels ``kernel`` says how much each
    counts by its distance along either side; beyond the picture its border goes on."""
    first = place.floor()
    near = torch.arange(-1, 3) if kernel is _cubic else torch.arange(2)
    along = kernel(((place - first)[..., None] - near).abs())  # (N, 2, 4 or 2)
    y, x = (first.long()[..., None] + near).clamp(0, size - 1).unbind(1)
    weights = share * along[:, 0, :, None] * along[:, 1, None, :]
    pixels = y[:, :, None] * size + x[:, None, :]
    return rows[:, None].expand(-1, len(near) ** 2).flatten(), pixels.flatten(), weights.flatten()
