"""A difference of low rank to the network of a cascade's first stage (LoRA, Hu et al. 2022), beside biases and tables: what is
learned where the network itself stays as it is, small enough to ship.

What a stage makes of no prompt is learned so. In a cascade's own training one picture in some is shown without words, and what it
draws of nothing serves to lead away from. Where nothing is all that is said, of a picture that is edited, what was learned from
such pictures decides what becomes of what the noise has hidden: a difference learns from them alone, half simple drawings.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.files import write_text
from phosphene.models import distilled, weights
from phosphene.models.folders import ADAPTED
from phosphene.models.patch_stage import load_weights
from phosphene.models.transformer import PatchTransformer
from phosphene.training.text_to_image.stage_trainer import Painter, StageTrainer


class LowRank(nn.Module):
    """A linear map that stays as it is, but for a product of low rank added to its matrix, which is learned, and its bias."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        (size, width), device = linear.weight.shape, linear.weight.device
        self.original, self.bias = nn.Parameter(linear.weight.detach(), requires_grad=False), linear.bias
        self.down = nn.Parameter(torch.randn(rank, width, device=device) / width**0.5)
        self.up = nn.Parameter(torch.zeros(rank, size, device=device))

    @property
    def weight(self) -> Tensor:
        return self.original + self.up.T @ self.down

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def lowered(image: PatchTransformer, rank: int) -> PatchTransformer:
    """``image``, of which vectors, tables and products of ``rank`` are learned from now on.

    Products are of all matrices in blocks, and of the one that makes their gates of the time.
    """
    parts = [part for block in image.transformer_blocks for part in block.modules()] + [image.adaln_single]
    for parent in parts:
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                parent.add_module(name, LowRank(child, rank))
    for name, weight in image.named_parameters():
        weight.requires_grad_(weight.ndim < 2 or name.endswith(("scale_shift_table", ".down", ".up")))
    return image


class DifferenceTrainer(StageTrainer):
    """Learns a difference to the first stage that lies in ``recipe.distils``: as for the stages, on what the recipe shows."""

    def __init__(self, recipe, *others, **named) -> None:
        super().__init__(recipe, *others, **named)
        self.asked = ("right",)

    def build(self, vocabulary: int) -> Painter:
        painter, folder = Painter(self.recipe, vocabulary), Path(self.recipe.distils)
        load_weights(painter.image, folder / "transformer", "diffusion_pytorch_model")
        load_weights(painter.text, folder / "text_encoder", "model")
        self.before = {name: weight.detach().clone() for name, weight in painter.image.named_parameters()}
        self.lower(painter)
        return painter

    def lower(self, painter: Painter) -> None:
        """Leave of ``painter`` to be learned what is of low rank."""
        lowered(painter.image, self.recipe.rank)

    def tell(self, folder: Path) -> None:
        """Write to ``folder`` what is told of the model: which it is adapted from."""
        write_text(folder / ADAPTED, json.dumps({"base": self.recipe.distils}, indent=2) + "\n")

    def chosen_optimisers(self) -> list[torch.optim.Optimizer]:
        learned = [p for p in self.painter.parameters() if p.requires_grad]
        return [torch.optim.AdamW(learned, self.recipe.lr, (0.9, 0.98), weight_decay=0.0, fused=self.device.type == "cuda")]

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write what is told of the model, and its averaged difference."""
        changes = {}
        for name, weight in self.average.image.named_parameters():
            module, _, own = name.rpartition(".")
            if own in ("down", "up"):
                changes[f"{module}.weight.{own}"] = weight
            elif name in self.before and own != "original" and not torch.equal(weight.cpu(), self.before[name]):
                changes[name] = weight.cpu() - self.before[name]
        weights.save(changes, folder / distilled.DIFFERENCE, "float16")
        self.tell(folder)
