"""Printed sheets: an illusion on paper at its size in millimetres, with the marks by which a hand turns, cuts or holds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from phosphene.defaults import PAPERS, PRINTED
from phosphene.errors import require_one_of
from phosphene.files import replacing
from phosphene.frequency import REFERENCE_SIZE
from phosphene.images import INK, MUTED, broken, font, to_images, to_tensor
from phosphene.moved import Moved
from phosphene.views import Identity, Turn, View
from phosphene.warps import Cone, Cylinder, Lens, Rotated, Warp

DPI = 300
SIDE, TOP, SMALL = PRINTED, 32.0, 38.0
"""In millimetres: the picture's side, how far from the paper's upper edge it lies, the side of a small picture below."""
RULER, STRIPS = 50.0, 16
WHITE = (255, 255, 255)
EYE = math.radians(1 / 60)
"""What an eye of normal sight blurs: a minute of arc."""


def pixels(millimetres: float) -> int:
    return round(millimetres / 25.4 * DPI)


class Frame(NamedTuple):
    """Where the picture lies on the paper, in pixels."""

    left: int
    top: int
    side: int


Marking = Callable[[Image.Image, Frame, Image.Image], None]
"""Draws on a sheet what a view needs, from the frame and the picture (before it was enlarged)."""


class Page(NamedTuple):
    """A sheet of paper: a picture with its marks, what the reader does, and small pictures below with what they are."""

    picture: Image.Image
    title: str
    how: str
    marking: Marking
    beside: Sequence[tuple[Image.Image, str]] = ()


def save_pages(pages: Sequence[Page], path: Path, paper: str = "a4") -> None:
    """Write ``pages`` as a PDF of 300 dots an inch, one of PAPERS in size; by atomic rename."""
    require_one_of("--print", paper, PAPERS)
    sheets = [laid_out(page, paper) for page in pages]
    with replacing(path) as temporary:
        # Without a date, so that the same picture is the same file; with little compression, for its edges are to be cut along.
        how = {"resolution": DPI, "quality": 92, "title": path.stem, "creationDate": None, "modDate": None}
        sheets[0].save(temporary, "PDF", save_all=True, append_images=sheets[1:], **how)


def laid_out(page: Page, paper: str = "a4") -> Image.Image:
    """``page`` as it is printed, in pixels of 300 an inch."""
    width, height = (pixels(side) for side in PAPERS[paper])
    whole = Image.new("RGB", (width, height), WHITE)
    frame = Frame((width - pixels(SIDE)) // 2, pixels(TOP), pixels(SIDE))
    whole.paste(page.picture.resize((frame.side, frame.side), Image.Resampling.LANCZOS), frame[:2])
    page.marking(whole, frame, page.picture)
    told = [page.title, page.how, *(caption for _, caption in page.beside)]
    pen, write = ImageDraw.Draw(whole), font(pixels(3.6), *told)
    pen.text((width / 2, pixels(13)), page.title, INK, font(pixels(5), *told), anchor="mm")
    below = frame.top + frame.side + pixels(7)
    for line in broken(page.how, write, frame.side):  # beside it may be crosses
        pen.text((width / 2, below), line, INK, write, anchor="ma")
        below += pixels(5)
    if page.beside:
        cells = [image.resize((pixels(SMALL),) * 2, Image.Resampling.LANCZOS) for image, _ in page.beside]
        row = _row(cells, [caption for _, caption in page.beside], write)
        whole.paste(row, ((width - row.width) // 2, below + pixels(3)))
    _ruler(pen, width / 2, height - pixels(11), write)
    return whole


def _row(cells: Sequence[Image.Image], captions: Sequence[str], write: object) -> Image.Image:
    pitch, gap = cells[0].width + pixels(10), pixels(2)
    row = Image.new("RGB", (pitch * len(cells), cells[0].height + pixels(12)), WHITE)
    pen = ImageDraw.Draw(row)
    for k, (cell, caption) in enumerate(zip(cells, captions, strict=True)):
        row.paste(cell, (k * pitch + pixels(5), 0))
        for number, line in enumerate(broken(caption, write, pitch - gap)[:2]):
            pen.text(((k + 0.5) * pitch, cell.height + gap + number * pixels(4.5)), line, MUTED, write, anchor="ma")
    return row


def _ruler(pen: ImageDraw.ImageDraw, middle: float, y: float, write: object) -> None:
    """What shows whether the printer kept the size."""
    half = pixels(RULER) / 2
    pen.line((middle - half, y, middle + half, y), INK, 4)
    for k in range(round(RULER / 10) + 1):
        x = middle - half + pixels(10 * k)
        pen.line((x, y - pixels(2), x, y), INK, 4)
    what = f"{RULER:g} mm: print at 100 %, and the picture is {SIDE:g} mm wide"
    pen.text((middle, y + pixels(1)), what, MUTED, write, anchor="ma")


# Marks of views, by the kind that a view says it needs


def _none(*_: object) -> None:
    """Nothing to draw."""


def _arrow(view: Turn, whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    """An arc above the picture, in the way in which its top goes."""
    pen, x, y = ImageDraw.Draw(whole), frame.left + frame.side / 2, frame.top + frame.side / 2
    radius, sign = frame.side / 2 + pixels(11), 1 if view.quarters == 3 else -1  # three quarters left are one to the right
    pen.arc((x - radius, y - radius, x + radius, y + radius), 250, 290, INK, pixels(0.8))
    end = math.radians(270 + 20 * sign)
    tip = [(end + sign * math.radians(2.5), radius), *((end, radius + pixels(2.2) * k) for k in (-1, 1))]
    pen.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a, r in tip], INK)


def _mirror(view: View, whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    left, top, side = frame
    away, dash = pixels(2), pixels(3)
    for start in range(0, side, 2 * dash):
        end = min(start + dash, side)
        if view.axis == -2:
            line = (left + start, top - away, left + end, top - away)
        else:
            line = (left + side + away, top + start, left + side + away, top + end)
        ImageDraw.Draw(whole).line(line, INK, pixels(0.6))


def _pieces(view: Moved, whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    """The borders between pieces, and the outline."""
    cuts = borders(view, picture.width * max(1, frame.side // picture.width))
    for size, colour in ((9, WHITE), (3, INK)):  # ink in a halo, so that it is seen on dark and on light
        mask = cuts.filter(ImageFilter.MaxFilter(size)).resize((frame.side, frame.side), Image.Resampling.BOX)
        whole.paste(colour, frame[:2], mask)
    _outlined(whole, frame)


def _outlined(whole: Image.Image, frame: Frame) -> None:
    left, top, side = frame
    ImageDraw.Draw(whole).rectangle((left - 3, top - 3, left + side + 2, top + side + 2), outline=INK, width=3)


def borders(view: Moved, size: int) -> Image.Image:
    """White where a pixel of ``size`` by ``size`` belongs to another piece than that above or to the left of it; else black."""
    piece = view.plan(size).piece.view(size, size).numpy()
    edge = np.zeros((size, size), dtype=np.uint8)
    edge[1:] |= (piece[1:] != piece[:-1]).astype(np.uint8)
    edge[:, 1:] |= (piece[:, 1:] != piece[:, :-1]).astype(np.uint8)
    return Image.fromarray(edge * 255)


def _strips(view: View, whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    """Lines between strips, and how far each slides down: its middle by its distance from the picture's."""
    pen, (left, top, side) = ImageDraw.Draw(whole), frame
    for k in range(STRIPS):
        x, across = left + k * side / STRIPS, side / STRIPS
        if k:
            pen.line((x, top, x, top + side), WHITE, 9)
            pen.line((x, top, x, top + side), INK, 3)
        pen.text((x + across / 2, top - pixels(2)), f"{slide(k):.0f}", INK, font(pixels(3)), anchor="mb")
    _outlined(whole, frame)


