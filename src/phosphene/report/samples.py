"""What networks drew that do not ship: those of the epochs before the last.

A network of one epoch is wanted for one figure of the page, which is a hundredth of its size. So its samples are kept instead, as
they were drawn when it was trained (tools/keep_samples.py): ``assets/epochs/NAME`` has samples.png, ten 28x28 digits a row,
log.jsonl, and config.json with its recipe and what was measured.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from phosphene.images import to_tensor
from phosphene.models import folders

EPOCHS = folders.EMBEDDED.parent / "epochs"
SAMPLES = "samples.png"
STEPS_CALLED = {"ancestral": "ancestral steps", "dpm": "steps of DPM-Solver++"}
"""What the steps of a solver are called."""


def ships(name: str) -> bool:
    """Whether a model called ``name`` is inside the package."""
    return (folders.EMBEDDED / name).is_dir()


def place(name: str) -> Path | None:
    """The folder of the model ``name`` or, if it does not ship, of its samples; None where there is neither."""
    return next((each / name for each in (folders.EMBEDDED, EPOCHS) if (each / name).is_dir()), None)


def config_of(name: str) -> dict[str, Any]:
    """The configuration of a model that ships or of which samples do."""
    return json.loads((place(name) / folders.CONFIG).read_text())


def in_steps(solver: str, steps: int) -> str:
    """How something was drawn, as it is said: in 300 ancestral steps."""
    return f"in {steps} {STEPS_CALLED[solver]}"


def drawn_in(name: str) -> str:
    """How the samples of the model called ``name`` were drawn when it was trained, as :func:`in_steps` says it."""
    steps, solver = re.fullmatch(r"in (\d+) steps of (\w+)", config_of(name)["drawn"]).groups()
    return in_steps(solver, int(steps))


def digits_of(sheet: Path) -> Tensor:
    """The digits of a sheet, ten a row, (N, 1, 28, 28) in [0, 1]."""
    with Image.open(sheet) as image:
        pixels = (to_tensor(image)[0, 0] + 1) / 2
    return pixels.unflatten(0, (-1, 28)).unflatten(2, (10, 28)).permute(0, 2, 1, 3).reshape(-1, 1, 28, 28)


def samples(name: str) -> Tensor:
    """What the model called ``name`` drew, (N, 1, 28, 28) in [0, 1]."""
    return digits_of(EPOCHS / name / SAMPLES)
