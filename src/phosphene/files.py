"""Files that appear whole or not at all, and where what may be fetched or computed again is kept."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from phosphene.errors import UserError


def cache_folder() -> Path:
    """Where downloads and what may be computed again are kept."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phosphene"
    except RuntimeError as error:
        raise UserError("HOME: is not set, so there is no place to keep things; set it, or XDG_CACHE_HOME.") from error


def expanded(name: str | Path) -> Path:
    """The path that ``name`` is, its ``~`` or ``~user`` replaced; UserError where nobody's home is known."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UserError(f"{name}: there is no such home folder; write the path out.") from error


is_file, exists = os.path.isfile, os.path.exists
"""Whether a path, whose name comes from anywhere, is a file, or anything: those of pathlib raise where a name is too long."""


def is_special(path: Path) -> bool:
    """Whether there is something at ``path`` that is no file: a folder, or a pipe or a device, which may never end."""
    return exists(path) and not is_file(path)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and is removed when it does not.

    With it go the folders that were made for it. What takes its place is on the disk by then, with the rights that the
    umask leaves. What a killed process left of ``path`` a day ago or earlier is removed. UserError where the system refuses,
    whether at the start, in the block or at the end.
    """
    path, made, temporary = Path(path), [], None
    try:
        with writing(path):
            make(path.parent, made)
            _sweep_of(path)
            temporary = _empty(path)
            rights = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            temporary.chmod(rights)  # some writers, safetensors' among them, put a file of their own in its place
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            made.clear()
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        unmake(made)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What is written in the block goes to ``path``: UserError that names it where the system refuses."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {unwritable(error)}") from error


def unwritable(error: OSError) -> str:
    """That something cannot be written because of ``error``, and what to do."""
    remedy = "choose a shorter name" if error.errno == errno.ENAMETOOLONG else "free some space, or choose another place"
    return f"cannot be written ({error.strerror or error}); {remedy}."


def make(folder: Path, made: list[Path]) -> None:
    """Make ``folder`` and those above it; what was not there before is appended to ``made`` at once."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        made.append(each)


def unmake(made: list[Path]) -> None:
    """Remove what :func:`make` made and nobody put anything into."""
    while made:
        with suppress(OSError):
            made.pop().rmdir()


def _empty(path: Path) -> Path:
    """A new empty file beside ``path``, of the same kind by its name; hidden."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
        with suppress(FileExistsError):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return temporary


TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}(?P<suffix>\.[^.]+)?|\.tmp[0-9A-Za-z]{6}")
"""What :func:`replacing` calls a file until it is whole, and what safetensors calls one beside it."""


def sweep(*folders: Path) -> None:
    """Remove the temporary files that a killed process left in ``folders``. Nobody else may be writing there."""
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        match = TEMPORARY.fullmatch(path.name)
        if match and path.is_file() and (match["name"] is None or Path(match["name"]).suffix == (match["suffix"] or "")):
            with writing(path):
                path.unlink(missing_ok=True)


OLD = 24 * 60 * 60.0
"""Seconds after which nobody writes a temporary file any more. Beside a picture there is no lock that would tell."""


def _sweep_of(path: Path) -> None:
    """Remove the old temporary files of ``path``, as far as that can be done."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(path.suffix)}")
    for left in filter(name.fullmatch, _left_in(path.parent.absolute())):
        with suppress(OSError):
            path.with_name(left).unlink()


@lru_cache(maxsize=64)
def _left_in(folder: Path) -> list[str]:
    """What looks like an old temporary file: looked for once, though each of thousands of pictures is written by itself."""
    with suppress(OSError), os.scandir(folder) as found:
        hidden = [each for each in found if each.name.startswith(".") and each.is_file(follow_symlinks=False)]
        return [each.name for each in hidden if time.time() - each.stat().st_mtime > OLD]
    return []


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_writable(path: Path, what: str = "-o") -> None:
    """Fail early, before hours of work, where ``path`` could not be written. Leaves nothing behind."""
    parent = Path(path).absolute().parent
    with writing(f"{what} {path}"):
        if parent.is_dir():
            _empty(Path(path)).unlink()  # the name may be too long, or the place one that nothing can be written to
            return
    while not exists(parent):
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
