"""A training run and its folder: one process at a time trains into it, and whatever ends that, the run can be taken up again.

The folder holds recipe.json, log.jsonl, tensorboard/, loss.png, samples/ and checkpoint.safetensors, which is there before
the first step; what models lie beside them, the kinds of runs say.
"""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phosphene.errors import UserError
from phosphene.files import require_writable, sweep
from phosphene.launch import heeded
from phosphene.lock import FolderLock
from phosphene.processes import Place
from phosphene.training import checkpoint
from phosphene.training.checkpoint import Resumable
from phosphene.training.log import Log, read_log
from phosphene.training.options import RECIPE, WEIGHTS_ALONE, BaseRecipe, require_resumable


class TrainingRun(ABC):
    """Trains ``recipe`` into the folder ``out``; iterating makes it go and yields its reports. ``resume`` goes on in the folder.

    UserError where it cannot start: then nothing is written. A run holds its folder from its making to the end of its
    iteration. Ctrl-C, SIGTERM and SIGHUP end it after the step in progress, with a checkpoint; then KeyboardInterrupt is raised.
    """

    by = "step"
    """What the log counts by."""
    weights_alone = WEIGHTS_ALONE

    def __init__(self, recipe: BaseRecipe, out: Path, resume: bool, device: str) -> None:
        self.recipe, self.out, self.resume, self.place = recipe, Path(out), resume, Place(device)
        self._lock: FolderLock | None = None
        try:
            if self.place.leads:
                self._begin()
            self.place.wait()  # until the leader has looked: from now on there may be a run in the folder
            self.trainer: Resumable = self.prepare()
        except BaseException:
            self._leave()
            raise

    # What a kind of run says

    @abstractmethod
    def prepare(self) -> Resumable:
        """The trainer, where it stands when this run begins."""

    @property
    @abstractmethod
    def done(self) -> int:
        """How far the run is, in the unit ``by``."""

    @abstractmethod
    def reports(self) -> Iterator[tuple[Any, dict, bool]]:
        """Train; each report, its line in the log, and whether a checkpoint is due."""

    @abstractmethod
    def curves(self, lines: Sequence[dict]) -> None:
        """Draw what was logged."""

    def mend(self) -> None:  # noqa: B027 (optional)
        """Put back what a kill in the middle of :meth:`keep` left."""

    def keep(self) -> None:  # noqa: B027 (optional)
        """Write the model that goes with a checkpoint."""

    def show(self) -> None:  # noqa: B027 (optional)
        """Draw by the model just kept."""

    # What all do

    def _begin(self) -> None:
        """Take the folder for this process alone. UserError where no run can start in it, or there is none to go on with."""
        out, saved = self.out, self.out / checkpoint.NAME
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out}: is a file; name a folder.")
        require_writable(out / RECIPE, "--out")
        self._lock = FolderLock(out, "--out")
        sweep(out, out / "samples", *out.glob("model*"))
        self.mend()
        models, there = [*out.glob("model"), *out.glob("model-[0-9]*")], saved.exists()
        if self.resume:
            require_resumable(out, self.weights_alone)
        elif there and (any(out.glob("model-[0-9]*")) or not checkpoint.untouched(saved)):
            raise UserError(f"--out {out}: already holds a run; continue it with --resume or choose another folder.")
        elif models and not there:
            raise UserError(f"--out {out}: holds the model of a run, but no {checkpoint.NAME}; {self.weights_alone}.")

    def _leave(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def __iter__(self) -> Iterator[Any]:
        trainer = self.trainer
        try:
            with asked_to_stop(trainer) as asked:
                yield from self._written() if self.place.leads else (report for report, *_ in self.reports())
            self.place.wait()
        finally:
            self._leave()
        if trainer.stopping and not trainer.finished:
            for number in asked[:1]:
                signal.raise_signal(number)  # what was put off takes its course
            raise KeyboardInterrupt

    def _written(self) -> Iterator[Any]:
        """Each report, and the folder as they come."""
        self.recipe.write(self.out)
        log, saved = Log(self.out, self.done, self.by), None
        try:
            if not self.resume:
                checkpoint.save(self.trainer, self.out / checkpoint.NAME)
                self.keep()
            for report, line, due in self.reports():
                log.add(line)
                if due:
                    self._save(log)
                    saved = self.done
                yield report
            if saved != self.done:
                self._save(log)
            if lines := read_log(log.path):
                self.curves(lines)
        except GeneratorExit:  # the caller had enough, between two reports
            self._save(log)
            raise
        finally:
            log.close()

    def _save(self, log: Log) -> None:
        self.keep()
        log.flush()  # first, so that the log never lacks a step that the checkpoint has
        checkpoint.save(self.trainer, self.out / checkpoint.NAME)
        self.show()


@contextmanager
def asked_to_stop(trainer: Resumable) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP end the run after the step in progress: between steps the state is whole, within one it is not.

    Which of them came is in the list.
    """
    asked: list[int] = []

    def stop(number: int, _: object) -> None:
        trainer.stopping = True
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, stop) for number in heeded()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not Python's
