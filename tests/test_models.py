"""Weights on disk, the catalogue of model folders, and the MNIST network: what goes in comes out, or one sentence does."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from conftest import refusal
from torch import nn

from phosphene.defaults import OBJECTIVES
from phosphene.errors import UserError
from phosphene.expression import cond, guide, mean, viewed
from phosphene.forward import Evaluation
from phosphene.models import catalogue, folders, weights
from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import DigitDiffusion, from_target, to_target
from phosphene.models.unet import MnistUNet, fused
from phosphene.schedule import KINDS, linear, schedule_from, straight
from phosphene.views import VIEWS

torch.set_num_threads(1)


def lived_in(network: nn.Module, *inputs, passes: int = 3) -> nn.Module:
    """``network`` with BatchNorm statistics and gains that are not those of a new one."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
    network.train()
    with torch.no_grad():
        for _ in range(passes):
            network(torch.rand(8, 1, 28, 28), *inputs)
    return network.eval()


def conditions(rows: int, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.linspace(0, 1, rows), torch.eye(classes)[torch.arange(rows) % classes]


# Weights


@pytest.fixture
def mixed():
    """Rows of very different size, a row of zeros, one axis, four axes, no axis, integers, a layout of its own."""
    torch.manual_seed(0)
    return {
        "matrix": torch.randn(6, 40) * torch.tensor([[1e-6], [1e-3], [1.0], [30.0], [3e3], [0.0]]),
        "kernel": torch.randn(5, 4, 3, 3).to(memory_format=torch.channels_last),
        "bias": torch.randn(7),
        "scalar": torch.tensor(0.3),
        "count": torch.tensor([3, 2**40]),
    }


def there_and_back(values, folder: Path, storage: str):
    weights.save(values, folder / "w.safetensors", storage)
    back = weights.load(folder / "w.safetensors")
    assert back.keys() == values.keys()
    for name, value in values.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape
    assert torch.equal(back["count"], values["count"])
    return back


def test_float32_loses_nothing(mixed, tmp_path):
    back = there_and_back(mixed, tmp_path, "float32")
    assert all(torch.equal(back[name], value) for name, value in mixed.items())


def test_float16_loses_half_a_step(mixed, tmp_path):
    back = there_and_back(mixed, tmp_path, "float16")
    for name in ("matrix", "kernel", "bias", "scalar"):
        # Ten bits after the point: half a step is 2^-11 of the value, or of the smallest normal number 2^-14.
        bound = mixed[name].abs().clamp(min=2.0**-14) * 2.0**-11
        assert ((back[name] - mixed[name]).abs() <= bound).all()


def test_int8_loses_half_a_step_of_each_row(mixed, tmp_path):
    back = there_and_back(mixed, tmp_path, "int8")
    for name in ("matrix", "kernel"):
        rows, read = mixed[name].flatten(1), back[name].flatten(1)
        step = rows.abs().amax(1, keepdim=True) / 127
        assert ((read - rows).abs() <= step / 2 * (1 + 1e-4)).all()
        largest = rows.abs().argmax(1, keepdim=True)
        torch.testing.assert_close(read.gather(1, largest), rows.gather(1, largest))  # the ends of the range are exact
    for name in ("bias", "scalar"):
        assert torch.equal(back[name], mixed[name].half().float())  # too few to be worth a scale


def test_int8_is_stored_in_a_byte_a_weight(tmp_path):
    values = {"w": torch.randn(100, 1000)}
    for storage, size in (("float32", 4), ("float16", 2), ("int8", 1)):
        weights.save(values, tmp_path / storage, storage)
        assert (tmp_path / storage).stat().st_size == pytest.approx(size * 100_000, rel=0.02)


def test_an_unknown_storage_is_not_taken_for_another(tmp_path):
    with pytest.raises(ValueError, match="int4"):
        weights.save({"w": torch.randn(4, 4)}, tmp_path / "w.safetensors", "int4")
    assert list(tmp_path.iterdir()) == []


def test_saving_leaves_one_file(tmp_path):
    path = tmp_path / "new" / "w.safetensors"
    for value in (1.0, 2.0):
        weights.save({"w": torch.tensor([value])}, path)
        assert os.listdir(path.parent) == [path.name]
        assert weights.load(path)["w"].item() == value
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["writing", "replacing"])
def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch, error, where):
    path = tmp_path / "w.safetensors"

    def half_written(stored, file, metadata=None):
        Path(file).write_bytes(b"half")
        raise error

    def refused(*_):
        raise error

    for before in (None, torch.tensor([1.0])):
        if before is not None:
            weights.save({"w": before}, path)
        there = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        with monkeypatch.context() as patch:
            if where == "writing":
                patch.setattr(weights, "save_file", half_written)
            else:
                patch.setattr(os, "replace", refused)
            with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
                weights.save({"w": torch.tensor([2.0])}, path)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == there


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / "w.safetensors"
    refusal(lambda: weights.save({"w": torch.zeros(1)}, path), str(path))


