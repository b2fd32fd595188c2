"""Laws of the sampling loop: its steps are those of the papers and of diffusers, and a seed is a picture."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import SCHEDULES, Knowing, TinyDenoiser, randn, timesteps
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from phosphene.errors import UserError
from phosphene.expression import Turns, cond, guide, mean, viewed
from phosphene.sampler import (
    SOLVERS,
    ancestral,
    clamp,
    ddim,
    denoise,
    dpm_solver,
    draw,
    dynamic_threshold,
    generators,
    heun,
    last,
    resampled,
    taking_turns,
)
from phosphene.sampling import Sampling
from phosphene.schedule import CLEAN, linear, squared_cosine, straight
from phosphene.views import VIEWS

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_solver = pytest.mark.parametrize("name", SOLVERS)
LINEAR, COSINE = linear(1000), squared_cosine(1000)
SHAPE = (3, 12, 12)
BOAT = cond("a boat")


def start(batch=2, seed=0, dtype=torch.float64):
    """The noise that a run begins with. Double precision shows the law; what rounding costs is tested on its own."""
    return randn(batch, *SHAPE, seed=seed, dtype=dtype)


def ask(denoiser, x, t):
    return denoiser(x, torch.full((len(x),), t), denoiser.embed("a boat").expand(len(x), -1))


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def with_variance(variance):
    return lambda schedule, times: ancestral(schedule, times, variance)


def with_eta(eta):
    return lambda schedule, times: ddim(schedule, times, eta)


# DDPM and DDIM, by their papers


@every_schedule
@pytest.mark.parametrize("variance", ["large", "small"])
def test_an_ancestral_step_of_stride_1_is_the_textbook_one(schedule, variance):
    # Ho et al. 2020, algorithm 2, in betas and the noise alone.
    denoiser, xt = TinyDenoiser(schedule), start()
    abar = schedule.abar.tolist()
    for t in (schedule.steps - 1, schedule.steps // 2, 1):
        beta = 1 - abar[t] / abar[t - 1]
        sigma = math.sqrt(beta if variance == "large" else beta * (1 - abar[t - 1]) / (1 - abar[t]))
        z = draw(generators([5, 6]), 2, SHAPE)
        expected = (xt - beta / math.sqrt(1 - abar[t]) * ask(denoiser, xt, t).noise) / math.sqrt(1 - beta) + sigma * z
        steps = denoise(denoiser, BOAT, xt, [t, t - 1], solver=with_variance(variance), generators=generators([5, 6]))
        # Single precision tables of roots inside the denoiser, at worst divided by a signal of 2^-12.
        close(next(steps).xt, expected, 1e-6)


def by_hand(schedule, times, step):
    """The textbook loop: ``step(x, eps, abar_t, abar_s)`` is the mean and the deviation of the next state."""
    denoiser, x, noise = TinyDenoiser(schedule), start(), generators([1, 2])
    for t, s in zip(times, [*times[1:], CLEAN], strict=True):
        x, sigma = step(x, ask(denoiser, x, t).noise, schedule.level(t), schedule.level(s))
        if sigma:
            x = x + sigma * draw(noise, 2, SHAPE)
    return x


@every_schedule
@given(data=st.data())
def test_an_ancestral_run_is_the_loop_of_the_design(schedule, data):
    times = data.draw(timesteps(schedule))

    def step(x, eps, abar_t, abar_s):
        alpha = abar_t / abar_s
        x0 = ((x - math.sqrt(1 - abar_t) * eps) / math.sqrt(abar_t)).clamp(-1, 1)
        mean = math.sqrt(abar_s) * (1 - alpha) / (1 - abar_t) * x0 + math.sqrt(alpha) * (1 - abar_s) / (1 - abar_t) * x
        return mean, 0 if abar_s == 1 else math.sqrt(1 - alpha)

    got = denoise(TinyDenoiser(schedule), BOAT, start(), times, threshold=clamp(-1, 1), generators=generators([1, 2]))
    close(last(got), by_hand(schedule, times, step))


@every_schedule
@given(data=st.data(), eta=st.sampled_from([0.0, 0.3, 1.0]))
def test_a_ddim_run_is_the_loop_of_the_paper(schedule, data, eta):
    # Song et al. 2021, eq. 12 and 16.
    times = data.draw(timesteps(schedule))

    def step(x, eps, abar_t, abar_s):
        x0 = (x - math.sqrt(1 - abar_t) * eps) / math.sqrt(abar_t)
        sigma = eta * math.sqrt((1 - abar_s) / (1 - abar_t)) * math.sqrt(1 - abar_t / abar_s)
        return math.sqrt(abar_s) * x0 + math.sqrt(max(1 - abar_s - sigma**2, 0)) * eps, sigma

    got = denoise(TinyDenoiser(schedule), BOAT, start(), times, solver=with_eta(eta), generators=generators([1, 2]))
    close(last(got), by_hand(schedule, times, step), 1e-7)


def test_a_learned_variance_runs_from_the_small_to_the_large():
    schedule, xt, x0 = squared_cosine(), start(), randn(2, *SHAPE, seed=9, dtype=torch.float64)

    def step(denoiser, variance):
        noise = generators([3, 4])
        return next(denoise(denoiser, BOAT, xt, [700, 300], solver=with_variance(variance), generators=noise)).xt

    small, large = step(Knowing(schedule, x0), "small"), step(Knowing(schedule, x0), "large")
    close(step(Knowing(schedule, x0, variance=-1.0), "auto"), small, 1e-6)
    close(step(Knowing(schedule, x0, variance=1.0), "auto"), large, 1e-6)
    # Half way the deviation is the geometric mean. What is not deviation is the same for all.
    z = draw(generators([3, 4]), 2, SHAPE).double()
    jump = schedule.posterior(700, 300)
    middle = step(Knowing(schedule, x0, variance=0.0), "auto")
    close(middle - small, ((jump.small * jump.large) ** 0.25 - jump.small**0.5) * z, 1e-6)
    # Who asks for a fixed variance gets it, learned or not.
    close(step(Knowing(schedule, x0, variance=0.0), "small"), small)


# Laws that need no formula: a denoiser that knows the picture


@every_schedule
@every_solver
@given(data=st.data())
def test_any_run_with_a_denoiser_that_knows_the_picture_ends_at_it(schedule, name, data):
    x0 = randn(2, *SHAPE, seed=9, dtype=torch.float64)
    times = data.draw(timesteps(schedule))
    steps = list(denoise(Knowing(schedule, x0), BOAT, start(), times, solver=SOLVERS[name], generators=generators([1, 2])))
    for step in steps:
        close(step.x0, x0, 1e-6)
    close(steps[-1].xt, x0, 1e-6)


@every_schedule
@pytest.mark.parametrize("make", [ddim, dpm_solver, heun])
@given(data=st.data())
def test_stopping_on_the_way_changes_nothing_where_the_picture_is_known(schedule, make, data):
    # Deterministic solvers: t -> s -> r is t -> r, because the clean estimate is the same all the way.
    x0 = randn(2, *SHAPE, seed=9, dtype=torch.float64)
    t, s, r = data.draw(timesteps(schedule, longest=3).filter(lambda times: len(times) == 3))

    def arrive(times):
        steps = denoise(Knowing(schedule, x0), BOAT, start(), times, solver=make)
        return [step.xt for step in steps if step.t == r][-1]

    close(arrive([t, s, r]), arrive([t, r]), 1e-6)
    # And where it arrives, the picture is as noisy as the schedule says, with the noise of the start.
    noise = Knowing(schedule, x0)(start(), torch.tensor([t, t]), None).noise
    close(arrive([t, s, r]), schedule.add_noise(x0, r, noise), 1e-6)


@every_schedule
def test_the_last_step_is_the_clean_estimate(schedule):
    for make in SOLVERS.values():
        *_, end = denoise(TinyDenoiser(schedule), BOAT, start(), [50, 20, 3], solver=make, generators=generators([1, 2]))
        assert end.t == CLEAN
        close(end.xt, end.x0)


# Resampling: back to noise and down again


@every_schedule
@pytest.mark.parametrize("make", [ancestral, with_eta(0.5), ddim], ids=["ancestral", "ddim .5", "ddim"])
def test_a_resampled_step_is_a_step_and_the_forward_process_back(schedule, make):
    # Where the picture is known, one pass down and back has the mean and the variance of the two jumps one by one.
    x0, t, s = randn(1, *SHAPE, seed=9, dtype=torch.float64), schedule.steps // 2, schedule.steps // 4
    share = math.sqrt(1 - schedule.level(t)) / (math.sqrt(1 - schedule.level(t)) + math.sqrt(schedule.level(t)))
    down, *_ = make(schedule, [t, s])
    back, again, *_ = resampled(make, 2, share - 0.01, share + 0.01)(schedule, [t, s])
    assert again == down._replace(continues=True) and (back.t, back.s, back.continues) == (t, t, False)
    xt = schedule.add_noise(x0, t, randn(1, *SHAPE, seed=3, dtype=torch.float64))
    arrived = down.xt * xt + down.x0 * x0  # the mean of the step; its deviation is down.noise
    kept = schedule.level(t) / schedule.level(s)
    close(back.xt * xt + back.x0 * x0, math.sqrt(kept) * arrived)
    close(torch.tensor(back.noise**2), torch.tensor(kept * down.noise**2 + 1 - kept))


@every_schedule
@every_solver
@given(data=st.data())
def test_a_resampled_run_ends_at_the_known_picture_and_is_as_noisy_on_the_way_as_the_schedule(schedule, name, data):
    x0, times = randn(2, *SHAPE, seed=9, dtype=torch.float64), data.draw(timesteps(schedule))
    make = resampled(SOLVERS[name], 3, 0, 1)
    steps = list(denoise(Knowing(schedule, x0), BOAT, start(), times, solver=make, generators=generators([1, 2])))
    close(steps[-1].xt, x0, 1e-6)
    # Each step but the last is taken three times: Heun's as a whole once more for each time.
    assert len(steps) == sum(row.s < row.t and row.s != CLEAN for row in SOLVERS[name](schedule, times)) * 2 + len(
        SOLVERS[name](schedule, times)
    )


@pytest.mark.parametrize("name", ["ancestral", "ddim"])
def test_going_back_leaves_the_noise_at_its_level(name):
    # 4,000 pixels of a known picture: after going back to t, what is left of the noise has the deviation of the schedule.
    schedule, size = straight(), (4, 10, 100)
    x0 = torch.zeros(1, *size)
    xt = schedule.add_noise(x0, 600, randn(1, *size, seed=1))
    make = resampled(SOLVERS[name], 4, 0.3, 0.9)
    for step in denoise(Knowing(schedule, x0), BOAT, xt, [600, 400, 200], solver=make, generators=generators([1])):
        if step.t >= 400:
            expected = math.sqrt(1 - schedule.level(step.t))
            # DDPM's larger variance is, with strides this wide, more than the noise that the schedule has at s.
            assert step.xt.std().item() == pytest.approx(expected, rel=0.05 if name == "ddim" else 0.6)


def test_resampling_once_is_no_resampling():
    assert resampled(ddim, 1) is ddim
    for times in (0, -1):
        with pytest.raises(UserError, match=f"--resample {times}: "):
            resampled(ddim, times)


# Turns: several readings of one picture, a step for each


class Sides:
    """A denoiser that knows a picture of ``c`` in every pixel for each condition ``c``, and keeps (t, c) of every row."""

    value_range, image_shape = (-1.0, 1.0), SHAPE

    def __init__(self, schedule):
        self.schedule, self.asked = schedule, []

    def embed(self, condition):
        return torch.tensor([float(condition)])

    def __call__(self, x, t, embedding):
        self.asked.append((int(t[0]), float(embedding[0, 0])))
        known = embedding.view(-1, 1, 1, 1).to(x) * torch.ones_like(x)
        return Knowing(self.schedule, known)(x, t, embedding)


def turns_of(make, readings, times, schedule=COSINE):
    """Of each timestep evaluated, the readings that were asked there; and the steps."""
    denoiser = Sides(schedule)
    asked = Turns(tuple(cond(c) for c in readings))
    steps = list(denoise(denoiser, asked, start(1), times, solver=make, generators=generators([1])))
    return denoiser.asked, steps


@every_schedule
@every_solver
@given(data=st.data(), times_each=st.integers(1, 3), readings=st.integers(1, 4))
def test_every_evaluation_of_a_step_is_of_the_reading_whose_turn_the_step_is(schedule, name, data, times_each, readings):
    times = data.draw(timesteps(schedule))
    asked, _ = turns_of(resampled(SOLVERS[name], times_each, 0, 1), range(readings), times, schedule)
    # A step's evaluations: at its start as often as it is taken, and of Heun's once where it arrives.
    expected = []
    for k, t in enumerate(times):
        last_step = k == len(times) - 1
        expected += [(t, k % readings)] * (1 if last_step else times_each)
        if name == "heun" and not last_step:
            expected.append((times[k + 1], k % readings))
    assert asked == expected


def test_going_back_is_shared_out_evenly():
    asked, steps = turns_of(resampled(ancestral, 2), (1, -1), COSINE.timesteps(34, "leading"))
    back = [c for (t, c), step in zip(asked, steps, strict=True) if step.t == t]
    assert abs(back.count(1) - back.count(-1)) <= 1 and len(back) == 21


@every_schedule
@every_solver
@given(data=st.data(), readings=st.integers(2, 4), taken=st.integers(1, 2))
def test_readings_of_one_mind_make_what_one_alone_makes(schedule, name, data, readings, taken):
    x0, times = randn(2, *SHAPE, seed=9, dtype=torch.float64), data.draw(timesteps(schedule))
    settings = {"solver": resampled(SOLVERS[name], taken)}
    alone = list(denoise(Knowing(schedule, x0), BOAT, start(), times, generators=generators([1, 2]), **settings))
    asked = Turns(tuple(cond(k) for k in range(readings)))
    together = list(denoise(Knowing(schedule, x0), asked, start(), times, generators=generators([1, 2]), **settings))
    for one, other in zip(alone, together, strict=True):
        close(one.xt, other.xt, 1e-6)


@every_schedule
@pytest.mark.parametrize("make", [ddim, dpm_solver, heun])
@given(data=st.data(), readings=st.integers(2, 4))
def test_readings_that_disagree_leave_the_picture_between_them(schedule, make, data, readings):
    # All know a picture in -1..1: what deterministic steps make of noise z is signal * (-1..1) + sigma * z at every step.
    times = data.draw(timesteps(schedule))
    known = torch.linspace(-1, 1, readings).tolist()
    _, steps = turns_of(make, known, times, schedule)
    signal, sigma = schedule.signal_and_noise(times[0], start(1))
    most = (start(1).abs().max().item() + signal) / sigma  # as if the start held -1 or 1
    for step in steps:
        signal, sigma = schedule.signal_and_noise(step.t, step.xt)
        assert step.xt.abs().max() <= signal + sigma * most + 1e-6


def test_a_reading_goes_by_its_own_slope():
    # Lu et al. 2022, algorithm 2, of each reading by itself: r is from its own estimate before to this one.
    schedule, times, slopes = COSINE, [900, 700, 550, 300, 100, 20], (1.0, -3.0)
    lam = {t: 0.5 * math.log(schedule.level(t) / (1 - schedule.level(t))) for t in times}

    class Sloping(Sides):
        def __call__(self, x, t, embedding):
            known = embedding.view(-1, 1, 1, 1).to(x) * lam[int(t[0])] + torch.zeros_like(x)
            return Knowing(self.schedule, known)(x, t, embedding)

    x, kept = start(1), {}
    for k, (t, s) in enumerate(zip(times, times[1:], strict=False)):
        a, now = slopes[k % 2], slopes[k % 2] * lam[t]
        h, signal_s = lam[s] - lam[t], math.sqrt(schedule.level(s))
        d = now
        if a in kept:
            before = kept[a]
            r = (lam[t] - lam[before]) / h
            d = (1 + 1 / (2 * r)) * now - 1 / (2 * r) * a * lam[before]
            assert d == pytest.approx(a * (lam[t] + lam[s]) / 2)  # a straight line, at the middle of the step
        kept[a] = t
        x = math.sqrt((1 - schedule.level(s)) / (1 - schedule.level(t))) * x - signal_s * math.expm1(-h) * d
    run = denoise(Sloping(schedule), Turns(tuple(cond(a) for a in slopes)), start(1), times, solver=dpm_solver)
    close(next(step.xt for step in run if step.t == times[-1]), x, 1e-6)


@every_solver
def test_one_reading_s_rows_are_left_as_they_are(name):
    rows = resampled(SOLVERS[name], 2)(COSINE, COSINE.timesteps(12))
    assert taking_turns(rows, 1, COSINE) == [(0, row) for row in rows]


# Flows: on the straight schedule these solvers are Euler's and Heun's


def velocity(denoiser, y, t, schedule):
    """The flow's direction ``noise - x0`` at ``y = (1 - r) x0 + r noise``."""
    r = (t + 1) / (schedule.steps + 1)
    xt = y / math.sqrt((1 - r) ** 2 + r**2)  # of unit variance, as denoisers want it
    noise = ask(denoiser, xt, t).noise
    return noise - (y - r * noise) / (1 - r)


