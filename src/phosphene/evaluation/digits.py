"""Figures for the MNIST models: accuracy by class, Fréchet distance, denoising error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.drawing import Sampling, Task, run
from phosphene.errors import UserError
from phosphene.evaluation.classifier import describe
from phosphene.evaluation.frechet import frechet_distance
from phosphene.expression import given, guide
from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import DigitDiffusion
from phosphene.sampler import last
from phosphene.training.data import Dataset


class Reference(NamedTuple):
    """Real pictures as the classifier sees them."""

    features: Tensor  # of the test split, (N, 128)
    floor: float  # distance between the test split and as many training pictures as there are samples
    accuracy: float  # of the classifier on the test split


class Figures(NamedTuple):
    """What samples are worth. ``accuracy`` is None where no class was asked for."""

    samples: int
    accuracy: float | None
    accuracy_by_class: list[float]
    frechet: float
    pictures: Tensor  # (samples, 1, 28, 28), on the CPU


def refer(classifier: DigitClassifier, dataset: Dataset, samples: int) -> Reference:
    """The real side of the comparison."""
    probabilities, test = describe(classifier, dataset.test.images.float() / 255)
    _, train = describe(classifier, dataset.train.images[:samples].float() / 255)
    accuracy = (probabilities.argmax(1).cpu() == dataset.test.labels).float().mean().item()
    return Reference(test.cpu(), frechet_distance(train, test), accuracy)


def measure(
    model: DigitDiffusion,
    classifier: DigitClassifier,
    reference: Reference,
    samples: int = 5000,
    seed: int = 180,
    *,
    sampling: Sampling = Sampling(guidance=5.0),
) -> Figures:
    """Draw ``samples`` pictures, as many of each class, and judge them.

    A model that knows no classes is measured without them. The noise is drawn on the model's device by one generator:
    these are statistics, and no picture of them needs to be found again.
    """
    if samples < 2:
        raise UserError(f"--samples {samples}: must be at least 2.")
    labels = torch.arange(samples) % model.classes if model.classes else None
    task = Task(lambda _, scale: given(None) if labels is None else guide(given(*labels.tolist()), scale=scale))
    seeds = range(seed, seed + samples)
    pictures = last(run(task, model, seeds, sampling=sampling._replace(together=True))).clamp(*model.value_range)
    probabilities, features = describe(classifier, pictures)
    right = None if labels is None else (probabilities.argmax(1).cpu() == labels).float()
    by_class = [] if right is None else [right[labels == c].mean().item() for c in range(min(model.classes, samples))]
    accuracy = None if right is None else right.mean().item()
    return Figures(samples, accuracy, by_class, frechet_distance(features, reference.features), pictures.cpu())
