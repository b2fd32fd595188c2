"""Files that appear whole or not at all, and where what may be fetched or computed again is kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phosphene.errors import UserError


def cache_folder() -> Path:
    """Where downloads and what may be computed again are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phosphene"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and is removed when it does not."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place.") from error
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_writable(path: Path, what: str = "-o") -> None:
    """Fail early, before hours of work, where ``path`` could not be written. Leaves nothing behind."""
    parent = Path(path).absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{what} {path}: {parent} cannot be written to; choose another place.")


def require_file(path: Path, what: str = "-o") -> None:
    """As :func:`require_writable`, where ``path`` may be no folder."""
    if Path(path).is_dir():
        raise UserError(f"{what} {path}: is a folder; name a file in it.")
    require_writable(path, what)


def require_picture(path: Path, what: str = "-o") -> None:
    """As :func:`require_file`, where ``path`` must be a PNG's name."""
    require_file(path, what)
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{what} {path}: pictures are written as PNG; choose a name that ends in .png.")
