"""What the commands share: options, checks of where results go, and what is shown on the terminal."""

from __future__ import annotations

import gc
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from phosphene import __version__
from phosphene.defaults import MOST_PICTURES, MOST_ROWS, MOST_STEPS
from phosphene.errors import UserError
from phosphene.files import require_picture
from phosphene.launch import shared_by

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from phosphene.drawing import Step
    from phosphene.processes import Place

SCALE = 4

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        say(f"phosphene {__version__}")
        raise typer.Exit


@app.callback()
def phosphene(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Say it and end.")] = False,
) -> None:
    """See what diffusion models do: train them, sample them, measure them."""


Advance = Callable[[int, int, str], None]
T = TypeVar("T")


# What the commands read


def numbers(option: str, text: str, kind: type, example: str, most: int = MOST_ROWS) -> list:
    """The numbers of a list such as ``0,.2,1``, at most so many; whole ones also as ``990,960,...,0``."""
    if (count := text.count(",") + 1) > most:
        raise UserError(f"{option} {text[:40]}...: are {count} numbers; give at most {most}.")
    try:
        before, dots, end = text.partition(",...,")
        found = [kind(part) for part in before.split(",")]
        if dots:
            *_, first, second = found
            further = range(second, int(end), second - first) if kind is int else ()
            regular = 0 < len(further) < MOST_STEPS and further[-1] + second - first == int(end)
            found = [*found, *further[1:], int(end)] if regular else [math.nan]
    except (ValueError, OverflowError):
        found = [math.nan]
    if not all(math.isfinite(number) for number in found):
        raise UserError(f"{option} {text or repr('')}: give numbers separated by commas, such as {example}.")
    return found


def require_pictures(option: str, told: object, count: int, each: int = 1) -> None:
    """UserError where ``option``, ``told`` to make ``count`` times ``each`` pictures, makes more than a sheet has room for."""
    if count * each > MOST_PICTURES:
        told = told if len(str(told)) < 40 else f"{told[:40]}..."
        raise UserError(f"{option} {told}: makes {count * each} pictures; choose at most {MOST_PICTURES // each}.")


SHARED = ["train", "evaluate"]
"""Commands that several processes do together: those that draw are added."""


def processes() -> int:
    """How many this one is of (``torchrun``)."""
    return shared_by()[1]


def leads() -> bool:
    """Whether this process is the one that writes and speaks."""
    try:
        rank, world = shared_by()
    except UserError:
        return True  # each that cannot tell has that to say
    return world == 1 or rank == 0


@cache
def _place(name: str) -> Place:
    from phosphene.processes import Place

    return Place(name)


def place(device: str) -> Place:
    """Where this process stands among those that it draws with."""
    from phosphene.processes import Place

    return _place(device) if processes() > 1 else Place(device)


def device(name: str) -> torch.device:
    return place(name).device


def named(device: torch.device) -> str:
    """What is told of ``device``: of several processes, each on its own, the kind."""
    return str(device) if processes() == 1 else device.type


def max_rows(device: torch.device) -> int:
    """Rows of a forward pass that any machine has the memory for."""
    return 250 if device.type == "cpu" else 2500


def destination(out: Path, command: str) -> Path:
    """Where ``-o`` has a command's picture: in ``out``, or, where that names a folder, in it under the command's name."""
    if not out.suffix or (out.is_dir() and out.suffix.lower() != ".png"):
        out = out / f"{command}.png"
    require_picture(out)
    return out


@contextmanager
def importing() -> Iterator[None]:
    """For the block that imports torch, if it is the first to. None of the 170,000 objects that come of it is garbage: the
    collector would go through them again and again, here, while pictures are drawn and at the end.
    """
    if "torch" in sys.modules or not gc.isenabled():  # a notebook or the studio: what is there now may become garbage yet
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


# What they say and show


class Stopped(Exception):
    """Ctrl-C, and what to say of it."""


