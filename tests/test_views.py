"""Laws of the views: they come back, they keep unit noise unit noise, and they are values."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from conftest import Echo, TinyDenoiser, randn, rows_an_image
from hypothesis import given
from hypothesis import strategies as st

from phosphene.defaults import LAID, PIECES
from phosphene.errors import UserError
from phosphene.expression import cond, guide, mean, viewed
from phosphene.forward import Evaluation
from phosphene.moved import Moved, pixel_centres
from phosphene.pieces import Jigsaw, Patches
from phosphene.schedule import linear
from phosphene.tasks.animate import sliding
from phosphene.views import VIEWS, Identity, Mirror, Negate, Turn, view

every_view = pytest.mark.parametrize("name", VIEWS)
moved = pytest.mark.parametrize("name", [name for name, v in VIEWS.items() if isinstance(v, Moved)])
sizes = st.integers(1, 9)


def fitting(name, size):
    """A size that the view's pieces, four a side, divide."""
    return 4 * size if getattr(VIEWS[name], "grid", None) else size


@every_view
@given(batch=st.integers(1, 3), size=sizes, seed=st.integers(0, 99))
def test_a_view_comes_back_exactly(name, batch, size, seed):
    x = randn(batch, 3, fitting(name, size), fitting(name, size), seed=seed)
    v = view(name)
    assert v.invert(v.apply(x)).equal(x)
    assert v.apply(v.invert(x)).equal(x)


@every_view
@given(size=sizes, seed=st.integers(0, 99))
def test_a_view_is_linear_and_keeps_inner_products(name, size, seed):
    size = fitting(name, size)
    # In whole numbers, so that every sum is exact.
    x, y = (randn(1, 2, size, size, seed=seed + i, dtype=torch.float64).mul(10).round() for i in (0, 100))
    v = view(name)
    assert (v.apply(x) * v.apply(y)).sum() == (x * y).sum()
    assert v.apply(3 * x - y).equal(3 * v.apply(x) - v.apply(y))


@every_view
def test_a_view_moves_pixels_within_a_channel_and_flips_signs_by_its_sign(name):
    side = 8 if fitting(name, 1) == 4 else 5
    x = torch.arange(1.0, 2 * 3 * side**2 + 1).view(2, 3, side, side)
    seen_through = view(name).apply(x)
    for picture, other in zip(x.flatten(0, 1), (view(name).sign * seen_through).flatten(0, 1), strict=True):
        assert other.flatten().sort().values.equal(picture.flatten())


@every_view
def test_the_names_are_values(name):
    v = view(name)
    for same in (copy.deepcopy(v), pickle.loads(pickle.dumps(v))):
        assert same == v and hash(same) == hash(v)
    assert {other for other in VIEWS.values() if other == v} == {v}


def test_no_two_names_are_one_view():
    assert len(set(VIEWS.values())) == len(VIEWS)
    assert Turn(1) == VIEWS["rotate-90"] and Mirror(-2) == VIEWS["flip"] != Mirror(-1)


def test_what_is_told_of_a_view_without_torch_is_so():
    """Which views have pieces, in which numbers, and which are laid by chance."""
    assert {name for name, v in VIEWS.items() if getattr(v, "grid", None)} == set(PIECES)
    assert {name for name, v in VIEWS.items() if hasattr(v, "seed")} == set(LAID)
    for name, divisor in PIECES.items():
        for number in range(2, 9):
            try:
                assert replace(VIEWS[name], grid=number).grid == number and number % divisor == 0
            except UserError:
                assert number % divisor


def test_the_names_mean_what_they_say():
    # A picture of one mark: 1 at the top right.
    mark = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    where = {
        "identity": (0, 1),
        "flip": (1, 1),
        "mirror": (0, 0),
        "rotate-90": (0, 0),
        "rotate-180": (1, 0),
        "rotate-270": (1, 1),
    }
    for name, place in where.items():
        moved = view(name).apply(mark)[0, 0]
        assert moved[place] == 1 and moved.sum() == 1, name
    assert view("negate").apply(mark).equal(-mark)


