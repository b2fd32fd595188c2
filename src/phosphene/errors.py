"""The one kind of error that is the user's to mend, and what is refused in many places."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from typing import Any

from phosphene.defaults import (
    FOUR_WAY,
    JUDGES,
    LAID,
    LEAST_BLUR,
    MOST_BLUR,
    MOST_SIGMA,
    MOST_STEPS,
    MOST_WEIGHT,
    PIECES,
    SECTIONS,
    VIEWS,
    WARPS,
    one_of,
)


class UserError(ValueError):
    """Bad input. The message is one sentence that names the option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


def shared_by() -> tuple[int, int]:
    """Which of how many processes this one is, as torchrun says it in the surroundings.

    UserError where they say what cannot be, or half of it, as those of some clusters do.
    """
    usual = {"RANK": "0", "WORLD_SIZE": "1"}
    told = {name: os.environ.get(name) or value for name, value in usual.items()}
    remedy = "unset it, or start several processes with torchrun"
    for name, value in told.items():
        if not (value.isdecimal() and len(value) < 7):
            raise UserError(f"{name} {value}: is set in the surroundings, and no whole number; {remedy}.")
    rank, world = int(told["RANK"]), int(told["WORLD_SIZE"])
    missing = [name for name in (*usual, "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if world > 1 and (missing or rank >= world):
        why = f"without {', '.join(missing)}" if missing else f"beside RANK {rank}"
        raise UserError(f"WORLD_SIZE {world}: is set in the surroundings {why}; {remedy}.")
    return rank, max(world, 1)


def require_one_of(option: str, value: object, names: Collection[str]) -> None:
    """UserError where ``value``, which ``option`` was given, is none of ``names``."""
    if value not in names:
        raise UserError(f"{option} {value}: unknown; choose {one_of(names)}.")


def require_two(prompts: Sequence[str], task: str, what: str) -> None:
    """UserError where ``task`` is given more or fewer than two prompts; ``what`` they are."""
    if len(prompts) != 2:
        raise UserError(f"PROMPT: {len(prompts)} are given; {task} takes two, {what}.")


def view_parts(name: str, option: str = "--view") -> tuple[str, int | None, int | None]:
    """What ``jigsaw:6@3`` says: the view's own name, pieces along a side, and a seed; None where it says nothing of it.

    UserError where it cannot be, whatever the picture's size; ``option`` is what says it.
    """
    plain, at, own = name.partition("@")
    known, colon, number = plain.partition(":")
    if known not in VIEWS and known not in WARPS:
        require_one_of(option, name, [*VIEWS, *WARPS])
    fits = number.isdecimal() and len(number) < 5 and 2 <= int(number)
    if known in WARPS and (at or (colon and not (fits and int(number) <= WARPS[known]))):
        fit = f"after its colon stands a whole number, 2..{WARPS[known]}" if WARPS[known] else "leave the number out"
        raise UserError(f"{option} {name}: {known} has no seed; {fit}." if at else f"{option} {name}: {fit}.")
    if colon and not fits:
        raise UserError(f"{option} {name}: the number of pieces along a side must be a whole number from 2 on.")
    if colon and known not in (*PIECES, *WARPS):
        raise UserError(f"{option} {name}: {known} has no number of pieces; leave :{number} out.")
    if colon and int(number) % PIECES.get(known, 1):
        raise UserError(f"{option} {name}: must be an even number, such as {known}:4.")
    if at and known not in LAID:
        raise UserError(f"{option} {name}: {known} is not laid by chance; leave @{own} out.")
    if at and not (own.isdecimal() and len(own) < 11 and int(own) < 2**32):
        raise UserError(f"{option} {name}: after @ stands a seed, 0..{2**32 - 1}, of a view laid by chance, such as jigsaw@3.")
    return known, int(number) if colon else None, int(own) if at else None


def require_views(names: Sequence[Any], prompts: int) -> list[Any]:
    """A view for each of ``prompts``: ``names``, after the picture as it is where one is missing; ``four-way`` are four.

    UserError where they are not as many.
    """
    whole = [part for name in names for part in (FOUR_WAY if name == "four-way" else (name,))]
    if len(whole) == prompts - 1:
        whole = ["identity", *whole]
    if len(whole) != prompts or prompts < 2:
        named = ", ".join(str(name) for name in whole) or "none"
        raise UserError(f"--view {named}: {prompts} prompts need {max(prompts - 1, 1)} views besides the picture as it is.")
    return whole


def require_finite(option: str, value: float) -> None:
    """UserError where ``value`` is infinite or no number."""
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


def require_strength(value: float) -> None:
    """UserError where ``value`` is no share of an edit's steps."""
    if not 0 < value <= 1:
        raise UserError(f"--strength {value:g}: must lie in (0, 1], such as 0.7.")


def require_sigma(value: float) -> None:
    """UserError where no Gaussian blurs by ``value`` pixels."""
    if not LEAST_BLUR <= value <= MOST_BLUR:
        raise UserError(f"--sigma {value:g}: must lie in {LEAST_BLUR}..{MOST_BLUR} pixels, such as 2.")


def require_noise(sigmas: Sequence[float]) -> None:
    """UserError where one of ``sigmas`` is no level of noise, or there is none."""
    if not sigmas or not all(0 <= s <= MOST_SIGMA for s in sigmas):
        raise UserError(f"--sigma {[*sigmas]}: give numbers of 0 or more, at most {MOST_SIGMA}.")


def require_length(value: float) -> None:
    """UserError where nothing sweeps by over ``value`` pixels."""
    if not 1 < value <= MOST_BLUR:
        raise UserError(f"--length {value:g}: must be more than a pixel, such as 15, and at most {MOST_BLUR}.")


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
        raise UserError(f"--weights {[*weights]}: {wanted}.")


def require_sigmas(sigmas: Sequence[float], parts: int) -> None:
    """UserError where ``sigmas`` are not what parts so many bands."""
    falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if len(sigmas) != parts - 1 or not falling or not all(s > 0 for s in sigmas):
        raise UserError(f"--sigma {(*sigmas,)}: {parts} parts need {max(parts - 1, 1)} positive, decreasing sigmas.")


def require_hybrid(kind: str, prompts: int, sigmas: Sequence[float] | None = None) -> None:
    """UserError where a hybrid of the ``kind`` is not made of so many ``prompts``, or ``sigmas`` do not part them."""
    most = 3 if kind == "frequency" else 2
    if not 2 <= prompts <= most:
        raise UserError(f"--kind {kind}: takes {'two or three prompts' if most == 3 else 'two prompts'}, not {prompts}.")
    if sigmas is not None:
        require_sigmas(sigmas, prompts)


def last_parts(text: str) -> tuple[str, int]:
    """What ``VIEW:STEPS`` of ``--last`` says (``patches:8:2`` has a view with a number). UserError where it cannot be."""
    name, _, steps = text.rpartition(":")
    if name.partition("@")[0].partition(":")[0] not in VIEWS or not steps.isdecimal() or len(steps) > 6:
        raise UserError(f"--last {text}: give one of the views and a number of steps, such as identity:2.")
    view_parts(name, "--last")
    return name, int(steps)


def require_mean(reduce: str, weights: object, rectified: bool, last: str | None) -> None:
    """UserError where an anagram's views take turns, and an option is of their mean."""
    told = [f"--weights {weights}"] * (weights is not None) + ["--rectify"] * rectified + [f"--last {last}"] * bool(last)
    if told and reduce != "mean":
        raise UserError(f"{told[0]}: is of --reduce mean; leave it out with alternate.")


def is_warp(name: str) -> bool:
    """Whether the view called ``name`` is none that is orthogonal. UserError where there is none of that name."""
    return view_parts(name)[0] in WARPS


def require_warps(names: Sequence[str], reduce: str, weights: Any, rectified: bool, last: str | None) -> None:
    """UserError where one of the views ``names`` is a warp, and what else is asked for does not go with that."""
    if "identity" not in names:
        raise UserError(
            f"--view {', '.join(names)}: one is not orthogonal, and wants the picture as it is beside it; add identity."
        )
    told = [f"--reduce {reduce}"] * (reduce != "mean") + ["--weights auto"] * (weights == "auto")
    told += ["--rectify"] * rectified + [f"--last {last}"] * bool(last)
    if told:
        raise UserError(f"{told[0]}: is of orthogonal views, whose estimates have a mean; leave it out with {', '.join(names)}.")
    if weights is not None and not all(math.isfinite(w) and w > 0 for w in weights):
        raise UserError(f"--weights {[*weights]}: give a positive number for each of {len(names)} views.")


def require_overlay(prompts: int, weights: Sequence[float] | None = None) -> None:
    """UserError where transparencies are not made of so many ``prompts``, or ``weights`` do not say how much each counts."""
    if prompts < 3:
        raise UserError(
            f"PROMPT: {prompts} are given; overlay takes one for each of two or more sheets, and one for all together."
        )
    if weights is not None and (len(weights) != prompts or not all(1 / MOST_WEIGHT <= w <= MOST_WEIGHT for w in weights)):
        wanted = f"give a positive number for each of {prompts} prompts, {1 / MOST_WEIGHT:g} to {MOST_WEIGHT:,}"
        raise UserError(f"--weights {[*weights]}: {wanted}.")


def require_sharing(view: str | None, kind: str | None, prompt: str | None) -> None:
    """UserError where pairs are to share a picture in two ways, a ``view`` and a ``kind`` of hybrid, or in one that cannot be."""
    if view is not None and kind is not None:
        raise UserError(f"--kind {kind}: is of hybrids, and --view {view} of anagrams; leave one of the two out.")
    if view in ("identity", "four-way"):
        raise UserError(f"--view {view}: does not show two prompts in one picture; name another, such as flip.")
    if view is not None:
        view_parts(view)
    if prompt is not None and not prompt.strip():
        raise UserError('PROMPT "": is empty; say what the picture shows first, or leave it out.')


def judge_parts(text: str) -> tuple[str, str]:
    """What ``denoiser``, ``retrieval:FOLDER`` or ``clip:MODEL`` says: the kind, and which. UserError where it is none."""
    kind, _, where = text.partition(":")
    if kind not in JUDGES or bool(where.strip()) != (kind != "denoiser"):
        raise UserError(f"--judge {text}: unknown; choose denoiser, retrieval:FOLDER or clip:MODEL.")
    return kind, where


def require_sections(names: Sequence[str]) -> None:
    """UserError where one of ``names`` is neither name nor number of a section of the page."""
    for name in names:
        if name not in (*SECTIONS, *SECTIONS.values()):
            raise UserError(f"--sections {name}: there is none of that name; choose of {', '.join(SECTIONS)}.")
