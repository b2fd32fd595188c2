"""Laws of what helps readings to agree: guidance that is bent, means that are rectified, weights that follow, last steps."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from conftest import TinyDenoiser, randn, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_cascade import BOAT, MAN, cascade, folder  # noqa: F401  (fixtures)
from test_cli import call, here  # noqa: F401

from phosphene.drawing import Sampling, run
from phosphene.expression import Turns, bent, cond, guide, mean, picked, viewed
from phosphene.forward import Evaluation, rectification
from phosphene.guidance import Guidance
from phosphene.readers import read_provenance
from phosphene.sampler import ancestral, ddim, denoise, dpm_solver, generators, heun, last
from phosphene.schedule import linear
from phosphene.tasks import agreement
from phosphene.tasks.agreement import LOOKS, balanced
from phosphene.tasks.anagram import anagram
from phosphene.tasks.generate import generate
from phosphene.views import VIEWS

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SCHEDULE = linear(300)
SIZE, T = 12, 120
TIMES = [290, 240, 180, 120, 60, 0]
FLIP = VIEWS["flip"]
solvers = st.sampled_from([ancestral, ddim, dpm_solver, heun])
gains = st.lists(st.lists(st.floats(-0.1, 0.2), min_size=3, max_size=3), min_size=1, max_size=4)


def drawn(expression, seeds=(1, 2), solver=ddim, denoiser=None, **how):
    sources = generators(seeds)
    start = torch.cat([randn(1, 3, SIZE, SIZE, seed=seed) for seed in seeds])
    return last(denoise(denoiser or TinyDenoiser(SCHEDULE), expression, start, TIMES, solver=solver, generators=sources, **how))


# Guidance


@given(
    ends=st.tuples(st.integers(0, 299), st.integers(0, 299)).map(sorted),
    scale=st.sampled_from([0.0, 0.5, 1.0, 7.0]),
    t=st.integers(0, 299),
)
def test_outside_its_interval_guidance_is_the_condition_alone_and_costs_one_row(ends, scale, t):
    low, high = ends
    denoiser, x = TinyDenoiser(SCHEDULE), randn(2, 3, SIZE, SIZE)
    whole = guide(cond("a"), scale, cond("b"))
    said = Evaluation(bent(whole, Guidance(interval=(low, high))), denoiser)(x, t).noise
    rows = sum(denoiser.calls)
    expected = whole if low <= t <= high else cond("a")
    assert said.equal(Evaluation(expected, TinyDenoiser(SCHEDULE))(x, t).noise)
    assert rows == 2 * (2 if low <= t <= high and scale not in (0, 1) else 1)


@given(low=st.integers(0, 299), length=st.integers(0, 299))
def test_the_rows_of_a_run_are_those_of_its_interval(low, length):
    """An anagram asks two rows a view within, and one beyond."""
    denoiser, how = TinyDenoiser(SCHEDULE), Guidance(interval=(low, low + length))
    drawn(bent(mean(guide(cond("a")), viewed(guide(cond("b")), FLIP)), how), denoiser=denoiser)
    assert denoiser.calls == [2 * (4 if low <= t <= low + length else 2) for t in TIMES]


@given(scale=st.floats(-2, 9), seed=st.integers(0, 99), large=st.floats(10, 1e6))
def test_guidance_with_all_of_its_update_is_plain(scale, seed, large):
    """Through the formulas too: a bound that nothing reaches bends nothing."""
    x, denoiser = randn(2, 3, SIZE, SIZE, seed=seed, dtype=torch.float64), TinyDenoiser(SCHEDULE)
    plain = Evaluation(viewed(guide(cond("a"), scale), FLIP), denoiser)(x, T).noise
    for how, exactly in ((Guidance(parallel=1.0), True), (Guidance(parallel=1.0, norm=large), False)):
        found = Evaluation(bent(viewed(guide(cond("a"), scale), FLIP), how), denoiser)(x, T).noise
        assert found.equal(plain) if exactly else torch.allclose(found, plain, rtol=0, atol=1e-9)


@given(scale=st.floats(1.5, 9), seed=st.integers(0, 99))
def test_without_its_parallel_part_guidance_moves_the_clean_estimate_across(scale, seed):
    x, denoiser = randn(2, 3, SIZE, SIZE, seed=seed, dtype=torch.float64), TinyDenoiser(SCHEDULE)

    def clean(expression):
        return SCHEDULE.clean_estimate(x, T, Evaluation(expression, denoiser)(x, T).noise)

    conditional = clean(cond("a"))
    moved = clean(guide(cond("a"), scale, how=Guidance(parallel=0.0))) - conditional
    along = (moved * conditional).sum((1, 2, 3)) / conditional.norm() / moved.norm()
    assert along.abs().max() < 1e-6 < moved.norm()


@given(view=st.sampled_from(list(VIEWS.values())), parallel=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_bent_guidance_through_a_view_is_that_of_what_is_seen(view, parallel, seed):
    x, denoiser = randn(2, 3, SIZE, SIZE, seed=seed, dtype=torch.float64), TinyDenoiser(SCHEDULE)
    inner = guide(cond("a"), 7.0, how=Guidance(parallel=parallel, norm=0.05))
    expected = view.invert(Evaluation(inner, denoiser)(view.apply(x), T).noise)
    torch.testing.assert_close(Evaluation(viewed(inner, view), denoiser)(x, T).noise, expected, rtol=0, atol=1e-9)


@given(norm=st.floats(1e-3, 10), seed=st.integers(0, 99))
def test_no_update_is_longer_than_its_bound(norm, seed):
    x, denoiser = randn(2, 3, SIZE, SIZE, seed=seed, dtype=torch.float64), TinyDenoiser(SCHEDULE)

    def length(how):
        apart = [Evaluation(e, denoiser)(x, T).noise for e in (guide(cond("a"), 2.0, how=how), cond("a"))]
        apart = SCHEDULE.clean_estimate(x, T, apart[0]) - SCHEDULE.clean_estimate(x, T, apart[1])
        return apart.square().mean((1, 2, 3)).sqrt()

    torch.testing.assert_close(length(Guidance(norm=norm)), length(Guidance()).clamp(max=norm), rtol=1e-6, atol=1e-9)


def test_guidance_that_cannot_be():
    refusal(lambda: Guidance(interval=(800, 200)), "--guidance-interval 800,200", "200,800")
    refusal(lambda: Guidance(interval=(1, 2, 3)), "--guidance-interval 1,2,3")
    refusal(lambda: Guidance(interval=(-5, 3)), "--guidance-interval -5,3")
    refusal(lambda: Guidance(parallel=math.inf), "--guidance-parallel inf")
    refusal(lambda: Guidance(norm=0.0), "--guidance-norm 0")
    refusal(lambda: Guidance(norm=math.nan), "--guidance-norm nan")


# The mean


@given(count=st.integers(1, 5), seed=st.integers(0, 99), weights=st.lists(st.floats(0.1, 3), min_size=5, max_size=5))
def test_a_mean_of_what_agrees_is_left_as_it_is(count, seed, weights):
    x = randn(2, 3, SIZE, SIZE, seed=seed)
    total = sum(weights[:count])
    factor = rectification([x] * count, [w / total for w in weights[:count]], x)
    assert factor.equal(torch.ones(2, 1, 1, 1))


@given(weights=st.lists(st.floats(0.2, 3), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_mean_of_independent_noises_is_scaled_by_one_by_the_root_of_what_is_left(weights, seed):
    weights = [w / sum(weights) for w in weights]
    noises = [randn(2, 3, 96, 96, seed=1000 * seed + k) for k in range(len(weights))]
    average = sum(w * n for w, n in zip(weights, noises, strict=True))
    factor = rectification(noises, weights, average)
    left = sum(w * w for w in weights)
    torch.testing.assert_close(factor, torch.full_like(factor, 1 / math.sqrt(left)), rtol=0.02, atol=0)
    torch.testing.assert_close((factor * average).std((1, 2, 3)), torch.ones(2), rtol=0.02, atol=0)


# Weights that follow


@given(gain=gains)
def test_weights_have_the_sum_1_and_the_reading_behind_has_most(gain):
    gain = torch.tensor(gain, dtype=torch.float64)
    weights = balanced(gain)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(gain), dtype=torch.float64), rtol=0, atol=1e-12)
    a, b = (of[:, :, None] - of[:, None] for of in (gain, weights))
    assert (b[a < -1e-9] > 0).all()


@given(gain=st.floats(-0.5, 0.5), readings=st.integers(2, 5))
def test_equal_scores_leave_equal_weights(gain, readings):
    assert balanced(torch.full((3, readings), gain)).equal(torch.full((3, readings), 1 / readings))


@given(rows=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
def test_weights_of_each_picture_are_its_own(rows):
    """And a share of the batch has those of its pictures."""
    denoiser, x = TinyDenoiser(SCHEDULE), randn(4, 3, SIZE, SIZE)
    shares = torch.tensor([0.1, 0.5, 0.7, 0.25]).view(-1, 1, 1, 1)
    expression = mean(cond("a"), viewed(cond("b"), FLIP))
    steered = type(expression)(expression.parts, (shares, 1 - shares))
    alone = [mean(*expression.parts, weights=(s, 1 - s)) for s in shares.flatten().tolist()]
    found = Evaluation(picked(steered, rows, 4), denoiser)(x[rows], T).noise
    each = torch.cat([Evaluation(alone[k], denoiser)(x[k : k + 1], T).noise for k in rows])
    torch.testing.assert_close(found, each, rtol=0, atol=1e-5)


@pytest.fixture
def stage(cascade):  # noqa: F811
    return cascade.stages[0]


def ours(stage, task, seeds=(3,), **how):
    return last(run(task, stage, seeds, sampling=Sampling(steps=6, **how)))


def test_weights_that_follow_depend_on_the_seed_alone(stage):
    task = anagram([BOAT, MAN], ["flip"], weights="auto")
    both = ours(stage, task, (3, 4))
    assert both.equal(ours(stage, task, (3, 4)))
    torch.testing.assert_close(both[1:], ours(stage, task, (4,)), rtol=0, atol=1e-4)
    assert not torch.allclose(both, ours(stage, anagram([BOAT, MAN], ["flip"]), (3, 4)), atol=1e-3)


def test_where_all_scores_are_equal_weights_that_follow_change_nothing(stage, monkeypatch):
    asked = []

    def indifferent(stage, pictures, prompts, looks, **how):
        asked.append(len(pictures))
        return SimpleNamespace(gain=torch.full((len(pictures), 2, 2), 0.1))

    monkeypatch.setattr(agreement, "score", indifferent)
    plain = ours(stage, anagram([BOAT, MAN], ["flip"]), (3, 4))
    torch.testing.assert_close(ours(stage, anagram([BOAT, MAN], ["flip"], weights="auto"), (3, 4)), plain, rtol=0, atol=1e-5)
    assert asked == [2] * (LOOKS - 1)


# The last steps


@given(solver=solvers, steps=st.integers(0, 8))
def test_last_steps_are_the_other_s_from_where_the_first_has_come_to(solver, steps):
    first, then = mean(cond("a"), viewed(cond("b"), FLIP)), cond("b")
    whole = drawn(Turns((first, then), steps), solver=solver)
    if steps == 0:
        assert whole.equal(drawn(first, solver=solver))
    if steps >= len(TIMES):
        assert whole.equal(drawn(then, solver=solver))
    denoiser = TinyDenoiser(SCHEDULE)
    drawn(Turns((first, then), steps), solver=solver, denoiser=denoiser)
    ends = len(solver(SCHEDULE, TIMES[-steps:])) if steps else 0  # rows of the table in the last steps
    assert denoiser.calls == [4] * max(len(solver(SCHEDULE, TIMES)) - ends, 0) + [2] * ends


@given(steps=st.integers(1, 5))
def test_last_steps_are_a_run_of_their_own(steps):
    """Also where the solver remembers: what it remembers is the other's, and so it begins anew."""
    first, then = cond("a"), cond("b")
    start = randn(1, 3, SIZE, SIZE)
    for solver in (ddim, dpm_solver, heun):
        relayed = list(denoise(TinyDenoiser(SCHEDULE), Turns((first, then), steps), start, TIMES, solver=solver))
        before = [s for s in denoise(TinyDenoiser(SCHEDULE), first, start, TIMES, solver=solver) if s.t >= TIMES[-steps]][-1]
        alone = last(denoise(TinyDenoiser(SCHEDULE), then, before.xt, TIMES[-steps:], solver=solver))
        torch.testing.assert_close(relayed[-1].xt, alone, rtol=0, atol=1e-5)


