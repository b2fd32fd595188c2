"""What each network learns: the loss of one batch, and where its randomness comes from.

All random numbers of a step are drawn for the *global* batch and cut to the rows of this process, so that two
processes see what one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import to_target
from phosphene.models.unet import MnistUNet
from phosphene.schedule import KINDS, NoiseSchedule
from phosphene.training.mnist.recipes import Recipe

DROPOUT = 0.3  # of the classifier's maps

Loss = Callable[[nn.Module, Tensor, Tensor, "Draws"], Tensor]


class Draws:
    """Random tensors for the rows ``rank * n : (rank + 1) * n`` of a global batch of ``n * world`` images."""

    def __init__(self, generator: torch.Generator, rank: int = 0, world: int = 1) -> None:
        self.generator, self.rank, self.world = generator, rank, world

    def _mine(self, make: Callable[..., Tensor], rows: int, *shape: int) -> Tensor:
        """This process's ``rows`` of what ``make`` draws for all of them, each of ``shape``."""
        drawn = make((rows * self.world, *shape), generator=self.generator, device=self.generator.device)
        return drawn[self.rank * rows : (self.rank + 1) * rows]

    def normal(self, like: Tensor) -> Tensor:
        return self._mine(torch.randn, *like.shape)

    def uniform(self, rows: int, columns: int = 1) -> Tensor:
        return self._mine(torch.rand, rows, columns)

    def integers(self, high: int, rows: int) -> Tensor:
        return self._mine(partial(torch.randint, high), rows)

    def times(self, steps: int, rows: int, mean: float = 0.0, spread: float = 0.0) -> Tensor:
        """Timesteps 0..steps-1: uniform, or with ``spread`` logit-normal, most of them where pictures take shape."""
        if spread == 0:
            return self.integers(steps, rows)
        return (torch.sigmoid(mean + spread * self._mine(torch.randn, rows)) * steps).long().clamp(max=steps - 1)


def build(recipe: Recipe, classes: int) -> tuple[nn.Module, Loss, dict]:
    """The network of a recipe (initialised from its seed), its loss, and the config.json of the model it becomes."""
    # Initialised on the CPU from a forked stream: the same seed means the same start on every device.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        match recipe.network:
            case "denoiser":
                network: nn.Module = MnistUNet(recipe.width)
            case "classifier":
                network = DigitClassifier(recipe.width, classes)
            case kind:
                network = MnistUNet(recipe.width, time=True, classes=classes if kind == "class" else 0)
    config = {"network": network.config, "dataset": recipe.dataset}
    if recipe.network == "denoiser":
        return network, one_step(recipe.sigma), {"kind": "denoiser", **config, "sigma": recipe.sigma}
    if recipe.network == "classifier":
        return network, classification, {"kind": "classifier", **config}
    schedule = KINDS[recipe.schedule](steps=recipe.timesteps)
    config = {"kind": "diffusion", **config, "schedule": dict(schedule.config), "target": recipe.objective}
    return network, diffusion(schedule, recipe.objective, recipe.drop, recipe.time_mean, recipe.time_spread), config


def one_step(sigma: float) -> Loss:
    """``|D(x + sigma noise) - x|^2``: the one-step denoiser, which knows neither time nor class."""

    def loss(network: nn.Module, x0: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        return F.mse_loss(network(x0 + sigma * draws.normal(x0)).float(), x0)

    return loss


def diffusion(schedule: NoiseSchedule, target: str, drop: float, time_mean: float = 0.0, time_spread: float = 0.0) -> Loss:
    """``|network(x_t, t / T, c) - target|^2`` at random t; the class is withheld with probability ``drop``.

    Sources: Ho et al. 2020, algorithm 1; Ho & Salimans 2022, algorithm 1; for ``flow`` Lipman et al. 2023, eq. 23; for
    logit-normal times Esser et al. 2024, section 3.1.
    """

    def loss(network: nn.Module, x0: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        t = draws.times(schedule.steps, len(x0), time_mean, time_spread)
        picture, answer = to_target(schedule, target, x0, draws.normal(x0), t)
        code = None
        if network.config["classes"]:
            labelled = draws.uniform(len(x0)) >= drop
            code = F.one_hot(labels.long(), network.config["classes"]).to(x0.dtype) * labelled
        picture = picture.contiguous(memory_format=torch.channels_last)
        return F.mse_loss(network(picture, t / schedule.steps, code).float(), answer)

    return loss


def classification(network: nn.Module, x0: Tensor, labels: Tensor, draws: Draws) -> Tensor:
    """Cross-entropy with smoothed labels; pictures turned by up to 12 degrees, scaled by 12 %, sheared, shifted by 2 pixels."""
    x0 = _jittered(x0, draws.uniform(len(x0), 6) * 2 - 1)
    # Dropout from our own stream: torch's would differ between runs, and between one process and two.
    mask = (draws.uniform(len(x0), 196 * network.config["width"]) >= DROPOUT) / (1 - DROPOUT)
    return F.cross_entropy(network(x0, mask).float(), labels.long(), label_smoothing=0.05)


def _jittered(x: Tensor, u: Tensor) -> Tensor:
    """A random affine map for each picture; u: (B, 6) in [-1, 1]."""
    angle, width, height, shear, right, below = u.unbind(1)
    angle, width, height = angle * 0.21, 1 + 0.12 * width, 1 + 0.12 * height
    cos, sin, shear = angle.cos(), angle.sin(), 0.15 * shear
    shift = 4 / x.shape[-1]  # two pixels, in the units of affine_grid: the picture is 2 wide
    top = torch.stack([cos * width, (shear * cos - sin) * height, shift * right], dim=1)
    bottom = torch.stack([sin * width, (shear * sin + cos) * height, shift * below], dim=1)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
