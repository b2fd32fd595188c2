"""Warps: sums that keep what they must, mirrors that obey the law of reflection, and the fold that draws through them."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import energy, randn, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_generate import call, cascade  # noqa: F401  (fixtures)
from test_part_a import here, wide  # noqa: F401  (fixtures)
from test_tasks import rows

from phosphene.drawing import Sampling, run
from phosphene.folds import Seen, Sheet
from phosphene.moved import pixel_centres
from phosphene.readers import read_provenance
from phosphene.sampler import last
from phosphene.tasks import printed
from phosphene.tasks.anagram import anagram, folded, views_named
from phosphene.tasks.animate import MARGIN, on_the_way, turn_frames
from phosphene.tasks.printed import MARKINGS, SIDE, TOP, anagram_pages, laid_out, pixels
from phosphene.views import VIEWS, Identity, view
from phosphene.warps import WARPS, Cone, Cylinder, Lens, Rotated, Warp, warp

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
every_warp = pytest.mark.parametrize("name", [*WARPS, "rotate:60", "lens:4"])
seeds = st.integers(0, 99)
TWO = ["a rocket", "a skull"]


@dataclass(frozen=True)
class Shrunk(Warp):
    """Someone else's: the picture from so many times as far, its border going on beyond it."""

    times: float = 3.0
    mark = VIEWS["negate"].mark

    def source(self, at):
        return at * self.times


def pictures(seed, size=12, channels=2):
    return randn(2, channels, size, size, seed=seed, dtype=torch.float64)


def middle(x, share=0.5):
    """What lies within so much of the picture's side."""
    edge = round(x.shape[-1] * (1 - share) / 2)
    return x[..., edge:-edge, edge:-edge]


# The sums


@every_warp
@given(seed=seeds, size=st.integers(2, 13))
def test_a_warp_is_linear_and_its_transpose_is_that(name, seed, size):
    x, y, v = pictures(seed, size), pictures(seed + 100, size), warp(name)
    torch.testing.assert_close((v.apply(x) * y).sum(), (x * v.adjoint(y)).sum(), rtol=0, atol=1e-9)
    torch.testing.assert_close(v.apply(3 * x - y), 3 * v.apply(x) - v.apply(y), rtol=0, atol=1e-9)


@every_warp
@given(size=st.integers(2, 13), level=st.floats(-1, 1))
def test_a_plain_colour_stays(name, size, level):
    x = torch.full((1, 1, size, size), level, dtype=torch.float64)
    torch.testing.assert_close(warp(name).apply(x), x, rtol=0, atol=1e-7)


@every_warp
def test_what_is_seen_does_not_depend_on_what_is_seen_with_it(name):
    x = randn(3, 3, 16, 16)
    torch.testing.assert_close(warp(name).apply(x)[1:2], warp(name).apply(x[1:2]), rtol=0, atol=0)
    assert warp(name).apply(x[0]).equal(warp(name).apply(x)[0])


@every_warp
def test_warps_are_values(name):
    v = warp(name)
    for same in (copy.deepcopy(v), pickle.loads(pickle.dumps(v)), warp(name)):
        assert same == v and hash(same) == hash(v)
    assert warp(str(v)) == v


@every_warp
def test_every_place_that_is_seen_lies_on_the_picture(name):
    at = pixel_centres(40) / 20 - 1
    assert warp(name).source(at).abs().max() <= 1