def flow(denoiser, x, times, second_order):
    schedule = denoiser.schedule

    def place(t):
        return (t + 1) / (schedule.steps + 1)

    y = x * math.sqrt((1 - place(times[0])) ** 2 + place(times[0]) ** 2)
    for t, s in zip(times, [*times[1:], CLEAN], strict=True):
        v, width = velocity(denoiser, y, t, schedule), place(s) - place(t)
        if second_order and s != CLEAN:
            v = (v + velocity(denoiser, y + width * v, s, schedule)) / 2
        y = y + width * v
    return y  # at r = 0 the two coordinates are one


@pytest.mark.parametrize(("make", "second_order"), [(ddim, False), (heun, True)], ids=["euler", "heun"])
@given(times=timesteps(straight(50)))
def test_on_the_straight_schedule_it_is_the_method_for_the_flow(make, second_order, times):
    denoiser = TinyDenoiser(straight(50))
    got = last(denoise(denoiser, BOAT, start(), times, solver=make))
    close(got, flow(denoiser, start(), times, second_order), 1e-7)


@pytest.mark.parametrize(("make", "order"), [(ddim, 1), (dpm_solver, 2), (heun, 2)])
def test_the_error_falls_by_the_order_of_the_method(make, order):
    # Down to t = 63 on the straight schedule, where every trajectory is still smooth; 32 times more steps as the truth.
    denoiser = TinyDenoiser(straight(1024))

    def arrive(strides, make):
        times = list(range(959, 62, -(896 // strides)))
        return [step.xt for step in denoise(denoiser, BOAT, start(), times, solver=make) if step.t == 63][-1]

    truth = arrive(896, heun)
    coarse, fine = ((arrive(n, make) - truth).abs().max().item() for n in (14, 28))
    assert coarse / fine > 0.75 * 2**order


# The same runs by diffusers' schedulers


def their_run(scheduler, denoiser, x, times, noise=None, **settings):
    for t in times:
        said = ask(denoiser, x, t)
        answer = said.noise if said.variance is None else torch.cat([said.noise, said.variance], dim=1)
        x = scheduler.step(answer, t, x, **({} if noise is None else {"generator": noise}), **settings).prev_sample
    return x


def compare(denoiser, scheduler, times, make, threshold=None, noisy=False, **settings):
    x = start(dtype=torch.float32)
    ours = last(
        denoise(denoiser, BOAT, x, times, solver=make, threshold=threshold, generators=generators([1, 2]) if noisy else None)
    )
    assert ours.dtype == torch.float32
    theirs = their_run(scheduler, denoiser, x, times, generators([1, 2]) if noisy else None, **settings)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("count", "spacing"), [(50, "leading"), (34, "leading"), (34, "linspace")])
@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("clipped", [True, False])
def test_ancestral_runs_are_those_of_diffusers(count, spacing, variance, clipped):
    scheduler = DDPMScheduler(variance_type=f"fixed_{variance}", clip_sample=clipped, timestep_spacing=spacing)
    scheduler.set_timesteps(count)
    times = LINEAR.timesteps(count, spacing)
    assert times == scheduler.timesteps.tolist()
    threshold = clamp(-1, 1) if clipped else None
    compare(TinyDenoiser(LINEAR), scheduler, times, with_variance(variance), threshold, noisy=True)


def test_an_ancestral_run_of_all_timesteps_is_the_one_of_diffusers():
    # The MNIST chapter's: T = 300, none left out.
    schedule = linear(300)
    scheduler = DDPMScheduler(300, variance_type="fixed_large", clip_sample=False)
    scheduler.set_timesteps(300)
    # Their single precision table has 1 - abar of the first timesteps to three digits: that alone is 2e-4 by the end.
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), schedule.abar, rtol=1e-5, atol=0)
    scheduler.alphas_cumprod = schedule.abar
    compare(TinyDenoiser(schedule), scheduler, schedule.timesteps(schedule.steps), ancestral, noisy=True)


