"""A training run and its folder.

It holds recipe.json, log.jsonl, loss.png, samples/epoch-01.png ..., tensorboard/, checkpoint.safetensors, and of each
epoch kept two models: model-05/ (the moving average) and model-05-raw/ (the weights themselves).
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phosphene import __version__
from phosphene.errors import UserError
from phosphene.files import require_writable, write_text
from phosphene.images import save_png
from phosphene.models import catalogue
from phosphene.plots import loss_curves
from phosphene.training import checkpoint
from phosphene.training.data import load_dataset
from phosphene.training.distributed import Place
from phosphene.training.loop import Progress, Trainer
from phosphene.training.objectives import build
from phosphene.training.preview import preview
from phosphene.training.recipes import Recipe

SAVE_SECONDS = 30
REPORT_STEPS = 50


@dataclass(frozen=True)
class Report:
    """One report of a run: the trainer's, with speed and time left."""

    progress: Progress
    epochs: int
    loss: float  # the mean since the last report
    images_per_second: float
    seconds_left: float
    figures: dict  # of the epoch, where one ended


class Run:
    """Trains ``recipe`` into the folder ``out``; iterate over it to make it go. ``resume`` continues what lies there.

    ``save_every`` steps a checkpoint is written (0: every half minute), and whenever the run stops. Everything that
    can be wrong is found before the first file is written.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        data: Path | None = None,
        resume: bool = False,
        device: str = "auto",
        compiled: bool = False,
        save_every: int = 0,
    ) -> None:
        self.recipe, self.out, self.save_every = recipe, Path(out), save_every
        if save_every < 0:
            raise UserError(f"--save-every {save_every}: must be a number of steps, or 0 for every {SAVE_SECONDS} seconds.")
        exists = (self.out / "recipe.json").exists()
        if resume and not (self.out / checkpoint.NAME).exists():
            raise UserError(f"--resume: {self.out} holds no {checkpoint.NAME}; start the run without --resume.")
        if exists and not resume:
            raise UserError(f"--out {self.out}: already holds a run; continue it with --resume or choose another folder.")
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"--out {self.out}: is a file; name a folder.")
        require_writable(self.out / "recipe.json", "--out")
        self.place = Place(device)
        if not self.place.leads:
            self.place.wait()  # the first process fetches the data, the others find it
        dataset = load_dataset(recipe.dataset, data)
        if self.place.leads:
            self.place.wait()
        self.test = dataset.test
        network, loss, self.config = build(recipe, dataset.classes)
        self.trainer = Trainer(
            recipe, network, loss, dataset.train, self.place, compiled, report_every=min(REPORT_STEPS, save_every or REPORT_STEPS)
        )
        if resume:
            checkpoint.load(self.trainer, self.out / checkpoint.NAME)

    def __iter__(self) -> Iterator[Report]:
        trainer, log = self.trainer, _Log(self.out, self.recipe)
        if self.place.leads:
            log.open(trainer.epoch * trainer.steps + trainer.done)
        saved, begun = time.monotonic(), time.monotonic()
        at_start = trainer.epoch * trainer.steps + trainer.done
        marked, before = begun, at_start
        total = self.recipe.epochs * trainer.steps
        try:
            with asked_to_stop(trainer):
                for progress in trainer.run():
                    done = trainer.epoch * trainer.steps + trainer.done
                    now = time.monotonic()
                    speed = (done - before) * self.recipe.batch_size / (now - marked)
                    left = (total - done) * (now - begun) / max(1, done - at_start)
                    figures = self._end_epoch(log) if progress.epoch_ended and self.place.leads else {}
                    loss = sum(progress.losses) / len(progress.losses)
                    if self.place.leads:
                        log.add(done, trainer.steps, progress.losses, speed, figures)
                        due = (
                            done // self.save_every > before // self.save_every if self.save_every else now - saved > SAVE_SECONDS
                        )
                        if due:
                            self._save(log)
                            saved = now
                    marked, before = time.monotonic(), done
                    yield Report(progress, self.recipe.epochs, loss, speed, left, figures)
            if self.place.leads:
                self._save(log)
                log.plot()
            if trainer.stopping and not trainer.finished:
                raise KeyboardInterrupt
        except GeneratorExit:  # the caller had enough, between two reports
            if self.place.leads:
                self._save(log)
            raise
        finally:
            log.close()
            self.place.wait()

    def _save(self, log: _Log) -> None:
        log.flush()  # first, so that the log never lacks a step that the checkpoint has
        checkpoint.save(self.trainer, self.out / checkpoint.NAME)

    def _end_epoch(self, log: _Log) -> dict:
        """Samples, figures and, where due, models."""
        epoch, trainer = self.trainer.epoch, self.trainer
        picture, figures = preview(trainer.ema, self.config, self.test, self.recipe.seed)
        if picture is not None:
            save_png(picture, self.out / "samples" / f"epoch-{epoch:02d}.png", {"recipe": self.recipe.to_json(), "epoch": epoch})
        if epoch in self.recipe.keep or epoch == self.recipe.epochs:
            config = {**self.config, "epoch": epoch, "recipe": self.recipe.to_json(), "phosphene": __version__}
            for suffix, network in (("", trainer.ema), ("-raw", trainer.network)):
                weights = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
                catalogue.write(self.out / f"model-{epoch:02d}{suffix}", {**config, "average": not suffix}, weights)
        return figures


class Stoppable(Protocol):
    """A trainer that ends after the step in progress once ``stopping`` is set."""

    stopping: bool


@contextmanager
def asked_to_stop(trainer: Stoppable) -> Iterator[None]:
    """Ctrl-C ends the run after the step in progress: between steps the state is whole, within one it is not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: setattr(trainer, "stopping", True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Log:
    """log.jsonl, TensorBoard where it is installed, and the loss curve."""

    def __init__(self, out: Path, recipe: Recipe) -> None:
        self.out, self.recipe = out, recipe
        self.path = out / "log.jsonl"
        self._file = self._board = None

    def open(self, done: int) -> None:
        """Begin, or go on after ``done`` steps: what a killed run logged beyond its checkpoint is dropped."""
        kept = [line for line in read_log(self.path) if line["step"] <= done] if done else []
        write_text(self.out / "recipe.json", json.dumps(self.recipe.to_json(), indent=2) + "\n")
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a")
        with suppress(ImportError):  # tensorboard comes with the extra "train"
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.out / "tensorboard"), purge_step=done)

    def add(self, done: int, steps: int, losses: list[float], speed: float, figures: dict) -> None:
        loss = sum(losses) / len(losses)
        line = {"step": done, "epoch": round(done / steps, 4), "loss": loss, "images_per_second": round(speed, 1), **figures}
        self._file.write(json.dumps(line) + "\n")
        if self._board is not None:
            self._board.add_scalar("loss", loss, done)
            self._board.add_scalar("images per second", speed, done)
            for name, value in figures.items():
                self._board.add_scalar(name, value, done)

    def flush(self) -> None:
        self._file.flush()

    def plot(self) -> None:
        self.flush()
        points = [(line["epoch"], line["loss"]) for line in read_log(self.path)]
        loss_curves({self.recipe.network: points}, self.out / "loss.png", f"{self.recipe.network}, {self.recipe.dataset}")

    def close(self) -> None:
        for writer in (self._file, self._board):
            if writer is not None:
                writer.close()


def read_log(path: Path) -> list[dict]:
    """The lines of a run's log.jsonl; a last line cut short by a kill is left out."""
    lines = []
    if path.is_file():
        for text in path.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                lines.append(json.loads(text))
    return lines