@given(times=st.sampled_from([2.0, 3.0, 4.5, 7.5]), seed=seeds)
def test_where_the_picture_is_shrunk_nothing_aliases(times, seed):
    """Stripes too fine for what is seen are grey there, whatever their phase; broad ones stay."""
    at = torch.arange(48, dtype=torch.float64)
    phase = seed / 100 * 2 * math.pi
    fine, broad = (torch.cos(2 * math.pi * at / period + phase).expand(1, 1, 48, 48) for period in (2.2, 24.0 + 8 * times))
    inside = 0.6 / times
    assert middle(Shrunk(times).apply(fine), inside).abs().max() < 0.08
    assert middle(Shrunk(times).apply(broad), inside).abs().max() > 0.8


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.sampled_from([2, 3, 4]))
def test_where_it_is_enlarged_a_parabola_stays_one(weights, times):
    """The interpolation is of the third order: what is of second degree in the place is exactly that, away from the border."""

    def surface(place):
        y, x = place.unbind(1)
        return torch.stack([y * y, y * x, x * x, y, x, torch.ones_like(x)], 1) @ torch.tensor(weights, dtype=torch.float64)

    at = pixel_centres(24) / 12 - 1
    found = Lens(times).apply(surface(at).view(1, 1, 24, 24))
    torch.testing.assert_close(middle(found), middle(surface(at / times).view(1, 1, 24, 24)), rtol=0, atol=1e-12)


@every_warp
def test_noise_stays_unit_noise(name):
    """Exactly: as a linear map of the picture's noise and of fresh noise it has orthonormal rows."""
    size, v = 8, warp(name)
    unit, none = torch.eye(size**2).view(-1, 1, size, size), torch.zeros(size**2, 1, size, size)
    whole = torch.cat([v.noise(unit, none), v.noise(none, unit)]).flatten(1)
    torch.testing.assert_close(whole.T @ whole, torch.eye(size**2), rtol=0, atol=1e-6)
    assert v.noise(unit, none).any() and v.noise(none, unit).any()


# What each shows


@given(quarters=st.integers(0, 4), seed=seeds, size=st.integers(2, 16))
def test_quarter_turns_are_those_of_the_views_within_the_disc(quarters, seed, size):
    x, away = pictures(seed, size), (pixel_centres(size) * 2 / size - 1).norm(dim=1).view(size, size)
    expected, found = torch.where(away < 1, torch.rot90(x, quarters, (-2, -1)), x), Rotated(90 * quarters).apply(x)
    clear = (away - 1).abs() > 3 / size  # of the border, which is smooth
    torch.testing.assert_close(found[..., clear], expected[..., clear], rtol=0, atol=1e-9)
    torch.testing.assert_close(found if quarters % 4 == 0 else x, x, rtol=0, atol=1e-9)


@given(degrees=st.integers(1, 359), seed=seeds)
def test_turned_and_turned_back_smooth_pictures_are_what_they_were(degrees, seed):
    from phosphene.frequency import low_pass

    x = low_pass(pictures(seed, 32), 2.0)
    back = Rotated(360 - degrees).apply(Rotated(degrees).apply(x))
    assert (middle(back - x).square().mean() / middle(x).square().mean()).sqrt() < 0.02


def test_a_turn_goes_to_the_left():
    x = torch.zeros(1, 1, 32, 32)
    x[..., 2:5, 15:17] = 1  # near the top
    y, across = (Rotated(45).apply(x)[0, 0] > 0.3).nonzero().double().mean(0).tolist()
    assert y < 10 and across < 10


SEEN = torch.tensor([[y, x] for y in (-0.9, -0.3, 0.1, 0.8) for x in (-0.95, -0.4, 0.03, 0.7)], dtype=torch.float64)


