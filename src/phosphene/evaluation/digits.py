"""Figures for the MNIST models: accuracy by class, Fréchet distance, denoising error."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from phosphene.defaults import DIGIT_GUIDANCE, SEED
from phosphene.drawing import Sampling, Task, run
from phosphene.errors import UserError
from phosphene.evaluation.classifier import describe
from phosphene.evaluation.frechet import frechet_distance
from phosphene.expression import cond, guide
from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import DigitDiffusion
from phosphene.processes import ALONE, Place
from phosphene.sampler import last


class Labelled(Protocol):
    """Real pictures (N, 1, 28, 28) and what they show (N,), both uint8; a pixel p means p / 255."""

    images: Tensor
    labels: Tensor


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


def refer(classifier: DigitClassifier, train: Labelled, test: Labelled, samples: int) -> Reference:
    """The real side of the comparison."""
    probabilities, features = describe(classifier, test.images.float() / 255)
    _, learned = describe(classifier, train.images[:samples].float() / 255)
    accuracy = (probabilities.argmax(1).cpu() == test.labels).float().mean().item()
    return Reference(features.cpu(), frechet_distance(learned, features), accuracy)


def measure(
    model: DigitDiffusion,
    classifier: DigitClassifier,
    reference: Reference,
    samples: int = 5000,
    seed: int = SEED,
    *,
    sampling: Sampling = Sampling(guidance=DIGIT_GUIDANCE),
    place: Place = ALONE,
) -> Figures:
    """Draw ``samples`` pictures, as many of each class, and judge them.

    A model that knows no classes is measured without them. The noise is drawn on the model's device by one generator:
    these are statistics, and no picture of them needs to be found again. Several processes draw a share each; see ``run``.
    """
    if samples < 2:
        raise UserError(f"--samples {samples}: must be at least 2.")
    labels = torch.arange(samples) % model.classes if model.classes else None
    task = Task(lambda _, scale: cond(None) if labels is None else guide(cond(*labels.tolist()), scale=scale))
    seeds = range(seed, seed + samples)
    pictures = last(run(task, model, seeds, sampling=sampling._replace(together=True), place=place)).clamp(*model.value_range)
    probabilities, features = describe(classifier, pictures)
    right = None if labels is None else (probabilities.argmax(1).cpu() == labels).float()
    by_class = [] if right is None else [right[labels == c].mean().item() for c in range(min(model.classes, samples))]
    accuracy = None if right is None else right.mean().item()
    return Figures(samples, accuracy, by_class, frechet_distance(features, reference.features), pictures.cpu())
