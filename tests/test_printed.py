"""Printed sheets: every view says what it needs, sizes are those of the paper, and what is marked is what the view does."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import randn
from PIL import Image
from test_generate import call, cascade  # noqa: F401  (fixtures)
from test_part_a import here  # noqa: F401  (a fixture)

from phosphene.defaults import PAPERS
from phosphene.moved import Moved
from phosphene.pieces import Patches
from phosphene.readers import read_provenance
from phosphene.tasks import printed
from phosphene.tasks.printed import (
    MARKINGS,
    SIDE,
    STRIPS,
    TOP,
    anagram_pages,
    borders,
    distance,
    hybrid_pages,
    laid_out,
    pixels,
    slide,
)
from phosphene.views import VIEWS, view

PICTURE = randn(3, 16, 16).clamp(-1, 1)


@pytest.fixture
def coarse(monkeypatch):
    """Sheets of few dots: what is drawn is the same."""
    monkeypatch.setattr(printed, "DPI", 60)


def page(name: str) -> Image.Image:
    return laid_out(anagram_pages(PICTURE, [VIEWS["identity"], view(name)], ["as it lies", "otherwise"])[0])


def drawn(name: str) -> np.ndarray:
    """Where the sheet of a view differs from one without its marks."""
    (asked,) = anagram_pages(PICTURE, [view(name)], ["otherwise"])
    plain = laid_out(asked._replace(marking=lambda *_: None))
    return (np.asarray(laid_out(asked)) != np.asarray(plain)).any(-1)


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_says_which_marks_it_needs_and_they_are_drawn(coarse, name):
    mark = VIEWS[name].mark
    assert mark.kind in MARKINGS and mark.how.endswith(".")
    assert drawn(name).any() == (mark.kind not in ("none", "beside")) if name != "identity" else mark.kind == "none"


@pytest.mark.parametrize("name", [name for name in VIEWS if name != "identity"])
def test_a_sheet_has_the_reading_small_below_the_picture(coarse, name):
    pages = anagram_pages(PICTURE, [VIEWS["identity"], view(name)], ["as it lies", "otherwise"])
    assert len(pages) == 1 and pages[0].title == "as it lies / otherwise" and pages[0].how == view(name).mark.how
    seen, caption = pages[0].beside[-1]
    assert caption == "otherwise"
    assert np.array_equal(np.asarray(seen), np.asarray(printed.to_images(view(name).apply(PICTURE[None]))[0]))


@pytest.mark.parametrize("paper", PAPERS)
def test_sizes_are_millimetres(paper, tmp_path):
    black = printed.to_images(torch.full((1, 3, 8, 8), -1.0))[0]
    asked = printed.Page(black, "", "", lambda *_: None)
    whole = np.asarray(laid_out(asked, paper)).min(-1)
    rows, columns = ((whole < 128).sum(axis) > 100 for axis in (1, 0))
    for places, middle in ((rows, None), (columns, PAPERS[paper][0] / 2)):
        found = np.flatnonzero(places[: pixels(TOP + SIDE + 2)])
        assert abs((found[-1] - found[0] + 1) / 300 * 25.4 - SIDE) < 0.1
        assert middle is None or abs((found[0] + found[-1] + 1) / 600 * 25.4 - middle) < 0.1
    below = whole[pixels(TOP + SIDE + 20) :]
    ruled = below[(below < 128).sum(1).argmax()] < 128
    assert abs(ruled.sum() / 300 * 25.4 - 50) < 0.4  # from the middle of one end to that of the other
    printed.save_pages([asked, asked], tmp_path / "it.pdf", paper)
    boxes = re.findall(rb"MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", (tmp_path / "it.pdf").read_bytes())
    assert len(boxes) == 2  # in points, of which 72 are an inch
    assert [abs(float(side) / 72 * 25.4 - mm) < 0.1 for side, mm in zip(boxes[0], PAPERS[paper], strict=True)] == [True] * 2


@pytest.mark.parametrize(("name", "side"), [("rotate-90", -1), ("rotate-180", -1), ("rotate-270", 1)])
def test_an_arrow_points_where_the_top_of_the_picture_goes(coarse, name, side):
    y, x = drawn(name).nonzero()
    assert y.max() < pixels(TOP)  # above the picture
    # The head is the broader end: on its side there is more ink in as many columns.
    middle, reach = PAPERS["a4"][0] / 2 * 60 / 25.4, np.abs(x - PAPERS["a4"][0] / 2 * 60 / 25.4).max()
    ends = [(side * (x - middle) > 0.8 * reach).sum() for side in (-1, 1)]
    assert (ends[1] > 1.5 * ends[0]) if side == 1 else (ends[0] > 1.5 * ends[1])


def test_a_mirror_stands_beyond_the_edge_at_which_the_picture_is_reflected(coarse):
    y, x = drawn("flip").nonzero()
    assert y.max() < pixels(TOP) and x.max() - x.min() > pixels(SIDE) * 0.9
    y, x = drawn("mirror").nonzero()
    assert x.min() > pixels(PAPERS["a4"][0] / 2 + SIDE / 2) and y.max() - y.min() > pixels(SIDE) * 0.9


@pytest.mark.parametrize("name", [name for name, v in VIEWS.items() if isinstance(v, Moved) and v.mark.kind == "pieces"])
def test_what_no_line_parts_stays_together(name):
    """Pixels side by side with no cut between them lie side by side in what the view shows, and a cut parts two pieces."""
    size, v = 64, view(name)
    cut = np.asarray(borders(v, size)) > 0
    at = torch.arange(size * size, dtype=torch.float64).view(1, 1, size, size)
    place = torch.empty(size * size, 2)
    where = v.apply(at)[0, 0].long().flatten()  # what lies at each place of the view
    place[where] = torch.cartesian_prod(torch.arange(size), torch.arange(size)).float()
    place = place.view(size, size, 2)
    piece = v.plan(size).piece.view(size, size)
    for axis in (0, 1):
        apart = place.diff(dim=axis).norm(dim=-1)
        inside = ~torch.from_numpy(cut.copy()).narrow(axis, 1, size - 1)
        assert (apart[inside] == 1).all() and inside.any() and not inside.all()
    left = np.zeros_like(cut)
    left[1:] |= (piece[1:] != piece[:-1]).numpy()
    left[:, 1:] |= (piece[:, 1:] != piece[:, :-1]).numpy()
    assert (cut == left).all()


def test_strips_of_a_skew_slide_as_its_columns_do():
    size, v = 256, VIEWS["skew"]
    mark = torch.zeros(1, 1, size, size)
    mark[..., size // 2, :] = 1
    down = v.apply(mark)[0, 0].argmax(0) - size // 2
    for k in range(STRIPS):
        columns = down[k * size // STRIPS : (k + 1) * size // STRIPS].double()
        assert abs(float(columns.mean()) / size * SIDE - slide(k)) < 0.5  # of a millimetre


def test_pieces_are_numbered_where_they_are_and_where_they_come_to_lie(coarse):
    (asked,) = anagram_pages(PICTURE, [view("square-hinge")], ["otherwise"])
    numbered, laid = (np.asarray(image) for image, _ in asked.beside[:2])
    assert np.array_equal(
        np.asarray(printed.to_images(view("square-hinge").apply(printed.to_tensor(asked.beside[0][0])))[0]), laid
    )
    assert (numbered < 128).any() and not np.array_equal(numbered, laid)
    assert [caption for _, caption in asked.beside] == ["the pieces", "laid anew", "otherwise"]
    assert len(anagram_pages(PICTURE, [view("inner-circle")], ["otherwise"])[0].beside) == 1  # its pieces share their middle


def test_pieces_too_small_to_cut_are_shown_beside():
    assert Patches(8).mark.kind == "pieces" and Patches(32).mark.kind == "beside" == VIEWS["pixels"].mark.kind


@pytest.mark.parametrize(("sheets", "how"), [(2, "both sheets"), (3, "all 3 sheets")])
def test_no_word_lies_on_the_crosses_of_an_overlay(coarse, sheets, how):
    pages = printed.overlay_pages(randn(sheets + 1, 3, 16, 16).clamp(-1, 1), [*"abcd"[:sheets], "a " + "long " * 20 + "prompt"])
    assert len(pages) == sheets and f"Print {how} on" in pages[0].how
    bare = pages[0]._replace(how="", beside=[])
    crosses = (np.asarray(laid_out(bare)) != np.asarray(laid_out(bare._replace(marking=lambda *_: None)))).any(-1)
    assert crosses.any() and np.array_equal(np.asarray(laid_out(pages[0]))[crosses], np.asarray(laid_out(bare))[crosses])
    # Not between their arms either.
    words = (np.asarray(laid_out(pages[0])) != np.asarray(laid_out(bare))).any(-1)
    rows, columns = np.flatnonzero(crosses.any(1)), np.flatnonzero(crosses.any(0))
    below = slice(rows[rows > rows.mean()].min(), rows.max() + 1)
    left = columns[columns < columns.mean()].max()
    right = columns[columns > columns.mean()].min()
    assert words.any() and not words[below, : left + 1].any() and not words[below, right:].any()


def test_the_distance_of_a_hybrid_is_where_the_eye_blurs_as_much():
    """A minute of arc, seen from there, is as wide on the paper as the sigma that parts the prompts."""
    for sigma in (1.2, 2.0, 3.0):
        assert math.isclose(distance(sigma) * 1000 * math.tan(math.radians(1 / 60)), sigma / 64 * SIDE, rel_tol=1e-6)
    (asked,) = hybrid_pages(PICTURE, ["afar", "between", "near"], "frequency", (3.0, 1.2))
    assert asked.how.index("near.") < asked.how.index("between.") < asked.how.index("afar.")
    assert (
        f"{distance(1.2):.1f} m away it should be between" in asked.how
        and f"{distance(3.0):.0f} m away it should be afar" in asked.how
    )
    for kind in ("color", "motion", "scale"):
        assert {"afar", "near"} <= set(re.findall("afar|near", hybrid_pages(PICTURE, ["afar", "near"], kind, (2.0,))[0].how))


def test_a_sheet_lies_beside_the_picture_and_is_no_word_of_it(coarse, call, here, cascade):  # noqa: F811
    base = ["--model", cascade, "--steps", 2, "--no-upscale"]
    anagram, hybrid = ["anagram", "a", "b", "--view", "jigsaw"], ["hybrid", "a", "b"]
    for argv in (anagram, hybrid, ["hybrid", "a", "--from", "ball.png", "--band", "high"]):
        assert call(*argv, *base, "-o", "plain.png")[0] == 0
        code, out, err = call(*argv, *base, "--print", "letter", "-o", "it.png")
        assert (code, err) == (0, "") and "1 page to print in it.pdf" in out
        assert Path("it.png").read_bytes() == Path("plain.png").read_bytes()  # nor of what it says of itself
        assert "paper" not in read_provenance(Path("it.png"))["arguments"]
        first = Path("it.pdf").read_bytes()
        assert call(*argv, *base, "--print", "letter", "-o", "it.png")[0] == 0 and Path("it.pdf").read_bytes() == first
    Path("kept.pdf").mkdir()
    code, _, err = call(*anagram, *base, "--print", "a4", "-o", "kept.png")
    assert code == 2 and "--print kept.pdf: is a folder" in err and not Path("kept.png").exists()