def test_the_mirror_of_a_cylinder_obeys_fermat():
    """Light goes where its way is stationary: from the eye over the mirror to the paper, no near point of the mirror differs."""
    mirror = Cylinder()
    elevation, (y, x) = mirror.ELEVATION, SEEN.unbind(1)
    paper = mirror.source(SEEN)
    eye = torch.tensor([0, -mirror.EYE * math.cos(elevation), mirror.HEIGHT + mirror.EYE * math.sin(elevation)]).double()
    flat = torch.zeros_like(x)
    aim = torch.stack([x, -y * math.sin(elevation), -y * math.cos(elevation)], 1) * mirror.REACH
    ray = aim + torch.tensor([0, 0, mirror.HEIGHT]).double() - eye
    # Where it meets the mirror, found by going in halves from the eye to where it is nearest to the axis.
    near, far = flat, -(ray[:, :2] @ eye[:2]) / ray[:, :2].square().sum(1)
    for _ in range(60):
        half = (near + far) / 2
        outside = (eye + half[:, None] * ray)[:, :2].norm(dim=1) > mirror.RADIUS
        near, far = torch.where(outside, half, near), torch.where(outside, far, half)
    met = eye + near[:, None] * ray
    turn, height = torch.atan2(met[:, 1], met[:, 0]).requires_grad_(), met[:, 2].clone().requires_grad_()
    point = torch.stack([mirror.RADIUS * turn.cos(), mirror.RADIUS * turn.sin(), height], 1)
    goal = torch.stack([paper[:, 1], mirror.AXIS - paper[:, 0], flat], 1)
    ((point - eye).norm(dim=1) + (goal - point).norm(dim=1)).sum().backward()
    assert turn.grad.abs().max() < 1e-6 and height.grad.abs().max() < 1e-6
    assert met[:, 2].min() > 0  # above the paper
    assert ((goal[:, :2].norm(dim=1)) > mirror.RADIUS).all()  # beside the mirror, not under it
    side = ((goal - met) * torch.nn.functional.pad(met[:, :2], (0, 1))).sum(1)
    assert (side > 0).all()  # on the outer side of the mirror


def test_the_mirror_of_a_cone_obeys_fermat():
    cone = Cone()
    inside = SEEN[SEEN.norm(dim=1) < 1]
    paper, at = cone.source(inside), cone.RADIUS * inside
    place = at.clone().requires_grad_()
    height = (cone.RADIUS - place.norm(dim=1)) * cone.STEEP
    way = -height + ((place - paper).square().sum(1) + height.square()).sqrt()  # from a level high above
    # The eye is far above the very place: there rays are upright, and a near one begins beside it.
    way.sum().backward()
    assert place.grad.abs().max() < 1e-9 and (paper.norm(dim=1) > cone.RADIUS).all()
    corners = torch.tensor([[0.9, 0.9], [-0.8, 0.95]], dtype=torch.float64)
    torch.testing.assert_close(cone.source(corners), cone.RADIUS * corners)


def test_a_glass_shows_the_middle():
    x = pictures(3, 24)
    grown = Lens(3).apply(x)
    torch.testing.assert_close(grown[..., 1::3, 1::3], x[..., 8:16, 8:16], rtol=0, atol=1e-9)  # where pixels meet pixels


def test_warps_by_their_names():
    assert warp("rotate:60") == Rotated(60) and warp("rotate") == Rotated(135) and warp("lens:3") == Lens(3)
    assert views_named(["rotate:120", "rotate:240"], 3) == [Identity(), Rotated(120), Rotated(240)]
    for wrong, words in {
        "rotate:360": "2..359",
        "lens:5": "2..4",
        "lens:x": "2..4",
        "cone:3": "leave the number out",
        "cylinder@2": "has no seed",
        "rotate:": "2..359",
    }.items():
        refusal(lambda wrong=wrong: views_named([wrong], 2), f"--view {wrong}", words)
    refusal(lambda: view("lens:2"), "--view lens: unknown", "square-hinge")  # where only orthogonal ones will do
    refusal(lambda: Cylinder().apply(torch.zeros(1, 1, 4, 6)), "--view cylinder", "square", "6x4")


# The fold

shares = st.floats(0.1, 10)
others = st.lists(st.sampled_from([*WARPS.values(), VIEWS["flip"], VIEWS["negate"], Shrunk()]), min_size=1, max_size=3)


def fold_of(views, weights):
    return Seen((Identity(), *views), tuple(weights[: len(views) + 1]))


four = st.lists(shares, min_size=4, max_size=4)


