"""A folder that one process at a time may write to."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from phosphene.errors import UserError
from phosphene.files import make, unmake, writing


class FolderLock:
    """A folder that no other process may lock, until it is released or this process ends, however it does.

    A folder that is not there is made; those made go again if nothing is in them at the end. UserError, in which the option
    ``what`` names the folder, where another process has it.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self._path, self._file = folder / ".lock", None
        self._made: list[Path] = []
        try:
            with writing(folder):
                make(folder, self._made)
                self._file = _locked(self._path)
        finally:
            if self._file is None:
                unmake(self._made)
        if self._file is None:
            remedy = "wait until that has ended, stop it, or choose another folder"
            raise UserError(f"{what} {folder}: another process is writing to it; {remedy}.")
        _HELD.add(self)

    def release(self) -> None:
        with suppress(OSError):  # removed while it is held: who opened it meanwhile sees that it is gone, and makes another
            if self._file is not None:
                self._path.unlink()
        made = self._made
        self.forget()
        unmake(made)

    __del__ = release

    def forget(self) -> None:
        """Close the file, which the process that forked this one still holds."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._made = None, []


_HELD: WeakSet[FolderLock] = WeakSet()
if hasattr(os, "register_at_fork"):  # processes that load data for a training must not hold its folder when it is killed
    os.register_at_fork(after_in_child=lambda: [lock.forget() for lock in _HELD])


def _locked(path: Path) -> int | None:
    """An open file at ``path`` that this process alone has locked; None where another has."""
    while True:
        file, held = os.open(path, os.O_CREAT | os.O_RDWR, 0o666), False
        try:
            with suppress(FileNotFoundError):  # its holder released and removed it meanwhile
                if not _lock(file):
                    return None
                held = os.path.samestat(os.fstat(file), path.stat())
        except OSError:  # there are no locks on this disk
            path.unlink(missing_ok=True)
            raise
        finally:
            if not held:
                os.close(file)
        if held:
            return file


def _lock(file: int) -> bool:
    """Lock an open file unless somebody has; whether it is locked now."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True
