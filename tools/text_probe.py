"""What a text encoder tells apart: cosines of nouns, and how much of a thumbnail follows linearly from its code.

    python tools/text_probe.py --data SHARDS MODEL...

MODEL is a folder with text_encoder/ and tokenizer/. The code of a caption is the mean over its tokens; ridge regression
maps it to the picture's 8x8 thumbnail. R2 is given for the captions it was fitted to and for a tenth of the concepts
that it was not. About half a minute a model on one core.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.models import tokens
from phosphene.models.patch_stage import load_weights
from phosphene.models.t5 import T5Encoder
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.staging import alone

NOUNS = ("a rocket", "a skull", "a castle", "a flag", "a pizza", "an elephant")


@torch.no_grad()
def codes(model: Path, captions: list[str]) -> Tensor:
    """(N, width): the mean of what the encoder in ``model`` makes of each caption's tokens."""
    encoder = T5Encoder.from_config(json.loads((model / "text_encoder" / "config.json").read_text()))
    load_weights(encoder, model / "text_encoder", "model")
    tokenizer, length = tokens.load(model / "tokenizer")
    ids, mask = tokens.encode(tokenizer, captions, length, encoder.config["vocab_size"])
    found = []
    for i, m in zip(ids.split(512), mask.split(512), strict=True):
        read = m[..., None].float()
        found.append((encoder(i, m) * read).sum(1) / read.sum(1))
    return torch.cat(found)


def explained(code: Tensor, wanted: Tensor, held: Tensor, ridge: float = 10.0) -> tuple[float, float]:
    """R2 of the best linear map, where it was fitted and where ``held``."""
    code, wanted = code - code[~held].mean(0), wanted - wanted[~held].mean(0)
    a = code[~held]
    map_ = torch.linalg.solve(a.T @ a + ridge * torch.eye(a.shape[1]), a.T @ wanted[~held])
    left = (code @ map_ - wanted).square()
    return tuple(1 - (left[rows].sum() / wanted[rows].square().sum()).item() for rows in (~held, held))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", metavar="MODEL", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    cutouts = Cutouts.open(options.data, 16)
    captions = [", ".join(filter(None, (s.caption, s.style))) for s in cutouts.subjects]
    parts = torch.arange(len(cutouts)).split(512)
    thumbnails = torch.cat([F.adaptive_avg_pool2d(alone(cutouts, part.tolist(), 16), 8).flatten(1) / 2 for part in parts])
    held = torch.tensor([random.Random(f"probe {s.concept}").random() < 0.1 for s in cutouts.subjects])
    print(f"{'model':40} {'cosine of nouns':>16} {'R2':>7} {'R2, new concepts':>17}")
    for model in options.models:
        nouns = F.normalize(codes(model, list(NOUNS)), dim=1)
        apart = ((nouns @ nouns.T).sum() - len(NOUNS)).item() / (len(NOUNS) * (len(NOUNS) - 1))
        fitted, new = explained(codes(model, captions), thumbnails, held)
        print(f"{model!s:40} {apart:16.3f} {fitted:7.3f} {new:17.3f}")


if __name__ == "__main__":
    main()
