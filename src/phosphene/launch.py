"""How this process was started, alone or as one of several, and what ends it. Without torch: it is known before all else."""

from __future__ import annotations

import os
import signal

from phosphene.errors import UserError

ENDING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""What Ctrl-C sends, what ``docker stop`` does, and what a terminal does that goes away."""


def heeded() -> list[signal.Signals]:
    """Those of ENDING that are not ignored, as nohup has it, and a shell of its jobs in the background: what is stays so."""
    return [each for each in ENDING if signal.getsignal(each) != signal.SIG_IGN]


def ignore() -> None:
    """Ignore all of ENDING from now on: what ends already need not be told."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)


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
