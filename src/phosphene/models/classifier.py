"""The network that judges digits: its classes give accuracy, its 128 features the Fréchet distance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models.unet import conv

FEATURES = 128


class DigitClassifier(nn.Module):
    """``forward(x)``: logits (B, classes) of pictures (B, 1, 28, 28) in [0, 1]. Six convolutions and two linear layers.

    The maps are not pooled: where a stroke lies is part of the features, so that the distance sees it.
    """

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        if width < 1:
            raise UserError(f"--width {width}: must be at least 1.")
        w = width
        self.config = {"width": width, "classes": classes}
        self.body = nn.Sequential(
            conv(1, w), conv(w, w), conv(w, 2 * w, stride=2), conv(2 * w, 2 * w), conv(2 * w, 4 * w, stride=2), conv(4 * w, 4 * w)
        )
        self.feature = nn.Linear(4 * w * 49, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, 128), after the last ReLU before the logits. ``mask`` (B, 196 * width) multiplies the maps: dropout in training."""
        x = self.body(x.contiguous(memory_format=torch.channels_last))
        return F.relu(self.feature(x.flatten(1) if mask is None else x.flatten(1) * mask))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(self.features(x, mask))
