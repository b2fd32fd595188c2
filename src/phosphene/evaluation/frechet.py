"""The Fréchet distance between two sets of features: how far apart two Gaussians with their means and covariances lie.

With Inception features it is called FID (Heusel et al. 2017); here the features are those of our own digit
classifier, and the numbers compare with nothing but each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phosphene.errors import UserError


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """``|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` of features (N, F) and (M, F), in float64."""
    if min(len(a), len(b)) < 2:
        raise UserError(f"--samples {min(len(a), len(b))}: a covariance needs at least 2.")
    a, b = a.double().cpu(), b.double().cpu()
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = _square_root(cov_a)
    # tr (C_a C_b)^(1/2) = tr (root C_b root)^(1/2), and the latter is symmetric.
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float(difference.square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def _square_root(symmetric: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
