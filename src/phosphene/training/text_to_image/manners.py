"""Ways to make a picture: oil, watercolour, pencil, charcoal, lithograph, pixel art, stained glass, photograph.

Each is a function from pictures (B, 3, S, S) in 0..1 to pictures of the same shape, on any device; chance comes from a
generator. Widths are shares of the picture, so that a manner looks the same at any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.frequency import low_pass
from phosphene.training.text_to_image.grounds import constant, smooth_noise
from phosphene.training.text_to_image.phrases import MANNERED

Manner = Callable[[Tensor, torch.Generator | None], Tensor]


def grey(x: Tensor) -> Tensor:
    """(B, 1, S, S): luma."""
    return x.mul(constant((0.299, 0.587, 0.114), x.device)).sum(1, keepdim=True)


def _rand(count: int, generator: torch.Generator | None, device: torch.device, low: float, high: float) -> Tensor:
    return torch.rand(count, 1, 1, 1, generator=generator, device=device) * (high - low) + low


def _toned(value: Tensor, ink: tuple[float, ...], paper: tuple[float, ...]) -> Tensor:
    """(B, 1, S, S) in 0..1 to colours between ink and paper."""
    low, high = (constant(c, value.device) for c in (ink, paper))
    return low + (high - low) * value


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """How much brighter it is on the right of a pixel than on its left, and below than above; 0 at the edges."""
    return F.pad(x[..., 2:] - x[..., :-2], (1, 1)), F.pad(x[..., 2:, :] - x[..., :-2, :], (0, 0, 1, 1))


def _everywhere(x: Tensor) -> Tensor:
    """(B, S, S, 2): where each pixel is, for grid_sample."""
    count, _, side, _ = x.shape
    same = torch.eye(2, 3, device=x.device)[None].expand(count, -1, -1)
    return F.affine_grid(same, [count, 1, side, side], align_corners=False)


def kuwahara(x: Tensor, radius: int) -> Tensor:
    """Each pixel becomes the mean of whichever of its four neighbouring squares varies least: flat strokes, sharp edges.

    Kuwahara et al. 1976.
    """
    size = radius + 1
    padded = F.pad(torch.cat([x, grey(x).square()], 1), (radius,) * 4, mode="replicate")
    mean = F.avg_pool2d(padded, size, 1)
    luma = grey(mean[:, :3])
    spread = mean[:, 3:] - luma.square()
    side = x.shape[-1]
    corners = [(0, 0), (0, radius), (radius, 0), (radius, radius)]
    spreads = torch.cat([spread[..., r : r + side, c : c + side] for r, c in corners], 1)
    means = torch.stack([mean[:, :3, r : r + side, c : c + side] for r, c in corners], 1)
    chosen = spreads.argmin(1)[:, None, None].expand(-1, 1, 3, -1, -1)
    return means.gather(1, chosen)[:, 0]


def _strokes(x: Tensor, length: int, generator: torch.Generator | None) -> Tensor:
    """(B, 1, S, S) in about -1..1: noise drawn out along the edges of ``x``, as a brush goes."""
    count, _, side, _ = x.shape
    soft = low_pass(grey(x), side / 24)
    across, down = _slopes(soft)
    wander = smooth_noise(count, side, (3,), generator, x.device)[:, None] * torch.pi
    strength = (across.square() + down.square()).sqrt()
    sure = (strength * 25).clamp(max=1)
    direction_x = -down / (strength + 1e-4) * sure + torch.cos(wander) * (1 - sure)
    direction_y = across / (strength + 1e-4) * sure + torch.sin(wander) * (1 - sure)
    noise = smooth_noise(count, side, (side // 3, side // 2), generator, x.device)[:, None]
    base = _everywhere(x)
    flow = torch.cat([direction_x, direction_y], 1).permute(0, 2, 3, 1) * (2 / side)
    total = torch.zeros_like(noise)
    for k in range(-length, length + 1, max(1, length // 3)):
        total = total + F.grid_sample(noise, base + k * flow, "bilinear", "reflection", align_corners=False)
    return total / total.std((1, 2, 3), keepdim=True).clamp(min=1e-3)


def oil(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Flat strokes of rich colour that follow the shapes, with light on their ridges; no grain."""
    side = x.shape[-1]
    flat = kuwahara(kuwahara(x, max(1, side // 50)), max(1, side // 60))
    mean = grey(flat)
    rich = (mean + (flat - mean) * 1.25).clamp(0, 1)
    rich = 0.03 + 0.95 * rich
    stroke = _strokes(flat, max(3, side // 18), generator)
    warm = constant((1.02, 1.0, 0.94), x.device)
    ridge = F.pad(stroke[..., 1:, 1:] - stroke[..., :-1, :-1], (0, 1, 0, 1))
    hue = smooth_noise(len(x), side, (6, 12), generator, x.device)[:, None]
    tone = constant((0.05, 0.0, -0.05), x.device) * hue
    # White paper would be bare canvas: paint it a warm grey.
    bare = ((rich.amin(1, keepdim=True) - 0.9) * 10).clamp(0, 1)
    rich = rich - bare * constant((0.13, 0.17, 0.26), x.device)
    calm = 1 - 0.7 * bare
    return (rich * warm * (1 + 0.05 * stroke * calm) + 0.035 * ridge * calm + tone * calm).clamp(0, 1)


def watercolour(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Pale washes with dark rims that fade into white paper."""
    count, _, side, _ = x.shape
    bent = smooth_noise(count, side, (10, 20), generator, x.device)
    base = _everywhere(x)
    other = smooth_noise(count, side, (10, 20), generator, x.device)
    wobbly = F.grid_sample(x, base + 0.025 * torch.stack([bent, other], 3), "bilinear", "border", align_corners=False)
    flat = kuwahara(wobbly, max(1, side // 32))
    wash = smooth_noise(count, side, (4, 9), generator, x.device)[:, None]
    thin = 0.30 + 0.16 * wash
    pale = flat + (1 - flat) * thin.clamp(0.08, 0.65)
    soft = low_pass(flat, side / 60)
    rim = (grey(flat) - grey(soft)).abs() * 1.6
    pale = pale * (1 - rim.clamp(0, 0.35))
    centres = (torch.arange(side, device=x.device) + 0.5) / side - 0.5
    edge = torch.maximum(centres.abs()[None, :], centres.abs()[:, None])[None, None] + 0.05 * wash
    paper = ((edge - 0.43) * 16).clamp(0, 1)
    return (pale + (0.985 - pale) * paper).clamp(0, 1)


def _lines(x: Tensor, width: float) -> Tensor:
    """(B, 1, S, S) in 0..1, 1 is dark: where brightness changes over ``width`` pixels."""
    g = grey(x)
    fine, wide = low_pass(g, width), low_pass(g, 2.2 * width)
    # One line for an edge: on its dark side alone.
    edges = (wide - fine).clamp(min=0) + 0.35 * (low_pass(x, width) - low_pass(x, 2.2 * width)).abs().amax(1, keepdim=True)
    return ((edges - 0.012) * 9).clamp(0, 1)


def _hatching(side: int, period: float, angle: float, device: torch.device) -> Tensor:
    """(1, 1, S, S): a wave in 0..1 across lines at ``angle`` (radians), ``period`` pixels apart."""
    at = torch.arange(side, device=device, dtype=torch.float32)
    along = at[None, :] * math.cos(angle) + at[:, None] * math.sin(angle)
    return (0.5 + 0.5 * torch.sin(along * 2 * torch.pi / period))[None, None]


def pencil(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Grayscale lines round the shapes and hatching where it is dark, on white paper."""
    side = x.shape[-1]
    dark = 1 - grey(low_pass(x, side / 100))
    line = _lines(x, side / 110)
    one, two = (_hatching(side, side / 21, angle, x.device) for angle in (0.85, 2.2))
    tone = 0.55 * (dark - 0.25).clamp(min=0) * one + 0.6 * (dark - 0.6).clamp(min=0) * two + 0.22 * dark
    grain = smooth_noise(len(x), side, (side // 2,), generator, x.device)[:, None]
    graphite = (0.9 * line + tone) * (1 + 0.18 * grain)
    return _toned(1 - graphite.clamp(0, 0.9), (0.08, 0.08, 0.10), (0.98, 0.98, 0.97))


def charcoal(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Broad black strokes, smudged and grainy, on off-white paper."""
    side = x.shape[-1]
    dark = 1 - grey(low_pass(x, side / 64))
    line = _lines(x, side / 90)
    stroke = _strokes(x, max(3, side // 14), generator)
    grain = smooth_noise(len(x), side, (side // 2, side // 3), generator, x.device)[:, None]
    coal = (0.75 * line + 0.85 * (dark - 0.1).clamp(min=0)) * (1 + 0.2 * stroke + 0.25 * grain)
    return _toned(1 - coal.clamp(0, 0.97), (0.05, 0.05, 0.05), (0.93, 0.91, 0.87))


def lithograph(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Black ink on cream: lines whose width follows the shade, crossed where it is dark."""
    side = x.shape[-1]
    dark = (1 - grey(low_pass(x, side / 120))).clamp(0, 1)
    bend = smooth_noise(len(x), side, (3,), generator, x.device)[:, None] * side / 40
    at = torch.arange(side, device=x.device, dtype=torch.float32)
    wave = 0.5 + 0.5 * torch.sin((at[None, None, :, None] + 0.35 * at[None, None, None, :] + bend) * 2 * torch.pi / (side / 21))
    cross = _hatching(side, side / 21, 2.3, x.device)
    one = ((dark * 1.05 - 0.1 - wave) * 3 + 0.5).clamp(0, 1)
    two = ((dark * 1.3 - 0.75 - cross) * 3 + 0.5).clamp(0, 1)
    line = _lines(x, side / 120)
    ink = torch.maximum(torch.maximum(one, two) * (dark > 0.06), (1.3 * line).clamp(0, 1))
    return _toned(1 - 0.93 * ink, (0.07, 0.06, 0.06), (0.94, 0.90, 0.79))


def pixels(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Twenty-one or thirty-two large pixels a side, in few shades."""
    half = len(x) // 2
    made = []
    for part, cells in ((x[:half], 21), (x[half:], 32)):
        small = F.interpolate(part, size=cells, mode="area")
        mean = grey(small)
        small = ((mean + (small - mean) * 1.2).clamp(0, 1) * 6).round() / 6
        made.append(F.interpolate(small, size=x.shape[-1], mode="nearest"))
    return torch.cat(made)


DESKS = ((0.45, 0.34, 0.25), (0.36, 0.38, 0.42), (0.56, 0.50, 0.42), (0.30, 0.36, 0.34))
"""On what photographs lie."""


def photograph(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """An instant print: white card, broader below, that lies a little askew, and on it what :func:`exposed` shows.

    What is drawn cannot look like a photograph of the thing; it can look like one of a drawing, and everybody knows the card.
    """
    count, _, side, _ = x.shape
    turn, shift = _rand(count, generator, x.device, -0.07, 0.07), _rand(count, generator, x.device, -0.01, 0.01)
    at = _everywhere(x)
    across, down = at[..., 0:1] - shift, at[..., 1:2]
    across, down = across * torch.cos(turn) + down * torch.sin(turn), down * torch.cos(turn) - across * torch.sin(turn)
    image = torch.cat([across / 0.74, (down + 0.1) / 0.74], 3)
    shown = F.grid_sample(exposed(x, generator), image, "bilinear", "border", align_corners=False)

    def inside(a: Tensor, b: Tensor) -> Tensor:  # (B, 1, S, S): 1 where both are within -1..1, made soft over a pixel
        edge = 1 - torch.maximum(a.abs(), b.abs())
        return (edge * side / 2 + 0.5).clamp(0, 1).movedim(3, 1)

    card, print_ = inside(across / 0.84, (down - 0.01) / 0.96), inside(image[..., 0:1], image[..., 1:2])
    desks = torch.cat([constant(desk, x.device)[None] for desk in DESKS])
    desk = desks[torch.randint(len(DESKS), (count,), generator=generator, device=x.device)]
    thrown = F.pad(card, (side // 40, -(side // 40), side // 32, -(side // 32)))
    desk = desk * (1 - 0.45 * low_pass(thrown, side / 50))
    paper = constant((0.97, 0.965, 0.945), x.device)
    made = desk + (paper - desk) * card
    return (made + (shown - made) * print_).clamp(0, 1)


STUDIOS = ((0.74, 0.74, 0.74), (0.80, 0.73, 0.64), (0.60, 0.67, 0.74), (0.56, 0.43, 0.33), (0.66, 0.72, 0.62))
"""Walls before which things are photographed."""


def exposed(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Light from one side on rounded shapes; on white paper, a table and a wall out of focus, and the thing's shadow on them."""
    count, _, side, _ = x.shape
    device = x.device
    relief = low_pass(grey(x), side / 20) * 0.6 + low_pass(grey(x), side / 8) * 0.4
    across, down = _slopes(relief)
    turn = _rand(count, generator, device, -0.6, 0.6)
    lit = ((across * torch.sin(turn + 0.7) + down * torch.cos(turn + 0.7)) * side / 9).clamp(-0.3, 0.3)
    mean = grey(x)
    # No photograph has pure colours, and none is pure white.
    natural = (mean + (x - mean) * 0.86) * (1 + lit)
    # What is half paper at the edge of a thing counts as paper: it would shine before a wall.
    white = F.max_pool2d(((x.amin(1, keepdim=True) - 0.86) * 9).clamp(0, 1), 2 * (side // 96) + 1, 1, side // 96)
    centres = (torch.arange(side, device=device) + 0.5) / side
    low, right = centres[None, None, :, None], centres[None, None, None, :]
    walls = torch.cat([constant(studio, device)[None] for studio in STUDIOS])
    wall, table = (walls[torch.randint(len(STUDIOS), (count,), generator=generator, device=device)] for _ in range(2))
    beyond = torch.sigmoid((low - _rand(count, generator, device, 0.6, 0.78)) * 22)
    room = (wall * (1.12 - 0.3 * right) * (1 - beyond) + table * (0.8 + 0.25 * low) * beyond).clamp(0, 0.97)
    thrown = F.pad(1 - white, (side // 14, -(side // 14), side // 18, -(side // 18)))
    room = room * (1 - 0.5 * low_pass(thrown, side / 22))
    natural = natural + (room - natural) * white
    corner = 1 - 0.35 * ((right - 0.5).square() + (low - 0.5).square())
    curve = (natural * corner).clamp(0, 1)
    curve = curve * curve * (3 - 2 * curve) * 0.4 + curve * 0.6
    warm = _rand(count, generator, device, -0.03, 0.04) * constant((1.0, 0.1, -1.0), device)
    return (0.02 + 0.96 * curve + warm).clamp(0, 1)


def stained_glass(x: Tensor, generator: torch.Generator | None = None, panes: int = 70) -> Tensor:
    """Panes of glowing colour between leads."""
    count, _, side, _ = x.shape
    device = x.device
    columns = round(panes**0.5)
    grid = (torch.arange(columns, device=device) + 0.5) / columns
    middle = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).view(1, -1, 2)
    seeds = middle + (torch.rand(count, columns**2, 2, generator=generator, device=device) - 0.5) * 0.9 / columns
    centres = (torch.arange(side, device=device) + 0.5) / side
    place = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), -1).view(1, -1, 2).expand(count, -1, -1)
    # A pane follows the colours: distance counts both place and colour, as superpixels do.
    flat = kuwahara(x, max(1, side // 40)).flatten(2).mT
    at = (seeds * side).long().clamp(0, side - 1)
    own = flat.gather(1, (at[..., 0] * side + at[..., 1])[..., None].expand(-1, -1, 3))
    apart = torch.cdist(torch.cat([place * 3.2, flat * 0.55], 2), torch.cat([seeds * 3.2, own * 0.55], 2))
    nearest = apart.argmin(2)
    sums = torch.zeros(count, columns**2, 3, device=device).scatter_add_(1, nearest[..., None].expand(-1, -1, 3), flat)
    sizes = torch.zeros(count, columns**2, device=device).scatter_add_(1, nearest, torch.ones_like(nearest, dtype=torch.float32))
    colours = sums / sizes[..., None].clamp(min=1)
    spread = 1 + 0.18 * (torch.rand(count, columns**2, 1, generator=generator, device=device) - 0.5)
    mean = colours.mean(2, keepdim=True)
    colours = ((mean + (colours - mean) * 1.35) * spread).clamp(0, 1) * 0.93
    glass = colours.gather(1, nearest[..., None].expand(-1, -1, 3)).mT.reshape(count, 3, side, side)
    number = nearest.view(count, 1, side, side).float()
    width = 1 if side < 100 else 2
    most, least = F.max_pool2d(number, 1 + width, 1), -F.max_pool2d(-number, 1 + width, 1)
    lead = F.pad((most != least).float(), (0, width, 0, width))
    return glass * (1 - lead) + 0.07 * lead


_FILTERS = {
    "oil": oil,
    "watercolour": watercolour,
    "pencil": pencil,
    "charcoal": charcoal,
    "lithograph": lithograph,
    "pixels": pixels,
    "glass": stained_glass,
    "photo": photograph,
}
MANNERS: dict[str, tuple[Manner, tuple[str, ...]]] = {name: (made, MANNERED[name]) for name, made in _FILTERS.items()}
"""Name, filter, and what it is called."""
