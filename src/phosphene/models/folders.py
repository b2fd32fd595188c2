"""Where models lie, and whether their files are whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

from phosphene.errors import UserError
from phosphene.files import expanded

EMBEDDED = Path(__file__).parent.parent / "assets" / "models"
CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"


def embedded() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CONFIG}"))


def require_name(name: str | Path) -> str | Path:
    """``name``; UserError where it is empty, which would mean the working folder, or a default."""
    if not str(name).strip():
        raise UserError(f'--model "{name}": is empty; leave it out, name a folder, or one of {", ".join(embedded())}.')
    return name


def folder(name: str | Path) -> Path:
    """Where the model called ``name`` lies: an embedded one, a model folder, or a training run (its last model)."""
    if str(require_name(name)) in embedded():
        return EMBEDDED / str(name)
    path = expanded(name)
    if (path / CONFIG).is_file():
        return path
    epochs = [int(p.parent.name[6:]) for p in path.glob(f"model-*/{CONFIG}") if p.parent.name[6:].isdecimal()]
    if epochs:
        return path / f"model-{max(epochs):02d}"
    if path.is_dir():
        raise UserError(f"--model {name}: the folder holds no {CONFIG}; name a finished run or one of {', '.join(embedded())}.")
    raise UserError(f"--model {name}: neither a folder nor an embedded model; choose one of {', '.join(embedded())}.")


MOST_NUMBER, MOST_LAYERS = 2**20, 1000
"""Of a config.json: no network here has more of anything, nor as many layers, which are built one by one."""


def require_small(config: object, path: Path, name: str = "") -> None:
    """UserError where a number anywhere in ``config``, read from ``path``, is larger than any network's."""
    if isinstance(config, dict):
        for key, value in config.items():
            require_small(value, path, key)
    elif isinstance(config, list):
        for value in config:
            require_small(value, path, name)
    elif isinstance(config, int | float) and abs(config) > (most := MOST_LAYERS if "layers" in name else MOST_NUMBER):
        raise UserError(f"{path}: {name} {config:g} is more than {most}, as no network here has; fetch or train the model again.")


def verify(path: Path) -> None:
    """Compare a model folder with its SHA256SUMS. Folders without one (hand-made) are taken as they are."""
    if not (path / SUMS).is_file():
        return
    for line in (path / SUMS).read_text(errors="replace").splitlines():
        wanted, _, name = line.partition(" ")
        file = path / name[1:]  # after a space, or the star of binary files
        if not file.is_file():
            raise UserError(f"{file}: is missing; fetch or train the model again.")
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != wanted:
            raise UserError(f"{file}: differs from its SHA-256 in {SUMS}; fetch or train the model again.")
