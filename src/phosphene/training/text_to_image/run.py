"""A cascade training with its folder: what it writes, how it is taken up again, and what it draws on the way.

It holds model/ (the averaged weights in the layout of diffusers, with recipe.json), thesaurus.json, log.jsonl, loss.png,
and samples/step-000500.png ..., the same prompts and seeds as they are drawn then.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.defaults import OWN_NOISE_LEVEL, SEED
from phosphene.drawing import Sampling, Task, run
from phosphene.errors import UserError
from phosphene.expression import cond, guide
from phosphene.files import require_writable
from phosphene.images import save_png, sheet, to_image
from phosphene.models import tokens
from phosphene.models.patch_stage import PatchNetwork, told
from phosphene.models.scheduler import Scheduler
from phosphene.models.stage import Stage
from phosphene.models.text import Text
from phosphene.plots import loss_curves
from phosphene.sampler import last
from phosphene.training.checkpoint import asked_to_stop
from phosphene.training.log import read_log
from phosphene.training.text_to_image.captions import Thesaurus
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.retrieval import RetrievalTrainer
from phosphene.training.text_to_image.stage_trainer import Report, StageTrainer
from phosphene.training.text_to_image.stories import Batch, learned_tokenizer

PROMPTS = (
    "a rocket",
    "a skull",
    "a snowy mountain",
    "a campfire",
    "a dog face",
    "a castle",
    "a blue octopus icon",
    "a cat face on a red background",
    "a 3d waterfall",
    "a red rocket icon",
    "an old man",
    "a flat green tree",
)
RECIPE = "recipe.json"
WORDNET = Path("/usr/share/wordnet")
ROOM = 1.25
"""Pictures are kept this much larger than they are learned, so that shifting and scaling them costs no detail."""


def saved_recipe(out: Path) -> tuple[CascadeRecipe, int]:
    """The recipe of the run in ``out``, and how many pictures it has seen."""
    path = Path(out) / "model" / RECIPE
    try:
        told = json.loads(path.read_text())
        return CascadeRecipe(**told["recipe"]), int(told["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); leave --resume out, or start the run anew.") from error


def _taught(recipe: CascadeRecipe, teacher: Path) -> CascadeRecipe:
    """``recipe`` with the sizes of the text encoder of the retrieval model in ``teacher``."""
    path = teacher / "text_encoder" / "config.json"
    try:
        config = json.loads(path.read_text())
        sizes = {"text_width": config["d_model"], "text_layers": config["num_layers"], "text_heads": config["num_heads"]}
        _, length = tokens.load(teacher / "tokenizer")
    except (OSError, ValueError, KeyError) as error:
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
        ids, mask = tokens.encode(self.trainer.tokenizer, [prompt or ""], self.trainer.recipe.length)
        return told(self.trainer.average.text, ids.to(self.trainer.device), mask.to(self.trainer.device))


class CascadeRun:
    """Iterating trains, writes and yields reports. UserError, before anything is written, where the run cannot start."""

    def __init__(
        self,
        recipe: CascadeRecipe,
        out: Path,
        data: Path,
        resume: bool = False,
        device: torch.device | str = "cpu",
        wordnet: Path | None = None,
        workers: int = 0,
        seconds: float = math.inf,
        teacher: Path | None = None,
    ) -> None:
        self.out, self.deadline = Path(out), time.monotonic() + seconds
        self.model = self.out / "model"
        if not self.model.exists():  # a kill in the middle of _keep
            for left in (self.out / "model.new", self.out / "model.old"):
                if (left / RECIPE).is_file() and not self.model.exists():
                    left.rename(self.model)
        begun = (self.model / RECIPE).is_file()
        if begun and not resume:
            raise UserError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another folder.")
        if resume and not begun:
            raise UserError(f"--out {out}: holds no run to resume; leave --resume out, or name the folder of one.")
        require_writable(self.model / RECIPE, "--out")
        self.done = 0
        if resume:
            saved, self.done = saved_recipe(self.out)
            self._require_same(recipe, saved)
            if recipe.images <= self.done:
                raise UserError(f"--images {recipe.images}: the run in {out} has seen {self.done} already; name more to go on.")
        if teacher is not None:
            recipe = _taught(recipe, teacher)
            if resume and recipe.text_width != saved.text_width:
                why = f"its text encoder is {recipe.text_width} wide and that of the run {saved.text_width}; start a new run"
                raise UserError(f"--teacher {teacher}: {why}.")
        cutouts = Cutouts.open(data, recipe.size if recipe.network == "upscaler" else round(recipe.size * ROOM))
        thesaurus = self._thesaurus(cutouts, wordnet)
        read_before = teacher or (self.model if resume else None)
        if read_before is not None and recipe.network != "upscaler":
            tokenizer, _ = tokens.load(read_before / "tokenizer")
        else:
            tokenizer = learned_tokenizer(cutouts, recipe, thesaurus)
        trainer = RetrievalTrainer if recipe.network == "retrieval" else StageTrainer
        self.trainer = trainer(recipe, cutouts, tokenizer, thesaurus, device, workers)
        if resume:
            self.trainer.restore(self.model, self.done // recipe.batch_size)
        if teacher is not None:
            self.trainer.teach(teacher)
        self.thesaurus = thesaurus

    def _thesaurus(self, cutouts: Cutouts, wordnet: Path | None) -> Thesaurus | None:
        kept = self.out / "thesaurus.json"
        if wordnet is None and kept.is_file():
            return Thesaurus.load(kept)
        if wordnet is not None and wordnet.is_file():
            return Thesaurus.load(wordnet)
        if wordnet is not None or WORDNET.is_dir():
            return Thesaurus.from_wordnet(wordnet or WORDNET, [word for s in cutouts.subjects for word in (s.caption, s.name)])
        return None

    def _require_same(self, recipe: CascadeRecipe, saved: CascadeRecipe) -> None:
        free = {"images", "optimizer", "lr", "warmup", "cooldown", "ema", "batch_size", "seed"}
        free |= {"most", "drop", "weight_decay", "level", "held_out", "shift", "listens"}
        differing = [k for k, v in vars(saved).items() if k not in free and vars(recipe)[k] != v]
        if differing:
            name = differing[0]
            raise UserError(f"--{name.replace('_', '-')} {vars(recipe)[name]}: the run in {self.out} has {vars(saved)[name]}.")

    def __iter__(self) -> Iterator[Report]:
        self.out.mkdir(parents=True, exist_ok=True)
        if self.thesaurus is not None:
            self.thesaurus.save(self.out / "thesaurus.json")
        # What a killed run logged after its last save is not part of this one.
        lines = [line for line in read_log(self.out / "log.jsonl") if line["images"] <= self.done]
        with (self.out / "log.jsonl").open("w") as log:
            log.writelines(json.dumps(line) + "\n" for line in lines)
            with asked_to_stop(self.trainer):
                for report in self.trainer.run(self.deadline - time.monotonic()):
                    lines.append({"images": report.step * self.trainer.recipe.batch_size, **report._asdict()})
                    log.write(json.dumps(lines[-1]) + "\n")
                    log.flush()
                    if report.checks or self.trainer.stopping:
                        self._keep()
                    yield report
        if self.trainer.stopping and self.trainer.step < self.trainer.recipe.steps:
            raise KeyboardInterrupt
        curves = {"training": [(line["images"], line["loss"]) for line in lines]}
        for name in self.trainer.checked:
            curves[name] = [(line["images"], line["checks"][name]) for line in lines if name in line["checks"]]
        loss_curves(curves, self.out / "loss.png", "loss of the average and of the steps", x="images seen")

    def _keep(self) -> None:
        """Save the model, whole or not at all, and draw what it can."""
        recipe, step = self.trainer.recipe, self.trainer.step
        fresh, old = self.out / "model.new", self.out / "model.old"
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
        self.trainer.save(fresh)
        (fresh / RECIPE).write_text(json.dumps({"images": step * recipe.batch_size, "recipe": vars(recipe)}, indent=2) + "\n")
        if self.model.exists():
            self.model.rename(old)
        fresh.rename(self.model)
        shutil.rmtree(old, ignore_errors=True)
        draws = {"cascade": self.preview, "upscaler": self.preview_enlarged}.get(recipe.network)
        if draws is not None:
            draws(self.out / "samples" / f"step-{step:06d}.png")

    def preview(self, path: Path, prompts: Sequence[str] = PROMPTS, each: int = 2, seed: int = SEED, scale: float = 4.0) -> None:
        """Draw ``prompts`` with the averaged weights, ``each`` from so many seeds."""
        scheduler = Scheduler(prediction_type=self.trainer.recipe.target)
        drawing = Stage(PatchNetwork(self.trainer.average.image), scheduler, self.trainer.schedule, Spoken(self.trainer))
        asked = [p for p in prompts for _ in range(each)]
        sampling = Sampling("dpm", timesteps=drawing.schedule.timesteps(20), guidance=scale)
        task = Task(lambda _, scale: guide(cond(*asked), scale=scale))
        made = run(task, drawing, range(seed, seed + len(asked)), sampling=sampling)
        cells = [to_image(p, (-1, 1), 2) for p in last(made)]
        rows = [cells[k : k + 8] for k in range(0, len(cells), 8)]
        captions = [asked[k : k + 8] for k in range(0, len(asked), 8)]
        save_png(sheet(rows, captions=captions), path, {"step": self.trainer.step, "prompts": list(prompts), "guidance": scale})

    @torch.no_grad()
    def preview_enlarged(self, path: Path, count: int = 8, seed: int = SEED) -> None:
        """Enlarge ``count`` pictures, held out where some are, small as the stage before would draw them; the originals below."""
        trainer = self.trainer
        stories = trainer.checks.get("held out", trainer.checks["train"])
        whole = trainer.composed(Batch(*stories[0]).to(trainer.device))[:count]
        small = F.interpolate(whole, size=trainer.recipe.size // 4, mode="area")
        scheduler = Scheduler(prediction_type=trainer.recipe.target)
        network, level = PatchNetwork(trainer.average.image), min(OWN_NOISE_LEVEL, trainer.recipe.level - 1)
        stage = Stage(network, scheduler, trainer.schedule, Spoken(trainer), trainer.schedule, noise_level=level)
        made = run(Task(lambda *_: cond(None), small=small), stage, range(seed, seed + len(whole)))
        shown = (F.interpolate(small, scale_factor=4, mode="nearest"), last(made), whole)
        rows = [[to_image(p, (-1, 1)) for p in pictures] for pictures in shown]
        save_png(sheet(rows), path, {"step": trainer.step, "level": level})
