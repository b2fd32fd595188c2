"""Figures that judge models: the Fréchet distance, the classifier behind it, and what is measured of samples."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from phosphene.drawing import Sampling
from phosphene.errors import UserError
from phosphene.evaluation.classifier import describe
from phosphene.evaluation.digits import measure, refer
from phosphene.evaluation.frechet import frechet_distance
from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import DigitDiffusion
from phosphene.models.protocol import Estimate
from phosphene.models.unet import MnistUNet, fused
from phosphene.schedule import linear
from phosphene.training.mnist.data import Dataset, Split, load_dataset
from phosphene.training.mnist.loop import Trainer
from phosphene.training.mnist.objectives import build
from phosphene.training.mnist.recipes import recipe

torch.set_num_threads(1)


def normal(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def white(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Samples whose mean is exactly 0 and whose covariance is exactly the unit matrix."""
    x = normal(rows, columns, seed)
    x = x - x.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T


# The Fréchet distance


def test_a_set_is_no_distance_from_itself():
    features = normal(500, 40, 0) @ normal(40, 40, 1)
    scale = torch.cov(features.T).trace().item()
    assert abs(frechet_distance(features, features)) < 1e-9 * scale
    assert abs(frechet_distance(features, features[torch.randperm(500)])) < 1e-9 * scale
    few = features[:10]  # a singular covariance
    assert abs(frechet_distance(few, few)) < 1e-6 * scale


def test_shifted_unit_gaussians_are_the_square_of_the_shift_apart():
    a, b, shift = white(300, 8, 0), white(200, 8, 1), torch.linspace(-1, 2, 8, dtype=torch.float64)
    assert frechet_distance(a, b + shift) == pytest.approx(shift.square().sum().item(), rel=1e-9)