@pytest.mark.parametrize("maximum", [1.5, 1.0])
def test_runs_with_a_learned_variance_are_those_of_the_deepfloyd_scheduler(maximum):
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=maximum,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(34)
    times = COSINE.timesteps(34, "leading")
    denoiser = TinyDenoiser(COSINE, learned=True)
    compare(denoiser, scheduler, times, ancestral, dynamic_threshold(0.95, maximum), noisy=True)


def test_strides_of_any_width_are_those_of_diffusers():
    # Part A passes its own timesteps, and img2img the tail of a list.
    for times in (list(range(990, -1, -30))[10:], [700, 690, 300, 299, 0]):
        scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range", clip_sample=False)
        scheduler.set_timesteps(timesteps=times)
        compare(TinyDenoiser(COSINE, learned=True), scheduler, times, ancestral, noisy=True)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("clipped", [True, False])
def test_ddim_runs_are_those_of_diffusers(eta, clipped):
    scheduler = DDIMScheduler(clip_sample=clipped, timestep_spacing="leading")
    scheduler.set_timesteps(25)
    times = LINEAR.timesteps(25, "leading")
    # The direction follows the clamped estimate: what diffusers does when told to use the clipped model output.
    compare(
        TinyDenoiser(LINEAR),
        scheduler,
        times,
        with_eta(eta),
        clamp(-1, 1) if clipped else None,
        noisy=eta > 0,
        eta=eta,
        use_clipped_model_output=clipped,
    )


