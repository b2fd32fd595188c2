"""A run of the MNIST chapter.

Its folder holds samples/epoch-01.png ... and of each epoch kept two models: model-05/ (the moving average) and model-05-raw/
(the weights themselves).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phosphene import __version__
from phosphene.errors import UserError
from phosphene.images import save_png
from phosphene.models import catalogue
from phosphene.models.folders import WEIGHTS
from phosphene.plots import loss_curves
from phosphene.training import checkpoint
from phosphene.training.log import LOSSES, curve
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.loop import Progress, Trainer
from phosphene.training.mnist.objectives import build
from phosphene.training.mnist.preview import preview
from phosphene.training.mnist.recipes import Recipe
from phosphene.training.run import TrainingRun

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


class Run(TrainingRun):
    """A run of the MNIST chapter. ``save_every`` steps a checkpoint is written (0: every half minute), and with each model."""

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
        if save_every < 0:
            raise UserError(f"--save-every {save_every}: must be a number of steps, or 0 for every {SAVE_SECONDS} seconds.")
        self.data, self.compiled, self.save_every = data, compiled, save_every
        super().__init__(recipe, out, resume, device)

    def prepare(self) -> Trainer:
        recipe, place = self.recipe, self.place
        with place.leader_first():
            dataset = load_dataset(recipe.dataset, self.data)
        self.test = dataset.test
        network, loss, self.config = build(recipe, dataset.classes)
        every = min(REPORT_STEPS, self.save_every or REPORT_STEPS)
        trainer = Trainer(recipe, network, loss, dataset.train, place, self.compiled, report_every=every)
        if self.resume:
            checkpoint.load(trainer, self.out / checkpoint.NAME)
        return trainer

    @property
    def done(self) -> int:
        return self.trainer.epoch * self.trainer.steps + self.trainer.done

    def reports(self) -> Iterator[tuple[Report, dict, bool]]:
        trainer, every = self.trainer, self.save_every
        at_start = before = self.done
        saved = marked = begun = time.monotonic()
        total = self.recipe.epochs * trainer.steps
        for progress in trainer.run():
            done, now = self.done, time.monotonic()
            speed = (done - before) * self.recipe.batch_size / (now - marked)
            left = (total - done) * (now - begun) / max(1, done - at_start)
            ended = progress.epoch_ended and self.place.leads
            figures = self._end_epoch() if ended else {}
            loss = sum(progress.losses) / len(progress.losses)
            line = {"step": done, "epoch": round(done / trainer.steps, 4), "loss": loss, "images_per_second": round(speed, 1)}
            due = done // every > before // every if every else now - saved > SAVE_SECONDS
            due = due or (ended and self._kept)  # no model lies beside a checkpoint that is an epoch behind it
            every_step = {LOSSES: [float(f"{each:.4g}") for each in progress.losses]}
            yield Report(progress, loss, speed, left, figures), {**line, **figures, **every_step}, due
            saved, marked, before = now if due else saved, time.monotonic(), done

    @property
    def _kept(self) -> bool:
        """Whether the models of the epoch just ended are kept."""
        return self.trainer.epoch in self.recipe.keep or self.trainer.epoch == self.recipe.epochs

    def _end_epoch(self) -> dict:
        """Samples, figures and, where due, models."""
        epoch, trainer = self.trainer.epoch, self.trainer
        picture, figures = preview(trainer.average, self.config, self.test, self.recipe.seed)
        if picture is not None:
            save_png(picture, self.out / "samples" / f"epoch-{epoch:02d}.png", {"recipe": self.recipe.to_json(), "epoch": epoch})
        if self._kept:
            self._write("", "-raw")
        return figures

    def _write(self, *suffixes: str) -> None:
        """The models of the epoch just ended that have these ``suffixes``: the average, and the weights themselves."""
        epoch, networks = self.trainer.epoch, {"": self.trainer.average, "-raw": self.trainer.network}
        config = {**self.config, "epoch": epoch, "recipe": self.recipe.to_json(), "phosphene": __version__}
        for suffix in suffixes:
            weights = {k: v for k, v in networks[suffix].state_dict().items() if not k.endswith("num_batches_tracked")}
            catalogue.write(self.out / f"model-{epoch:02d}{suffix}", {**config, "average": not suffix}, weights)

    def keep(self) -> None:
        """What a resumed run was to have kept by now, and somebody removed: nothing is said to be there that is not."""
        if self._kept and self.trainer.done == 0:
            folders = {suffix: self.out / f"model-{self.trainer.epoch:02d}{suffix}" for suffix in ("", "-raw")}
            self._write(*(suffix for suffix, folder in folders.items() if not (folder / WEIGHTS).is_file()))

    def curves(self, lines: Sequence[dict]) -> None:
        title = f"{self.recipe.network}, {self.recipe.dataset}"
        save_png(loss_curves({self.recipe.network: curve(lines)}, title), self.out / "loss.png")
