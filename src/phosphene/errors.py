"""The one kind of error that is the user's to mend, and what is refused in many places."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from phosphene.defaults import FOUR_WAY, one_of


class UserError(ValueError):
    """Bad input. The message is one sentence that names the option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


def require_one_of(option: str, value: object, names: Collection[str]) -> None:
    """UserError where ``value``, which ``option`` was given, is none of ``names``."""
    if value not in names:
        raise UserError(f"{option} {value}: unknown; choose {one_of(names)}.")


def require_two(prompts: Sequence[str], task: str, what: str) -> None:
    """UserError where ``task`` is given more or fewer than two prompts; ``what`` they are."""
    if len(prompts) != 2:
        raise UserError(f"PROMPT: {len(prompts)} are given; {task} takes two, {what}.")


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
