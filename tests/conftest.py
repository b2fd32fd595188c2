"""What the tests share: small denoisers whose answers are known, and one profile for property tests."""

from __future__ import annotations

import math
import os
import signal
import zlib
from functools import partialmethod

# Before anything imports Triton: our GPU kernels are tested on the CPU, by its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image

from phosphene.errors import UserError
from phosphene.expression import at, leaves
from phosphene.models.protocol import Estimate
from phosphene.schedule import linear, rescaled_linear, squared_cosine, straight

# A shell's jobs in the background begin with Ctrl-C ignored, and what is ignored we leave so: the tests of it would find nothing.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tiny tensors lose more to threads than they gain, and one thread makes the sums come out the same everywhere.
torch.set_num_threads(1)

thorough = pytest.mark.skipif(not os.environ.get("PHOSPHENE_THOROUGH"), reason="takes a minute: PHOSPHENE_THOROUGH=1 make test")

settings.register_profile("tests", deadline=None, max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

SCHEDULES = {
    "linear": linear(300),
    "rescaled-linear": rescaled_linear(300),
    "squared-cosine": squared_cosine(1000),
    "straight": straight(100),
}

LONGEST = (
    "browser",
    "training",
    "report",
    "glyph",
    "runs",
    "torture",
    "processes",
    "studio",
    "cascade",
    "extensions",
    "examples",
)
"""Files of tests that take longest, the longest first."""


def pytest_collection_modifyitems(items):
    """The longest begin, so that no process is left with one of them when the others have ended."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture
def whole_ends():
    """Whoever asks for this has runs end as they do, in spite of :func:`quick_ends`."""


@pytest.fixture
def quick_ends(request, monkeypatch):
    """Runs end quickly: few samples in few steps, and a blank picture for the loss curve.

    To draw them takes longer than to train a tiny network.
    """
    from phosphene.training.mnist import preview
    from phosphene.training.mnist import run as of_digits
    from phosphene.training.text_to_image import run as of_stages

    if "whole_ends" in request.fixturenames:
        return
    for module in (of_digits, of_stages):
        monkeypatch.setattr(module, "loss_curves", lambda *_, **__: Image.new("RGB", (64, 48)))
    for name, value in (("ROWS", 1), ("STEPS", 2)):
        monkeypatch.setattr(preview, name, value)
    few = partialmethod(of_stages.CascadeRun.preview, prompts=of_stages.PREVIEWS[:2], each=1)
    monkeypatch.setattr(of_stages.CascadeRun, "preview", few)


def refusal(call, *names: str) -> str:
    """The UserError of ``call()``: one sentence, with all of ``names`` in it."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and text.endswith("."), text
    for name in names:
        assert name in text, text
    return text


def energy(fold, x0, estimates):
    """The squared distances of the sheets of pictures ``x0`` from ``estimates``, weighed as ``fold`` does: (B,)."""
    away = (x0 - estimates).unflatten(1, (fold.sheets, -1)).square().flatten(2).sum(2)
    return away @ torch.tensor(fold.weights).to(away)


def rows_an_image(expression):
    """Forward rows that one image costs at each step; where guidance has an interval, within that."""
    return len(set(leaves(at(expression))))


def randn(*shape, seed=0, dtype=torch.float32):
    """Unit Gaussian numbers that depend on ``seed`` alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def timesteps(schedule, longest=8):
    """Strategy: decreasing lists of timesteps of a schedule, of any strides."""
    every = st.integers(0, schedule.steps - 1)
    return st.lists(every, min_size=1, max_size=longest, unique=True).map(lambda several: sorted(several, reverse=True))


class TinyDenoiser:
    """A fixed random network of pictures in [-1, 1]. Its answer depends on the picture, the timestep and the condition.

    It answers like a trained model: ``sigma x`` is the best guess for unit Gaussian pictures, and what the network adds
    keeps the clean estimate near 1 at every timestep, so that runs neither explode nor magnify rounding. The
    convolutions are not symmetric: a view put on the wrong way round shows. It computes in the dtype of the picture.
    ``calls`` keeps how many rows each forward pass had.
    """

    def __init__(self, schedule, shape=(3, 12, 12), learned=False, value_range=(-1.0, 1.0)):
        self.schedule, self.image_shape, self.value_range, self.learned = schedule, shape, value_range, learned
        channels = shape[0]
        self.inner = randn(6, channels, 3, 3, seed=1, dtype=torch.float64) / math.sqrt(3 * channels)
        self.outer = randn(2 * channels, 6, 3, 3, seed=2, dtype=torch.float64) / math.sqrt(18)
        self.calls = []

    def embed(self, condition):
        return randn(6, seed=zlib.crc32(repr(condition).encode()))

    def __call__(self, x, t, embedding):
        self.calls.append(len(x))
        assert len(t) == len(embedding) == len(x) and x.shape[1:] == self.image_shape
        time = torch.sin(6 * t.to(x.dtype) / self.schedule.steps)[:, None]
        hidden = F.conv2d(x, self.inner.to(x.dtype), padding=1) + (embedding.to(x.dtype) + time)[:, :, None, None]
        out = torch.tanh(F.conv2d(torch.tanh(hidden), self.outer.to(x.dtype), padding=1))
        answer, variance = out.chunk(2, dim=1)
        signal, sigma = (root.to(x.dtype) for root in self.schedule.signal_and_noise(t, x))
        return Estimate(sigma * x + signal * answer, variance if self.learned else None)


class Knowing:
    """A denoiser that knows the clean picture: its noise is always the one that leads back to ``x0``."""

    value_range = (-1.0, 1.0)

    def __init__(self, schedule, x0, variance=None):
        self.schedule, self.x0, self.variance, self.image_shape = schedule, x0, variance, tuple(x0.shape[1:])

    def embed(self, condition):
        return torch.zeros(1)

    def __call__(self, x, t, embedding):
        abar = self.schedule.abar[t].view(-1, 1, 1, 1)
        noise = (x - abar.sqrt() * self.x0) / (1 - abar).sqrt()
        return Estimate(noise.to(x.dtype), None if self.variance is None else torch.full_like(x, self.variance))


class Echo:
    """A denoiser that takes the picture itself for noise: shown unit noise through a view, it answers just that."""

    def __init__(self, schedule, shape=(3, 12, 12), value_range=(-1.0, 1.0)):
        self.schedule, self.image_shape, self.value_range = schedule, shape, value_range

    def embed(self, condition):
        return torch.zeros(1)

    def __call__(self, x, t, embedding):
        return Estimate(x)