def arrives(name, y, x, size=8):
    """Where a mark at row ``y`` and column ``x`` of a picture is in what the view shows."""
    picture = torch.zeros(1, 1, size, size)
    picture[..., y, x] = 1
    return tuple(view(name).apply(picture)[0, 0].nonzero()[0].tolist())


def test_columns_of_a_skew_slide_down_right_of_the_middle_and_up_left_of_it():
    assert [arrives("skew", 3, x) for x in range(8)] == [(7, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)]
    assert arrives("skew", 7, 6) == (1, 6)  # out below, in above


def test_neighbours_at_a_hinge_turn_a_quarter_to_the_left_and_to_the_right():
    # Squares of 2 by 2: that at the top left turns counter-clockwise, and those beside and below it clockwise.
    assert [arrives("square-hinge", y, x) for y, x in ((0, 1), (0, 0), (1, 0), (1, 1))] == [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert [arrives("square-hinge", y, x) for y, x in ((0, 2), (0, 3), (1, 3), (1, 2))] == [(0, 3), (1, 3), (1, 2), (0, 2)]
    assert [arrives("square-hinge", y, x) for y, x in ((2, 0), (2, 1), (3, 1), (3, 0))] == [(2, 1), (3, 1), (3, 0), (2, 0)]
    assert arrives("square-hinge", 2, 3) == (2, 2)  # on the diagonal as at the top left


def test_the_inner_circle_turns_upside_down_and_what_is_around_it_stays():
    size = 20  # a radius of 8
    for y, x in ((9, 9), (5, 12), (10, 2), (17, 9)):
        assert arrives("inner-circle", y, x, size) == (19 - y, 19 - x)
    for y, x in ((0, 0), (3, 3), (10, 1), (18, 9), (0, 19)):
        assert arrives("inner-circle", y, x, size) == (y, x)


@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_flip_then_mirror_is_half_a_turn(height, width, seed):
    x = randn(1, 1, height, width, seed=seed)
    assert view("mirror").apply(view("flip").apply(x)).equal(view("rotate-180").apply(x))


@given(size=sizes, turns=st.lists(st.integers(-5, 5), max_size=4))
def test_turns_add_up(size, turns):
    x = randn(1, 1, size, size)
    turned = x
    for quarters in turns:
        turned = Turn(quarters).apply(turned)
    assert turned.equal(Turn(sum(turns) % 4).apply(x))


@pytest.mark.parametrize("name", ["rotate-90", "rotate-270"])
def test_quarter_turns_need_a_square(name):
    for way in (view(name).apply, view(name).invert):
        with pytest.raises(UserError, match=f"{name}.*6x4"):
            way(torch.zeros(1, 1, 4, 6))


@pytest.mark.parametrize("name", ["identity", "flip", "mirror", "rotate-180", "negate"])
def test_the_other_views_do_not(name):
    x = randn(1, 1, 4, 6)
    assert view(name).invert(view(name).apply(x)).equal(x)


@every_view
@pytest.mark.parametrize("size", [28, 64, 256, 1024])
def test_views_are_bijections_at_the_sizes_of_the_models(name, size):
    x = torch.arange(1.0, size**2 + 1, dtype=torch.float64).view(1, 1, size, size)
    y = view(name).apply(x)
    assert y.abs().flatten().sort().values.equal(x.flatten())
    assert view(name).invert(y).equal(x)
    assert name == "identity" or not y.equal(x)


@moved
def test_a_view_is_the_same_in_both_stages_of_a_cascade(name):
    """Enlarging a picture and looking at it is looking at it and enlarging it, but for the edges of round pieces."""
    x = randn(1, 1, 64, 64)
    large = x.repeat_interleave(4, -1).repeat_interleave(4, -2)
    differs = view(name).apply(large) != view(name).apply(x).repeat_interleave(4, -1).repeat_interleave(4, -2)
    # Round pieces are rounder there, and columns slide by quarters of a small pixel: 3/8 of unrelated pixels change.
    allowed = {"jigsaw": 0.08, "inner-circle": 0.08, "skew": 0.376}
    assert differs.float().mean() <= allowed.get(name, 0)


@moved
def test_pieces_stay_whole(name):
    """Each pixel of a piece keeps its distance to the piece's middle, and lies where the plan says."""
    size, v = 64, view(name)
    plan, at = v.plan(size), pixel_centres(size)
    ys, xs = at.T.view(2, 1, size, size)
    before = torch.stack([v.apply(ys[None])[0, 0], v.apply(xs[None])[0, 0]], -1).view(-1, 2)  # where each came from
    piece = v.apply(plan.piece.view(1, 1, size, size).double()).long().flatten()
    distance = (before - plan.source[piece]).square().sum(1)
    assert distance.equal((at - plan.target[piece]).square().sum(1))


@pytest.mark.parametrize("grid", [2, 4, 8])
def test_pieces_of_a_jigsaw_have_knobs_and_all_but_the_outline_moves(grid):
    plan = Jigsaw(grid).plan(64)
    areas = torch.bincount(plan.piece).double()
    assert len(areas) == grid**2 and areas.sum() == 64**2
    square = plan.piece.view(grid, 64 // grid, grid, 64 // grid)
    own = torch.arange(grid**2).view(grid, 1, grid, 1)
    assert 0.02 < (square != own).double().mean() < 0.25  # bitten by neighbours
    assert plan.target[:, 0].sort().values.equal(plan.source[:, 0].sort().values)


@given(grid=st.sampled_from([2, 4, 6, 8]), seed=st.integers(0, 2**32 - 1))
def test_every_piece_of_a_jigsaw_goes_to_another_place_of_its_kind(grid, seed):
    plan = Jigsaw(grid, seed).plan(24 * grid)
    assert (plan.target != plan.source).any(dim=1).all()
    assert plan.target.unique(dim=0).shape == plan.source.unique(dim=0).shape

    def borders(place):
        return ((place < 24) | (place > 24 * (grid - 1))).sum(dim=1)

    assert borders(plan.target).equal(borders(plan.source))  # a corner to a corner, an edge to an edge


def test_seeds_lay_pieces_in_other_orders_and_the_same_seed_in_the_same():
    x = randn(1, 1, 64, 64)
    for name in ("patches", "pixels", "jigsaw"):
        one, two = view(name, seed=1), view(name, seed=2)
        assert one != two and one == view(name, seed=1) and one.apply(x).equal(view(name, seed=1).apply(x))
        assert not one.apply(x).equal(two.apply(x))
    assert view("flip", seed=3) == VIEWS["flip"]
    state = torch.get_rng_state()
    Jigsaw(seed=5).plan(64), Patches(seed=5).plan(64)
    assert torch.get_rng_state().equal(state)


def test_the_number_of_pieces_may_be_named():
    assert view("patches:8") == Patches(8) and view("jigsaw:6", seed=2) == Jigsaw(6, 2)
    for name, message in (
        ("jigsaw:5", "even number"),
        ("patches:1", "from 2 on"),
        ("patches:x", "from 2 on"),
        ("flip:4", "no number of pieces"),
        ("pixels:8", "no number of pieces"),
    ):
        with pytest.raises(UserError, match=f"--view {name}.*{message}"):
            view(name)


def test_a_view_may_name_its_own_seed():
    assert view("jigsaw@3") == Jigsaw(seed=3) != view("jigsaw@4") and view("patches:8@5", seed=2) == Patches(8, 5)
    assert view("pixels@0", seed=9) == Patches(None, 0)
    with pytest.raises(UserError, match="--view flip@3: flip is not laid by chance; leave @3 out"):
        view("flip@3")
    for name in ("jigsaw@", "jigsaw:6@x", f"jigsaw@{2**32}"):
        with pytest.raises(UserError, match=f"--view {name}: .*0..4294967295, of a view laid by chance, such as jigsaw@3"):
            view(name)


def test_what_does_not_fit_is_refused_with_what_does():
    with pytest.raises(
        UserError, match="--view patches:8: does not cut 28 pixels evenly; choose patches:2, patches:4, patches:14"
    ):
        view("patches:8").apply(torch.zeros(1, 1, 28, 28))
    with pytest.raises(UserError, match="--view skew: needs a square picture, this one is 6x4"):
        view("skew").apply(torch.zeros(1, 1, 4, 6))


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match="--view sideways.*rotate-90"):
        view("sideways")


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 2.0)])
def test_negation_is_refused_where_pictures_do_not_lie_in_minus_1_to_1(value_range):
    denoiser = TinyDenoiser(linear(10), value_range=value_range)
    expression = mean(cond(0), viewed(guide(viewed(cond(1), Mirror(-1))), Negate()))
    with pytest.raises(UserError, match="negate.*-1, 1"):
        Evaluation(expression, denoiser)
    assert denoiser.calls == []


