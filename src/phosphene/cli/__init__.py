"""The command line. It parses, checks where the results will go, calls what computes, and shows what came out.

Nothing heavy is imported before a command runs: ``phosphene --help`` must not wait for torch.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cache
from importlib import import_module
from types import FrameType

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from phosphene.cli import common, examples, options
from phosphene.cli.common import app
from phosphene.errors import UserError
from phosphene.files import unwritable
from phosphene.launch import heeded, ignore

# Each adds its commands, in this order.
for _part in ("train", "digits", "pictures", "illusions", "pairs", "measure", "anagrams", "models", "provenance"):
    import_module(f"phosphene.cli.{_part}")
examples.show(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv`` by default) and return its exit code.

    Whatever is the user's to mend is one line on stderr and exit code 2; Ctrl-C is one line and 130, SIGTERM the same and 143,
    SIGHUP 129.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell closed it (>&-)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open to the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # signs that it lacks, and names that are no text, are written out
            stream.reconfigure(errors="backslashreplace")
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None  # boxes and colours are for terminals
    with _interruptible() as came:
        try:
            return perform(arguments)
        except Failed as failure:
            if came and failure.code != 130:
                return _interrupted(came)
            if failure.sentence and (common.leads() or not failure.common):
                print(f"phosphene: {common.visible(failure.sentence)}", file=sys.stderr)
            return 128 + came[0] if came else failure.code
        except KeyboardInterrupt:  # where typer no longer looks
            return _interrupted(came)
        except Exception:
            if not came:
                raise
            return _interrupted(came)


def _interrupted(came: Sequence[int]) -> int:
    """Say so; the exit code. Libraries make errors of their own of what is raised where they call Python from C++."""
    if threading.current_thread() is threading.main_thread():
        ignore()  # such as what waited for the end of an import
    if common.leads():
        print("phosphene: interrupted.", file=sys.stderr)
    return 128 + (came or [signal.SIGINT])[0]


LATER = 0.05
"""Seconds until a signal that came amid an import comes again."""


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """While the block lasts, KeyboardInterrupt is raised by each of ENDING that is not ignored; the list has what came.

    Amid an import it waits: libraries call Python from C++ there, which an exception would end by SIGABRT.
    """
    came: list[int] = []
    waiting: list[threading.Timer] = []

    def end(number: int, frame: FrameType | None) -> None:
        if number not in came:
            came.append(number)
        if _importing(frame):
            later = threading.Timer(LATER, _signal_main, [number])
            later.daemon = True
            waiting.append(later)
            return later.start()
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)  # it is ending already
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {each: signal.signal(each, end) for each in heeded()}
    try:
        yield came
    finally:
        for later in waiting:
            later.cancel()
        _deaf_at_exit()  # last, so that it comes before what libraries do at exit
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)  # None: it was not Python's


def _signal_main(number: int) -> None:
    """Send a signal to the main thread: one that this thread raised would not wake that where it waits."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, number)
    else:
        signal.raise_signal(number)


def _importing(frame: FrameType | None) -> bool:
    """Whether ``frame`` is run for an import, in what :func:`main` calls: itself it may be called by a module's own lines."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@cache
def _deaf_at_exit() -> None:
    """What comes once all is done and said would only change the exit code."""
    atexit.register(ignore)


class Failed(Exception):
    """A command that came to nothing: what to say of it, in one sentence (nothing, where another process speaks).

    What is ``common`` to several processes, such as that the command line is wrong, one of them says.
    """

    def __init__(self, what: object, code: int, common: bool = True) -> None:
        sentence = " ".join(str(what).split())
        self.sentence = f"{sentence}{'' if sentence.endswith(('.', '?')) else '.'}" if sentence else ""
        self.code, self.common = code, common
        super().__init__(self.sentence)


def perform(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; Failed, with what to say, where the user has something to mend."""
    try:
        _require_shared(arguments[0])
        code = _group(arguments[0]).main(list(arguments), "phosphene", standalone_mode=False)
    except common.Stopped as stop:
        raise Failed(stop, 130) from stop
    except (UserError, FloatingPointError) as error:
        raise Failed(error, 2) from error
    except TyperException as error:
        raise Failed(_usage(error), 2) from error
    except (RuntimeError, MemoryError) as error:
        if (full := _full(error)) is None:
            raise
        raise Failed(full, 2, common=False) from error
    except OSError as error:
        raise Failed(_system(error), 2, common=False) from error
    if code == 130:
        raise Failed("interrupted", 130)
    return code or 0


def _group(name: str) -> TyperGroup:
    """All commands, or the one called ``name`` alone: to read what options each has takes longer than all else before torch."""
    alone = copy(app)
    alone.registered_commands = [c for c in app.registered_commands if (c.name or c.callback.__name__) == name]
    alone.registered_groups = [group for group in app.registered_groups if group.name == name]
    return typer.main.get_group(alone if alone.registered_commands or alone.registered_groups else app)


def _require_shared(command: str) -> None:
    """UserError where several processes were started for a ``command`` that is one's."""
    if common.processes() > 1 and not command.startswith("-") and command not in common.SHARED:
        shared = ", ".join(common.SHARED)
        raise UserError(f"{command}: is done by one process; start it without torchrun, which is for {shared}.")


def _system(error: OSError) -> str:
    """What to say of what the system refused."""
    try:
        os.getcwd()
    except OSError:
        return "the working folder: is no longer there; go to another one."
    where = error.filename or "the terminal, or the file that stands in for it"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENAMETOOLONG):
        return f"{where}: {unwritable(error)}"
    return f"{where}: {error.strerror}." if error.filename else str(error)


def _full(error: Exception) -> str | None:
    """What to say where ``error`` means that memory did not suffice; None where it means something else."""
    fewer = "ask for fewer pictures at once (--count), a smaller --batch-size or a smaller model"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU; torch need not be loaded to get here
        return f"--device cuda: the GPU's memory does not suffice; {fewer}, or take --device cpu."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"--device cpu: memory does not suffice; {fewer}."
    return None


def _usage(error: TyperException) -> str:
    """What is wrong with the command line, with the option and the value in front as everywhere else."""
    option, message = getattr(error, "param", None), error.format_message()
    wrong = re.search(r"'?([^':]*)'? (is not .*)", message)
    name = None if option is None else options.called(option)
    if name is not None and isinstance(error, typer.BadParameter) and not error.message:  # what typer says of one that is missing
        return f"{name}: is missing; {error.ctx.command_path} --help says what it is"
    if name is not None and wrong is None and isinstance(error, typer.BadParameter):
        return f"{name}: {error.message}"
    if name is None and (bare := re.fullmatch(r"Option '(\S+)' requires an argument\.?", message)):
        return f"{bare[1]}: has no value; give one, or leave it out"
    if name is None or wrong is None:
        asked = getattr(error, "ctx", None)
        return message if asked is None else f"{message.rstrip('.')}; {asked.command_path} --help says what there is."
    why = re.sub(r"valid int( range)?", "whole number", re.sub(r"valid float( range)?", "number", wrong[2]))
    return f"{name} {wrong[1].strip()}: {why.replace('<=x<=', ' to ')}"
