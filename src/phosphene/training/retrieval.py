"""Training the retrieval model: the text encoder learns which picture a text belongs to, before a cascade draws by it.

A text encoder trained by the denoising loss alone never told a rocket from a skull: five million pictures on, the codes
of all nouns had cosines of 0.95 and more (docs/embedded-model.md). Here every text of a batch competes for every picture.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from phosphene.models.retrieval import Retrieval
from phosphene.training.cascade import Batch, CascadeTrainer, text_encoder


class RetrievalTrainer(CascadeTrainer):
    """As for the stages, on the same stories; only the network, its loss and its files are others."""

    summed = False

    def build(self, vocabulary: int) -> Retrieval:
        return Retrieval(text_encoder(self.recipe, vocabulary), self.recipe.size)

    def compile(self) -> None:
        self.painter.space.picture.compile()

    def parts(self, network: Retrieval) -> list[tuple[str, nn.Module, str]]:
        return [("picture_encoder", network.space, "model"), ("text_encoder", network.text, "model")]

    def loss(self, network: Retrieval, batch: Batch, generator: torch.Generator) -> Tensor:
        x = self.composed(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            longest = batch.ids.shape[1] if x.is_cuda else int(batch.mask.sum(1).max())  # no steps through mere padding
            return network(x, batch.ids[:, :longest], batch.mask[:, :longest])

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the averaged weights to ``folder``: the text encoder and its tokenizer as of a stage, and the picture tower."""
        self.write(folder, dtype)