@pytest.mark.parametrize("thresholded", [True, False])
@pytest.mark.parametrize("times", [LINEAR.timesteps(20), [999, 600, 400, 80, 7], [500], [500, 20]])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
def test_dpm_solver_runs_are_those_of_diffusers(times, thresholded):
    # final_sigmas_type "zero" goes to the clean image, and there alone by a step of first order.
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        thresholding=thresholded,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
    )
    scheduler.set_timesteps(timesteps=times)
    threshold = dynamic_threshold(0.95, 1.5) if thresholded else None
    compare(TinyDenoiser(LINEAR), scheduler, times, dpm_solver, threshold)


@given(seed=st.integers(0, 99), ratio=st.floats(0.5, 1), maximum=st.floats(1, 3), scale=st.floats(0.1, 4))
def test_the_dynamic_threshold_is_the_one_of_diffusers(seed, ratio, maximum, scale):
    scheduler = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=ratio, sample_max_value=maximum)
    # Each picture of the batch has a scale of its own.
    x0 = scale * start(3, seed, torch.float32) * torch.tensor([0.3, 1.0, 2.0]).view(-1, 1, 1, 1)
    ours = dynamic_threshold(ratio, maximum)(x0)
    torch.testing.assert_close(ours, scheduler._threshold_sample(x0), rtol=0, atol=1e-6)
    assert ours.abs().max() <= 1
    torch.testing.assert_close(ours[:1], dynamic_threshold(ratio, maximum)(x0[:1]), rtol=0, atol=0)


