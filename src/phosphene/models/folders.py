"""Where models lie, and whether their files are whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

from phosphene.errors import UserError

EMBEDDED = Path(__file__).parent.parent / "assets" / "models"
CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"


def embedded() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CONFIG}"))


def folder(name: str | Path) -> Path:
    """Where the model called ``name`` lies: an embedded one, a model folder, or a training run (its last model)."""
    if str(name) in embedded():
        return EMBEDDED / str(name)
    path = Path(name)
    if (path / CONFIG).is_file():
        return path
    epochs = [int(p.parent.name[6:]) for p in path.glob(f"model-*/{CONFIG}") if p.parent.name[6:].isdecimal()]
    if epochs:
        return path / f"model-{max(epochs):02d}"
    if path.is_dir():
        raise UserError(f"--model {name}: the folder holds no {CONFIG}; name a finished run or one of {', '.join(embedded())}.")
    raise UserError(f"--model {name}: neither a folder nor an embedded model; choose one of {', '.join(embedded())}.")


def verify(path: Path) -> None:
    """Compare a model folder with its SHA256SUMS. Folders without one (hand-made) are taken as they are."""
    if not (path / SUMS).is_file():
        return
    for line in (path / SUMS).read_text(errors="replace").splitlines():
        wanted, _, name = line.partition("  ")
        file = path / name
        if not file.is_file():
            raise UserError(f"{file}: is missing; fetch or train the model again.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
            raise UserError(f"{file}: differs from its SHA-256 in {SUMS}; fetch or train the model again.")