def test_scaled_unit_gaussians():
    """Between N(0, 1) and N(0, s^2) it is (s - 1)^2 for each dimension."""
    assert frechet_distance(white(300, 8, 0), 3 * white(200, 8, 1)) == pytest.approx(8 * 2**2, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_distance_is_the_formula(seed):
    """Dowson & Landau 1982, with scipy's square root of a matrix, on Gaussians of every shape."""
    size = 3 + 4 * seed
    a = normal(200, size, seed) @ normal(size, size, seed + 10) + normal(1, size, seed + 20)
    b = normal(150, size, seed + 30) @ normal(size, size, seed + 40)
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    shift = (a.mean(0) - b.mean(0)).square().sum().item()
    wanted = shift + np.trace(cov_a + cov_b - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert frechet_distance(a, b) > 0


def test_turning_both_sets_changes_nothing():
    turn, _ = torch.linalg.qr(normal(6, 6, 3))
    a, b = normal(100, 6, 0) * torch.arange(1, 7), normal(90, 6, 1) + 1
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_single_precision_features_are_judged_in_double():
    a = (1000 + normal(400, 5, 0)).float()
    assert frechet_distance(a, a + 1) == pytest.approx(5, abs=1e-3)


@pytest.mark.parametrize("rows", [0, 1])
def test_one_picture_has_no_covariance(rows):
    with pytest.raises(UserError, match=f"--samples {rows}"):
        frechet_distance(torch.zeros(5, 3), torch.zeros(rows, 3))


# The classifier


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def trained(digits) -> DigitClassifier:
    """A narrow classifier after five epochs: its moving average, as a model folder would hold it."""
    settings = recipe("classifier", dataset="digits", width=8, batch_size=64, epochs=5)
    network, loss, _ = build(settings, 10)
    trainer = Trainer(settings, network, loss, digits.train)
    for _ in trainer.run():
        pass
    return fused(trainer.average.eval())


def test_describe_has_the_form_it_says():
    torch.manual_seed(0)
    classifier, pictures = DigitClassifier(4, classes=7).eval(), torch.rand(25, 1, 28, 28)
    probabilities, features = describe(classifier, pictures)
    assert probabilities.shape == (25, 7) and features.shape == (25, 128)
    assert probabilities.dtype == features.dtype == torch.float32 and not features.requires_grad
    torch.testing.assert_close(probabilities.sum(1), torch.ones(25))
    assert features.min() == 0 < features.max()  # after a ReLU
    torch.testing.assert_close(probabilities, classifier(pictures).softmax(1))
    for batch in (1, 10, 24):
        again = describe(classifier, pictures, batch)
        torch.testing.assert_close(again[0], probabilities, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(again[1], features, atol=1e-5, rtol=1e-4)


def test_describe_in_half_precision_answers_in_single():
    torch.manual_seed(0)
    classifier = DigitClassifier(4).eval()
    pictures = torch.rand(5, 1, 28, 28)
    probabilities, features = describe(classifier, pictures)
    half = describe(classifier.half(), pictures)
    assert half[0].dtype == half[1].dtype == torch.float32
    torch.testing.assert_close(half[0], probabilities, atol=1e-2, rtol=0)
    torch.testing.assert_close(half[1], features, atol=1e-2, rtol=1e-2)


def test_five_epochs_teach_the_classifier_digits(trained, digits):
    """The writers of the test split are strangers to it."""
    assert refer(trained, digits.train, digits.test, 300).accuracy > 0.9


# What is measured


def test_the_reference_is_the_test_split_as_the_classifier_sees_it(trained, digits):
    reference = refer(trained, digits.train, digits.test, 300)
    probabilities, features = describe(trained, digits.test.images.float() / 255)
    torch.testing.assert_close(reference.features, features)
    right = probabilities.argmax(1) == digits.test.labels
    assert reference.accuracy == pytest.approx(right.double().mean().item())
    _, train = describe(trained, digits.train.images[:300].float() / 255)
    assert reference.floor == pytest.approx(frechet_distance(train, features))


def test_worse_pictures_are_further_away(trained, digits):
    """Real digits, digits under noise, noise: the distance tells them apart in this order."""
    torch.manual_seed(0)
    reference = refer(trained, digits.train, digits.test, 360)
    real = digits.train.images[360:720].float() / 255
    noise = torch.rand_like(real)
    distances = []
    for share in (0.0, 0.3, 1.0):
        _, features = describe(trained, (1 - share) * real + share * noise)
        distances.append(frechet_distance(features, reference.features))
    assert 0 < distances[0] < distances[1] < distances[2]
    assert reference.floor < distances[1]


class Copier:
    """A digit model that knows one picture of each class and draws that, whatever the noise."""

    value_range, image_shape = (0.0, 1.0), (1, 28, 28)
    schedule, device = linear(20), torch.device("cpu")

    def __init__(self, pictures: torch.Tensor) -> None:
        self.pictures, self.classes = pictures, len(pictures)

    def embed(self, condition):
        return torch.zeros(self.classes) if condition is None else torch.eye(self.classes)[condition]

    def __call__(self, x, t, embedding):
        x0 = torch.einsum("bk,kchw->bchw", embedding, self.pictures)
        signal, sigma = self.schedule.signal_and_noise(t, x)
        return Estimate((x - signal * x0) / sigma)


def test_a_model_that_draws_what_is_asked_is_right_and_one_that_swaps_is_wrong(trained, digits):
    """Pictures the classifier knows: all right in their order; 3 and 8 swapped, just these two classes are wrong."""
    probabilities, _ = describe(trained, digits.train.images.float() / 255)
    sure = [int((probabilities[:, c] * (digits.train.labels == c)).argmax()) for c in range(10)]
    pictures = digits.train.images[sure].float() / 255
    reference = refer(trained, digits.train, digits.test, 100)
    figures = measure(Copier(pictures), trained, reference, samples=30, sampling=Sampling(guidance=1.0))
    torch.testing.assert_close(figures.pictures, pictures.repeat(3, 1, 1, 1), atol=1e-3, rtol=0)
    assert figures.accuracy == 1 and figures.accuracy_by_class == [1.0] * 10
    swapped = pictures[[0, 1, 2, 8, 4, 5, 6, 7, 3, 9]]
    figures = measure(Copier(swapped), trained, reference, samples=30, sampling=Sampling(guidance=1.0))
    assert figures.accuracy == pytest.approx(0.8)
    assert figures.accuracy_by_class == [float(c not in (3, 8)) for c in range(10)]


@pytest.fixture(scope="module")
def scribbler() -> DigitDiffusion:
    """A diffusion model nobody trained."""
    torch.manual_seed(0)
    return DigitDiffusion(fused(MnistUNet(4, time=True, classes=10)), linear(50))


def test_figures_of_a_random_model(scribbler, trained, digits):
    reference = refer(trained, digits.train, digits.test, 20)
    figures = measure(scribbler, trained, reference, samples=20, sampling=Sampling(steps=3))
    assert figures.samples == 20 and figures.pictures.shape == (20, 1, 28, 28) and figures.pictures.device.type == "cpu"
    assert figures.pictures.min() >= 0 and figures.pictures.max() <= 1
    assert 0 <= figures.accuracy <= 1 and math.isfinite(figures.frechet) and figures.frechet > reference.floor
    assert len(figures.accuracy_by_class) == 10
    assert figures.accuracy == pytest.approx(sum(figures.accuracy_by_class) / 10)  # as many of each class

    again = measure(scribbler, trained, reference, samples=20, sampling=Sampling(steps=3))
    assert torch.equal(again.pictures, figures.pictures) and again.frechet == figures.frechet
    other = measure(scribbler, trained, reference, samples=20, sampling=Sampling(steps=3), seed=181)
    assert not torch.equal(other.pictures, figures.pictures)
    parts = measure(scribbler, trained, reference, samples=20, sampling=Sampling(steps=3, max_rows=7))
    torch.testing.assert_close(parts.pictures, figures.pictures, atol=1e-3, rtol=0)


def test_figures_of_a_model_without_classes(trained, digits):
    torch.manual_seed(0)
    model = DigitDiffusion(fused(MnistUNet(4, time=True)), linear(50))
    figures = measure(model, trained, refer(trained, digits.train, digits.test, 8), samples=8, sampling=Sampling("ddim", 2))
    assert figures.accuracy is None and figures.accuracy_by_class == []
    assert figures.pictures.shape == (8, 1, 28, 28) and math.isfinite(figures.frechet)


def test_fewer_samples_than_classes_leave_no_number_that_is_none(scribbler, trained, digits):
    """Figures go to JSON, which has no NaN: a class that was not drawn must not be one."""
    try:
        figures = measure(scribbler, trained, refer(trained, digits.train, digits.test, 5), samples=5, sampling=Sampling(steps=2))
    except UserError as error:
        assert "--samples 5" in str(error)
        return
    assert all(value is None or math.isfinite(value) for value in figures.accuracy_by_class)


@pytest.mark.parametrize("samples", [-1, 0, 1])
def test_too_few_samples(scribbler, trained, digits, samples):
    with pytest.raises(UserError, match=f"--samples {samples}"):
        measure(scribbler, trained, refer(trained, digits.train, digits.test, 20), samples=samples)


def test_an_unknown_solver(scribbler, trained, digits):
    with pytest.raises(UserError, match="--solver magic"):
        measure(scribbler, trained, refer(trained, digits.train, digits.test, 20), samples=4, sampling=Sampling("magic"))


def test_a_split_has_the_length_of_its_pictures(digits):
    assert len(Split(digits.test.images[:7], digits.test.labels[:7])) == 7
