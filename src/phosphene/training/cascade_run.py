"""A cascade training with its folder: what it writes, how it is taken up again, and what it draws on the way.

OUT/recipe.json, thesaurus.json     what was asked
OUT/model/                          the averaged weights, in the layout of diffusers
OUT/log.jsonl, loss.png             losses, speed, validation
OUT/samples/step-NNNNNN.png         the same prompts and seeds, as they are drawn then
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.images import require_writable, save_png, sheet, to_image
from phosphene.models import tokens
from phosphene.models import weights as files
from phosphene.models.cascade import Scheduler, Stage, Text
from phosphene.models.light import PatchNetwork
from phosphene.plots import loss_curves
from phosphene.training.captions import Thesaurus
from phosphene.training.cascade import CascadeRecipe, CascadeTrainer, Report, learned_tokenizer
from phosphene.training.pictures import Gallery

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
WORDNET = Path("/usr/share/wordnet")
ROOM = 1.25
"""Pictures are kept this much larger than they are learned, so that shifting and scaling them costs no detail."""


class Spoken(Text):
    """Prompts read by a text encoder in training. Nothing is remembered: the encoder changes from step to step."""

    def __init__(self, trainer: CascadeTrainer) -> None:
        self.trainer = trainer

    @torch.no_grad()
    def embed(self, prompt: Hashable | None) -> Tensor:
        ids, mask = tokens.encode(self.trainer.tokenizer, [prompt or ""], self.trainer.recipe.length)
        ids, mask = ids.to(self.trainer.device), mask.to(self.trainer.device)
        return torch.cat([self.trainer.average.text(ids, mask)[0].float(), mask[0, :, None].float()], 1)


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
    ) -> None:
        self.out, self.seconds = Path(out), seconds
        begun = (self.out / "recipe.json").is_file()
        if begun and not resume:
            raise UserError(f"--out {out}: holds a run already; add --resume to go on with it, or choose another folder.")
        if resume and not begun:
            raise UserError(f"--out {out}: holds no run to resume; leave --resume out, or name the folder of one.")
        require_writable(self.out / "recipe.json", "--out")
        gallery = Gallery.open(data, round(recipe.size * ROOM) if recipe.network == "cascade" else recipe.size)
        thesaurus = self._thesaurus(gallery, wordnet)
        if resume:
            self._require_same(recipe)
        if resume and recipe.network == "cascade":
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(self.out / "model" / "tokenizer" / "tokenizer.json"))
        else:
            tokenizer = learned_tokenizer(gallery, recipe, thesaurus)
        self.trainer = CascadeTrainer(recipe, gallery, tokenizer, thesaurus, device, workers)
        if resume:
            self._restore()
        self.thesaurus = thesaurus

    def _thesaurus(self, gallery: Gallery, wordnet: Path | None) -> Thesaurus | None:
        kept = self.out / "thesaurus.json"
        if wordnet is None and kept.is_file():
            return Thesaurus.load(kept)
        if wordnet is not None and wordnet.is_file():
            return Thesaurus.load(wordnet)
        if wordnet is not None or WORDNET.is_dir():
            return Thesaurus.from_wordnet(wordnet or WORDNET, [s.caption for s in gallery.subjects])
        return None

    def _require_same(self, recipe: CascadeRecipe) -> None:
        try:
            saved = CascadeRecipe(**json.loads((self.out / "recipe.json").read_text())["recipe"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.out / 'recipe.json'}: cannot be read ({error}); start the run anew.") from error
        free = ("images", "lr", "warmup", "cooldown", "ema", "batch_size", "seed", "most", "drop", "weight_decay", "level")
        differing = [k for k, v in vars(saved).items() if k not in free and vars(recipe)[k] != v]
        if differing:
            name = differing[0]
            raise UserError(f"--{name.replace('_', '-')} {vars(recipe)[name]}: the run in {self.out} has {vars(saved)[name]}.")

    def _restore(self) -> None:
        weights = {}
        for part, folder in (("text", "text_encoder"), ("image", "transformer")):
            for file in sorted((self.out / "model" / folder).glob("*.safetensors")):
                weights |= {f"{part}.{name}": value.float() for name, value in files.load(file).items()}
        done = json.loads((self.out / "recipe.json").read_text())["images"]
        self.trainer.restore(weights, done // self.trainer.recipe.batch_size)

    def __iter__(self) -> Iterator[Report]:
        self.out.mkdir(parents=True, exist_ok=True)
        if self.thesaurus is not None:
            self.thesaurus.save(self.out / "thesaurus.json")
        with (self.out / "log.jsonl").open("a") as log:
            for report in self.trainer.run(self.seconds):
                log.write(json.dumps({"images": report.step * self.trainer.recipe.batch_size, **report._asdict()}) + "\n")
                log.flush()
                if report.checks:
                    self._keep(report.step)
                yield report
        lines = [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
        curves = {"training": [(line["images"], line["loss"]) for line in lines]}
        for name in ("train, right", "train, shuffled", "held out, right", "held out, shuffled"):
            curves[name] = [(line["images"], line["checks"][name]) for line in lines if line["checks"]]
        loss_curves(curves, self.out / "loss.png", "loss over images seen")

    def _keep(self, step: int) -> None:
        self.trainer.save(self.out / "model")
        recipe = self.trainer.recipe
        state = {"images": step * recipe.batch_size, "recipe": vars(replace(recipe))}
        with files.replacing(self.out / "recipe.json") as temporary:
            temporary.write_text(json.dumps(state, indent=2) + "\n")
        if recipe.network == "cascade":
            self.preview(self.out / "samples" / f"step-{step:06d}.png")

    def preview(self, path: Path, prompts: tuple[str, ...] = PROMPTS, each: int = 2, seed: int = 180, scale: float = 4.0) -> None:
        """Draw ``prompts`` with the averaged weights, ``each`` from so many seeds."""
        from phosphene.expression import given, guide
        from phosphene.sampler import clamp, denoise, dpm_solver, draw, generators, last

        scheduler = Scheduler(prediction_type=self.trainer.recipe.target)
        drawing = Stage(PatchNetwork(self.trainer.average.image), scheduler, self.trainer.schedule, Spoken(self.trainer))
        asked = [p for p in prompts for _ in range(each)]
        sources = generators(range(seed, seed + len(asked)))
        noise = draw(sources, len(asked), drawing.image_shape, drawing.device)
        times = drawing.schedule.timesteps(20)
        run = denoise(drawing, guide(given(*asked), scale=scale), noise, times, solver=dpm_solver, threshold=clamp(-1, 1))
        cells = [to_image(p, (-1, 1), 2) for p in last(run)]
        rows = [cells[k : k + 8] for k in range(0, len(cells), 8)]
        captions = [asked[k : k + 8] for k in range(0, len(asked), 8)]
        save_png(sheet(rows, captions=captions), path, {"step": self.trainer.step, "prompts": list(prompts), "guidance": scale})