def test_negation_is_welcome_in_minus_1_to_1_and_every_other_view_everywhere():
    Evaluation(viewed(cond(0), Negate()), TinyDenoiser(linear(10)))
    for v in VIEWS.values():
        if v != Negate():
            Evaluation(viewed(cond(0), v), TinyDenoiser(linear(10), value_range=(0.0, 1.0)))


def test_two_negations_are_none():
    x = randn(1, 3, 12, 12)
    twice = viewed(viewed(cond(0), Negate()), Negate())
    assert Evaluation(twice, Echo(linear(10), value_range=(0.0, 1.0)))(x, 5).noise.equal(x)


def test_identity_is_free():
    # It is the same picture: no row of its own.
    assert rows_an_image(mean(cond(0), viewed(cond(0), Identity()))) == 1


def slides(x, view):
    """What the slides of a Rubik's face say, done with lists of squares."""
    size, n = x.shape[-1], view.grid
    side, begin = size // n, size % n // 2
    squares = [[(r, c) for c in range(n)] for r in range(n)]  # where each comes from
    for way, line, by in view.slides():
        if way == 0:
            squares[line] = squares[line][-by:] + squares[line][:-by]
        else:
            column = [row[line] for row in squares]
            for row, square in zip(squares, column[-by:] + column[:-by], strict=True):
                row[line] = square
    out = x.clone()
    for r in range(n):
        for c in range(n):
            (a, b), (y, z) = ((begin + k * side for k in at) for at in (squares[r][c], (r, c)))
            out[..., y : y + side, z : z + side] = x[..., a : a + side, b : b + side]
    return out


