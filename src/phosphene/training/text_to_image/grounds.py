"""Places for things to stand in, drawn on the device from rows of numbers: sky, ridges, floor, path, walls, weather.

A ground is a row (see :class:`Ground`); a batch of rows is drawn at once. Everything is a function of the place (x, y) in
the unit square, y downwards, made soft over one pixel; irregular outlines come from hashes of whole numbers, textures from
smooth noise. No picture is stored, so that no place is ever seen twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.devices import compiled_on_gpu
from phosphene.training.text_to_image.captions import Colour

NO_RIDGE, HILLS, PEAKS, BLOCKS, FIRS, TREES, ROOFS, CLIFF, MOUND = range(9)
"""Outlines of a ridge; a mound is one hill, its top where x is half."""
PLAIN, GRASS, RIPPLES, WAVES, PLANKS, TILES, SNOW, COBBLES = range(8)
"""Textures of a floor."""
NO_PATH, ROAD, RIVER = range(3)


@dataclass
class Ridge:
    """What stands between sky and floor: ``outline`` one of the constants above; lengths in heights of the picture.

    ``base`` is where it stands, ``height`` its highest above that, ``pace`` how many knots the width has; what is above the
    share ``cap`` of the height has the colour ``capped`` (1: nothing). ``lit``: share of lit windows.
    """

    outline: int = NO_RIDGE
    base: float = 0.6
    height: float = 0.2
    pace: float = 4.0
    seed: float = 0.0
    colour: Colour = (0.4, 0.5, 0.4)
    capped: Colour = (1.0, 1.0, 1.0)
    cap: float = 1.0
    lit: float = 0.0


@dataclass
class Ground:
    """One place. Colours in 0..1; x and y in the unit square; sizes in widths of the picture; amounts in 0..1."""

    sky_top: Colour = (0.35, 0.62, 0.93)
    sky_low: Colour = (0.80, 0.90, 0.98)
    horizon: float = 0.6  # beyond 1: no floor
    stars: float = 0.0
    disc: tuple[float, float, float] = (0.5, 0.2, 0.0)  # x, y, radius of sun or moon
    disc_colour: Colour = (1.0, 0.95, 0.6)
    glow: float = 0.0
    clouds: float = 0.0
    cloud_colour: Colour = (1.0, 1.0, 1.0)
    far: Ridge = field(default_factory=Ridge)
    middle: Ridge = field(default_factory=Ridge)
    near: Ridge = field(default_factory=Ridge)
    floor_near: Colour = (0.35, 0.6, 0.25)
    floor_far: Colour = (0.55, 0.75, 0.4)
    texture: int = PLAIN
    grain: float = 0.5
    path: int = NO_PATH
    path_from: float = 0.5  # x at the horizon
    path_to: float = 0.5  # x at the lower edge
    path_width: float = 0.3
    path_bend: float = 0.0
    path_colour: Colour = (0.45, 0.45, 0.47)
    room: float = 0.0  # 1: the sky is a wall
    window: tuple[float, float, float, float] = (0.7, 0.25, 0.0, 0.0)  # x, y, half width, half height
    window_colour: Colour = (0.65, 0.85, 0.98)
    fall: tuple[float, float] = (0.5, 0.0)  # x, half width of falling water
    mist: float = 0.0
    mist_colour: Colour = (0.9, 0.92, 0.95)
    flakes: float = 0.0
    rain: float = 0.0
    rays: float = 0.0  # of light, under water

    def row(self) -> list[float]:
        """All of it as floats, in the order of the fields."""
        return numbers(self)


def numbers(value: Ground | Ridge | tuple) -> list[float]:
    """What ``value`` holds as floats, one after the other."""
    found: list[float] = []
    for part in value if isinstance(value, tuple) else vars(value).values():  # which are in the order of the fields
        if isinstance(part, tuple):
            found += map(float, part)
        elif isinstance(part, Ridge):
            found += numbers(part)
        else:
            found.append(float(part))
    return found


def _places(kind: type) -> dict[str, slice]:
    """Where in a row the fields of ``kind`` are."""
    found, at = {}, 0
    for part in fields(kind):
        size = len(numbers((getattr(kind(), part.name),)))
        found[part.name] = slice(at, at + size)
        at += size
    return found


_OF_RIDGE, _OF = _places(Ridge), _places(Ground)
LENGTH = len(Ground().row())


class _Row:
    """Named parts of rows (B, LENGTH), each ready to be broadcast: (B, 1, 1) or, for colours, (B, 3, 1, 1)."""

    def __init__(self, rows: Tensor, places: dict[str, slice]) -> None:
        self.rows, self.places = rows, places

    def __getitem__(self, name: str) -> Tensor:
        part = self.rows[:, self.places[name]]
        return part[:, :, None, None] if part.shape[1] == 3 and "disc" != name else part[:, 0, None, None]

    def parts(self, name: str) -> tuple[Tensor, ...]:
        return tuple(p[:, None, None] for p in self.rows[:, self.places[name]].unbind(1))


def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(C, 1, 1): a colour, made once for a device, because each copy to a GPU would wait for all that it has to do."""
    make = _new_constant.__wrapped__ if torch.compiler.is_compiling() else _new_constant  # compiled code keeps it anyway
    return make(values, device)


