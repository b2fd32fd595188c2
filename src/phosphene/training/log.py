"""The log of a training: log.jsonl, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from phosphene.files import write_text, writing

NAME = "log.jsonl"
LOSSES = "losses"
"""What a line has, beside their mean, of each step since the line before."""


def _told(line: dict[str, Any]) -> str:
    """A line of the log: without blanks, since logs ship with models."""
    return json.dumps(line, separators=(",", ":")) + "\n"


class Log:
    """Lines of numbers in the folder ``out``, each with how far the run was then, in the unit ``by``.

    Begins, or goes on after ``done``: what a killed run logged beyond its checkpoint is dropped. UserError where it cannot be
    written.
    """

    def __init__(self, out: Path, done: int, by: str = "step") -> None:
        self.path, self.by = out / NAME, by
        lines = [line for line in read_log(self.path) if isinstance(line.get(by), int) and line[by] <= done] if done else []
        write_text(self.path, "".join(_told(line) for line in lines))
        self._board = None
        with writing(self.path), ExitStack() as opened:  # what fails leaves neither open
            self._file = opened.enter_context(self.path.open("a"))
            with suppress(ImportError):  # tensorboard comes with the extra "train"
                self._board = Board(out / "tensorboard", done)
            opened.pop_all()

    def add(self, line: dict[str, Any]) -> None:
        with writing(self.path):
            self._file.write(_told(line))
            if self._board is not None:
                names = line.keys() - {self.by, "epoch", "step", LOSSES}
                self._board.add({name.replace("_", " "): line[name] for name in sorted(names)}, line[self.by])

    def flush(self) -> None:
        with writing(self.path):
            self._file.flush()
            if self._board is not None:
                self._board.flush()

    def close(self) -> None:
        with writing(self.path), ExitStack() as both:
            for writer in (self._file, self._board):
                if writer is not None:
                    both.callback(writer.close)


class Board:
    """Scalars as TensorBoard reads them, from the step ``done`` on.

    Its own SummaryWriter writes in a thread, which ends with a traceback where the disk is full. ImportError without tensorboard.
    """

    def __init__(self, folder: Path, done: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(exist_ok=True)
        self._event = Event
        self._records = RecordWriter((folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}").open("wb"))
        try:
            self._write(done, file_version="brain.Event:2")
            self._write(done, session_log=SessionLog(status=SessionLog.START))  # drops what was written beyond
        except BaseException:
            self.close()
            raise

    def _write(self, step: int, **what: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), step=step, **what).SerializeToString())

    def add(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step, summary=Summary(value=[Summary.Value(tag=name, simple_value=v) for name, v in values.items()]))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()


def read_log(path: Path) -> list[dict]:
    """The lines of a log.jsonl; what is no object of JSON is left out, such as a last line cut short by a kill."""
    lines = []
    if path.is_file():
        for text in path.read_bytes().decode(errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                line = json.loads(text)
                lines += [line] if isinstance(line, dict) else []
    return lines


def is_number(value: object) -> bool:
    """Whether ``value``, out of a log, is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def curve(lines: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(epoch, loss) of every step in the ``lines`` of a log, or, where they have means alone, of every line.

    What says neither, as another hand may have written it, is left out.
    """
    points = []
    for line in lines:
        every = line.get(LOSSES) or [line.get("loss")]
        if not isinstance(every, list) or not all(map(is_number, (line.get("epoch"), line.get("step"), *every))):
            continue
        step = line["epoch"] / max(1, line["step"])
        points += [(line["epoch"] - step * (len(every) - 1 - k), loss) for k, loss in enumerate(every)]
    return points
