"""The one sampling loop, and its solvers.

A solver is a table. Each row is one evaluation of the denoiser at timestep t, followed by a linear step

    x_s = xt * x_t  +  x0 * x0_hat  +  previous * (x0_hat of the row before)  +  noise * z

with four float64 coefficients from the schedule. DDPM (strided, learned variance or not), DDIM, DPM-Solver++(2M),
Euler and Heun are all tables of this kind; the loop below never asks which one it runs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.errors import UserError, require_one_of, require_share, require_steps, require_timesteps
from phosphene.expression import Asked, Expression, Turns
from phosphene.forward import Evaluation
from phosphene.models.protocol import Denoiser
from phosphene.schedule import CLEAN, NoiseSchedule


class Row(NamedTuple):
    """One evaluation at ``t`` and the step to ``s`` that follows it."""

    t: int
    s: int
    xt: float
    x0: float
    previous: float = 0.0
    noise: float = 0.0
    log_variance: tuple[float, float] | None = None  # small and large: where given, a learned variance replaces ``noise``
    continues: bool = False  # one more evaluation in the step of the row before, not the first of a new step


Solver = Callable[[NoiseSchedule, Sequence[int]], list[Row]]


def ancestral(schedule: NoiseSchedule, timesteps: Sequence[int], variance: str = "auto") -> list[Row]:
    """DDPM's own sampler for any stride (Ho et al. 2020, algorithm 2; DESIGN section 3).

    ``variance``: ``large`` is beta of the jump, ``small`` the posterior's; ``auto`` is the learned one where the model
    has learned one, else ``large``, as the MNIST chapter has it. The last step adds no noise.
    """
    require_one_of("variance", variance, ("auto", "large", "small"))
    rows = []
    for t, s in _jumps(timesteps):
        p = schedule.posterior(t, s)
        sigma = 0.0 if s == CLEAN else math.sqrt(p.small if variance == "small" else p.large)
        learned = (math.log(max(p.small, 1e-20)), math.log(p.large)) if variance == "auto" else None
        rows.append(Row(t, s, p.xt, p.x0, noise=sigma, log_variance=learned))
    return rows


def ddim(schedule: NoiseSchedule, timesteps: Sequence[int], eta: float = 0.0) -> list[Row]:
    """DDIM (Song et al. 2021, eq. 12). ``eta`` 0 is deterministic, 1 has DDPM's small variance.

    The direction is recomputed from the (possibly thresholded) clean estimate, so that step and estimate agree. On the
    ``straight`` schedule with eta 0 this is Euler's method for the flow.
    """
    require_share("--eta", eta)
    rows = []
    for t, s in _jumps(timesteps):
        abar_t, abar_s = schedule.level(t), schedule.level(s)
        sigma = eta * math.sqrt(schedule.posterior(t, s).small)
        ratio = math.sqrt(max(1 - abar_s - sigma**2, 0.0) / (1 - abar_t))
        rows.append(Row(t, s, ratio, math.sqrt(abar_s) - ratio * math.sqrt(abar_t), noise=sigma))
    return rows


def dpm_solver(schedule: NoiseSchedule, timesteps: Sequence[int]) -> list[Row]:
    """DPM-Solver++(2M): second order from the estimate of the step before (Lu et al. 2022, algorithm 2).

    The first step, and the last (to the clean image, where the log-SNR is infinite), are of first order.
    """
    rows, before = [], None
    *jumps, (end, clean) = _jumps(timesteps)
    for t, s in jumps:
        abar_t, abar_s = schedule.level(t), schedule.level(s)
        step = _log_snr(abar_s) - _log_snr(abar_t)
        now = -math.sqrt(abar_s) * math.expm1(-step)
        lean = 0.0 if before is None else step / (2 * before)  # 1 / (2 r), r = step before / this step
        rows.append(Row(t, s, math.sqrt((1 - abar_s) / (1 - abar_t)), now * (1 + lean), previous=-now * lean))
        before = step
    return [*rows, Row(end, clean, xt=0.0, x0=1.0)]


def heun(schedule: NoiseSchedule, timesteps: Sequence[int]) -> list[Row]:
    """Heun's method along the straight path: a step with the velocity here, then again with the mean of both ends.

    In the coordinates ``y = x / (signal + noise)`` every schedule is the path ``(1 - r) x0 + r noise``, whose velocity is
    ``(y - x0) / r``. Two evaluations a step; the last step is Euler's. Source: Karras et al. 2022, algorithm 1.
    """
    rows: list[Row] = []
    for t, s in _jumps(timesteps):
        (scale_t, r_t), (scale_s, r_s) = _straightened(schedule, t), _straightened(schedule, s)
        ratio = r_s / r_t
        rows.append(Row(t, s, scale_s / scale_t * ratio, scale_s * (1 - ratio)))
        if s != CLEAN:
            # At s now, where y_s = keep * y_t + (1 - keep) * x0. Putting the mean of both velocities in place of the first
            # moves y_s by half a step of their difference, which depends on the two clean estimates alone.
            lean = scale_s * (1 - ratio) / (2 * ratio)
            rows.append(Row(s, s, 1.0, lean, previous=-lean, continues=True))
    return rows


def _jumps(timesteps: Sequence[int]) -> list[tuple[int, int]]:
    steps = [int(t) for t in timesteps]
    require_timesteps("timesteps", steps)
    return list(zip(steps, [*steps[1:], CLEAN], strict=True))


def _log_snr(abar: float) -> float:
    return 0.5 * (math.log(abar) - math.log1p(-abar))


def _straightened(schedule: NoiseSchedule, t: int) -> tuple[float, float]:
    """What x is divided by to lie on the straight path, and where on that path (0 clean, 1 noise) t lies."""
    signal, noise = math.sqrt(schedule.level(t)), math.sqrt(1 - schedule.level(t))
    return signal + noise, noise / (signal + noise)


SOLVERS: dict[str, Solver] = {"ancestral": ancestral, "ddim": ddim, "dpm": dpm_solver, "heun": heun}


def resampled(solver: Solver, times: int, low: float = 0.4, high: float = 0.95) -> Solver:
    """``solver``, but each step within ``low..high`` is taken ``times`` times, with fresh noise back to its start between.

    Where conditions must agree (a mask with what surrounds it, two readings of one picture), one pass settles too
    early; going back lets them settle together (RePaint: Lugmayr et al. 2022, section 4.2). ``low`` and ``high`` bound
    the share of noise ``sigma / (signal + sigma)``, 0 clean to 1 noise.
    """
    require_steps("--resample", times)

    def table(schedule: NoiseSchedule, timesteps: Sequence[int]) -> list[Row]:
        rows = []
        for row in solver(schedule, timesteps):
            # A row that stays at its timestep is the second half of a step, and the last row has nothing to agree on.
            if CLEAN < row.s < row.t and low < _straightened(schedule, row.t)[1] < high:
                # There and back in one row: signal shrinks by the square root of abar_t / abar_s, noise fills the rest.
                ratio = schedule.level(row.t) / schedule.level(row.s)
                root = math.sqrt(ratio)
                fresh = math.sqrt(ratio * row.noise**2 + 1 - ratio)
                # The estimate before is of the same t now, which says nothing of a slope: these steps are of first order.
                row = row._replace(x0=row.x0 + row.previous, previous=0.0)
                for _ in range(times - 1):
                    rows.append(Row(row.t, row.t, root * row.xt, root * row.x0, noise=fresh, continues=row.continues))
                    row = row._replace(continues=True)
            rows.append(row)
        return rows

    return table if times > 1 else solver


def taking_turns(rows: Sequence[Row], turns: int, schedule: NoiseSchedule, ending: int | None = None) -> list[tuple[int, Row]]:
    """Whose turn each of ``rows`` is, 0..``turns`` - 1, and the row as it is then.

    By turns, or where ``ending`` is given: all but that many steps are the first's, and those the second's. A step is one
    reading's with all its rows, however often it is taken. ``previous`` is what that reading estimated last, which lies
    further back than the row before: the slope between the two goes by log-SNR (Lu et al. 2022, algorithm 2) and is as
    much flatter. A reading that has estimated nothing yet begins with a step of first order.
    """
    shared, own, step = [], {}, -1
    total = sum(not row.continues for row in rows)
    places = [_log_snr(schedule.level(row.t)) for row in rows]
    for index, row in enumerate(rows):
        step += not row.continues
        turn = step % turns if ending is None else int(step >= total - ending)
        if row.previous and (last := own.get(turn)) != index - 1:
            share = 0.0 if last is None else (places[index] - places[index - 1]) / (places[index] - places[last])
            row = row._replace(x0=row.x0 + (1 - share) * row.previous, previous=share * row.previous)
        shared.append((turn, row))
        own[turn] = index
    return shared


Threshold = Callable[[Tensor], Tensor]


def clamp(low: float, high: float) -> Threshold:
    """Clean estimates are cut to the range of pictures."""
    return lambda x0: x0.clamp(low, high)


def dynamic_threshold(ratio: float = 0.95, maximum: float = 1.5) -> Threshold:
    """Saharia et al. 2022, section 2.3: scale each picture by the ``ratio`` quantile of |x0|, kept in [1, ``maximum``]."""

    def threshold(x0: Tensor) -> Tensor:
        sizes = x0.flatten(1).abs().float()
        place = (torch.tensor(ratio) * (sizes.shape[1] - 1)).item()  # as torch.quantile, which would sort all of them
        largest = sizes.topk(sizes.shape[1] - int(place)).values
        bound = torch.lerp(largest[:, -1], largest[:, -2:][:, 0], place - int(place)).clamp(1, maximum).view(-1, 1, 1, 1)
        return x0.clamp(-bound, bound) / bound

    return threshold


class Some(NamedTuple):
    """``rows`` of what one generator draws for a batch of ``count``: what a process needs of noise that several share."""

    source: torch.Generator
    rows: Sequence[int]
    count: int


Generators = Sequence[torch.Generator] | torch.Generator | Some


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator an image, so that a seed means the same picture alone, in any batch and on any device."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def draw(source: Generators, count: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Unit Gaussian noise (count, \\*shape), float32.

    A list of generators draws each image on the CPU from its own. A single generator draws the whole batch on its own
    device: faster for thousands of pictures, but then a picture depends on its place in the batch.
    """
    if isinstance(source, Some):
        return draw(source.source, source.count, shape, device)[list(source.rows)]
    if isinstance(source, torch.Generator):
        return torch.randn(count, *shape, generator=source, device=source.device).to(device)
    if len(source) != count:
        raise UserError(f"--seed: {len(source)} seeds for {count} images; give one seed for each.")
    noise = torch.empty(count, *shape, pin_memory=torch.device(device).type == "cuda")
    for row, generator in zip(noise, source, strict=True):
        row.normal_(generator=generator)
    return noise.to(device, non_blocking=True)