def test_the_thresholds_leave_pictures_in_range_alone():
    x0 = start(dtype=torch.float32).clamp(-1, 1)
    assert dynamic_threshold()(x0).equal(x0) and clamp(-1, 1)(x0).equal(x0)


# A seed is a picture


@pytest.mark.parametrize("learned", [False, True])
def test_image_k_of_a_batch_is_the_image_made_alone(learned):
    denoiser = TinyDenoiser(LINEAR, learned=learned)
    expression = mean(guide(cond("a")), viewed(guide(cond("b")), VIEWS["flip"]))
    times, seeds = LINEAR.timesteps(12), [180, 7, 0]

    def make(seeds):
        noise = generators(seeds)
        xt = draw(noise, len(seeds), SHAPE)
        return last(denoise(denoiser, expression, xt, times, threshold=dynamic_threshold(), generators=noise))

    together = make(seeds)
    for k, seed in enumerate(seeds):
        torch.testing.assert_close(together[k : k + 1], make([seed]), rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_a_seed_is_the_noise_of_torch_and_consumed_in_order():
    one = torch.Generator().manual_seed(180)
    expected = [torch.randn(1, *SHAPE, generator=one) for _ in range(2)]
    noise = generators([180])
    assert draw(noise, 1, SHAPE).equal(expected[0]) and draw(noise, 1, SHAPE).equal(expected[1])
    # A single generator draws the batch as a whole.
    whole = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    assert draw(torch.Generator().manual_seed(1), 4, SHAPE).equal(whole)


def test_the_number_of_seeds_is_the_number_of_images():
    with pytest.raises(UserError, match="--seed: 2 seeds for 3 images"):
        draw(generators([1, 2]), 3, SHAPE)


# The loop is the caller's


@every_solver
def test_each_step_says_where_it_is(name):
    times = [250, 100, 20]
    denoiser = TinyDenoiser(linear())
    denoiser.inner.requires_grad_()  # a network as it comes from training
    steps = list(denoise(denoiser, BOAT, start(), times, solver=SOLVERS[name], generators=generators([1, 2])))
    assert [step.index for step in steps] == list(range(len(steps)))
    assert {step.total for step in steps} == {len(steps)}
    reached = [step.t for step in steps]
    # Heun evaluates twice a step but for the last.
    assert reached == ([100, 100, 20, 20, CLEAN] if name == "heun" else [100, 20, CLEAN])
    for step in steps:
        assert step.xt.shape == step.x0.shape == (2, *SHAPE)
        assert not step.xt.requires_grad


@every_solver
def test_single_precision_stays_and_costs_only_rounding(name):
    def make(dtype):
        x, times = start(dtype=dtype), linear().timesteps(20)
        return last(denoise(TinyDenoiser(linear()), BOAT, x, times, solver=SOLVERS[name], generators=generators([1, 2])))

    single = make(torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), make(torch.float64), rtol=0, atol=1e-4)


