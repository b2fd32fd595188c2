"""Laws of the schedules: what abar is, and that a jump is a jump whatever the stride."""

from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import SCHEDULES, randn
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from phosphene.defaults import OBJECTIVES
from phosphene.errors import UserError
from phosphene.models.digits import from_target, to_target
from phosphene.schedule import CLEAN, NoiseSchedule, linear, rescaled_linear, schedule_from, squared_cosine, straight

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
fractions = st.floats(0, 1)


def three_times(schedule, a, b, c):
    """Three timesteps r < s < t from three fractions, r from -1 on."""
    r = CLEAN + int(a * (schedule.steps - 2))
    s = r + 1 + int(b * (schedule.steps - 3 - r))
    t = s + 1 + int(c * (schedule.steps - 2 - s))
    return t, s, r


# What abar is


@pytest.mark.parametrize("make", [linear, rescaled_linear, squared_cosine, straight])
@pytest.mark.parametrize("steps", [2, 3, 10, 300, 500])
def test_abar_decreases_strictly_inside_0_and_1(make, steps):
    schedule = make(steps)
    assert schedule.steps == len(schedule.abar) == steps
    assert schedule.abar.dtype == torch.float64
    with_clean = torch.tensor([schedule.level(t) for t in range(CLEAN, steps)], dtype=torch.float64)
    assert with_clean[0] == 1 and with_clean[-1] > 0
    assert (with_clean.diff() < 0).all()


@pytest.mark.parametrize("abar", [[], [0.5, 0.5], [0.5, 0.6], [1.0, 0.5], [0.5, 0.0], [0.5, float("nan")]])
def test_a_table_that_does_not_decrease_inside_0_and_1_is_refused(abar):
    with pytest.raises(UserError, match="abar"):
        NoiseSchedule({"kind": "own"}, torch.tensor(abar, dtype=torch.float64))


def test_linear_is_the_one_of_diffusers():
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear").alphas_cumprod.double()
    torch.testing.assert_close(linear(1000).abar, theirs, rtol=1e-5, atol=0)


def test_squared_cosine_is_the_one_of_diffusers():
    ours = squared_cosine(1000).abar
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    torch.testing.assert_close(ours[:-1], theirs[:-1], rtol=1e-5, atol=0)
    # Theirs takes the last alpha, 1 - 0.999, in float32: a relative error of up to 2^-24 * 0.999 / 0.001 = 6e-5.
    torch.testing.assert_close(ours[-1:], theirs[-1:], rtol=6e-5, atol=0)


def test_linear_keeps_a_fifth_of_the_picture_and_rescaled_linear_none():
    kept, mended = linear(), rescaled_linear()
    assert 0.21 < math.sqrt(kept.level(299)) < 0.23
    assert mended.level(299) < 1e-6
    assert mended.level(0) == pytest.approx(kept.level(0), rel=1e-12)


def test_rescaled_linear_is_affine_in_the_root_of_abar():
    # All but the last, which stands just above the exact zero.
    kept, mended = linear().abar.sqrt(), rescaled_linear().abar.sqrt()
    expected = kept[0] * (kept - kept[-1]) / (kept[0] - kept[-1])
    torch.testing.assert_close(mended[:-1], expected[:-1], rtol=1e-12, atol=0)


def test_straight_is_the_straight_path_up_to_scale():
    schedule = straight(50)
    for t in range(50):
        r = (t + 1) / 51
        signal, sigma = schedule.signal_and_noise(t, torch.zeros(1))
        assert signal / sigma == pytest.approx((1 - r) / r, rel=1e-12)


@every_schedule
def test_the_config_rebuilds_the_schedule_even_through_json(schedule):
    again = schedule_from(json.loads(json.dumps(dict(schedule.config))))
    assert again == schedule
    assert again.abar.equal(schedule.abar)


def test_the_config_keeps_every_setting():
    for made in (linear(77, 2e-4, 0.05), rescaled_linear(77, 2e-4, 0.05), squared_cosine(77, 0.9), straight(77)):
        assert schedule_from(made.config).abar.equal(made.abar)
    assert linear(77, 2e-4, 0.05) != linear(77)