@cache
def _new_constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)[:, None, None]


def chance_of(n: Tensor, seed: Tensor) -> Tensor:
    """A number in [0, 1) for each whole ``n`` and seed: the fraction of a large multiple of a sine."""
    return (torch.sin(n * 12.9898 + seed * 78.233 + 0.5) * 43758.5453).remainder(1)


@cache
def _enlarging(cells: int, size: int, device: torch.device) -> Tensor:
    """(cells, size): bicubic enlargement of a row. Rows and columns of a grid by two such products, not by a filter."""
    rows = torch.eye(cells)[:, None, :, None].expand(-1, -1, -1, 2)
    return F.interpolate(rows, size=(size, 2), mode="bicubic", align_corners=False)[:, 0, :, 0].to(device)


def smooth_noise(count: int, size: int, octaves: tuple[int, ...], generator: torch.Generator | None, device) -> Tensor:
    """(B, size, size) in about -1..1: uniform noise on grids of so many cells, interpolated, finer ones weaker."""
    total = 0.0
    for k, cells in enumerate(octaves):
        values = torch.rand(count, cells, cells, generator=generator, device=device) * 2 - 1
        enlarge = _enlarging(cells, size, torch.device(device))
        total = total + (values.mT @ enlarge).mT @ enlarge * 0.6**k
    return total


def _chosen(kind: Tensor, choices: Sequence[Tensor]) -> Tensor:
    """Of ``choices``, in the order of their numbers, that which ``kind`` names; the first has the shape of the answer."""
    found = choices[0]
    for number, choice in enumerate(choices):
        found = torch.where(kind == number, choice, found)
    return found


