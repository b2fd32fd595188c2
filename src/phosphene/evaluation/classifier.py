"""Pictures as the digit classifier sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phosphene.models.classifier import DigitClassifier


@torch.no_grad()
def describe(classifier: DigitClassifier, pictures: Tensor, batch: int = 1000) -> tuple[Tensor, Tensor]:
    """Class probabilities (N, classes) and features (N, 128), float32, of pictures (N, 1, 28, 28) in [0, 1]."""
    parameter = next(classifier.parameters())
    probabilities, features = [], []
    for part in pictures.split(batch):
        feature = classifier.features(part.to(parameter.device, parameter.dtype))
        probabilities.append(classifier.head(feature).float().softmax(1))
        features.append(feature.float())
    return torch.cat(probabilities), torch.cat(features)


def accuracy(classifier: DigitClassifier, pictures: Tensor, labels: Sequence[int] | Tensor) -> float:
    """The share of ``pictures``, as for :func:`describe`, that are read as ``labels`` (N,) say."""
    read = describe(classifier, pictures)[0].argmax(1).cpu()
    return (read == torch.as_tensor(labels)).float().mean().item()
