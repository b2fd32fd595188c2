"""Laws of the bands: a blur is the Gaussian one, a pyramid adds up again, a blend is one or the other."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import randn
from hypothesis import given
from hypothesis import strategies as st

from phosphene.errors import UserError
from phosphene.frequency import Grayscale, LowPass, MotionBlur, gaussian_taps, low_pass
from phosphene.moved import Moved
from phosphene.pyramid import blend, collapse, laplacian_pyramid
from phosphene.views import VIEWS

odd_sizes = st.integers(0, 5).map(lambda half: 2 * half + 1)
sigmas = st.floats(0.2, 6)
seeds = st.integers(0, 99)


def dense_blur(x, sigma, size):
    """The k x k convolution, written out, for pictures at least as large as the kernel's reach."""
    reach = torch.arange(size, dtype=torch.float64) - size // 2
    kernel = torch.exp(-(reach[:, None] ** 2 + reach[None, :] ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, size, size)
    padded = F.pad(x.double(), [size // 2] * 4, mode="reflect")
    return F.conv2d(padded, kernel, groups=x.shape[1])


@given(sigma=sigmas, size=odd_sizes, height=st.integers(6, 20), width=st.integers(6, 20), seed=seeds)
def test_the_separable_blur_is_the_dense_one(sigma, size, height, width, seed):
    x = randn(2, 3, height, width, seed=seed)
    torch.testing.assert_close(low_pass(x, sigma, size).double(), dense_blur(x, sigma, size), rtol=0, atol=1e-5)


def test_the_blur_of_part_a_is_the_dense_one():
    x = randn(1, 3, 64, 64)
    torch.testing.assert_close(low_pass(x, 2.0, size=7).double(), dense_blur(x, 2.0, 7), rtol=0, atol=1e-5)


@given(sigma=st.floats(0.2, 30), height=st.integers(1, 20), width=st.integers(1, 20), level=st.floats(-3, 3))
def test_a_blur_keeps_constants_even_where_the_kernel_is_wider_than_the_picture(sigma, height, width, level):
    x = torch.full((1, 2, height, width), level)
    torch.testing.assert_close(low_pass(x, sigma), x, rtol=0, atol=1e-5)


@given(sigma=st.floats(0.2, 30), height=st.integers(1, 20), width=st.integers(1, 20), seed=seeds)
def test_a_blur_is_linear_and_stays_within_the_picture(sigma, height, width, seed):
    x, y = randn(1, 2, height, width, seed=seed), randn(1, 2, height, width, seed=seed + 100)
    torch.testing.assert_close(low_pass(2 * x - y, sigma), 2 * low_pass(x, sigma) - low_pass(y, sigma), rtol=0, atol=1e-5)
    blurred = low_pass(x, sigma)
    assert blurred.min() >= x.min() - 1e-5 and blurred.max() <= x.max() + 1e-5


@pytest.mark.parametrize("name", [name for name, v in VIEWS.items() if not isinstance(v, Moved)])
@given(sigma=sigmas, size=st.integers(1, 12), seed=seeds)
def test_a_blur_looks_the_same_through_every_view(name, sigma, size, seed):
    # Also a test of memory layouts: views hand over pictures that are not contiguous.
    x = randn(2, 3, size, size, seed=seed)
    through = VIEWS[name].invert(low_pass(VIEWS[name].apply(x), sigma))
    torch.testing.assert_close(through, low_pass(x, sigma), rtol=0, atol=1e-5)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(low_pass(last, sigma), low_pass(x, sigma), rtol=0, atol=1e-6)


@given(sigma=st.floats(0.7, 4))
def test_sigma_is_the_deviation_of_the_blurred_point(sigma):
    # Taps out to 3 sigma lose 3 % of the variance at most, and those of a small sigma are coarse.
    taps = gaussian_taps(sigma).double()
    reach = torch.arange(len(taps)) - len(taps) // 2
    assert len(taps) == 2 * math.ceil(3 * sigma) + 1
    assert float(taps.sum()) == pytest.approx(1, abs=1e-6)
    assert taps.equal(taps.flip(0))
    assert math.sqrt((taps * reach**2).sum()) == pytest.approx(sigma, rel=0.03)


def test_blurs_compose_by_adding_variances():
    x = randn(1, 1, 64, 64)
    twice = low_pass(low_pass(x, 3.0, size=41), 4.0, size=41)
    torch.testing.assert_close(twice, low_pass(x, 5.0, size=61), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), float("inf")])
def test_a_sigma_that_is_no_blur_is_refused(sigma):
    with pytest.raises(UserError, match="--sigma"):
        low_pass(torch.zeros(1, 1, 8, 8), sigma)


@pytest.mark.parametrize("size", [0, 2, -3])
def test_a_kernel_that_has_no_middle_is_refused(size):
    with pytest.raises(UserError, match="kernel size"):
        low_pass(torch.zeros(1, 1, 8, 8), 1.0, size)


# Laplacian pyramid


@pytest.mark.parametrize("size", [64, 65])
def test_no_level_of_a_pyramid_slips(size):
    """A slope has no detail: where a level slipped, all of it would differ from what is grown. Near the edge a blur bends it."""
    slope = torch.arange(float(size)).expand(1, 1, size, size)
    for picture in (slope, slope.mT):
        for number, band in enumerate(laplacian_pyramid(picture, 4)[:-1]):
            edge = -(-16 // 2**number)
            inside = band[..., edge:-edge, edge:-edge]
            torch.testing.assert_close(inside, torch.zeros_like(inside), rtol=0, atol=1e-3)


@given(height=st.integers(16, 45), width=st.integers(16, 45), levels=st.integers(1, 5), seed=seeds)
def test_a_pyramid_adds_up_to_its_picture_on_odd_sizes_too(height, width, levels, seed):
    x = randn(2, 3, height, width, seed=seed)
    pyramid = laplacian_pyramid(x, levels)
    assert len(pyramid) == levels
    for fine, coarse in zip(pyramid, pyramid[1:], strict=False):
        assert coarse.shape[-2:] == (math.ceil(fine.shape[-2] / 2), math.ceil(fine.shape[-1] / 2))
    torch.testing.assert_close(collapse(pyramid), x, rtol=0, atol=2e-6)


def test_the_detail_of_a_constant_is_nothing():
    *details, rest = laplacian_pyramid(torch.full((1, 1, 37, 40), 0.7), 4)
    for band in details:
        torch.testing.assert_close(band, torch.zeros_like(band), rtol=0, atol=1e-6)
    torch.testing.assert_close(rest, torch.full_like(rest, 0.7), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("levels", "shape"), [(0, (8, 8)), (5, (8, 64)), (2, (1, 8))])
def test_a_pyramid_higher_than_its_picture_is_refused(levels, shape):
    with pytest.raises(UserError, match="levels"):
        laplacian_pyramid(torch.zeros(1, 1, *shape), levels)


# Blending


@given(height=st.integers(16, 40), width=st.integers(16, 40), levels=st.integers(1, 5), seed=seeds)
def test_a_blend_is_one_or_the_other_where_the_mask_is_whole(height, width, levels, seed):
    a, b = randn(2, 3, height, width, seed=seed), randn(2, 3, height, width, seed=seed + 100)
    mask = torch.ones(1, 1, height, width)
    torch.testing.assert_close(blend(a, b, mask, levels), a, rtol=0, atol=1e-5)
    torch.testing.assert_close(blend(a, b, 0 * mask, levels), b, rtol=0, atol=1e-5)


@given(height=st.integers(16, 40), width=st.integers(16, 40), levels=st.integers(1, 5), seed=seeds)
def test_a_blend_shares_the_picture_out(height, width, levels, seed):
    a, b = randn(1, 3, height, width, seed=seed), randn(1, 3, height, width, seed=seed + 100)
    mask = (randn(1, 1, height, width, seed=seed + 200) > 0).float()
    torch.testing.assert_close(blend(a, a, mask, levels), a, rtol=0, atol=1e-5)
    torch.testing.assert_close(blend(a, b, mask, levels), blend(b, a, 1 - mask, levels), rtol=0, atol=1e-5)
    torch.testing.assert_close(blend(a, b, mask, levels) + blend(b, a, mask, levels), a + b, rtol=0, atol=2e-5)


def test_one_level_is_a_paste_and_more_levels_soften_the_seam_alone():
    a, b = torch.ones(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    assert blend(a, b, mask, levels=1).equal(mask)
    soft = blend(a, b, mask, levels=3)
    assert soft.diff(dim=-1).max() < 0.5 < mask.diff(dim=-1).max()
    torch.testing.assert_close(soft[..., :10], b[..., :10], rtol=0, atol=1e-5)
    torch.testing.assert_close(soft[..., -10:], a[..., -10:], rtol=0, atol=1e-5)


def test_the_mask_of_a_coarse_band_is_the_average_of_the_fine_one():
    # Stripes one pixel wide: whoever takes every second pixel of the mask unblurred takes one side alone.
    a, b = torch.ones(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    stripes = (torch.arange(32) % 2).float().expand(1, 1, 32, 32)
    for levels in (2, 3, 4):
        torch.testing.assert_close(blend(a, b, stripes, levels), torch.full_like(a, 0.5), rtol=0, atol=0.02)


@pytest.mark.parametrize("component", [LowPass(2.0), Grayscale(), MotionBlur(9)])
def test_components_are_linear_and_the_same_in_larger_pictures(component):
    x, y = randn(2, 3, 64, 64), randn(2, 3, 64, 64, seed=1)
    torch.testing.assert_close(component(2 * x - y), 2 * component(x) - component(y), rtol=0, atol=1e-5)
    flat = torch.full((1, 3, 32, 32), 0.5)
    torch.testing.assert_close(component(flat), flat)
    smooth = low_pass(x, 4.0)
    large = torch.nn.functional.interpolate(smooth, scale_factor=4, mode="bilinear")
    small = torch.nn.functional.interpolate(component(large), size=64, mode="area")
    torch.testing.assert_close(small, component(smooth), rtol=0, atol=0.05 * float(smooth.std()) + 0.02)


def test_components_of_nothing_are_refused():
    for wrong in (lambda: LowPass(0.0), lambda: LowPass(float("nan")), lambda: MotionBlur(1.0), lambda: MotionBlur(float("inf"))):
        with pytest.raises(UserError, match="--sigma|--length"):
            wrong()
    assert LowPass(2) == LowPass(2.0) and Grayscale() == Grayscale() and MotionBlur(5) != MotionBlur(6)


@given(length=st.floats(1.5, 80), angle=st.floats(-400, 400), height=st.integers(2, 20), width=st.integers(2, 20), seed=seeds)
def test_what_sweeps_by_at_any_angle_is_linear_and_keeps_constants(length, angle, height, width, seed):
    x, y = randn(1, 2, height, width, seed=seed), randn(1, 2, height, width, seed=seed + 100)
    swept = MotionBlur(length, angle)
    torch.testing.assert_close(swept(2 * x - y), 2 * swept(x) - swept(y), rtol=0, atol=1e-5)
    torch.testing.assert_close(swept(torch.full_like(x, 0.7)), torch.full_like(x, 0.7), rtol=0, atol=1e-5)
    torch.testing.assert_close(MotionBlur(length, angle + 180)(x), swept(x), rtol=0, atol=1e-4)


def test_which_way_a_picture_sweeps_by():
    dot = torch.zeros(1, 1, 65, 65)
    dot[..., 32, 32] = 1
    reached = {}
    for angle, (down, right) in {0: (0, 1), 45: (-1, 1), 90: (-1, 0), 135: (-1, -1), -45: (1, 1)}.items():
        trace = MotionBlur(15, angle)(dot)[0, 0]
        near = 5 if angle % 90 == 0 else 3
        along = [float(trace[32 + k * down, 32 + k * right]) for k in (-near, 0, near)]
        across = [float(trace[32 + k * right, 32 - k * down]) for k in (-near, near)]
        assert min(along) > 0.02 and max(across) < 1e-6, angle
        reached[angle] = trace
    # A quarter turn of the way is a quarter turn of the trace, and it is a line as long as the length.
    torch.testing.assert_close(reached[90], torch.rot90(reached[0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(reached[135], torch.rot90(reached[45]), rtol=0, atol=1e-6)
    assert abs((reached[0] > 0).sum() - 15) <= 2
    assert abs((reached[45].sum(1) > 0.02).sum() - (reached[0] > 0).sum() / math.sqrt(2)) <= 1
    for angle in (float("nan"), float("inf")):
        with pytest.raises(UserError, match=f"--angle {angle}: "):
            MotionBlur(15, angle)