def _outline(ridge: _Row, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Height of the outline in 0..1 over x (B, 1, S), the cell it belongs to, and where in the cell x lies."""
    kind, pace, seed = ridge["outline"], ridge["pace"], ridge["seed"]
    at = x * pace + seed * 7
    cell, within = at.floor(), at.remainder(1)
    left, right = chance_of(cell, seed), chance_of(cell + 1, seed)
    bend = (1 - torch.cos(within * torch.pi)) / 2
    hills = left + (right - left) * bend
    # Peaks and valleys alternate; a finer jag rides on the slopes.
    even = cell.remainder(2)
    low, high = 0.05 + 0.35 * left, 0.55 + 0.45 * left
    start = torch.where(even > 0, high, low)
    low_right, high_right = 0.05 + 0.35 * right, 0.55 + 0.45 * right
    end = torch.where(even > 0, low_right, high_right)
    fine = at * 4
    jag = chance_of(fine.floor(), seed + 3) * (1 - fine.remainder(1)) + chance_of(fine.floor() + 1, seed + 3) * fine.remainder(1)
    peaks = start + (end - start) * within + 0.12 * (jag - 0.5)
    tooth = 1 - (2 * within - 1).abs()
    blocks = 0.35 + 0.65 * left
    firs = (0.4 + 0.6 * left) * (0.25 + 0.75 * tooth)
    trees = (0.5 + 0.5 * left) * (1 - (2 * within - 1).square()).clamp(min=0).sqrt().clamp(min=0.3)
    house = (left > 0.25).float()
    roofs = house * (0.45 + 0.25 * right + 0.3 * (1 - (2 * within - 1).abs() * 1.15).clamp(min=0)) * (tooth > 0.12)
    cliff = 0.82 + 0.18 * left
    mound = torch.cos((x - 0.5) * torch.pi).expand_as(hills)
    none = torch.zeros_like(hills)
    height = _chosen(kind, (none, hills, peaks, blocks, firs, trees, roofs, cliff, mound))
    return height, cell, within


def _with_ridge(picture: Tensor, rows: Tensor, x: Tensor, y: Tensor, noise: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """``picture`` with one ridge drawn over it, and where it was drawn, (B, S, S)."""
    ridge = _Row(rows, _OF_RIDGE)
    height, cell, within = _outline(ridge, x)
    top = ridge["base"] - ridge["height"] * height
    cover = ((y - top) * size + 0.5).clamp(0, 1) * (ridge["outline"] > 0)
    share = (ridge["base"] - y) / ridge["height"].clamp(min=1e-3)
    outline = ridge["outline"]
    # Light from the left on the faces of peaks; a darker foot for everything.
    slope = torch.where(cell.remainder(2) > 0, 0.86, 1.06)
    shade = torch.where(outline == PEAKS, slope, 1.0) * (0.9 + 0.12 * share.clamp(0, 1)) * (1 + 0.06 * noise)
    body = ridge["colour"] * shade[:, None]
    jagged = ridge["cap"] + 0.1 * noise + 0.12 * (4 * within).remainder(1) * (outline == PEAKS)
    capped = ((share - jagged) * 40).clamp(0, 1)[:, None]
    body = body + (ridge["capped"] * slope.clamp(max=1)[:, None] - body) * capped
    # Windows: a grid in each cell, lit by chance.
    across, down = within * 4, share * ridge["height"] / 0.055
    number = across.floor() + 7 * down.floor() + 31 * cell
    pane = (across.remainder(1) > 0.35) & (down.remainder(1) > 0.45) & (share < height - 0.06 / ridge["height"].clamp(min=0.02))
    lit = pane & (chance_of(number, ridge["seed"]) < ridge["lit"]) & (share > 0.05)
    glass = constant((1.0, 0.88, 0.5), x.device)
    body = torch.where(lit[:, None] & ((outline == BLOCKS) | (outline == ROOFS))[:, None], glass, body)
    return picture + (body - picture) * cover[:, None], cover


def _floor(row: _Row, x: Tensor, depth: Tensor, noise: Tensor, fine: Tensor) -> Tensor:
    """(B, 3, S, S): the floor where it would lie; ``depth`` is 0 at the horizon and 1 at the lower edge."""
    near = depth.clamp(0, 1)
    colour = row["floor_far"] + (row["floor_near"] - row["floor_far"]) * near[:, None]
    away = 1 / (near + 0.12)  # rows of equal size on the ground crowd towards the horizon
    kind = row["texture"]
    bent = away * 3 + noise * 1.5
    grass = 0.16 * fine * (0.3 + near) + 0.1 * noise
    ripples = 0.09 * torch.sin(away * 9 + noise * 4 + x * 3)
    waves = 0.22 * torch.sin(bent * 6 + x * 2).clamp(min=-0.2).pow(3) + 0.07 * torch.sin(away * 14 + noise * 6)
    side = (x - 0.5) / (near + 0.25)
    seam = ((side * 7).remainder(1) < 0.10).float()
    row_seam = ((away * 2.2).remainder(1) < 0.12).float()
    board = 0.12 * (chance_of((side * 7).floor(), row["grain"] * 9) - 0.5)
    planks = board - 0.28 * seam
    tiles = 0.22 * (((side * 5).floor() + (away * 2.2).floor()).remainder(2) - 0.5)
    snow = 0.06 * noise
    cobbles = 0.14 * fine - 0.2 * seam * row_seam
    plain = torch.zeros_like(noise)
    light = _chosen(kind, (plain, grass, ripples, waves, planks, tiles, snow, cobbles))
    return colour * (1 + (0.4 + row["grain"]) * light)[:, None]


def draw_grounds(rows: Tensor, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Places (B, 3, size, size) in 0..1 for ``rows`` (B, LENGTH), on their device; textures are drawn from ``generator``."""
    count, device = len(rows), rows.device
    noise, fine, wisp = (smooth_noise(count, size, o, generator, device) for o in ((4, 9, 20), (size // 2,), (3, 7, 14)))
    spark, drops = (torch.rand(count, 1, size // 2, size // 2, generator=generator, device=device) for _ in range(2))
    return _places_drawn(rows, noise, fine, wisp, spark, drops)


@compiled_on_gpu
def _places_drawn(rows: Tensor, noise: Tensor, fine: Tensor, wisp: Tensor, spark: Tensor, drops: Tensor) -> Tensor:
    """Of ``rows`` (B, LENGTH), textures (B, S, S), and chances (B, 1, S / 2, S / 2) of stars and of flakes."""
    size, device = noise.shape[-1], rows.device
    row = _Row(rows, _OF)
    centres = (torch.arange(size, device=device) + 0.5) / size
    x, y = centres[None, None, :], centres[None, :, None]
    # Sky, or the wall of a room.
    down = (y / row["horizon"].clamp(max=1.0)).clamp(0, 1)
    picture = row["sky_top"] + (row["sky_low"] - row["sky_top"]) * down[:, None]
    picture = picture * (1 + 0.02 * noise)[:, None]
    star = F.interpolate(((spark - (1 - 0.035 * rows[:, _OF["stars"], None, None])) * 60).clamp(0, 1), size=size)
    picture = picture + (1 - picture) * star * (1 - 0.6 * down[:, None])
    sun_x, sun_y, radius = row.parts("disc")
    away = ((x - sun_x).square() + (y - sun_y).square()).sqrt()
    shine = row["glow"] * torch.exp(-away / 0.22)
    picture = picture + (row["disc_colour"] - picture) * (0.75 * shine)[:, None].clamp(0, 1)
    disc = ((radius - away) * size + 0.5).clamp(0, 1) * (radius > 0)
    picture = picture + (row["disc_colour"] - picture) * disc[:, None]
    cloud = ((wisp + 1.6 * row["clouds"] - 0.9) * 3).clamp(0, 1) * (row["clouds"] > 0) * (1 - 0.5 * down)
    picture = picture + (row["cloud_colour"] * (0.92 + 0.1 * wisp)[:, None] - picture) * (0.9 * cloud)[:, None]
    covered = torch.zeros_like(noise)
    for name in ("far", "middle", "near"):
        picture, cover = _with_ridge(picture, rows[:, _OF[name]], x, y, noise, size)
        covered = torch.maximum(covered, cover)
    picture = _with_fall(picture, row, x, y, noise, covered, size)
    # Floor, and what leads over it.
    depth = (y - row["horizon"]) / (1 - row["horizon"]).clamp(min=0.02)
    floor = _floor(row, x, depth, noise, fine)
    shimmer = (row["texture"] == WAVES) * row["glow"] * torch.exp(-((x - sun_x) / (0.05 + 0.15 * depth.clamp(0, 1))).square())
    broken = (torch.sin(40 / (depth.clamp(0, 1) + 0.15) + 6 * noise) > 0).float()
    floor = floor + (row["disc_colour"] - floor) * (0.8 * shimmer * broken)[:, None].clamp(0, 1)
    near = depth.clamp(0, 1)
    middle = row["path_from"] + (row["path_to"] - row["path_from"]) * near + row["path_bend"] * torch.sin(near * torch.pi)
    half = row["path_width"] * (0.04 + 0.96 * near) / 2
    aside = (x - middle).abs()
    on_path = ((half - aside) * size + 0.5).clamp(0, 1) * (row["path"] > 0)
    water = row["path_colour"] * (1 + 0.12 * torch.sin(30 / (near + 0.2) + 5 * noise) * (row["path"] == RIVER))[:, None]
    marks = (row["path"] == ROAD) & (aside < half * 0.06 + 0.002) & ((9 / (near + 0.2)).remainder(1) < 0.5)
    path = torch.where(marks[:, None], torch.ones_like(water), water)
    floor = floor + (path - floor) * on_path[:, None]
    picture = picture + (floor - picture) * ((y - row["horizon"]) * size + 0.5).clamp(0, 1)[:, None]
    picture = _with_window(picture, row, x, y, size)
    return _weathered(picture, row, x, y, noise, drops).clamp(0, 1)


def _with_fall(picture: Tensor, row: _Row, x: Tensor, y: Tensor, noise: Tensor, covered: Tensor, size: int) -> Tensor:
    """Water falling from the ridge to the floor, and the spray where it lands."""
    middle, half = row.parts("fall")
    width = half * (0.85 + 0.3 * y) + 0.01 * noise
    fall = ((width - (x - middle).abs()) * size + 0.5).clamp(0, 1) * covered * (half > 0)
    streak = 0.86 + 0.14 * torch.sin(x * 160 + noise * 3) * torch.sin(y * 9 + x * 40)
    water = constant((0.86, 0.94, 1.0), x.device) * streak[:, None]
    picture = picture + (water - picture) * fall[:, None]
    spray = torch.exp(-((x - middle) / (2.2 * half + 1e-3)).square() - ((y - row["horizon"]) / 0.07).square()) * (half > 0)
    return picture + (1 - picture) * (0.8 * spray)[:, None]


def _with_window(picture: Tensor, row: _Row, x: Tensor, y: Tensor, size: int) -> Tensor:
    middle, height, half, tall = row.parts("window")
    aside, above = (x - middle).abs(), (y - height).abs()

    def inside(by: float) -> Tensor:
        return ((half + by - aside) * size + 0.5).clamp(0, 1) * ((tall + by - above) * size + 0.5).clamp(0, 1) * (half > 0)

    picture = picture + (0.97 - picture) * inside(0.02)[:, None]
    picture = picture + (row["window_colour"] - picture) * inside(0.0)[:, None]
    bar = ((aside < 0.008) | (above < 0.008)) & (inside(0.0) > 0.5)
    return torch.where(bar[:, None], torch.full_like(picture, 0.97), picture)


def _weathered(picture: Tensor, row: _Row, x: Tensor, y: Tensor, noise: Tensor, drops: Tensor) -> Tensor:
    """Mist, rays, rain and flakes over everything."""
    beam = (torch.sin((x - 0.5 + 0.35 * y) * 26 + 2 * noise) * 0.5 + 0.5).pow(3) * (1 - y)
    picture = picture + (1 - picture) * (0.35 * row["rays"] * beam)[:, None]
    bank = row["mist"] * (0.55 + 0.45 * noise).clamp(0, 1)
    picture = picture + (row["mist_colour"] - picture) * bank[:, None].clamp(0, 0.9)
    flake = F.interpolate((drops > 1 - 0.05 * row["flakes"][:, None]).float(), size=picture.shape[-1], mode="bilinear")
    picture = picture + (1 - picture) * (flake * 0.95 * (row["flakes"] > 0)[:, None])
    lane = ((x + 0.22 * y) * 64).floor()
    streak = chance_of(lane, row["rain"] * 50) > 1 - 0.4 * row["rain"]
    wet = streak & ((y * 5 + chance_of(lane, row["rain"] * 91)).remainder(1) < 0.3) & (row["rain"] > 0)
    return picture + (0.85 - picture) * (0.4 * wet)[:, None]