class Audience(Protocol):
    """Whom a command tells what it says, instead of the terminal: the web studio runs commands and listens."""

    def say(self, text: str) -> None: ...

    def step(self, step: Step, what: str) -> None:
        """A step was taken. Stopped, raised here, ends the command."""

    def readings(self, pictures: list[Image.Image]) -> None:
        """The finished picture, as it is and (of anagrams) in its other views, before it is laid out on a sheet."""

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` makes, such as a model, or what it made when ``key`` was last asked for."""


audience: ContextVar[Audience | None] = ContextVar("audience", default=None)


def visible(text: str) -> str:
    """``text`` with what a terminal would obey instead of showing it, and what it cannot show, written out as in JSON."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def say(text: str) -> None:
    listener, text = audience.get(), visible(text)
    if not leads():
        return
    print(text, flush=True) if listener is None else listener.say(text)


def readings(pictures: list[Image.Image]) -> None:
    if (listener := audience.get()) is not None:
        listener.readings(pictures)


def cached(key: Hashable, make: Callable[[], T]) -> T:
    listener = audience.get()
    return make() if listener is None else listener.cached(key, make)


def several(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """A table on the terminal, or its plain columns elsewhere. The first ``left`` columns are words, the others figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not leads():
        return
    terminal = Console().is_terminal
    console = Console(markup=False, emoji=False, highlight=False, width=None if terminal else 1000)
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right")
    for row in rows:
        table.add_row(*map(visible, row))
    console.print(table)


@contextmanager
def progress(*columns: Any) -> Iterator[Any]:
    """A rich progress display on stderr: what is done, a bar, ``columns``; lines printed meanwhile above it. Silent elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    what, *more = (TextColumn(c, markup=False) if isinstance(c, str) else c for c in ("{task.description}", *columns))
    live = sys.stdout.isatty()  # else lines go to a file, and past the display
    silent = not (console.is_terminal and leads())
    with Progress(what, BarColumn(), *more, console=console, transient=True, disable=silent, redirect_stdout=live) as progress:
        yield progress


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says on a terminal what is waited for, at once: torch alone takes a second or two."""
    with progress() as live:
        live.add_task(what, total=None)
        yield


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """A bar that is told (done, total, of what)."""
    with progress("{task.completed:.0f}/{task.total:.0f}") as live:
        task = live.add_task(what, total=1)
        yield lambda done, total, name: live.update(task, completed=done, total=total, description=f"{what}: {name}")


def with_progress(steps: Iterator[Step]) -> Iterator[Step]:
    """``steps``, with a bar and the time left."""
    from rich.progress import TimeRemainingColumn

    listener = audience.get()
    with progress("{task.completed:.0f}/{task.total:.0f} steps", TimeRemainingColumn()) as live:
        task = live.add_task("", total=1)
        for step in steps:
            what = "enlarging" if step.stage else "drawing"
            if listener is not None:
                listener.step(step, what)
            live.update(task, completed=step.index + 1, total=step.total, description=what)
            yield step


def finished(steps: Iterator[Step]) -> Step:
    """The last step of a run, at which its pictures are finished; shown with a bar meanwhile."""
    (step,) = deque(with_progress(steps), maxlen=1)  # none before it is kept
    return step


def rows(items: Sequence, columns: int) -> list[Sequence]:
    return [items[start : start + columns] for start in range(0, len(items), columns)]


# What they leave behind


def provenance(command: str, model: str | Sequence[str], arguments: Mapping[str, Any]) -> dict:
    """How a result was made. Where it was written is no part of it: the same picture is the same file anywhere."""
    import torch

    return {"command": command, "version": __version__, "arguments": dict(arguments), "model": model, "torch": torch.__version__}


def numbered(out: Path, number: int, count: int) -> Path:
    """Where picture ``number``, 1 to ``count``, lies beside the sheet ``out``."""
    return out.with_name(f"{out.stem}-{number:0{len(str(count))}}.png")


def machine(device: torch.device) -> dict:
    """The machine that figures were measured on."""
    import os
    import platform

    import torch

    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": processor,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