def test_the_last_steps_of_an_anagram_are_those_of_the_view_that_is_named(stage):
    two = [BOAT, MAN]
    plain = ours(stage, anagram(two, ["flip"]))
    assert ours(stage, anagram(two, ["flip"], last="flip:0")).equal(plain)
    upright = ours(stage, generate([BOAT]))
    torch.testing.assert_close(ours(stage, anagram(two, ["flip"], last="identity:6")), upright, rtol=0, atol=1e-4)
    assert not torch.allclose(ours(stage, anagram(two, ["flip"], last="flip:6")), upright, atol=1e-2)
    patches = anagram(two, ["patches:4"], last="patches:4:2", view_seed=5)
    assert patches.asks(stage, 7.0).parts[1].view == VIEWS["patches"].__class__(4, 5)
    refusal(lambda: ours(stage, anagram(two, ["flip"], last="flip:7")), "--last ...:7", "6 steps")
    refusal(lambda: anagram(two, ["flip"], last="flip"), "--last flip", "identity:2")
    refusal(lambda: anagram(two, ["flip"], last="flip:x"), "--last flip:x")
    refusal(lambda: anagram(two, ["flip"], last="mirror:2"), "--last mirror:2", "none of the views")
    refusal(lambda: anagram(two, ["flip"], last="flip:2", reduce="alternate"), "--last flip:2", "leave it out")
    refusal(lambda: anagram(two, ["flip"], weights="auto", reduce="alternate"), "--weights auto")
    refusal(lambda: anagram(two, ["flip"], rectified=True, reduce="alternate"), "--rectify")


