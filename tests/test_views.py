"""Laws of the views: they come back, they keep unit noise unit noise, and they are values."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from conftest import Echo, TinyDenoiser, randn
from hypothesis import given as example
from hypothesis import strategies as st

from phosphene.errors import UserError
from phosphene.expression import Evaluation, given, guide, mean, seen
from phosphene.schedule import linear
from phosphene.views import VIEWS, Identity, Mirror, Negate, Turn, view

every_view = pytest.mark.parametrize("name", VIEWS)
sizes = st.integers(1, 9)


@every_view
@example(batch=st.integers(1, 3), size=sizes, seed=st.integers(0, 99))
def test_a_view_comes_back_exactly(name, batch, size, seed):
    x = randn(batch, 3, size, size, seed=seed)
    v = view(name)
    assert v.invert(v.apply(x)).equal(x)
    assert v.apply(v.invert(x)).equal(x)


@every_view
@example(size=sizes, seed=st.integers(0, 99))
def test_a_view_is_linear_and_keeps_inner_products(name, size, seed):
    # In whole numbers, so that every sum is exact.
    x, y = (randn(1, 2, size, size, seed=seed + i, dtype=torch.float64).mul(10).round() for i in (0, 100))
    v = view(name)
    assert (v.apply(x) * v.apply(y)).sum() == (x * y).sum()
    assert v.apply(3 * x - y).equal(3 * v.apply(x) - v.apply(y))


@every_view
def test_a_view_moves_pixels_within_a_channel_and_flips_signs_by_its_sign(name):
    x = torch.arange(1.0, 2 * 3 * 25 + 1).view(2, 3, 5, 5)
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


@example(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_flip_then_mirror_is_half_a_turn(height, width, seed):
    x = randn(1, 1, height, width, seed=seed)
    assert view("mirror").apply(view("flip").apply(x)).equal(view("rotate-180").apply(x))


@example(size=sizes, turns=st.lists(st.integers(-5, 5), max_size=4))
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


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match="--view sideways.*rotate-90"):
        view("sideways")


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 2.0)])
def test_negation_is_refused_where_pictures_do_not_lie_in_minus_1_to_1(value_range):
    denoiser = TinyDenoiser(linear(10), value_range=value_range)
    expression = mean(given(0), seen(guide(seen(given(1), Mirror(-1))), Negate()))
    with pytest.raises(UserError, match="negate.*-1, 1"):
        Evaluation(expression, denoiser)
    assert denoiser.calls == []


def test_negation_is_welcome_in_minus_1_to_1_and_every_other_view_everywhere():
    Evaluation(seen(given(0), Negate()), TinyDenoiser(linear(10)))
    for v in VIEWS.values():
        if v != Negate():
            Evaluation(seen(given(0), v), TinyDenoiser(linear(10), value_range=(0.0, 1.0)))


def test_two_negations_are_none():
    x = randn(1, 3, 12, 12)
    twice = seen(seen(given(0), Negate()), Negate())
    assert Evaluation(twice, Echo(linear(10), value_range=(0.0, 1.0)))(x, 5).noise.equal(x)


def test_identity_is_free():
    # It is the same picture: no row of its own.
    assert Evaluation(mean(given(0), seen(given(0), Identity())), Echo(linear(10))).rows_per_image == 1