@given(grid=st.integers(2, 5), seed=st.integers(0, 99), size=st.integers(5, 20))
def test_rows_and_columns_of_a_rubiks_face_slide_in_turn_and_what_is_left_over_stays(grid, seed, size):
    x, v = randn(1, 2, size, size, seed=seed), view(f"rubik:{grid}@{seed}")
    assert v.apply(x).equal(slides(x, v)) and sliding(x, v).equal(slides(x, v)) and sliding(x, v, 0.0).equal(x)
    assert sliding(x.repeat_interleave(3, -1).repeat_interleave(3, -2), v, 1.0, 3)[..., ::3, ::3].equal(slides(x, v))
    ways = [way for way, _, _ in v.slides()]
    assert ways == [0, 1, 0, 1] and all(by in (-1, 1) for _, _, by in v.slides())
    for way in (0, 1):  # no slide undoes another
        assert len({line for w, line, _ in v.slides() if w == way}) == 2


@given(grid=st.integers(2, 5), seed=st.integers(0, 99))
def test_a_rubiks_face_is_the_same_in_both_stages(grid, seed):
    small, v = randn(1, 1, 64, 64, seed=seed), view(f"rubik:{grid}@{seed}")
    large = small.repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert v.apply(large)[..., ::4, ::4].equal(v.apply(small))


def test_what_a_hand_does_with_a_rubiks_face_is_said():
    how = view("rubik@2").mark.how
    for way, line, by in view("rubik@2").slides():
        assert f"{('row', 'column')[way]} {line + 1} {(('to the left', 'to the right'), ('up', 'down'))[way][by > 0]}" in how
    assert view("rubik:20").mark.kind == "beside"
    with pytest.raises(UserError, match="--view rubik:9: does not cut 8 pixels; choose rubik:4 or fewer"):
        view("rubik:9").apply(torch.zeros(1, 1, 8, 8))
