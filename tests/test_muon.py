"""Muon: equal to torch's own, one matrix after the other, and its updates are rotations."""

import pytest
import torch

from phosphene.training.muon import Muon, orthogonalised


def matrices(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(24, 24), (96, 24), (24, 96), (24, 24), (96, 24)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def test_equal_to_that_of_torch_step_by_step():
    ours, theirs = matrices(), matrices()
    mine = Muon(ours, 0.03, 0.1)
    reference = torch.optim.Muon(theirs, 0.03, 0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for pair in zip(ours, theirs, matrices(step + 1), strict=True):
            pair[0].grad, pair[1].grad = pair[2].detach().clone(), pair[2].detach().clone()
        mine.step()
        reference.step()
    start = matrices()
    for one, other, was in zip(ours, theirs, start, strict=True):
        assert (one - was).abs().mean() > 0.01
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)  # bfloat16 products, in another order


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (2, 16, 64)])
def test_singular_values_are_near_one(shape):
    found = torch.linalg.svdvals(orthogonalised(torch.randn(shape, generator=torch.Generator().manual_seed(3))).float())
    assert 0.6 < found.median() < 1.2 and found.max() < 1.4  # a random square has some that are all but zero


def test_what_has_no_gradient_stays_and_vectors_are_refused():
    moving, still = matrices()[:2]
    moving.grad = torch.ones_like(moving)
    before = still.detach().clone()
    Muon([moving, still], 0.1).step()
    assert torch.equal(still, before)
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.zeros(3, requires_grad=True)])
