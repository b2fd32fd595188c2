"""Training the embedded text-to-image cascade: a patch transformer that reads captions, and one that adds detail.

Every picture is put together anew on the device (staging.py) from cut-outs in memory, after a scene that worker processes make
up (scenes.py); batch k of a seed is the same wherever and whenever it is made, so a run can be taken up at any step.
Networks, text encoder and tokenizer are written in the layout of diffusers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models import tokens
from phosphene.models.patch_stage import load_weights
from phosphene.models.stage import low_res_input
from phosphene.models.t5 import T5Encoder
from phosphene.models.transformer import PatchTransformer
from phosphene.processes import Place
from phosphene.schedule import NoiseSchedule, squared_cosine
from phosphene.training import checkpoint
from phosphene.training.distributed import average
from phosphene.training.ema import Average
from phosphene.training.muon import Muon
from phosphene.training.options import whole
from phosphene.training.text_to_image.captions import Thesaurus
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.staging import drawn
from phosphene.training.text_to_image.stories import Batch, Stories

SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "variance_type": "fixed_small",
    "clip_sample": True,
    "thresholding": False,
    "timestep_spacing": "linspace",  # from the noisiest timestep: one step below it, white paper would already shine through
}
AGREE_STEPS = 10
"""So often do several processes ask each other whether to stop: asking makes the host wait for the GPU."""
MOST_PROCESSES = 4096


def text_encoder(recipe: CascadeRecipe, vocabulary: int) -> T5Encoder:
    """A new text encoder of the recipe's sizes."""
    width, heads = recipe.text_width, recipe.text_heads
    return T5Encoder(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=width // heads,
        d_ff=width * 5 // 2,
        num_layers=recipe.text_layers,
        num_heads=heads,
    )