@given(others, four, seeds)
def test_what_the_fold_returns_is_one_picture_and_what_is_seen_of_it(views, weights, seed):
    fold = fold_of(views, weights)
    first, *seen = fold(pictures(seed, 12, 2 * fold.sheets)).chunk(fold.sheets, 1)
    for v, found in zip(views, seen, strict=True):
        assert found.equal(v.apply(first))


@given(others, four, seeds)
def test_what_agrees_is_not_moved(views, weights, seed):
    x, fold = pictures(seed), fold_of(views, weights)
    agreed = torch.cat([x, *(v.apply(x) for v in views)], 1)
    torch.testing.assert_close(fold(agreed), agreed, rtol=0, atol=1e-12)
    found = fold(pictures(seed + 1, 12, 2 * fold.sheets))
    torch.testing.assert_close(fold(found), found, rtol=0, atol=1e-12)


@given(others, four, seeds, seeds)
def test_no_other_picture_is_nearer_to_the_estimates(views, weights, seed, other):
    """What is left is at right angles, by the weights, to all that could be seen; so whatever else agrees has more energy."""
    fold = fold_of(views, weights)
    wanted = pictures(seed, 12, 2 * fold.sheets)
    found, x = fold(wanted), pictures(other + 200)
    seen = torch.cat([x, *(v.apply(x) for v in views)], 1)
    scales = torch.tensor(fold.weights).double().repeat_interleave(2)[:, None, None]
    rest, way = scales.sqrt() * (wanted - found), scales.sqrt() * seen
    assert (rest * way).sum().abs() < 1e-4 * rest.norm() * way.norm()
    assert (energy(fold, found, wanted) < energy(fold, found + seen, wanted)).all()
    start = wanted.chunk(fold.sheets, 1)[0]
    begun = torch.cat([start, *(v.apply(start) for v in views)], 1)
    assert (energy(fold, found, wanted) <= energy(fold, begun, wanted) * (1 + 1e-9)).all()


@given(st.lists(st.sampled_from(list(VIEWS.values())), min_size=1, max_size=3), four, seeds)
def test_of_orthogonal_views_it_is_the_mean(views, weights, seed):
    fold = fold_of(views, weights)
    parts = pictures(seed, 12, 2 * fold.sheets).chunk(fold.sheets, 1)
    whole = sum(w * v.invert(e) for w, v, e in zip(fold.weights, fold.views, parts, strict=True)) / sum(fold.weights)
    torch.testing.assert_close(fold(torch.cat(parts, 1)).chunk(fold.sheets, 1)[0], whole, rtol=0, atol=1e-4)
    z = torch.cat(parts, 1)
    for v, found in zip(fold.views, fold.noise(z).chunk(fold.sheets, 1), strict=True):
        assert found.equal(v.apply(parts[0]))


@given(times=st.sampled_from([2.0, 3.0]), seed=seeds)
def test_what_a_view_cannot_see_it_does_not_blur(times, seed):
    """A view from afar that wants another colour moves colours, and leaves the detail that it does not see."""
    x = pictures(seed, 16)
    checks = torch.ones(16, 16, dtype=torch.float64)
    checks[::2, ::2] = checks[1::2, 1::2] = -1
    fold, far = fold_of([Shrunk(times)], [1.0, 5.0]), Shrunk(times).apply(x) + 0.3
    plain = fold(torch.cat([x, far], 1)).chunk(2, 1)[0]
    detailed = fold(torch.cat([x + 0.5 * checks, far], 1)).chunk(2, 1)[0]
    kept = middle(detailed - plain, 0.7) / (0.5 * middle(checks, 0.7))
    assert (kept - 1).abs().max() < 0.05
    assert middle(plain - x).mean() > 0.05  # and the colour has moved


