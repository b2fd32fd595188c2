"""A run that trains a cascade's stage: what it keeps, how it is taken up again, and what it draws on the way.

Its folder holds model/ (the averaged weights in the layout of diffusers, which another run may start from), thesaurus.json, and
samples/step-000500.png ..., the same prompts and seeds as they are drawn then.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor

from phosphene.defaults import OWN_NOISE_LEVEL, OWN_USUAL, SEED
from phosphene.drawing import Sampling, Task, run
from phosphene.errors import UserError
from phosphene.expression import cond, guide
from phosphene.files import unwritable, write_text, writing
from phosphene.images import save_png, sheet, to_images
from phosphene.models import folders, tokens
from phosphene.models.patch_stage import PatchNetwork, encode_text
from phosphene.models.scheduler import Scheduler
from phosphene.models.stage import Stage
from phosphene.models.text import Text
from phosphene.plots import loss_curves
from phosphene.readers import read_json_file
from phosphene.sampler import last
from phosphene.schedule import NoiseSchedule
from phosphene.training import checkpoint
from phosphene.training.log import is_number
from phosphene.training.options import RECIPE, RESTARTED, whole
from phosphene.training.run import TrainingRun
from phosphene.training.text_to_image.captions import Thesaurus
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.low_rank import DifferenceTrainer
from phosphene.training.text_to_image.phrases import PREVIEWS
from phosphene.training.text_to_image.recipe import DIFFERENCES, CascadeRecipe, saved_recipe, weights_alone
from phosphene.training.text_to_image.retrieval import RetrievalTrainer
from phosphene.training.text_to_image.stage_trainer import Report, StageTrainer
from phosphene.training.text_to_image.staging import drawn
from phosphene.training.text_to_image.stories import Batch, learned_tokenizer
from phosphene.training.text_to_image.student import StudentTrainer

TRAINERS = {"retrieval": RetrievalTrainer, "student": StudentTrainer, "unprompted": DifferenceTrainer}
"""Of networks that are learned otherwise than a stage."""
REPORT_STEPS, CHECK_STEPS = 50, 500
WORDNET = Path("/usr/share/wordnet")
ROOM = 1.25
"""Pictures are kept this much larger than they are learned, so that shifting and scaling them costs no detail."""


def _taught(recipe: CascadeRecipe, teacher: Path) -> CascadeRecipe:
    """``recipe`` with the sizes of the text encoder of the retrieval model in ``teacher``."""
    named = {"text_width": "d_model", "text_layers": "num_layers", "text_heads": "num_heads"}
    try:
        config = read_json_file(teacher / "text_encoder" / "config.json", folders.AGAIN)
        sizes = {name: whole(config, theirs) for name, theirs in named.items()}
        _, length = tokens.load(teacher / "tokenizer")
    except ValueError as error:
        raise UserError(
            f"--teacher {teacher}: holds no retrieval model ({error}); train one: phosphene train retrieval."
        ) from None
    return replace(recipe, taught=True, length=length, **sizes)


class Spoken(Text):
    """Prompts read by a text encoder in training. Nothing is remembered: the encoder changes from step to step."""

    def __init__(self, trainer: StageTrainer) -> None:
        self.trainer = trainer

    @torch.no_grad()
    def embed(self, prompt: Hashable | None) -> Tensor:
        trainer = self.trainer
        known = trainer.average.text.config["vocab_size"]
        ids, mask = tokens.encode(trainer.tokenizer, [prompt or ""], trainer.recipe.length, known)
        return encode_text(trainer.average.text, ids.to(trainer.device), mask.to(trainer.device))


class CascadeRun(TrainingRun):
    """A run of a cascade's stage, or of the retrieval model; it ends after ``seconds``, if not before."""

    by = "images"

    def __init__(
        self,
        recipe: CascadeRecipe,
        out: Path,
        data: Path,
        resume: bool = False,
        device: str = "cpu",
        wordnet: Path | None = None,
        workers: int = 0,
        seconds: float = math.inf,
        teacher: Path | None = None,
        source: Path | None = None,
    ) -> None:
        self.data, self.wordnet, self.workers, self.teacher, self.source = data, wordnet, workers, teacher, source
        self.deadline, self.model = time.monotonic() + seconds, Path(out) / "model"
        self.weights_alone = weights_alone(Path(out))
        for option, path in (("--from", source), ("--teacher", teacher)):
            if resume and path is not None:
                anew = f"to start from its weights, leave --resume out and say --from {self.model} and another --out"
                raise UserError(f"{option} {path}: a resumed run goes on with what it has; {anew}.")
        super().__init__(recipe, out, resume, device)

    def prepare(self) -> StageTrainer:
        recipe, source, teacher = self.recipe, self.source, self.teacher
        if source is not None:
            saved, images = saved_recipe(source)
            recipe.require_same(saved, source, RESTARTED)
        if teacher is not None:
            recipe = self.recipe = _taught(recipe, teacher)
            if source is not None and recipe.text_width != saved.text_width:
                why = f"its text encoder is {recipe.text_width} wide and that of {source} {saved.text_width}; start a new run"
                raise UserError(f"--teacher {teacher}: {why}.")
        cutouts = Cutouts.open(self.data, recipe.size if recipe.network == "upscaler" else round(recipe.size * ROOM))
        self.thesaurus = self._thesaurus(cutouts, self.wordnet)
        trainer = TRAINERS.get(recipe.network, StageTrainer)(
            recipe, cutouts, self._tokenizer(cutouts), self.thesaurus, self.place, self.workers
        )
        if self.resume:
            checkpoint.load(trainer, self.out / checkpoint.NAME)
            trainer.heard = tokens.load_words(self.model / "tokenizer") or trainer.heard
        if source is not None:
            trainer.restart(source, images)
        if teacher is not None:
            trainer.teach(teacher)
        if trainer.finished:
            seen = f"the run in {source or self.out} has seen {trainer.step * recipe.batch_size} already"
            raise UserError(f"--images {recipe.images}: {seen}; name more to go on.")
        return trainer

    def _tokenizer(self, cutouts: Cutouts) -> Tokenizer:
        """That of the weights it goes on from; else it is learned, by one process for all."""
        if self.recipe.network in DIFFERENCES:
            return tokens.load(Path(self.recipe.distils) / "tokenizer")[0]
        recipe, learned = self.recipe, self.teacher or self.source or (self.model if self.resume else None)
        if learned is None or recipe.network == "upscaler":
            return self.place.of_the_leader(learned_tokenizer(cutouts, recipe, self.thesaurus) if self.place.leads else None)
        if self.resume and not self.model.exists():
            begun = checkpoint.untouched(self.out / checkpoint.NAME)
            remedy = (
                "it ended before its first step, start it again without --resume" if begun else "start a new run in another --out"
            )
            raise UserError(f"--resume: {self.out} holds no model, whose tokenizer the run goes on with; {remedy}.")
        return tokens.load(learned / "tokenizer")[0]

    @property
    def done(self) -> int:
        return self.trainer.step * self.recipe.batch_size

    def mend(self) -> None:
        for left in (self.out / "model.new", self.out / "model.old"):
            if (left / RECIPE).is_file() and not self.model.exists():
                left.rename(self.model)
            shutil.rmtree(left, ignore_errors=True)

    def _thesaurus(self, cutouts: Cutouts, wordnet: Path | None) -> Thesaurus | None:
        path = self.out / "thesaurus.json"
        if wordnet is None and path.is_file():
            return Thesaurus.load(path)
        if wordnet is not None and wordnet.is_file():
            return Thesaurus.load(wordnet)
        if wordnet is not None or WORDNET.is_dir():
            return Thesaurus.from_wordnet(wordnet or WORDNET, [word for s in cutouts.subjects for word in (s.caption, s.name)])
        return None

    def reports(self) -> Iterator[tuple[Report, dict, bool]]:
        for report in self.trainer.run(self.deadline - time.monotonic(), REPORT_STEPS, CHECK_STEPS):
            line = {"images": self.done, **report._asdict(), **report.checks}
            yield report, {name: value for name, value in line.items() if name != "checks"}, bool(report.checks)

    def curves(self, lines: Sequence[dict]) -> None:
        named = {"training": "loss", **{name: name for name in self.trainer.checked}}
        points = {
            curve: [(line["images"], line[name]) for line in lines if is_number(line.get("images")) and is_number(line.get(name))]
            for curve, name in named.items()
        }
        save_png(loss_curves(points, "loss of the average and of the steps", x="images seen"), self.out / "loss.png")

    def keep(self) -> None:
        """Write the model, whole or not at all."""
        fresh, old = self.out / "model.new", self.out / "model.old"
        if self.thesaurus is not None:
            self.thesaurus.save(self.out / "thesaurus.json")
        try:
            with writing(self.model):
                self.trainer.save(fresh)
                write_text(fresh / RECIPE, json.dumps({"images": self.done, "recipe": self.recipe.to_json()}, indent=2) + "\n")
                if self.model.exists():
                    self.model.rename(old)
                fresh.rename(self.model)
        except SafetensorError as error:
            raise UserError(f"{self.model}: {unwritable(OSError(str(error)))}") from error
        finally:
            self.mend()

    def show(self) -> None:
        unsaid = partial(self.preview, prompts=[None], each=16)
        draws = {"cascade": self.preview, "student": self.preview, "unprompted": unsaid, "upscaler": self.preview_enlarged}
        if self.recipe.network in draws:
            draws[self.recipe.network](self.out / "samples" / f"step-{self.trainer.step:06d}.png")

    def _stage(self, *others: NoiseSchedule, **named: int) -> Stage:
        """What draws with the averaged weights."""
        trainer = self.trainer
        scheduler = Scheduler(prediction_type=trainer.recipe.target)
        return Stage(PatchNetwork(trainer.average.image), scheduler, trainer.schedule, Spoken(trainer), *others, **named)

    def preview(self, path: Path, prompts: Sequence[str | None] = PREVIEWS, each: int = 2) -> None:
        """Draw ``prompts`` with the averaged weights, ``each`` from so many seeds."""
        drawing = self._stage()
        asked = [p for p in prompts for _ in range(each)]
        sampling = Sampling("dpm", timesteps=drawing.schedule.timesteps(20), guidance=OWN_USUAL.guidance)
        if self.recipe.network == "student":
            usual = self.trainer.told.usual
            drawing, sampling = replace(drawing, usual=usual), Sampling(guidance=usual.guidance)
        task = Task(lambda _, scale: guide(cond(*asked), scale=scale))
        made = run(task, drawing, range(SEED, SEED + len(asked)), sampling=sampling)
        cells = to_images(last(made), 2)
        rows = [cells[k : k + 8] for k in range(0, len(cells), 8)]
        captions = [[p or "" for p in asked[k : k + 8]] for k in range(0, len(asked), 8)]
        told = {"step": self.trainer.step, "prompts": list(prompts), "guidance": sampling.guidance}
        save_png(sheet(rows, captions=captions), path, told)

    @torch.no_grad()
    def preview_enlarged(self, path: Path) -> None:
        """Enlarge eight pictures, held out where some are, small as the stage before would draw them; the originals below."""
        trainer = self.trainer
        stories = trainer.checks.get("held out", trainer.checks["train"])
        stage = Batch(*stories[0]).to(trainer.device).stage
        own = torch.Generator(trainer.device).manual_seed(SEED)  # the trainer's is for training: a preview changes nothing
        whole = drawn(stage, trainer.cutouts, trainer.recipe.size, own)[:8]
        small = F.interpolate(whole, size=trainer.recipe.size // 4, mode="area")
        level = min(OWN_NOISE_LEVEL, trainer.recipe.level - 1)
        enlarging = self._stage(trainer.schedule, noise_level=level)
        made = run(Task(lambda *_: cond(None), small=small), enlarging, range(SEED, SEED + len(whole)))
        compared = (F.interpolate(small, scale_factor=4, mode="nearest"), last(made), whole)
        rows = [to_images(pictures) for pictures in compared]
        save_png(sheet(rows), path, {"step": trainer.step, "level": level})