@pytest.mark.parametrize(
    "config", [{}, {"kind": "exponential"}, {"kind": "linear", "colour": 1}, {"kind": "linear", "steps": 3, "beta_end": 1.5}]
)
def test_a_config_that_makes_no_schedule_is_refused(config):
    with pytest.raises(UserError, match="schedule"):
        schedule_from(config)


@pytest.mark.parametrize("t", [-2, 300, 10**6])
def test_a_timestep_outside_the_schedule_is_refused(t):
    with pytest.raises(UserError, match="timestep"):
        linear(300).level(t)


# Forward process and clean estimate


@every_schedule
@given(fraction=fractions, seed=st.integers(0, 99))
def test_the_clean_estimate_from_the_true_noise_is_the_picture(schedule, fraction, seed):
    t = int(fraction * (schedule.steps - 1))
    x0, noise = randn(2, 1, 4, 4, seed=seed, dtype=torch.float64), randn(2, 1, 4, 4, seed=seed + 100, dtype=torch.float64)
    for when in (t, torch.tensor([t, schedule.steps - 1 - t])):
        xt = schedule.add_noise(x0, when, noise)
        torch.testing.assert_close(schedule.clean_estimate(xt, when, noise), x0, rtol=0, atol=1e-9)


@every_schedule
def test_the_forward_process_keeps_unit_variance_and_mixes_by_abar(schedule):
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    for t in (0, schedule.steps // 2, schedule.steps - 1):
        signal, sigma = schedule.add_noise(one, t, zero).item(), schedule.add_noise(zero, t, one).item()
        assert signal**2 == pytest.approx(schedule.abar[t].item(), rel=1e-12)
        assert signal**2 + sigma**2 == pytest.approx(1, rel=1e-12)
    assert schedule.add_noise(one, CLEAN, randn(1, 1, 1, 1)).equal(one)


@every_schedule
def test_a_timestep_for_each_image_is_each_image_at_its_timestep(schedule):
    x0, noise = randn(3, 1, 4, 4, seed=1), randn(3, 1, 4, 4, seed=2)
    t = torch.tensor([0, schedule.steps // 2, schedule.steps - 1])
    together = schedule.add_noise(x0, t, noise)
    alone = torch.cat([schedule.add_noise(x0[i : i + 1], int(t[i]), noise[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert together.dtype == torch.float32


# Jumps


@every_schedule
@given(a=fractions, b=fractions, c=fractions)
def test_two_jumps_make_one(schedule, a, b, c):
    # Given x0, x_r after t -> s -> r is Gaussian with the mean and the (small) variance of t -> r.
    t, s, r = three_times(schedule, a, b, c)
    first, second, whole = schedule.posterior(t, s), schedule.posterior(s, r), schedule.posterior(t, r)
    assert second.x0 + second.xt * first.x0 == pytest.approx(whole.x0, rel=1e-9, abs=1e-12)
    assert second.xt * first.xt == pytest.approx(whole.xt, rel=1e-9, abs=1e-12)
    assert second.small + second.xt**2 * first.small == pytest.approx(whole.small, rel=1e-9, abs=1e-12)


@every_schedule
@given(a=fractions, b=fractions, c=fractions)
def test_a_jump_leads_from_one_marginal_to_the_other(schedule, a, b, c):
    # x_t = signal x0 + sigma noise; after the jump, the same sentence is true of s.
    t, s, _ = three_times(schedule, a, b, c)
    jump = schedule.posterior(t, s)
    abar_t, abar_s = schedule.level(t), schedule.level(s)
    assert jump.x0 + jump.xt * math.sqrt(abar_t) == pytest.approx(math.sqrt(abar_s), rel=1e-9)
    assert jump.small + jump.xt**2 * (1 - abar_t) == pytest.approx(1 - abar_s, rel=1e-9, abs=1e-12)


@every_schedule
@given(a=fractions, b=fractions, c=fractions)
def test_the_large_variance_is_exact_for_pictures_that_are_unit_noise(schedule, a, b, c):
    # For such pictures E[x0 | xt] = signal xt, and xs has unit variance again.
    t, s, _ = three_times(schedule, a, b, c)
    jump = schedule.posterior(t, s)
    factor = jump.x0 * math.sqrt(schedule.level(t)) + jump.xt
    assert factor**2 + jump.large == pytest.approx(1, rel=1e-9)
    assert 0 <= jump.small <= jump.large


def test_the_jump_to_the_clean_image_takes_the_clean_estimate():
    for schedule in SCHEDULES.values():
        jump = schedule.posterior(schedule.steps - 1, CLEAN)
        assert (jump.x0, jump.xt, jump.small) == (1, 0, 0)


@every_schedule
def test_a_jump_that_does_not_go_down_is_refused(schedule):
    for t, s in ((1, 1), (1, 2), (1, -2), (schedule.steps, 0)):
        with pytest.raises(UserError):
            schedule.posterior(t, s)


# Timesteps


@given(total=st.integers(2, 1000), fraction=fractions, spacing=st.sampled_from(["linspace", "leading", "trailing"]))
def test_timesteps_decrease_and_number_as_asked(total, fraction, spacing):
    count = 1 + int(fraction * (total - 1))
    times = straight(total).timesteps(count, spacing)
    assert len(times) == count
    assert all(isinstance(t, int) for t in times)
    assert all(a > b for a, b in zip(times, times[1:], strict=False))
    assert times[0] <= total - 1 and times[-1] >= 0
    assert times[0] == total - 1 if spacing != "leading" else times[-1] == 0
    if spacing == "linspace" and count > 1:
        assert times[-1] == 0


def test_as_many_timesteps_as_there_are_are_all_of_them():
    assert linear(300).timesteps(300) == list(range(299, -1, -1))


def test_leading_timesteps_are_those_of_the_deepfloyd_pipelines():
    theirs = DDPMScheduler(num_train_timesteps=1000, timestep_spacing="leading")
    for count in (1, 2, 7, 34, 50, 100, 999, 1000):
        theirs.set_timesteps(count)
        assert squared_cosine(1000).timesteps(count, "leading") == theirs.timesteps.tolist()
    assert squared_cosine(1000).timesteps(34, "leading")[0] == 957


def test_trailing_timesteps_stop_one_stride_short_of_clean():
    assert straight(100).timesteps(4, "trailing") == [99, 74, 49, 24]


@pytest.mark.parametrize("count", [0, -1, 301])
def test_a_count_of_timesteps_that_the_model_has_not_is_refused(count):
    with pytest.raises(UserError, match="--steps"):
        linear(300).timesteps(count)


def test_an_unknown_spacing_is_refused():
    with pytest.raises(UserError, match="linspace, leading or trailing"):
        linear(300).timesteps(3, "even")


# What a network may be trained to answer


@every_schedule
@pytest.mark.parametrize("target", OBJECTIVES)
def test_the_true_answer_to_any_target_is_the_true_noise(schedule, target):
    x0, noise = randn(5, 1, 4, 4, seed=3, dtype=torch.float64), randn(5, 1, 4, 4, seed=4, dtype=torch.float64)
    t = torch.tensor([0, 1, schedule.steps // 2, schedule.steps - 2, schedule.steps - 1])
    shown, answer = to_target(schedule, target, x0, noise, t)

    def predict(picture):
        # The network must be shown in sampling what it was shown in training.
        torch.testing.assert_close(picture, shown, rtol=0, atol=1e-6)
        return answer

    xt = schedule.add_noise(x0, t, noise)
    torch.testing.assert_close(from_target(schedule, target, xt, t, predict), noise, rtol=0, atol=1e-6)


def test_the_targets_are_what_their_papers_say():
    # At r, the flow's network is shown the straight path and answers its direction; velocity is d xt / d angle.
    schedule, t = straight(50), torch.tensor([20])
    x0, noise = randn(1, 1, 4, 4, seed=5, dtype=torch.float64), randn(1, 1, 4, 4, seed=6, dtype=torch.float64)
    r = 21 / 51
    shown, answer = to_target(schedule, "flow", x0, noise, t)
    torch.testing.assert_close(shown, (1 - r) * x0 + r * noise, rtol=0, atol=1e-6)
    torch.testing.assert_close(answer, noise - x0, rtol=0, atol=1e-6)
    angle = math.atan2(r, 1 - r)
    _, answer = to_target(schedule, "velocity", x0, noise, t)
    torch.testing.assert_close(answer, math.cos(angle) * noise - math.sin(angle) * x0, rtol=0, atol=1e-6)