def test_the_heavier_a_view_the_nearer_its_estimate_stays():
    wanted = pictures(5, 12, 4)
    for k in range(2):
        away = []
        for weight in (0.2, 1.0, 5.0, 25.0):
            fold = fold_of([Cylinder()], [weight if j == k else 1.0 for j in range(2)])
            away.append(float(Sheet(k, 2).apply(fold(wanted) - wanted).square().mean()))
        assert away == sorted(away, reverse=True)


def test_folds_that_cannot_be():
    refusal(lambda: Seen((Rotated(), Identity()), (1.0, 1.0)), "--view", "add identity")
    refusal(lambda: Seen((Identity(), Rotated()), (1.0,)), "--weights 1", "2 views")
    refusal(lambda: Seen((Identity(), Rotated()), (1.0, -1.0)), "--weights 1, -1", "positive")


# What is drawn


def opened(folder):
    from phosphene.models.cascade import open_cascade

    return open_cascade(folder)


@pytest.mark.parametrize("solver", ["ddim", "dpm", "heun"])
@pytest.mark.parametrize("views", [["identity", "flip"], ["rotate-90", "identity"], ["identity", "negate", "skew"]])
def test_where_all_views_are_orthogonal_the_run_is_that_of_their_mean(cascade, solver, views):  # noqa: F811
    prompts, weights = [*TWO, "a dog"][: len(views)], [2.0, 1.0, 3.0][: len(views)]
    sampling, stage = Sampling(solver, steps=4, threshold=False, guidance=3.0), opened(cascade).stages[0]
    plain = last(run(anagram(prompts, views, weights=weights), stage, [4], sampling=sampling))
    task = folded(prompts, [view(name) for name in views], weights=weights)
    found = last(run(task, stage, [4], sampling=sampling))
    for reading, expected in zip(task.readings, views, strict=True):
        torch.testing.assert_close(reading.look(found), view(expected).apply(plain), rtol=0, atol=2e-3)
    assert plain.std() > 0.1


