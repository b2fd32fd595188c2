"""What options say in a notation of their own (``jigsaw:6@3``, ``identity:2``, ``clip:MODEL``), and what goes together.

Without torch: the command line refuses here what cannot be before anything is loaded, and what computes reads it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from phosphene.defaults import FOUR_WAY, JUDGES, LAID, MOST_WEIGHT, PIECES, SECTIONS, VIEWS, WARPS, listed, one_of
from phosphene.errors import UserError, require_one_of, require_sigmas


def view_parts(name: str, option: str = "--view", also: tuple[str, ...] = ()) -> tuple[str, int | None, int | None]:
    """What ``jigsaw:6@3`` says: the view's own name, pieces along a side, and a seed; None where it says nothing of it.

    UserError where it cannot be, whatever the picture's size; ``option`` is what says it, and may say ``also`` these.
    """
    plain, at, own = name.partition("@")
    known, colon, number = plain.partition(":")
    if known not in VIEWS and known not in WARPS:
        require_one_of(option, name, [*VIEWS, *WARPS, *also])
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


def is_warp(name: str) -> bool:
    """Whether the view called ``name`` is none that is orthogonal. UserError where there is none of that name."""
    return view_parts(name)[0] in WARPS


def require_views(names: Sequence[Any], prompts: int) -> list[Any]:
    """A view for each of ``prompts``: ``names``, after the picture as it is where one is missing; ``four-way`` are four.

    UserError where they are not as many.
    """
    whole = [part for name in names for part in (FOUR_WAY if name == "four-way" else (name,))]
    if len(whole) == prompts - 1:
        whole = ["identity", *whole]
    if prompts < 2:
        raise UserError(f"PROMPT: {prompts} is given; name two or more, one for each way to look at the picture.")
    if len(whole) != prompts:
        named = ", ".join(str(name) for name in names) or "none"
        ways = f"{prompts} prompts need {prompts - 1} besides the picture as it is, or {prompts} in all"
        raise UserError(f"--view {named}: names {len(whole)} ways to look, and {ways}.")
    return whole


def require_chance(names: Sequence[str], seed: int) -> None:
    """UserError where a ``seed`` is named (0 is none) and none of the views ``names`` would be laid by it."""
    if seed and not any(known in LAID and own is None for known, _, own in map(view_parts, names)):
        raise UserError(f"--view-seed {seed}: is of {one_of(LAID)} without a seed of their own, such as jigsaw; leave it out.")


def last_parts(text: str) -> tuple[str, int]:
    """What ``VIEW:STEPS`` of ``--last`` says (``patches:8:2`` has a view with a number). UserError where it cannot be."""
    name, _, steps = text.rpartition(":")
    if name.partition("@")[0].partition(":")[0] not in VIEWS or not steps.isdecimal() or len(steps) > 6:
        raise UserError(f"--last {text}: give one of the views and a number of steps, such as identity:2.")
    view_parts(name, "--last")
    return name, int(steps)


def require_mean(reduce: str, weights: Any, rectified: bool, last: str | None) -> None:
    """UserError where an anagram's views take turns, and an option is of their mean."""
    others = [] if weights is None else [f"--weights {weights if isinstance(weights, str) else listed(weights)}"]
    others += ["--rectify"] * rectified + [f"--last {last}"] * bool(last)
    if others and reduce != "mean":
        raise UserError(f"{others[0]}: is of --reduce mean; leave it out with alternate.")


def require_warps(names: Sequence[str], reduce: str, weights: Any, rectified: bool, last: str | None) -> None:
    """UserError where one of the views ``names`` is a warp, and what else is asked for does not go with that."""
    if "identity" not in names:
        raise UserError(
            f"--view {', '.join(names)}: one is not orthogonal, and wants the picture as it is beside it; add identity."
        )
    others = [f"--reduce {reduce}"] * (reduce != "mean") + ["--weights auto"] * (weights == "auto")
    others += ["--rectify"] * rectified + [f"--last {last}"] * bool(last)
    if others:
        raise UserError(
            f"{others[0]}: is of orthogonal views, whose estimates have a mean; leave it out with {', '.join(names)}."
        )
    if weights is not None and not all(math.isfinite(w) and w > 0 for w in weights):
        raise UserError(f"--weights {listed(weights)}: give a positive number for each of {len(names)} views.")


def require_overlay(prompts: int, weights: Sequence[float] | None = None) -> None:
    """UserError where transparencies are not made of so many ``prompts``, or ``weights`` do not say how much each counts."""
    if prompts < 3:
        raise UserError(
            f"PROMPT: {prompts} are given; overlay takes one for each of two or more sheets, and one for all together."
        )
    if weights is not None and (len(weights) != prompts or not all(1 / MOST_WEIGHT <= w <= MOST_WEIGHT for w in weights)):
        wanted = f"give a positive number for each of {prompts} prompts, {1 / MOST_WEIGHT:g} to {MOST_WEIGHT:,}"
        raise UserError(f"--weights {listed(weights)}: {wanted}.")


def require_hybrid(kind: str, prompts: int, sigmas: Sequence[float] | None = None) -> None:
    """UserError where a hybrid of the ``kind`` is not made of so many ``prompts``, or ``sigmas`` do not part them."""
    most = 3 if kind == "frequency" else 2
    if not 2 <= prompts <= most:
        wanted = "two or three prompts" if most == 3 else "two prompts"
        raise UserError(f"PROMPT: {prompts} given, but --kind {kind} takes {wanted}; name as many.")
    if sigmas is not None:
        require_sigmas(sigmas, prompts)


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


def require_second(second: str | None, view: str | None, kind: str | None) -> None:
    """UserError where a ``second`` prompt, to be compared in all views, is empty, or a ``view`` or ``kind`` is named too."""
    if second is None:
        return
    if not second.strip():
        raise UserError('PROMPT "": is empty; name the other of the two, or leave it out.')
    if view is not None or kind is not None:
        option = f"--kind {kind}" if view is None else f"--view {view}"
        raise UserError(f"{option}: two prompts are compared in all views; leave it out, or one of the two.")


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
            told = ", ".join(f"{each} ({number})" for each, number in SECTIONS.items())
            raise UserError(f"--sections {name}: there is none of that name or number; choose of {told}.")
