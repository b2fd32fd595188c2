"""Compiled code is kept without weights, and opened by whoever has the same network, shapes and configuration."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phosphene.models.compiled import Compiled


class Products(nn.Module):
    """Of matrices alone, which torch's compiler leaves to libraries: no other compiler is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x, y):
        return self.second(self.first(x) @ y)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the code of :class:`Products` for one shape."""
    folder = tmp_path_factory.mktemp("compiled")
    network, given = made()
    torch.testing.assert_close(Compiled(network, {"by": 1}, folder)(*given), network(*given))
    return folder


def made(seed: int = 0):
    torch.manual_seed(seed)
    network = Products().requires_grad_(False)
    return network, (torch.randn(3, 8), torch.randn(16, 16))


@pytest.fixture
def opens(monkeypatch):
    """Where nothing may be compiled."""
    monkeypatch.setattr(Compiled, "_made", lambda *_: pytest.fail("was compiled again"))


def test_another_process_opens_what_was_compiled(kept, opens):
    assert [path.suffix for path in kept.iterdir()] == [".code"]
    for seed in (0, 1):  # other weights have the same code
        network, given = made(seed)
        code = Compiled(network, {"by": 1}, kept)
        torch.testing.assert_close(code(*given), network(*given))
        network.first.weight.mul_(2)
        torch.testing.assert_close(code(*given), network(*given))


@pytest.mark.parametrize("change", ["config", "shape", "stride", "dtype", "weights' dtype", "source", "torch"])
def test_code_is_of_one_network_and_shape(kept, change, monkeypatch):
    network, (x, y) = made()
    config = {"by": 2 if change == "config" else 1}
    if change == "shape":
        x = x[:2]
    elif change == "stride":
        y = y.T
    elif change == "dtype":
        y = y.double()
    elif change == "weights' dtype":
        network.double()
    elif change == "source":
        monkeypatch.setattr("inspect.getfile", lambda _: pytest.__file__)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "3.0")
    code, asked = Compiled(network, config, kept), []
    monkeypatch.setattr(code, "_made", lambda inputs, path: asked.append(path) or (lambda *_: x))
    code(x, y)
    code(x, y)
    assert len(asked) == 1 and not asked[0].exists()


@pytest.mark.parametrize("damage", [lambda code: code[:500], lambda code: b"", lambda code: code[:-9] + bytes(9)])
def test_what_is_damaged_is_made_again(kept, tmp_path, damage):
    (whole,) = kept.iterdir()
    (tmp_path / whole.name).write_bytes(damage(whole.read_bytes()))
    network, given = made()
    torch.testing.assert_close(Compiled(network, {"by": 1}, tmp_path)(*given), network(*given))
    network, given = made(2)
    torch.testing.assert_close(Compiled(network, {"by": 1}, tmp_path)(*given), network(*given))