def test_through_a_warp_that_moves_nothing_the_run_is_the_plain_one(cascade):  # noqa: F811
    from phosphene.tasks.generate import generate

    sampling, stage = Sampling("dpm", steps=4, threshold=False, guidance=3.0), opened(cascade).stages[0]
    plain = last(run(generate(TWO[:1]), stage, [4], sampling=sampling))
    found = last(run(folded([TWO[0]] * 2, [Identity(), Rotated(360.0)]), stage, [4], sampling=sampling))
    torch.testing.assert_close(found, torch.cat([plain, plain], 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampling", [Sampling(steps=3), Sampling("dpm", steps=3), Sampling(steps=3, resample=2)])
def test_in_both_stages_what_is_finished_agrees_and_each_seed_is_its_own(cascade, sampling):  # noqa: F811
    model, task = opened(cascade), anagram([*TWO, "a dog"], ["identity", "cylinder", "rotate:60"])
    steps = list(run(task, model, [1, 2], sampling=sampling))
    for stage in (0, 1):
        (finished,) = [step.xt for step in steps if step.stage == stage and step.t == -1]
        assert finished.shape == (2, 9, *model.stages[stage].image_shape[1:])
        first = finished[:, :3]
        torch.testing.assert_close(finished[:, 3:6], Cylinder().apply(first), rtol=0, atol=1e-4)
        torch.testing.assert_close(finished[:, 6:], Rotated(60).apply(first), rtol=0, atol=1e-4)
        assert finished.std() > 0.02
    alone = last(run(task, model, [2], sampling=sampling))
    torch.testing.assert_close(alone[0], steps[-1].xt[1], rtol=0, atol=1e-3)


def test_a_warp_costs_no_row_that_a_view_does_not(cascade):  # noqa: F811
    for stage in opened(cascade).stages:
        assert [rows(stage, anagram(TWO, [name])) for name in WARPS] == [rows(stage, anagram(TWO, ["flip"]))] * len(WARPS)
    assert rows(opened(cascade).stages[0], anagram(TWO, ["cone"])) == 4


def test_the_picture_may_be_named_anywhere(cascade):  # noqa: F811
    sampling, stage = Sampling("dpm", steps=3), opened(cascade).stages[0]
    one, other = anagram(TWO, ["identity", "lens"], weights=[1, 2]), anagram(TWO[::-1], ["lens", "identity"], weights=[2, 1])
    found = [last(run(task, stage, [3], sampling=sampling)) for task in (one, other)]
    assert found[0].equal(found[1])
    for a, b in zip(one.readings, reversed(other.readings), strict=True):
        assert a.caption == b.caption and a.look(found[0]).equal(b.look(found[1]))


def test_anagrams_through_warps_that_cannot_be(cascade):  # noqa: F811
    refusal(lambda: anagram(TWO, ["flip", "lens"]), "--view", "add identity")
    refusal(lambda: anagram(TWO, ["lens", "lens:2"]), "two views are the same")
    for how in ({"weights": "auto"}, {"rectified": True}, {"reduce": "alternate"}, {"last": "identity:2"}):
        refusal(lambda how=how: anagram(TWO, ["cone"], **how), f"--{next(iter(how))[:4]}", "cone", "leave it out")
    refusal(lambda: anagram(TWO, ["cone"], weights=[1, -1]), "--weights 1,-1:", "positive")
    refusal(lambda: anagram(TWO, ["cone"], weights=[1, 1, 1]), "--weights 1,1,1:", "2 parts")


@pytest.mark.parametrize("name", WARPS)
def test_from_typing_to_paper(call, here, cascade, monkeypatch, name):  # noqa: F811
    monkeypatch.setattr(printed, "DPI", 60)
    base = ["--view", name, "--model", cascade, "--steps", 2, "--best-of", 2, "--weights", "1,2"]
    code, out, err = call("anagram", *TWO, *base, "--animate", "it.gif", "--print", "a4", "--sheet", "-o", "it.png")
    assert (code, err) == (0, "") and "1 picture in it.png" in out and "1 page to print in it.pdf" in out
    with Image.open("it.gif") as animation:
        assert animation.n_frames > 20
    alone = Image.open("it-1.png")
    assert alone.size == opened(cascade).stages[1].image_shape[:0:-1]  # the picture, and not what is seen of it
    story = read_provenance(Path("it-1.png"))
    assert story["command"] == "anagram" and story["arguments"]["view"] == [name]
    code, out, err = call("rerun", "it-1.png", "-o", "again.png", "--allow-model", cascade)
    assert code == 0 and "byte for byte" in out, err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--view", "rotate:400"], "--view rotate:400: after its colon stands a whole number, 2..359."),
        (["--view", "cone", "--rectify"], "--rectify: is of orthogonal views"),
        (["--view", "cone", "--view", "flip"], "add identity"),
        (["--view", "lens", "--weights", "1,0"], "--weights 1,0: give a positive number for each of 2 views."),
    ],
)
def test_what_cannot_be_is_one_sentence(call, here, argv, words):  # noqa: F811
    code, _, err = call("anagram", *TWO, *argv, "-o", "it.png")
    assert code == 2 and words in err and err.count("\n") == 1 and not Path("it.png").exists()


def test_models_of_pictures_that_are_not_square(call, here, wide):  # noqa: F811
    code, _, err = call("anagram", *TWO, "--view", "cylinder", "--model", wide, "--steps", 2, "--no-upscale", "-o", "it.png")
    assert code == 2 and "--view cylinder: needs a square picture" in err


# What is shown