def test_nothing_is_computed_before_it_is_asked_for():
    denoiser = TinyDenoiser(linear())
    steps = denoise(denoiser, guide(BOAT), start(), linear().timesteps(300), solver=ddim)
    assert denoiser.calls == []
    first = next(steps)
    assert denoiser.calls == [4] and (first.index, first.total, first.t) == (0, 300, 298)
    next(steps)
    steps.close()
    assert denoiser.calls == [4, 4]


def test_the_rows_may_be_split():
    x, times = start(), linear().timesteps(5)
    denoiser = TinyDenoiser(linear())
    whole = last(denoise(denoiser, guide(BOAT), x, times, solver=ddim))
    denoiser.calls.clear()
    split = last(denoise(denoiser, guide(BOAT), x, times, solver=ddim, max_rows=3))
    assert denoiser.calls == [3, 1] * 5
    close(split, whole)


def test_the_start_is_left_as_it_was():
    x = start()
    last(denoise(TinyDenoiser(linear()), BOAT, x, [200, 100], solver=ddim, threshold=clamp(-1, 1)))
    assert x.equal(start())


@pytest.mark.parametrize("make", [ancestral, ddim])
def test_a_run_may_be_taken_up_where_it_stands(make):
    # SDEdit is the tail of a run; and what a step yields is all that the rest depends on.
    denoiser, times, noise = TinyDenoiser(linear()), linear().timesteps(6), generators([1, 2])
    steps = denoise(denoiser, BOAT, start(), times, solver=make, generators=noise)
    for _ in range(3):
        half_way = next(steps)
    assert half_way.t == times[3]
    again = [torch.Generator().set_state(g.get_state()) for g in noise]
    close(last(denoise(denoiser, BOAT, half_way.xt, times[3:], solver=make, generators=again)), last(steps))


