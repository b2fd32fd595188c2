"""The log of a training: log.jsonl, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from phosphene.files import write_text

NAME = "log.jsonl"
LOSSES = "losses"
"""What a line has, beside their mean, of each step since the line before."""


class Log:
    """Lines of numbers in the folder ``out``, each with how far the run was then, in the unit ``by``.

    Begins, or goes on after ``done``: what a killed run logged beyond its checkpoint is dropped.
    """

    def __init__(self, out: Path, done: int, by: str = "step") -> None:
        self.path, self.by = out / NAME, by
        lines = [line for line in read_log(self.path) if line[by] <= done] if done else []
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file, self._board = self.path.open("a"), None
        with suppress(ImportError):  # tensorboard comes with the extra "train"
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=done)

    def add(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        for name in line.keys() - {self.by, "epoch", "step", LOSSES} if self._board is not None else ():
            self._board.add_scalar(name.replace("_", " "), line[name], line[self.by])

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        for writer in (self._file, self._board):
            if writer is not None:
                writer.close()


def read_log(path: Path) -> list[dict]:
    """The lines of a log.jsonl; what is no object of JSON is left out, such as a last line cut short by a kill."""
    lines = []
    if path.is_file():
        for text in path.read_bytes().decode(errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                line = json.loads(text)
                lines += [line] if isinstance(line, dict) else []
    return lines


def curve(path: Path) -> list[tuple[float, float]]:
    """(epoch, loss) of every step in a log.jsonl, or, where its lines have means alone, of every line."""
    points = []
    for line in read_log(path):
        every = line.get(LOSSES) or [line["loss"]]
        step = line["epoch"] / line["step"]
        points += [(line["epoch"] - step * (len(every) - 1 - k), loss) for k, loss in enumerate(every)]
    return points