class Step(NamedTuple):
    """What is known after a step: ``xt`` at timestep ``t`` (-1: the finished picture) and the clean estimate behind it."""

    index: int  # 0-based
    total: int
    t: int
    xt: Tensor
    x0: Tensor


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    asked: Asked,
    xt: Tensor,
    timesteps: Sequence[int],
    *,
    solver: Solver = ancestral,
    threshold: Threshold | None = None,
    edit: Callable[[Step], Tensor] | None = None,
    steer: Callable[[Expression, Step], Expression] | None = None,
    noised: Callable[[Tensor], Tensor] | None = None,
    generators: Generators | None = None,
    max_rows: int | None = None,
    low_res: Tensor | None = None,
) -> Iterator[Step]:
    """Denoise ``xt`` (B, C, H, W; float32; at ``timesteps[0]``) along decreasing ``timesteps`` to the clean image.

    Yields after each step, so that progress bars, previews and early stops belong to the caller. ``threshold`` mends each
    clean estimate; ``edit`` returns what replaces ``xt`` after each step (inpainting), ``steer`` what replaces the expression
    then, on the same leaves; ``generators`` (needed by solvers that add noise) are consumed in the order of the steps,
    ``noised`` makes of what they draw the unit noise that is added; ``low_res`` (B, C', H, W) is shown to the denoiser with
    every ``xt`` and follows its views (super-resolution). SDEdit is this function from
    ``schedule.add_noise(image, timesteps[i], noise)`` over ``timesteps[i:]``. The loop never waits for the device.
    """
    schedule = denoiser.schedule
    rows = solver(schedule, timesteps)
    if generators is None and any(row.noise for row in rows):
        raise UserError("generators: this solver adds noise at each step; pass one generator for each image.")
    turns = asked if isinstance(asked, Turns) else Turns((asked,))
    evaluations = [Evaluation(expression, denoiser, max_rows, low_res) for expression in turns.parts]
    previous: list[Tensor | None] = [None] * len(evaluations)  # the clean estimate that each gave last
    for index, (turn, row) in enumerate(taking_turns(rows, len(evaluations), schedule, turns.ending)):
        estimate = evaluations[turn](xt, row.t)
        x0 = schedule.clean_estimate(xt, row.t, estimate.noise)
        if threshold is not None:
            x0 = threshold(x0)
        xt = row.xt * xt + row.x0 * x0
        if row.previous:
            xt = xt + row.previous * previous[turn]
        if row.noise:
            z = draw(generators, len(xt), xt.shape[1:], xt.device)
            z = z if noised is None else noised(z)
            xt = xt + _deviation(row, estimate.variance) * z
        step = Step(index, len(rows), row.s, xt, x0)
        if edit is not None:
            xt = edit(step)
            step = step._replace(xt=xt)
        previous[turn] = x0
        if steer is not None:
            evaluations[turn].expression = steer(evaluations[turn].expression, step)
        yield step


def _deviation(row: Row, variance: Tensor | None) -> Tensor | float:
    if variance is None or row.log_variance is None:
        return row.noise
    small, large = row.log_variance
    fraction = (variance.float() + 1) / 2
    return torch.exp(0.5 * (fraction * large + (1 - fraction) * small))


def last(steps: Iterator[Step]) -> Tensor:
    """The finished picture of a run, (B, C, H, W)."""
    finished = deque(steps, maxlen=1)
    if not finished:
        raise UserError("timesteps: the run was empty; give at least one timestep.")
    return finished[0].xt
