"""Training the retrieval model: the text encoder learns which picture a text belongs to, before a cascade draws by it.

A text encoder trained by the denoising loss alone never told a rocket from a skull: five million pictures on, the codes
of all nouns had cosines of 0.95 and more (docs/embedded-model.md). Here every text of a batch competes for every picture.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models.patch_stage import load_weights
from phosphene.models.retrieval import Retrieval
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.stage_trainer import StageTrainer, text_encoder


def turned(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """``x`` (B, 3, S, S), of which ``share`` are turned by quarters or mirrored, each of the seven ways as often.

    Who sees an illusion says "a duck on its head"; a model that never saw one takes it for what it is asked about.
    """
    if share == 0:
        return x
    ways = torch.randint(1, 8, (len(x),), generator=generator, device=x.device)
    ways *= torch.rand(len(x), generator=generator, device=x.device) < share
    found = x
    for way in range(1, 8):
        other = x.rot90(way % 4, (2, 3)).flip(3) if way >= 4 else x.rot90(way, (2, 3))
        found = torch.where((ways == way)[:, None, None, None], other, found)
    return found


class RetrievalTrainer(StageTrainer):
    """As for the stages, on the same stories; only the network, its loss and its files are others."""

    summed = False

    def __init__(self, recipe: CascadeRecipe, *others, **named) -> None:
        super().__init__(recipe, *others, **named)
        if self.place.world > 1:  # a text would have to find its picture among those of its own process only
            raise UserError(f"train retrieval: shares no batch between {self.place.world} processes; start it in one.")
        recipe.require("micro_batch", recipe.micro_batch == 0, "every text of a batch competes for every picture; leave it out")

    def build(self, vocabulary: int) -> Retrieval:
        text = text_encoder(self.recipe, vocabulary).requires_grad_(not self.recipe.taught)
        return Retrieval(text, self.recipe.size, self.recipe.picture_width)

    def teach(self, folder: Path) -> None:
        """Take the text encoder of the model in ``folder``: a picture tower learns what its words look like."""
        for network in (self.painter, self.average):
            load_weights(network.text, folder / "text_encoder", "model")

    def compile(self) -> None:
        self.painter.space.picture.compile()

    def parts(self, network: Retrieval) -> list[tuple[str, nn.Module, str]]:
        return [("picture_encoder", network.space, "model"), ("text_encoder", network.text, "model")]

    def loss(
        self, network: Retrieval, x0: Tensor, ids: Tensor, mask: Tensor, generator: torch.Generator, shift: float = 1.0
    ) -> Tensor:
        x0 = turned(x0, self.recipe.turned, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            longest = ids.shape[1] if x0.is_cuda else int(mask.sum(1).max())  # no steps through mere padding
            return network(x0, ids[:, :longest], mask[:, :longest])

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the averaged weights to ``folder``: the text encoder and its tokenizer as of a stage, and the picture tower."""
        self.write(folder, dtype)