def test_missing_and_damaged_files(tmp_path):
    path = tmp_path / "w.safetensors"
    refusal(lambda: weights.load(path), str(path))
    weights.save({"w": torch.randn(30, 30), "b": torch.randn(30)}, path)
    whole = path.read_bytes()
    damages = [whole[:n] for n in (0, 1, 7, 8, 9, 50, len(whole) // 2, len(whole) - 1)]
    damages += [whole + b"x", b"PK\x03\x04" + whole, struct.pack("<Q", 2**60) + whole[8:], bytes(len(whole)), b"<html></html>"]
    for content in damages:
        path.write_bytes(content)
        refusal(lambda: weights.load(path), str(path))
    path.unlink()
    path.mkdir()
    refusal(lambda: weights.load(path), str(path))


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "w.safetensors"
    torch.save({"w": torch.zeros(2)}, path)
    refusal(lambda: weights.load(path), str(path))


def test_fill_names_the_first_difference(tmp_path):
    def network():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    source, path = network(), tmp_path / "w.safetensors"
    good = dict(source.state_dict())
    refusal(lambda: weights.load_into(network(), {**good, "0.bias": torch.zeros(3)}, path), str(path), "0.bias")
    refusal(lambda: weights.load_into(network(), {k: v for k, v in good.items() if k != "1.weight"}, path), str(path), "1.weight")
    refusal(lambda: weights.load_into(network(), {**good, "2.weight": torch.zeros(3)}, path), str(path), "2.weight")
    filled = network()
    weights.load_into(filled, {k: v for k, v in good.items() if k != "1.num_batches_tracked"}, path)
    x = torch.randn(2, 1, 5, 5)
    assert torch.equal(filled.eval()(x), source.eval()(x))


# The network


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_assignments_parameters_less_the_idle_biases():
    network = MnistUNet(64)
    idle = sum(m[0].out_channels for m in network.modules() if isinstance(m, nn.Sequential) and isinstance(m[1], nn.BatchNorm2d))
    assert idle == 21 * 64
    assert parameters(network) == 1_975_361 - 21 * 64
    assert parameters(MnistUNet(64, time=True)) == parameters(network) + 21_056
    assert parameters(MnistUNet(64, time=True, classes=10)) == parameters(network) + 21_056 + 22_784


def test_the_biases_left_out_were_idle():
    """In training BatchNorm subtracts whatever a convolution adds to a whole channel."""
    torch.manual_seed(0)
    network, x = MnistUNet(8).train(), torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        before = network(x)
        for module in network.modules():
            if isinstance(module, nn.Sequential) and isinstance(module[1], nn.BatchNorm2d):
                assert module[0].bias is None
                module[0].bias = nn.Parameter(torch.randn(module[0].out_channels))
        torch.testing.assert_close(network(x), before, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("time", "classes"), [(False, 0), (True, 0), (True, 10)])
def test_fused_equals_unfused(time, classes):
    t, c = conditions(8)
    inputs = [t] * time + [c] * bool(classes)
    network = lived_in(MnistUNet(8, time=time, classes=classes), *inputs)
    x = torch.rand(8, 1, 28, 28)
    with torch.no_grad():
        wanted = network(x, *inputs)
        result = fused(network)(x, *inputs)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert wanted.std() > 1e-2  # something to compare
    torch.testing.assert_close(result, wanted, atol=1e-4, rtol=0)


def test_fused_classifier_equals_unfused():
    network, x = lived_in(DigitClassifier(8)), torch.rand(8, 1, 28, 28)
    with torch.no_grad():
        wanted = network(x)
        torch.testing.assert_close(fused(network)(x), wanted, atol=1e-4, rtol=0)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_each_picture_is_judged_alone_and_by_its_conditions():
    t, c = conditions(8)
    network = MnistUNet(8, time=True, classes=10)
    with torch.no_grad():  # a new network hardly listens to its conditions
        for name, parameter in network.named_parameters():
            if name.startswith(("time", "class")):
                nn.init.normal_(parameter, std=0.5)
    network, x = lived_in(network, t, c), torch.rand(8, 1, 28, 28)
    with torch.no_grad():
        together = network(x, t, c)
        for k in (0, 5):
            alone = network(x[k : k + 1], t[k : k + 1], c[k : k + 1])
            torch.testing.assert_close(alone, together[k : k + 1], atol=1e-5, rtol=1e-4)
        for other in (network(x, (t + 0.5) % 1, c), network(x, t, c.roll(1, 0)), network(x, t, torch.zeros_like(c))):
            assert ((other - together).abs().amax(dim=(1, 2, 3)) > 1e-5).all()


def test_width_0():
    refusal(lambda: MnistUNet(0), "--width 0")
    refusal(lambda: DigitClassifier(0), "--width 0")


@pytest.mark.parametrize("target", OBJECTIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_comes_back_from_every_target(target, kind):
    """A network that answers what it was trained to answer yields the noise that was added."""
    schedule = KINDS[kind](steps=50)
    torch.manual_seed(0)
    x0, noise, t = torch.rand(49, 1, 4, 4), torch.randn(49, 1, 4, 4), torch.arange(49)
    shown, answer = to_target(schedule, target, x0, noise, t)

    def perfect(picture):
        torch.testing.assert_close(picture, shown)
        return answer

    xt = schedule.add_noise(x0, t, noise)
    torch.testing.assert_close(from_target(schedule, target, xt, t, perfect), noise, atol=1e-4, rtol=0)


def test_conditions_of_a_digit_model():
    model = DigitDiffusion(MnistUNet(4, time=True, classes=10), linear())
    assert torch.equal(model.embed(3), torch.eye(10)[3]) and torch.equal(model.embed(None), torch.zeros(10))
    for wrong in (10, -1, "3", 2.0):
        refusal(lambda wrong=wrong: model.embed(wrong), "0..9")
    bare = DigitDiffusion(MnistUNet(4, time=True), linear())
    assert bare.embed(None).shape == (0,)
    refusal(lambda: bare.embed(3), "no classes")
    refusal(lambda: DigitDiffusion(bare.network, linear(), "score"), "score", *OBJECTIVES)


# The catalogue

SCHEDULE = dict(straight(20).config)


def make(kind: str, folder: Path, storage: str = "float32", width: int = 4) -> nn.Module:
    """A model folder of ``kind``; the network that went into it."""
    torch.manual_seed(2)
    t, c = conditions(8)
    if kind == "diffusion":
        network = lived_in(MnistUNet(width, time=True, classes=10), t, c)
        config = {"schedule": SCHEDULE, "target": "flow"}
    else:
        network, config = lived_in(MnistUNet(width) if kind == "denoiser" else DigitClassifier(width)), {}
    kept = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    catalogue.write(folder, {"kind": kind, "network": network.config, **config}, kept, storage)
    return network


def answer(kind: str, model, x: torch.Tensor) -> torch.Tensor:
    if kind != "diffusion":
        return model(x)
    t = torch.arange(len(x)) + 3
    return model(x, t, torch.eye(10)[: len(x)]).noise


KINDS_OF_MODEL = ("diffusion", "denoiser", "classifier")


@pytest.mark.parametrize("kind", KINDS_OF_MODEL)
def test_a_model_comes_back_as_it_was(kind, tmp_path):
    network = make(kind, tmp_path / "model")
    assert sorted(os.listdir(tmp_path / "model")) == ["SHA256SUMS", "config.json", "model.safetensors"]
    model = catalogue.load(tmp_path / "model", role=kind)
    x = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        wanted = answer(kind, DigitDiffusion(network, straight(20), "flow") if kind == "diffusion" else network, x)
        torch.testing.assert_close(answer(kind, model, x), wanted, atol=1e-4, rtol=0)
    if kind == "diffusion":
        assert model.classes == 10 and model.target == "flow"
        assert model.schedule.config == SCHEDULE and torch.equal(model.schedule.abar, schedule_from(SCHEDULE).abar)
    inner = model.network if kind == "diffusion" else model
    assert not inner.training and not any(p.requires_grad for p in inner.parameters())


@pytest.mark.parametrize(("storage", "tolerance"), [("float16", 5e-3), ("int8", 0.1)])
def test_smaller_storages_answer_nearly_the_same(storage, tolerance, tmp_path):
    network = make("denoiser", tmp_path / "model", storage)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["storage"] == storage
    x = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        wanted, got = network(x), catalogue.load(tmp_path / "model")(x)
    assert 0 < (got - wanted).abs().max() < tolerance * wanted.abs().max()


def test_half_precision_inside_is_float32_outside(tmp_path):
    make("diffusion", tmp_path / "model")
    whole, half = catalogue.load(tmp_path / "model"), catalogue.load(tmp_path / "model", dtype=torch.float16)
    x = torch.rand(4, 1, 28, 28)
    assert next(half.network.parameters()).dtype == torch.float16
    got = answer("diffusion", half, x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, answer("diffusion", whole, x), atol=2e-2, rtol=0)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
@pytest.mark.parametrize("bits", [0x01, 0xFF])
def test_a_changed_byte_anywhere_is_noticed(tmp_path, name, bits):
    make("denoiser", tmp_path / "model")
    file = tmp_path / "model" / name
    whole = file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 20)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
        refusal(lambda: catalogue.load(tmp_path / "model"))
    file.write_bytes(whole)
    catalogue.load(tmp_path / "model")
    if name == "model.safetensors":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # a weight: nothing but the sum can tell
        refusal(lambda: catalogue.load(tmp_path / "model"), str(file), "SHA-256")


def test_missing_weights(tmp_path):
    make("denoiser", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    refusal(lambda: catalogue.load(tmp_path / "model"), str(tmp_path / "model" / "model.safetensors"))
    (tmp_path / "model" / "SHA256SUMS").unlink()
    refusal(lambda: catalogue.load(tmp_path / "model"), str(tmp_path / "model" / "model.safetensors"))


NETWORK = {"width": 4, "time": True, "classes": 10}
DIFFUSION = {"kind": "diffusion", "network": NETWORK, "schedule": SCHEDULE, "target": "flow"}


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"[]",
        b"{}",
        b'"kind"',
        {"kind": "gan"},
        {"kind": []},
        {**DIFFUSION, "network": None},
        {**DIFFUSION, "network": {}},
        {**DIFFUSION, "network": {**NETWORK, "depth": 3}},
        {**DIFFUSION, "network": {**NETWORK, "width": "4"}},
        {**DIFFUSION, "network": {**NETWORK, "width": 0}},
        {**DIFFUSION, "schedule": {"kind": "steep"}},
        {**DIFFUSION, "schedule": {**SCHEDULE, "slope": 1}},
        {**DIFFUSION, "target": "score"},
        *({k: v for k, v in DIFFUSION.items() if k != missing} for missing in DIFFUSION),
    ],
)
def test_a_config_that_says_nothing_usable(tmp_path, config):
    make("diffusion", tmp_path / "model")
    (tmp_path / "model" / "SHA256SUMS").unlink()
    (tmp_path / "model" / "config.json").write_text(json.dumps(DIFFUSION))
    catalogue.load(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    refusal(lambda: catalogue.load(tmp_path / "model"))


def test_errors_of_a_config_name_the_file(tmp_path):
    make("diffusion", tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    for text in ("{", "{}", '{"kind": "gan"}', '{"kind": "diffusion"}'):
        config.write_text(text)
        (tmp_path / "model" / "SHA256SUMS").unlink(missing_ok=True)
        refusal(lambda: catalogue.load(tmp_path / "model"), str(config))


def test_weights_of_another_width(tmp_path):
    make("denoiser", tmp_path / "model")
    make("denoiser", tmp_path / "wider", width=5)
    (tmp_path / "model" / "SHA256SUMS").unlink()
    (tmp_path / "wider" / "model.safetensors").rename(tmp_path / "model" / "model.safetensors")
    refusal(lambda: catalogue.load(tmp_path / "model"), str(tmp_path / "model" / "model.safetensors"), "first")


@pytest.mark.parametrize("kind", KINDS_OF_MODEL)
def test_a_model_of_another_kind(kind, tmp_path):
    make(kind, tmp_path / "model")
    for other in KINDS_OF_MODEL:
        if other != kind:
            refusal(lambda other=other: catalogue.load(tmp_path / "model", role=other), "--model", kind, other)


def test_names_that_are_no_model(tmp_path):
    refusal(lambda: catalogue.load(tmp_path / "nowhere"), "--model", str(tmp_path / "nowhere"))
    refusal(lambda: catalogue.load(tmp_path), "--model", str(tmp_path), "config.json")
    (tmp_path / "file").write_text("x")
    refusal(lambda: catalogue.load(tmp_path / "file"), "--model", str(tmp_path / "file"))


def run_with(folder: Path, *epochs: int) -> Path:
    for epoch in epochs:
        for suffix in ("", "-raw"):
            (folder / f"model-{epoch:02d}{suffix}").mkdir(parents=True)
            (folder / f"model-{epoch:02d}{suffix}" / "config.json").write_text("{}")
    return folder


def test_a_run_stands_for_the_average_of_its_last_epoch(tmp_path):
    assert folders.folder(run_with(tmp_path / "run", 5, 20)) == tmp_path / "run" / "model-20"
    make("denoiser", tmp_path / "real" / "model-03")
    assert isinstance(catalogue.load(tmp_path / "real"), MnistUNet)


def test_the_last_epoch_is_the_largest_number(tmp_path):
    assert folders.folder(run_with(tmp_path / "run", 5, 20, 100)) == tmp_path / "run" / "model-100"


@pytest.mark.parametrize("name", folders.embedded())
def test_embedded_models_are_whole(name):
    assert (folders.EMBEDDED / name / "SHA256SUMS").is_file()
    catalogue.load(name)


@pytest.mark.parametrize("writes", [0, 1, 2])
@pytest.mark.parametrize("anew", [True, False])
def test_a_half_written_folder_is_never_a_mixture(tmp_path, monkeypatch, writes, anew):
    """Cut off after any of its three files, a folder holds the old model, the new one, or none that loads."""
    x, possible = torch.rand(2, 1, 28, 28), []
    with torch.no_grad():
        if not anew:
            possible.append(make("denoiser", tmp_path / "model")(x))
        torch.manual_seed(5)
        network = lived_in(MnistUNet(6))
        possible.append(network(x))
        real, done = os.replace, []

        def replace(*paths):
            if len(done) == writes:
                raise KeyboardInterrupt
            done.append(paths)
            real(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                catalogue.write(tmp_path / "model", {"kind": "denoiser", "network": network.config}, network.state_dict())
        try:
            result = catalogue.load(tmp_path / "model")(x)
        except UserError:
            return
    assert any(torch.allclose(result, one, atol=1e-4) for one in possible)


@pytest.mark.parametrize("folded", [False, True])
def test_conditions_of_one_picture_share_the_way_down(folded):
    network = lived_in(MnistUNet(8, time=True, classes=10), *conditions(8))
    network = fused(network) if folded else network
    x, t, c = torch.randn(3, 1, 28, 28), torch.rand(6), torch.randn(6, 10)
    with torch.no_grad():
        torch.testing.assert_close(network(x, t, c), network(x.repeat(2, 1, 1, 1), t, c), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", OBJECTIVES)
def test_an_expression_that_shares_equals_one_that_does_not(target):
    torch.manual_seed(0)
    model = DigitDiffusion(MnistUNet(8, time=True, classes=10).eval(), linear(50), target)
    turned = viewed(guide(cond(3), 4.0), VIEWS["rotate-180"])
    x, shown = torch.randn(3, 1, 28, 28), []
    model.network.first.register_forward_hook(lambda module, args, output: shown.append(len(args[0])))
    for expression, rows in (
        (guide(cond(1, 2, 3), 4.0), 3),
        (mean(guide(cond(6), 4.0), turned), 6),
        (mean(cond(6), turned), 9),
    ):
        found = []
        for shares, most in ((True, None), (True, 4), (False, None)):
            model.shares = shares
            shown.clear()
            with torch.no_grad():
                found.append(Evaluation(expression, model, most)(x, 30).noise)
            if shares:
                assert sum(shown) == rows
            if most:  # rows of a pass, two conditions to a picture where they share one
                assert max(shown) * (1 if rows == 9 else 2) <= most
        for other in found[:2]:
            torch.testing.assert_close(other, found[2], rtol=1e-4, atol=1e-5)