def test_an_edit_replaces_the_picture_after_each_step():
    denoiser, times = TinyDenoiser(linear()), [250, 100, 20]
    told = []

    def edit(step):
        told.append(step)
        return step.xt + 0.1 * (step.index + 1)

    edited = list(denoise(denoiser, BOAT, start(), times, solver=ddim, edit=edit))
    assert [step.t for step in told] == [100, 20, CLEAN]
    for before, after in zip(told, edited, strict=True):
        close(after.xt, before.xt + 0.1 * (before.index + 1))
        assert after.x0 is before.x0 and after.t == before.t
    # Each step starts from what the edit before has left.
    for i, x in enumerate([start(), edited[0].xt, edited[1].xt]):
        close(told[i].xt, next(denoise(denoiser, BOAT, x, times[i:], solver=ddim)).xt)


@every_solver
def test_an_edit_that_pins_a_region_pins_it_to_the_end(name):
    # Inpainting: outside the mask each step is given the original, as noisy as the step is.
    schedule, original, noise = linear(), start(seed=5), start(seed=6)
    keep = torch.zeros(1, 1, *SHAPE[1:], dtype=torch.bool)
    keep[..., :6] = True

    def edit(step):
        return torch.where(keep, schedule.add_noise(original, step.t, noise), step.xt)

    settings = {"solver": SOLVERS[name], "edit": edit, "generators": generators([1, 2])}
    for step in denoise(TinyDenoiser(schedule), BOAT, start(), [280, 200, 90, 10], **settings):
        close(step.xt[..., :6], schedule.add_noise(original, step.t, noise)[..., :6])
    assert (step.xt - original)[..., 6:].abs().max() > 0.1


