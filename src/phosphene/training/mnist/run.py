"""A training run and its folder.

It holds recipe.json, log.jsonl, loss.png, samples/epoch-01.png ..., tensorboard/, checkpoint.safetensors, and of each
epoch kept two models: model-05/ (the moving average) and model-05-raw/ (the weights themselves).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phosphene import __version__
from phosphene.errors import UserError
from phosphene.images import save_png
from phosphene.models import catalogue
from phosphene.plots import loss_curves
from phosphene.training import checkpoint
from phosphene.training.checkpoint import asked_to_stop
from phosphene.training.distributed import Place
from phosphene.training.log import LOSSES, NAME, Log, curve
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.loop import Progress, Trainer
from phosphene.training.mnist.objectives import build
from phosphene.training.mnist.preview import preview
from phosphene.training.mnist.recipes import Recipe

SAVE_SECONDS = 30
REPORT_STEPS = 50


@dataclass(frozen=True)
class Report:
    """One report of a run: the trainer's, with speed and time left."""

    progress: Progress
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
        checkpoint.begin(self.out, resume)
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
        leads, trainer = self.place.leads, self.trainer
        at_start = before = self._done
        if leads:
            self.recipe.write(self.out)
            log = Log(self.out, at_start)
        saved = marked = begun = time.monotonic()
        total = self.recipe.epochs * trainer.steps
        try:
            with asked_to_stop(trainer):
                for progress in trainer.run():
                    done, now = self._done, time.monotonic()
                    speed = (done - before) * self.recipe.batch_size / (now - marked)
                    left = (total - done) * (now - begun) / max(1, done - at_start)
                    figures = self._end_epoch() if progress.epoch_ended and leads else {}
                    loss = sum(progress.losses) / len(progress.losses)
                    if leads:
                        epoch = round(done / trainer.steps, 4)
                        line = {"step": done, "epoch": epoch, "loss": loss, "images_per_second": round(speed, 1), **figures}
                        log.add(line | {LOSSES: [float(f"{each:.4g}") for each in progress.losses]})
                        every = self.save_every
                        if done // every > before // every if every else now - saved > SAVE_SECONDS:
                            self._save(log)
                            saved = now
                    marked, before = time.monotonic(), done
                    yield Report(progress, loss, speed, left, figures)
            if leads:
                self._save(log)
                self._plot()
            if trainer.stopping and not trainer.finished:
                raise KeyboardInterrupt
        except GeneratorExit:  # the caller had enough, between two reports
            if leads:
                self._save(log)
            raise
        finally:
            if leads:
                log.close()
            self.place.wait()

    @property
    def _done(self) -> int:
        """Steps since the run began."""
        return self.trainer.epoch * self.trainer.steps + self.trainer.done

    def _save(self, log: Log) -> None:
        log.flush()  # first, so that the log never lacks a step that the checkpoint has
        checkpoint.save(self.trainer, self.out / checkpoint.NAME)

    def _end_epoch(self) -> dict:
        """Samples, figures and, where due, models."""
        epoch, trainer = self.trainer.epoch, self.trainer
        picture, figures = preview(trainer.average, self.config, self.test, self.recipe.seed)
        if picture is not None:
            save_png(picture, self.out / "samples" / f"epoch-{epoch:02d}.png", {"recipe": self.recipe.to_json(), "epoch": epoch})
        if epoch in self.recipe.keep or epoch == self.recipe.epochs:
            config = {**self.config, "epoch": epoch, "recipe": self.recipe.to_json(), "phosphene": __version__}
            for suffix, network in (("", trainer.average), ("-raw", trainer.network)):
                weights = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
                catalogue.write(self.out / f"model-{epoch:02d}{suffix}", {**config, "average": not suffix}, weights)
        return figures

    def _plot(self) -> None:
        loss_curves(
            {self.recipe.network: curve(self.out / NAME)}, self.out / "loss.png", f"{self.recipe.network}, {self.recipe.dataset}"
        )