@every_warp
def test_it_moves_from_the_picture_to_what_is_seen(name):
    from phosphene.frequency import low_pass

    picture, v = low_pass(randn(1, 3, 64, 64, seed=4), 2.0)[0].clamp(-1, 1), warp(name)
    room = round(MARGIN * 64)
    inside = slice(room, -room)
    torch.testing.assert_close(on_the_way(picture, v, 0.0)[:, inside, inside], picture, rtol=0, atol=1e-4)
    shown = on_the_way(picture, v, 1.0)[:, inside, inside]
    assert (shown - v.apply(picture[None])[0]).abs().mean() < 0.05 * picture.std()  # but for how it is interpolated
    half = on_the_way(picture, v, 0.5)
    assert half.isfinite().all() and half[:, :room].std(dim=(1, 2)).max() < 1e-5
    frames = list(turn_frames(picture, v, ("one", "other")))
    assert len({frame.size for frame in frames}) == 1 and len(frames) > 40


def drawn(v):
    """Where the sheet of a warp differs from one without its marks, in shares of the picture's side, y and x."""
    (page,) = anagram_pages(randn(3, 16, 16).clamp(-1, 1), [v], ["otherwise"])
    marks = (np.asarray(laid_out(page)) != np.asarray(laid_out(page._replace(marking=lambda *_: None)))).any(-1)
    return marks, page


@every_warp
def test_every_warp_says_which_marks_it_needs_and_they_are_drawn(monkeypatch, name):
    monkeypatch.setattr(printed, "DPI", 60)
    marks, page = drawn(warp(name))
    assert warp(name).mark.kind in MARKINGS and warp(name).mark.how.endswith(".")
    assert marks.any() and page.how == warp(name).mark.how and page.beside[-1][1] == "otherwise"


@pytest.mark.parametrize("mirror", [Cylinder(), Cone()])
def test_the_circle_on_the_sheet_is_as_wide_as_the_mirror_and_where_it_stands(monkeypatch, mirror):
    monkeypatch.setattr(printed, "DPI", 60)
    marks, page = drawn(mirror)
    y, x = marks[: pixels(TOP + SIDE)].nonzero()
    across = (x.max() - x.min()) / 60 * 25.4
    assert abs(across - mirror.RADIUS * SIDE) < 2 and f"{mirror.RADIUS * SIDE:.0f} mm in diameter" in page.how
    axis = ((y.max() + y.min()) / 2 - pixels(TOP)) / pixels(SIDE) * 2 - 1
    assert abs(axis - getattr(mirror, "AXIS", 0.0)) < 0.02


@pytest.mark.parametrize("degrees", [60, 135, 300])
def test_a_triangle_stands_where_the_top_comes_to_lie(monkeypatch, degrees):
    monkeypatch.setattr(printed, "DPI", 60)
    marks, _ = drawn(replace(Rotated(), degrees=degrees))
    y, x = marks.nonzero()
    y = (y - pixels(TOP)) / pixels(SIDE) * 2 - 1
    x = (x - (marks.shape[1] - pixels(SIDE)) / 2) / pixels(SIDE) * 2 - 1
    edge = np.maximum(abs(y), abs(x)) > 0.985  # the outline
    beyond = (np.hypot(y, x) > 1.015) & ~edge
    angle = math.degrees(math.atan2(-y[beyond].mean(), x[beyond].mean())) - 90  # counter-clockwise from the top
    assert abs((angle - degrees + 180) % 360 - 180) < 2
    inner = np.hypot(y, x) < 0.985
    assert abs(x[inner].mean()) < 0.02 and y[inner].max() < -0.9  # the tick, at the top


def test_the_corners_on_the_sheet_are_those_of_what_is_seen(monkeypatch):
    monkeypatch.setattr(printed, "DPI", 60)
    marks, _ = drawn(Lens(3))
    y, x = marks.nonzero()
    for places, begin in ((y, pixels(TOP)), (x, (marks.shape[1] - pixels(SIDE)) // 2)):
        low, high = ((place - begin) / pixels(SIDE) for place in (places.min(), places.max() + 1))
        assert low == pytest.approx(1 / 3, abs=0.015) and high == pytest.approx(2 / 3, abs=0.015)