def test_a_threshold_mends_the_estimate_that_the_step_takes():
    schedule, x0 = linear(), 3 * start(seed=9)
    for make in SOLVERS.values():
        settings = {"solver": make, "threshold": clamp(-1, 1), "generators": generators([1, 2])}
        for step in denoise(Knowing(schedule, x0), BOAT, start(), [250, 120, 30], **settings):
            assert step.x0.abs().max() <= 1
        close(step.xt, x0.clamp(-1, 1), 1e-6)


def test_an_empty_run_has_no_last_step():
    with pytest.raises(UserError, match="timestep"):
        last(iter(()))


# What is refused


@pytest.mark.parametrize("make", [ancestral, with_eta(0.5)])
def test_a_solver_that_adds_noise_needs_generators(make):
    with pytest.raises(UserError, match="generators"):
        next(denoise(TinyDenoiser(linear()), BOAT, start(), [200, 100], solver=make))


def test_a_run_that_adds_no_noise_needs_none():
    # A single step goes to the clean image, and there no noise is added.
    for make in SOLVERS.values():
        next(denoise(TinyDenoiser(linear()), BOAT, start(), [200], solver=make))


@every_solver
@pytest.mark.parametrize("times", [[], [5, 5], [5, 6], [5, 3, 4], [5, -1], [300], [300, 5]])
def test_timesteps_that_make_no_run_are_refused(name, times):
    denoiser = TinyDenoiser(linear(300))
    with pytest.raises(UserError, match="timestep"):
        next(denoise(denoiser, BOAT, start(), times, solver=SOLVERS[name], generators=generators([1, 2])))
    assert denoiser.calls == []


def test_unknown_settings_are_refused():
    with pytest.raises(UserError, match="--solver leap.*ancestral"):
        Sampling("leap").table()
    with pytest.raises(UserError, match="variance"):
        ancestral(linear(), [5], "medium")
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="--eta"):
            ddim(linear(), [5], eta)