class Painter(nn.Module):
    """Text encoder and patch transformer. ``forward`` answers what the recipe's target names."""

    def __init__(self, recipe: CascadeRecipe, vocabulary: int) -> None:
        super().__init__()
        upscaler = recipe.network == "upscaler"
        self.text = None if upscaler else text_encoder(recipe, vocabulary).requires_grad_(not recipe.taught or recipe.listens > 0)
        self.image = PatchTransformer(
            sample_size=recipe.size,
            patch_size=recipe.patch,
            in_channels=7 if upscaler else 3,  # the picture, the small one enlarged, and how noisy that is
            out_channels=3,
            num_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            attention_head_dim=recipe.hidden // recipe.heads,
            cross_attention_dim=None if upscaler else recipe.hidden,
            caption_channels=None if upscaler else recipe.text_width,
        )

    def forward(self, x: Tensor, t: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """x: (B, C, S, S); t: (B,) timesteps; ids, mask: (B, L). Answers (B, 3, S, S)."""
        if self.text is None:
            return self.image(x, t, None)
        return self.image(x, t, self.text(ids, mask), mask)


class Report(NamedTuple):
    """After so many steps: mean loss, pictures a second, and the validation losses (empty but every ``check_every``)."""

    step: int
    loss: float
    images_per_second: float
    checks: dict[str, float]


class StageTrainer:
    """One training: steps, average, validation. Each of several processes draws its share of a batch; compiled on GPUs."""

    summed = True
    """Whether a batch may be taken in pieces: its loss is that of its pictures, each by itself."""

    def __init__(
        self,
        recipe: CascadeRecipe,
        cutouts: Cutouts,
        tokenizer,
        thesaurus: Thesaurus | None = None,
        place: Place | None = None,
        workers: int = 0,
    ) -> None:
        self.place = place or Place("cpu")
        self.recipe, self.device, self.tokenizer = recipe, self.place.device, tokenizer
        self.cutouts, self.workers = cutouts.to(self.device), workers
        self.schedule: NoiseSchedule = squared_cosine()
        # Initialised on the CPU from a forked stream: the same seed means the same start on every device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.painter = self.build(tokenizer.get_vocab_size()).to(self.device)
        self.ema = Average(self.painter, recipe.ema)
        self.average = self.ema.network
        self.stories = Stories(cutouts, tokenizer, recipe, thesaurus, rows=self.place.rows(recipe.batch_size))
        if not self.stories:
            raise UserError(f"--held-out {recipe.held_out}: leaves no picture to train with; say 0, or give more pictures.")
        # An upscaler reads no captions, so shuffling them changes nothing.
        self.asked = ("right",) if self.painter.text is None else ("right", "shuffled")
        splits = {split: Stories(cutouts, tokenizer, recipe, None, split) for split in ("train", "held out")}
        self.checks = {split: stories for split, stories in splits.items() if stories}
        on_gpu = self.device.type == "cuda"
        # What a laptop has the memory for; the gradient is that of the whole batch all the same.
        usual = 32 if self.summed and not on_gpu else recipe.batch_size
        self.piece = recipe.micro_batch or usual
        if on_gpu:
            self.compile()
        self.optimisers = self.chosen_optimisers()
        self.generator = torch.Generator(self.device)
        self.step = self.begun = 0
        self.heard: frozenset[str] = frozenset()  # the words that the weights it goes on from were taught with
        self.count = torch.zeros((), device=self.device)  # of all steps, for the warm-up of the average
        self.total = torch.zeros((), device=self.device)  # the losses of steps that are not reported yet,
        self.unreported = 0  # and how many these are
        self.stopping = False  # set from outside to end the run after the step in progress

    def build(self, vocabulary: int) -> nn.Module:
        """The network, new."""
        return Painter(self.recipe, vocabulary)

    def chosen_optimisers(self) -> list[torch.optim.Optimizer]:
        """AdamW for all weights; or Muon for the matrices inside the blocks, and AdamW for the rest.

        The same learning rate serves both: see :class:`Muon`.
        """
        recipe, on_gpu = self.recipe, self.device.type == "cuda"
        learned = {name: p for name, p in self.painter.named_parameters() if p.requires_grad}
        inner = [n for n, p in learned.items() if recipe.optimizer == "muon" and "_blocks." in n and n.endswith("weight")]
        matrices = [learned.pop(name) for name in inner]
        heard = [learned.pop(name) for name in list(learned) if recipe.taught and name.startswith("text.")]
        decayed = [p for p in learned.values() if p.ndim >= 2]
        plain = [p for p in learned.values() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        if heard:
            groups.append({"params": heard, "weight_decay": 0.0, "share": recipe.listens})
        chosen: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=on_gpu)]
        if matrices:
            chosen.append(Muon(matrices, recipe.lr, recipe.weight_decay))
        return chosen

    def compile(self) -> None:
        """Block by block: they are all alike, so that one is compiled and not the whole."""
        for block in self.painter.image.transformer_blocks:
            block.compile()

    def parts(self, network: nn.Module) -> list[tuple[str, nn.Module, str]]:
        """The folder of each part of ``network``, the part, and what its weight files are called."""
        parts = [("transformer", network.image, "diffusion_pytorch_model")]
        return parts if network.text is None else [*parts, ("text_encoder", network.text, "model")]

    def composed(self, batch: Batch) -> Tensor:
        """The pictures of ``batch``, (B, 3, S, S) in [-1, 1]."""
        return drawn(batch.stage, self.cutouts, self.recipe.size, self.generator)

    def pieces(self, *parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Pictures, tokens and masks of a batch, as many at a time as are to be learned from at once."""
        return zip(*(part.split(self.piece) for part in parts), strict=True)

    def loss(
        self, network: nn.Module, x0: Tensor, ids: Tensor, mask: Tensor, generator: torch.Generator, shift: float = 1.0
    ) -> Tensor:
        """Mean squared error of the target, for each picture (B,).

        A clean estimate's error divided by ``1 - abar`` is that of the velocity it implies (Salimans & Ho 2022); bounded
        by ``most``, because the last shades of a nearly clean picture are not worth a hundredfold weight.
        """
        recipe, count = self.recipe, len(x0)
        u = torch.rand(count, generator=generator, device=self.device)
        t = (shift * u / (1 + (shift - 1) * u) * self.schedule.steps).long().clamp(max=self.schedule.steps - 1)
        noise = torch.randn(x0.shape, generator=generator, device=self.device)
        signal, sigma = self.schedule.signal_and_noise(t, x0)
        xt = signal * x0 + sigma * noise
        inputs = xt
        if recipe.network == "upscaler":
            level = torch.randint(recipe.level, (count,), generator=generator, device=self.device)
            small = F.interpolate(x0, size=recipe.size // 4, mode="area")
            fresh = torch.randn(x0.shape, generator=generator, device=self.device)
            inputs = torch.cat([xt, low_res_input(self.schedule, small, level, fresh)], 1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            answer = network(inputs, t, ids, mask)
        answer = answer.float()
        if recipe.target == "sample":
            weight = (1 / sigma.square()).clamp(max=recipe.most)
            return (weight * (answer - x0).square()).mean((1, 2, 3))
        wanted = noise if recipe.target == "epsilon" else signal * noise - sigma * x0
        return (answer - wanted).square().mean((1, 2, 3))

    def run(self, seconds: float = math.inf, report_every: int = 50, check_every: int = 500) -> Iterator[Report]:
        """Train until the recipe's pictures are seen or the time is up."""
        loader = torch.utils.data.DataLoader(
            self.stories,
            batch_size=None,
            sampler=range(self.step, self.recipe.steps),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            pin_memory=self.device.type == "cuda",
        )
        started = last = time.monotonic()
        reported = self.step
        for batch in loader:
            batch = Batch(*batch).to(self.device)
            rate = self.recipe.rate(self.step, self.begun, 1 - (time.monotonic() - started) / seconds)
            self._update(batch, rate)
            stopping, late = False, time.monotonic() - started > seconds
            ended = self.step == self.recipe.steps
            if self.step % AGREE_STEPS == 0 or self.place.world == 1:
                # A signal may come while they agree: what it says then counts the next time.
                stopping, late = self.place.any(self.stopping, late)
                self.stopping = self.stopping or stopping
                ended = ended or stopping or late
            due = self.step % report_every == 0
            if due or ended:
                mean = self.total.item() / self.unreported
                if not math.isfinite(mean):
                    raise FloatingPointError(f"step {self.step}: the loss is {mean}; choose a lower --lr.")
            if due or (ended and not stopping):
                if due:  # what ended early is reported again with the steps that a resumed run adds
                    self.total.zero_()
                    self.unreported = 0
                now = time.monotonic()
                speed = (self.step - reported) * self.recipe.batch_size / (now - last)
                checking = self.place.leads and (self.step % check_every == 0 or (ended and not stopping))
                checks = self.check() if checking else {}
                yield Report(self.step, mean, speed, checks)
                last, reported = time.monotonic(), self.step
            if ended:
                return

    def _update(self, batch: Batch, rate: float) -> None:
        """One step: gradients of the whole batch, taken in pieces, then the optimisers and the average."""
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = rate * group.get("share", 1.0)
        # Noise is a function of seed, step and process: what a resumed run draws does not hang on what it drew before.
        self.generator.manual_seed((self.recipe.seed * 1_000_003 + self.step) * MOST_PROCESSES + self.place.rank)
        mean = torch.zeros((), device=self.device)
        for part in self.pieces(self.composed(batch), batch.ids, batch.mask):
            share = self.loss(self.painter, *part, self.generator, self.recipe.shift).sum() / len(batch.ids)
            share.backward()
            mean += share.detach()
        if self.place.world > 1:
            average([*(p.grad for p in self.painter.parameters() if p.grad is not None), mean])
        self.total += mean
        nn.utils.clip_grad_norm_(self.painter.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.count += 1
        self.ema.follow(self.count)
        self.step += 1
        self.unreported += 1

    @property
    def checked(self) -> list[str]:
        """What :meth:`check` measures."""
        return [f"{split}, {which}" for split in self.checks for which in self.asked]

    @torch.no_grad()
    def check(self, batches: int = 2) -> dict[str, float]:
        """Losses of the average on fixed pictures, noise and times: with their captions, and with each other's.

        While text is not understood the two are equal; the gap is what the captions explain.
        """
        found = {}
        generator = torch.Generator(self.device)
        for name, stories in self.checks.items():
            for k in range(batches):
                batch = Batch(*stories[k]).to(self.device)
                x0 = drawn(batch.stage, self.cutouts, self.recipe.size, generator.manual_seed(k))
                for which in self.asked:
                    ids, mask = (p if which == "right" else p.roll(1, 0) for p in (batch.ids, batch.mask))
                    generator.manual_seed(k)
                    losses = [self.loss(self.average, *part, generator) for part in self.pieces(x0, ids, mask)]
                    loss = torch.cat(losses).mean().item() / batches
                    found[f"{name}, {which}"] = found.get(f"{name}, {which}", 0.0) + loss
        return found

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Everything that decides the rest of the run: tensors, and the position, in pictures, as JSON."""
        others = {"count": self.count, "total": self.total}
        images, begun = (steps * self.recipe.batch_size for steps in (self.step, self.begun))
        tensors = checkpoint.gathered(self._networks, self.optimisers, **others)
        return tensors, {"images": images, "begun": begun, "unreported": self.unreported}

    def restore(self, tensors: dict[str, Tensor], position: dict) -> None:
        """Continue from a :meth:`state`. ValueError where it does not fit."""
        images = whole(position, "images")
        begun = whole(position, "begun", images)
        unreported = whole(position, "unreported", images - begun)
        others = {"count": self.count, "total": self.total}
        checkpoint.scatter(tensors, self._networks, self.optimisers, images - begun, **others)
        self.step, self.begun, self.unreported = images // self.recipe.batch_size, begun // self.recipe.batch_size, unreported

    @cached_property
    def taught(self) -> frozenset[str]:
        """The words that the weights were taught with, in this run or before."""
        return self.heard | self.stories.words()

    @property
    def finished(self) -> bool:
        return self.step >= self.recipe.steps

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"network": self.painter, "average": self.average}

    def restart(self, folder: Path, images: int) -> None:
        """Go on from what :meth:`save` wrote to ``folder`` after ``images``, with a fresh optimiser and another warm-up."""
        for network in (self.painter, self.average):
            for name, module, file in self.parts(network):
                load_weights(module, folder / name, file)
        self.heard = tokens.load_words(folder / "tokenizer") or self.heard
        self.step = self.begun = images // self.recipe.batch_size
        self.count.fill_(self.step)

    def teach(self, folder: Path) -> None:
        """Take the text encoder of the retrieval model in ``folder``, and learn anew to draw by what it says.

        UserError where its sizes are not the recipe's.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            self.painter.image.forget_text()
        self.average.image.load_state_dict(self.painter.image.state_dict())
        for network in (self.painter, self.average):
            load_weights(network.text, folder / "text_encoder", "model")

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the averaged weights to ``folder`` as a stage in the layout of diffusers, in shards of at most 15 MB."""
        index = {"_class_name": "DiffusionPipeline", "scheduler": ["diffusers", "DDPMScheduler"]}
        index["transformer"] = ["diffusers", self.average.image.config["_class_name"]]
        schedulers = {"scheduler": SCHEDULER | {"prediction_type": self.recipe.target}}
        if self.average.text is None:
            schedulers["image_noising_scheduler"] = SCHEDULER
        else:
            index |= {
                "text_encoder": ["transformers", "T5EncoderModel"],
                "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
            }
        for name, config in schedulers.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "scheduler_config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        self.write(folder, dtype)

    def write(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the averaged weights, part by part, with their configurations and the tokenizer."""
        from huggingface_hub import save_torch_state_dict

        for name, module, file in self.parts(self.average):
            (folder / name).mkdir(parents=True, exist_ok=True)
            state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in module.state_dict().items()}
            pattern = file + "{suffix}.safetensors"
            save_torch_state_dict(state, folder / name, filename_pattern=pattern, max_shard_size="15MB")
            for written in (folder / name).iterdir():
                written.chmod(0o644)
            (folder / name / "config.json").write_text(json.dumps(module.config, indent=2) + "\n")
        if self.average.text is not None:
            tokens.save(self.tokenizer, folder / "tokenizer", self.recipe.length, self.taught)