def slide(strip: int) -> float:
    """How many millimetres the ``strip`` of a skew slides down."""
    return ((strip + 0.5) / STRIPS - 0.5) * SIDE


def _in_halo(whole: Image.Image, draw: Callable[[ImageDraw.ImageDraw, tuple, int], None]) -> None:
    """What ``draw`` draws with a pen, a colour and a width: ink in a halo, so that it is seen on dark and on light."""
    for colour, width in ((WHITE, pixels(0.8)), (INK, pixels(0.25))):
        draw(ImageDraw.Draw(whole), colour, max(1, width))


def _disc(view: Rotated, whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    """The circle, a tick on it, and around it a triangle where the tick comes to lie."""
    x, y, radius = frame.left + frame.side / 2, frame.top + frame.side / 2, frame.side / 2
    ImageDraw.Draw(whole).ellipse((x - radius, y - radius, x + radius, y + radius), outline=INK, width=max(1, pixels(0.25)))
    _outlined(whole, frame)
    _in_halo(whole, lambda pen, colour, width: pen.line((x, frame.top, x, frame.top + pixels(4)), colour, width))
    # The top goes counter-clockwise, to the left.
    outwards = math.radians(-90 - view.degrees)
    corners = [(outwards, radius), *((outwards + side * 0.03, radius + pixels(4)) for side in (-1, 1))]
    ImageDraw.Draw(whole).polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a, r in corners], INK, WHITE)


