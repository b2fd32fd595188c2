"""The GPU kernels of training, run by Triton's interpreter on the CPU, against PyTorch's own layers."""

import copy
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phosphene.models.unet import MnistUNet
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.half import InHalf
from phosphene.training.mnist.loop import Trainer
from phosphene.training.mnist.objectives import build
from phosphene.training.mnist.recipes import recipe

pytest.importorskip("triton")
from phosphene.training.mnist.kernels import batchnorm, fast_update, layers


class InTurn:
    """What stands for the second stream where there is none."""

    @contextmanager
    def work(self, *_):
        yield

    def join(self):
        pass


@pytest.fixture(autouse=True)
def one_stream(monkeypatch):
    monkeypatch.setattr(layers, "Aside", InTurn)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)


def distance(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("shape", [(3, 72, 14, 14), (128, 16, 1, 1), (8, 24, 5, 5)])
def test_normalised_gelu_equals_pytorch(shape):
    images, channels, height, width = shape
    torch.manual_seed(0)
    ours, theirs = batchnorm.BatchNormGelu2d(channels), nn.BatchNorm2d(channels)
    with torch.no_grad():
        ours.weight.uniform_(0.5, 1.5)
        ours.bias.uniform_(-1, 1)
        ours.running_mean.fill_(28)
    theirs.load_state_dict(ours.state_dict())
    x = (torch.randn(shape) * 2 + 30).contiguous(memory_format=torch.channels_last)  # far from 0: squares must not cancel
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):  # the second time from running statistics that have moved, and from counters that were set back
        ya, yb = ours(a), F.gelu(theirs(b))
        a.grad = b.grad = ours.weight.grad = ours.bias.grad = theirs.weight.grad = theirs.bias.grad = None
        # Joined with another map: the gradient then arrives as every second part of wider rows.
        other = torch.randn(images, 8, height, width).contiguous(memory_format=torch.channels_last)
        slope = torch.randn(images, channels + 8, height, width).contiguous(memory_format=torch.channels_last)
        (torch.cat([other, ya], 1) * slope).sum().backward()
        (torch.cat([other, yb], 1) * slope).sum().backward()
        pairs = [(ya, yb), (a.grad, b.grad), (ours.running_mean, theirs.running_mean), (ours.running_var, theirs.running_var)]
        pairs += [(ours.weight.grad, theirs.weight.grad), (ours.bias.grad, theirs.bias.grad)]
        assert max(distance(p, q) for p, q in pairs) < 2e-5


@pytest.mark.parametrize("network", [MnistUNet(8, True, 10), MnistUNet(8)], ids=["class", "denoiser"])
def test_a_tuned_network_equals_the_plain_one(network, few_programs):
    plain = network.to(memory_format=torch.channels_last).train()
    tuned = copy.deepcopy(plain)
    layers.tune(tuned)
    assert list(tuned.state_dict()) == list(plain.state_dict())
    inputs = [torch.randn(2, 1, 28, 28)]
    if network.config["time"]:
        inputs += [torch.rand(2), torch.eye(10)[:2]]
    ours, theirs = tuned(*inputs), plain(*inputs)
    assert distance(ours, theirs) < 1e-4
    ours.square().mean().backward()
    theirs.square().mean().backward()
    for (name, p), q in zip(tuned.named_parameters(), plain.parameters(), strict=True):
        assert distance(p.grad, q.grad) < 1e-4, name


@pytest.fixture
def few_programs(monkeypatch):
    """Larger tiles: the interpreter takes a millisecond for every program."""
    monkeypatch.setattr(batchnorm, "TILE", (2048, 16))
    monkeypatch.setattr(batchnorm, "SUMS", (1024, 16))


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def trainer(digits, fast):
    """As on a GPU, except that the copies are float32: in bf16 a last bit that differs would be seen for ever."""
    settings = recipe("class", epochs=1, width=4, batch_size=2)
    network, loss, _ = build(settings, 10)
    made = Trainer(settings, network, loss, digits.train)
    made._halved = made._forward = InHalf(made.network)
    made._halved.halves = {name: p.detach().clone().requires_grad_() for name, p in made._halved.weights.items()}
    if fast:
        made._fast_update = fast_update(made._halved, made.ema, made.optimiser, made.count)
    return made


def steps(made, count):
    made._begin_epoch()
    for _ in range(count):
        made._work()
        made.done += 1


def test_the_flat_step_is_adam_and_the_average(digits, few_programs):
    ours, theirs = trainer(digits, True), trainer(digits, False)
    for made in (ours, theirs):
        # Adam divides by gradients: with its own eps of 1e-8 a weight whose gradient is as small as what was rounded may go
        # either way. An eps as large as the median gradient makes the step continuous in them, and leaves half to Adam's root.
        made.optimiser.param_groups[0]["eps"] = 1e-3
        steps(made, 3)
    (a, _), (b, _) = ours.state(), theirs.state()
    assert a.keys() == b.keys()
    for name, value in b.items():
        if value.is_floating_point() and value.abs().max() > 0:
            assert distance(a[name], value) < 2e-4, name
    assert torch.allclose(ours.losses[:3], theirs.losses[:3], rtol=1e-5)
    assert torch.allclose(ours.norms[:3], theirs.norms[:3], rtol=1e-5)
    for name, half in ours._halved.halves.items():
        assert torch.equal(half, ours._halved.weights[name]), name


def test_a_flat_step_goes_on_from_a_state(digits, few_programs):
    unbroken, resumed, plain = trainer(digits, True), trainer(digits, True), trainer(digits, False)
    steps(unbroken, 1)
    for made in (resumed, plain):
        made.restore(*unbroken.state())
    for made in (unbroken, resumed, plain):
        steps(made, 1)
    (a, _), (b, _) = unbroken.state(), resumed.state()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert distance(unbroken.losses[1], plain.losses[1]) < 1e-5
