"""The one kind of error that is the user's to mend, and what many places refuse of numbers and names."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real

from phosphene.defaults import LEAST_BLUR, MOST_BLUR, MOST_SIGMA, MOST_STEPS, MOST_WEIGHT, listed, one_of


class UserError(ValueError):
    """Bad input. The message is one sentence that names the option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


def require_one_of(option: str, value: object, names: Collection[str]) -> None:
    """UserError where ``value``, which ``option`` was given, is none of ``names``."""
    if value not in names:
        raise UserError(f"{option} {value or repr('')}: unknown; choose {one_of(names)}.")


def require_two(prompts: Sequence[str], task: str, what: str) -> None:
    """UserError where ``task`` is given more or fewer than two prompts; ``what`` they are."""
    if len(prompts) != 2:
        raise UserError(f"PROMPT: {len(prompts)} are given; {task} takes two, {what}.")


def require_number(option: str, value: object, whole: bool = False) -> None:
    """UserError where ``value`` is no single number, or not a ``whole`` one: a text, or a tuple of one for each stage."""
    if not isinstance(value, Integral if whole else Real):
        raise UserError(f"{option} {value!r}: must be a {'whole ' if whole else ''}number.")


def require_finite(option: str, value: float) -> None:
    """UserError where ``value`` is infinite or no number."""
    require_number(option, value)
    if not math.isfinite(value):
        raise UserError(f"{option} {value:g}: must be a finite number.")


def require_share(option: str, value: float) -> None:
    """UserError where ``value`` is no share, 0 to 1."""
    if not 0 <= value <= 1:  # NaN is none either
        raise UserError(f"{option} {value:g}: must lie in 0..1.")


def require_eta(eta: float | None, solver: str) -> None:
    """UserError where ``eta`` is given to a ``solver`` that has no such share."""
    if eta is not None and solver != "ddim":
        raise UserError(f"--eta {eta:g}: belongs to ddim, not to {solver}; leave it out, or take --solver ddim.")


def require_strength(option: str, value: float) -> None:
    """UserError where ``value`` is no share of an edit's steps."""
    if not 0 < value <= 1:
        raise UserError(f"{option} {value:g}: must lie in (0, 1], such as 0.7.")


def require_sigma(value: float) -> None:
    """UserError where no Gaussian blurs by ``value``."""
    if not LEAST_BLUR <= value <= MOST_BLUR:
        raise UserError(f"--sigma {value:g}: must lie in {LEAST_BLUR}..{MOST_BLUR}, such as 2.")


def require_noise(sigmas: Sequence[float]) -> None:
    """UserError where one of ``sigmas`` is no level of noise, or there is none."""
    if not sigmas or not all(0 <= s <= MOST_SIGMA for s in sigmas):
        raise UserError(f"--sigma {listed(sigmas)}: give numbers of 0 or more, at most {MOST_SIGMA}.")


def require_length(option: str, value: float) -> None:
    """UserError where nothing sweeps by over ``value`` pixels."""
    if not 1 < value <= MOST_BLUR:
        raise UserError(f"{option} {value:g}: must be more than a pixel, such as 15, and at most {MOST_BLUR}.")


def require_steps(option: str, value: int, least: int = 1) -> None:
    """UserError where ``value`` is no number of steps, or no timestep, of any schedule."""
    if not least <= value <= MOST_STEPS:
        raise UserError(f"{option} {value}: must lie in {least}..{MOST_STEPS}.")


def require_timesteps(option: str, steps: Sequence[int]) -> None:
    """UserError where ``steps`` are no way from noise to a picture."""
    if not steps:
        raise UserError(f"{option}: the list is empty; give at least one.")
    if steps[-1] < 0 or any(a <= b for a, b in zip(steps, steps[1:], strict=False)):
        raise UserError(f"{option} {','.join(map(str, steps))}: must decrease strictly and end at 0 or above.")


def require_weights(weights: Sequence[float], parts: int) -> None:
    """UserError where there is no average of so many ``parts`` by ``weights``."""
    if len(weights) != parts or not all(abs(w) <= MOST_WEIGHT for w in weights) or abs(sum(weights)) < 1e-12:
        wanted = f"needs a weight of at most {MOST_WEIGHT:,} for each of {parts} parts, with a sum other than 0"
        raise UserError(f"--weights {listed(weights)}: {wanted}.")


def require_sigmas(sigmas: Sequence[float], parts: int) -> None:
    """UserError where ``sigmas`` are not what parts so many bands."""
    falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if len(sigmas) != parts - 1 or not falling or not all(s > 0 for s in sigmas):
        count = max(parts - 1, 1)
        wanted = f"{parts} parts need {count} positive, decreasing sigmas, such as {listed(2**k for k in range(count, 0, -1))}"
        raise UserError(f"--sigma {listed(sigmas)}: {wanted}.")