def _stand(view: Cylinder | Cone, whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    """The circle that the mirror stands on; and where the eye is, if it is not above."""
    half, axis = frame.side / 2, getattr(view, "AXIS", 0.0)
    x, y, radius = frame.left + half, frame.top + half * (1 + axis), half * view.RADIUS
    box = (x - radius, y - radius, x + radius, y + radius)
    _in_halo(whole, lambda pen, colour, width: pen.ellipse(box, outline=colour, width=width))
    if axis:
        below, arm = frame.top + frame.side + pixels(1.5), pixels(3)
        ImageDraw.Draw(whole).polygon([(x, below + arm), (x - arm, below), (x + arm, below)], INK)


def _square(view: Lens, whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    """The corners of what is enlarged."""
    half, arm = frame.side / 2, pixels(4)
    x, y, reach = frame.left + half, frame.top + half, half / view.times
    for across in (-1, 1):
        for down in (-1, 1):
            corner = (x + across * reach, y + down * reach)
            ends = (corner[0] - across * arm, corner[1]), (corner[0], corner[1] - down * arm)
            _in_halo(whole, lambda pen, colour, width, line=(ends[0], corner, ends[1]): pen.line(line, colour, width))


MARKINGS = {"none": _none, "arrow": _arrow, "mirror": _mirror, "pieces": _pieces, "strips": _strips, "beside": _none}
MARKINGS |= {"disc": _disc, "stand": _stand, "square": _square}
"""What draws each kind of mark. What is small ``beside`` the picture is what the view shows, because no hand can make it."""


def anagram_pages(picture: Tensor, views: Sequence[View | Warp], captions: Sequence[str]) -> list[Page]:
    """A page for each way in which ``picture`` (3, S, S; in [-1, 1]) is seen other than as it lies: for each of ``views``."""
    (image,) = to_images(picture[None])
    plain = next((c for v, c in zip(views, captions, strict=True) if isinstance(v, Identity)), "")
    pages = []
    for view, caption in zip(views, captions, strict=True):
        if isinstance(view, Identity):
            continue
        beside = [*_plan(view, image.width), (*to_images(view.apply(picture[None])), caption)]
        title = f"{plain} / {caption}" if plain else caption
        pages.append(Page(image, title, view.mark.how, partial(MARKINGS[view.mark.kind], view), beside))
    return pages


def _plan(view: View, width: int) -> list[tuple[Image.Image, str]]:
    """Pieces with their numbers as they are and as they are laid, where they are several and each has a place of its own."""
    if view.mark.kind != "pieces":
        return []
    size = width * max(1, pixels(SMALL) // width)
    middles = view.plan(size).source
    if len(middles.unique(dim=0)) < len(middles):
        return []
    numbered = Image.new("RGB", (size, size), WHITE)
    numbered.paste(INK, (0, 0), borders(view, size))
    pen, write = ImageDraw.Draw(numbered), font(max(8, round(size / math.sqrt(len(middles)) / 3)))
    for number, (y, x) in enumerate(middles.tolist(), 1):
        if (y, x) == (0, 0):  # a border, which stays
            continue
        pen.text((x, y), str(number), INK, write, anchor="mm")
    return [(numbered, "the pieces"), (*to_images(view.apply(to_tensor(numbered))), "laid anew")]


def distance(sigma: float, side: float = SIDE) -> float:
    """From how many metres an eye blurs a picture ``side`` millimetres wide as much as ``sigma``, in 64ths of it, does."""
    return sigma / REFERENCE_SIZE * side / EYE / 1000


def hybrid_pages(picture: Tensor, prompts: Sequence[str], kind: str, sigmas: Sequence[float], angle: float = 0.0) -> list[Page]:
    """The page of a hybrid (3, S, S; in [-1, 1]) of ``kind``; of frequencies, with the distances at which it changes.

    There the small print below changes as well, a few steps away.
    """
    (image,) = to_images(picture[None])
    first, *others = prompts
    ways = {
        "color": f"In colour it is {others[0]}. Copied in grey, or in a light too dim for colours, it is {first}.",
        "motion": f"At rest it is {others[0]}. Moved quickly to and fro, {angle:g} degrees from sideways, it is {first}.",
        "scale": f"It is {first} and {others[0]} at once.",
    }
    if kind != "frequency":
        return [Page(image, " / ".join(prompts), ways[kind], _none)]
    from_afar = zip(reversed(sigmas), reversed(prompts[:-1]), strict=True)
    far = " ".join(f"From {_metres(distance(sigma))} away it should be {prompt}." for sigma, prompt in from_afar)
    how = f"Near to the eye it should be {prompts[-1]}. {far} Half closed eyes see it sooner."
    small = f"as small as this: {first} from {_metres(distance(max(sigmas), SMALL))}"
    return [Page(image, " / ".join(prompts), how, _none, [(image, small)])]


def _metres(length: float) -> str:
    return f"{length:.0f} m" if length >= 10 else f"{length:.1f} m"


def overlay_pages(pictures: Tensor, prompts: Sequence[str]) -> list[Page]:
    """A page for each sheet of an overlay: ``pictures`` (N + 1, 3, S, S; in [-1, 1]), last what the N sheets show together."""
    *sheets, together = to_images(pictures)
    every = "both" if len(sheets) == 2 else f"all {len(sheets)}"
    how = (
        f"Print {every} sheets on transparent film, lay them upon each other so that the crosses meet, and hold them "
        f"against the light: together they are {prompts[-1]}."
    )
    beside = [(together, prompts[-1])]
    return [Page(sheet, prompt, how, _crosses, beside) for sheet, prompt in zip(sheets, prompts[:-1], strict=True)]


def _crosses(whole: Image.Image, frame: Frame, picture: Image.Image) -> None:
    """Beyond the corners of the picture, where they do not hide it."""
    pen, away, arm = ImageDraw.Draw(whole), pixels(8), pixels(3)
    for x in (frame.left - away, frame.left + frame.side + away):
        for y in (frame.top - away, frame.top + frame.side + away):
            pen.line((x - arm, y, x + arm, y), INK, 4)
            pen.line((x, y - arm, x, y + arm), INK, 4)