# From the command line


MEANS = {
    "interval": ["--guidance-interval", "200,800"],
    "parallel": ["--guidance-parallel", "0", "--guidance-norm", "0.2"],
    "rectify": ["--rectify"],
    "auto": ["--weights", "auto"],
    "last": ["--last", "flip:1"],
}


def test_each_means_is_reached_from_the_command_line_and_made_again(call, here, folder):  # noqa: F811
    common = ["anagram", "a heart", "a spade", "--view", "flip", "--steps", "3", "--solver", "dpm", "--no-upscale"]
    common += ["--model", folder]
    seen = {}
    for name, options in {"plain": [], **MEANS}.items():
        code, _, err = call(*common, *options, "--out", f"{name}.png")
        assert (code, err) == (0, ""), name
        seen[name] = Image.open(f"{name}.png").tobytes()
        told = read_provenance(here / f"{name}.png")["arguments"]
        assert told["last"] == ("flip:1" if name == "last" else None) and told["rectify"] == (name == "rectify")
        code, out, _ = call("rerun", f"{name}.png", "--allow-model", folder)
        assert code == 0 and "byte for byte" in out, name
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize(
    "command", [["hybrid", "a heart", "a spade"], ["generate", "a heart"], ["compose", "a heart", "a spade"]]
)
def test_every_command_that_draws_bends_guidance(call, here, folder, command):  # noqa: F811
    common = ["--model", folder, "--steps", "2", "--no-upscale", "--guidance", "30"]  # far enough for eight bits to show it
    for name, options in {"plain": [], "interval": MEANS["interval"], "parallel": MEANS["parallel"]}.items():
        assert call(*command, *common, *options, "--out", f"{name}.png")[0] == 0
    assert len({Image.open(f"{name}.png").tobytes() for name in ("plain", "interval", "parallel")}) == 3
