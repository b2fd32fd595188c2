"""The light transformer and text encoder are those of diffusers and transformers: same files, same answers, same gradients."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import randn
from diffusers import PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Attention

from phosphene.errors import UserError
from phosphene.models import attention, weights
from phosphene.models.attention import PreparedText
from phosphene.models.t5 import TWIN, T5Encoder, distance_buckets
from phosphene.models.transformer import Expand, PatchTransformer

TOKENS = 11
TRANSFORMERS = {
    "64, patch 4": {"sample_size": 64, "patch_size": 4, "out_channels": 6},
    "256, patch 16, seven channels": {"sample_size": 256, "patch_size": 16, "in_channels": 7, "out_channels": 3},
    "positions of diffusers' default": {"sample_size": 128, "patch_size": 8, "interpolation_scale": None, "num_layers": 1},
    "width 36": {"sample_size": 24, "patch_size": 3, "num_attention_heads": 3, "attention_head_dim": 12},
}
ENCODERS = {
    "as large models have it": {},
    "few buckets, short memory": {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "num_layers": 3},
}


def transformer(**changes) -> PatchTransformer:
    sizes = {"sample_size": 16, "patch_size": 4, "in_channels": 3, "out_channels": 3, "num_layers": 2, "num_attention_heads": 2}
    return PatchTransformer.from_config(
        sizes | {"attention_head_dim": 16, "caption_channels": 24, "interpolation_scale": 1} | changes
    )


def encoder(**changes) -> T5Encoder:
    return T5Encoder(**{"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 3} | changes)


def randomised(network: nn.Module, seed: int = 3) -> nn.Module:
    """``network`` with all of its parameters at random, those too that begin as zero or one: nothing is multiplied away."""
    for number, (name, parameter) in enumerate(sorted(network.named_parameters())):
        fan = parameter[0].numel() if parameter.ndim > 1 and "table" not in name else 4
        parameter.data.copy_(randn(*parameter.shape, seed=1000 * seed + number) * fan**-0.5)
    return network


def text_of(lengths=(TOKENS, 4, 1), channels=24):
    """A text of each length, padded, and its mask."""
    mask = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
    return randn(len(lengths), TOKENS, channels, seed=5), mask


def difference(ours, theirs) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def stock_answer(stock, x, t, text, mask):
    return stock(x, encoder_hidden_states=text, timestep=t, encoder_attention_mask=mask).sample


@pytest.fixture(params=TRANSFORMERS)
def twins(request):
    """A PatchTransformer and the class of diffusers with the same configuration and weights."""
    changes = TRANSFORMERS[request.param]
    ours = randomised(transformer(**changes))
    stock = PixArtTransformer2DModel.from_config(ours.config | changes)
    stock.load_state_dict(ours.state_dict(), strict=True)
    return ours, stock


@pytest.fixture(params=ENCODERS)
def encoder_twins(request):
    """A T5Encoder and the class of transformers with the same configuration and weights."""
    ours = randomised(encoder(**ENCODERS[request.param]))
    stock = T5EncoderModel(T5Config(**ours.config))
    stock.load_state_dict(ours.state_dict() | {TWIN: ours.shared.weight}, strict=True)
    return ours, stock


# The transformer


@pytest.mark.parametrize("masked", [False, True], ids=["whole text", "masked"])
def test_transformer_answers_and_learns_as_that_of_diffusers(twins, masked):
    ours, stock = twins
    side = ours.config["sample_size"]
    x, t = randn(3, ours.config["in_channels"], side, side), torch.tensor([999, 500, 0])
    text, mask = text_of()
    answers, gradients = [], []
    for network, call in ((ours, ours), (stock, lambda *args: stock_answer(stock, *args))):
        inputs = [x.clone().requires_grad_(), text.clone().requires_grad_()]
        answer = call(inputs[0], t, inputs[1], mask if masked else None)
        # Weights that differ from place to place: a permuted answer has another gradient.
        (answer * randn(*answer.shape, seed=9)).sum().backward()
        answers.append(answer.detach())
        gradients.append({"x": inputs[0].grad, "text": inputs[1].grad} | {n: p.grad for n, p in network.named_parameters()})
    assert answers[0].shape == (3, ours.config["out_channels"], side, side)
    assert difference(*answers) < 1e-5
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        if not name.endswith("to_k.bias"):  # shifts all scores of a query alike, so its gradient is rounding alone
            assert difference(gradient, gradients[1][name]) < 1e-4, name


def test_a_transformer_without_text_is_that_of_diffusers():
    ours = randomised(transformer(caption_channels=None, in_channels=7))
    stock = PixArtTransformer2DModel.from_config(ours.config)
    stock.load_state_dict(ours.state_dict(), strict=True)
    x, t = randn(2, 7, 16, 16), torch.tensor([7, 700])
    with torch.no_grad():
        theirs = stock(x, encoder_hidden_states=None, timestep=t).sample
        assert theirs.abs().max() > 0.1 and difference(ours(x, t, None), theirs) < 1e-5
    assert not [name for name in ours.state_dict() if "attn2" in name or "caption" in name]


@pytest.mark.parametrize("size", [(24, 40), (16, 8)])
def test_pictures_of_other_sizes_than_the_trained_one_agree_too(size):
    ours = randomised(transformer())
    stock = PixArtTransformer2DModel.from_config(ours.config)
    stock.load_state_dict(ours.state_dict())
    x, t = randn(3, 3, *size), torch.tensor([7, 70, 700])
    with torch.no_grad():
        assert difference(ours(x, t, *text_of()), stock_answer(stock, x, t, *text_of())) < 1e-5


def test_transformer_of_diffusers_gives_its_weights_back(twins):
    ours, stock = twins
    again = PatchTransformer.from_config(stock.config)
    again.load_state_dict(stock.state_dict(), strict=True)
    assert again.config == ours.config
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in again.state_dict().items())


def test_saved_transformer_opens_in_diffusers(twins, tmp_path):
    ours, _ = twins
    weights.save(ours.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(ours.config))
    opened = PixArtTransformer2DModel.from_pretrained(tmp_path)
    x, t = randn(3, ours.config["in_channels"], *[ours.config["sample_size"]] * 2), torch.tensor([999, 500, 0])
    with torch.no_grad():
        assert difference(ours(x, t, *text_of()), stock_answer(opened, x, t, *text_of())) < 1e-5


def test_folder_of_diffusers_opens_here(twins, tmp_path):
    ours, stock = twins
    stock.save_pretrained(tmp_path)
    opened = PatchTransformer.from_config(json.loads((tmp_path / "config.json").read_text()))
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.load_into(opened, weights.load(path), path)
    x, t = randn(3, ours.config["in_channels"], *[ours.config["sample_size"]] * 2), torch.tensor([1, 2, 3])
    with torch.no_grad():
        assert torch.equal(ours(x, t, *text_of()), opened(x, t, *text_of()))


@pytest.mark.parametrize("masked", [False, True], ids=["whole text", "masked"])
def test_prepared_text_changes_nothing(masked):
    network = randomised(transformer())
    x, t = randn(3, 3, 16, 16), torch.tensor([10, 20, 30])
    text, mask = text_of()
    with torch.no_grad():
        prepared = network.prepare(text, mask if masked else None)
        plain = network(x, t, text, mask if masked else None)
        assert torch.equal(network(x, t, prepared), plain)
        rows = PreparedText(*(None if part is None else part[[2, 0]] for part in prepared))
        assert difference(network(x[[2, 0]], t[[2, 0]], rows), plain[[2, 0]]) < 1e-5
    with pytest.raises(TypeError):
        network(x, t, prepared, mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True, "all"], ids=["whole text", "masked", "nothing but padding"])
def test_text_with_the_maps_around_it_taken_in_is_read_as_before(masked, dtype):
    """It is algebra: only rounding tells them apart. A row is absorbed by itself, whatever text is beside it."""
    network = randomised(transformer())
    x, t = randn(3, 3, 16, 16), torch.tensor([10, 20, 30])
    text, mask = text_of()
    mask = {False: None, True: mask, "all": torch.zeros_like(mask)}[masked]
    with torch.no_grad():
        exact = network(x, t, text, mask)
        if dtype == torch.bfloat16:
            network.halve_products()
        absorbed = network.absorb(text, mask)
        answer = network(x, t, absorbed)
        apart = 0.02 if dtype == torch.bfloat16 else 1e-4
        assert difference(answer, exact) < apart and difference(network(x, t, network.absorb(-text, mask)), exact) > 2 * apart
        alone = network.absorb(text[1:2], None if mask is None else mask[1:2])
        for among, (one,) in zip(absorbed, alone, strict=True):
            assert torch.equal(among[1], one)
    with pytest.raises(TypeError):
        network(x, t, absorbed, torch.zeros_like(text[..., 0]) > 0)


def test_absorbed_text_has_no_more_columns_than_its_words():
    network, (text, mask) = randomised(transformer()), text_of()
    heads = network.config["num_attention_heads"]
    with torch.no_grad():
        keys = network.absorb(text, mask).keys
    assert [row.shape[-1] for row in keys] == [heads * int(row.sum()) for row in mask]


def test_padding_is_not_read_and_the_rest_of_the_text_is():
    network = randomised(transformer())
    x, t = randn(3, 3, 16, 16), torch.tensor([10, 20, 30])
    text, mask = text_of()
    with torch.no_grad():
        plain = network(x, t, text, mask)
        assert difference(network(x, t, text + 5 * ~mask[..., None], mask), plain) < 1e-5
        assert difference(network(x, t, text + 5 * mask[..., None], mask), plain) > 1e-2
        assert network(x, t, text, torch.zeros_like(mask)).isfinite().all()


def test_rows_do_not_depend_on_their_batch():
    network = randomised(transformer())
    x, t, (text, mask) = randn(3, 3, 16, 16), torch.tensor([10, 20, 30]), text_of()
    with torch.no_grad():
        together = network(x, t, text, mask)
        for row in range(3):
            one = slice(row, row + 1)
            assert difference(network(x[one], t[one], text[one], mask[one]), together[one]) < 1e-5


def test_new_transformer_answers_zero_and_its_blocks_pass_on_what_they_get():
    network = transformer()
    x, t, (text, mask) = randn(3, 3, 16, 16), torch.tensor([10, 20, 30]), text_of()
    assert not network(x, t, text, mask).any()
    tokens = network.pos_embed(x)
    _, modulation = network.adaln_single(t, x.dtype)
    prepared = network.prepare(text, mask)
    for layer, block in enumerate(network.transformer_blocks):
        assert torch.equal(block(tokens, modulation, prepared.block(layer)), tokens)


def test_training_moves_every_parameter_and_lowers_the_loss():
    torch.manual_seed(0)
    network, reader = transformer(out_channels=3), encoder(d_model=24)
    before = {name: value.clone() for name, value in [*network.named_parameters(), *reader.named_parameters()]}
    optimiser = torch.optim.Adam([*network.parameters(), *reader.parameters()], 2e-3)
    ids = torch.randint(1, 50, (8, TOKENS))
    mask = torch.arange(TOKENS) < torch.randint(3, TOKENS, (8, 1))
    x0, losses = randn(8, 3, 1, 1, seed=1).expand(8, 3, 16, 16), []
    for step in range(60):
        # All the network sees is noise: which colour is right it can only learn from the words.
        answer = network(randn(8, 3, 16, 16, seed=step + 50), torch.full((8,), 999), reader(ids, mask), mask)
        loss = (answer - x0).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    guess = x0.var(0, correction=0).mean().item()  # the loss of the best answer that is the same for all texts
    assert losses[-1] < 0.5 * guess
    for name, value in [*network.named_parameters(), *reader.named_parameters()]:
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(dtype):
    network, reader = randomised(transformer()), randomised(encoder(d_model=24))
    x, t, mask = randn(3, 3, 16, 16), torch.tensor([10, 20, 30]), text_of()[1]
    ids = torch.arange(3 * TOKENS).view(3, TOKENS)
    with torch.no_grad():
        exact = network(x, t, reader(ids, mask), mask)
        with torch.autocast("cpu", dtype):
            mixed = network(x, t, reader(ids, mask), mask)
        network.to(dtype), reader.to(dtype)
        half = network(x.to(dtype), t, reader(ids, mask), mask)
    assert half.dtype == dtype
    assert difference(half.float(), exact) < 0.05 and difference(mixed.float(), exact) < 0.05


# The text encoder


@pytest.mark.parametrize("masked", [False, True], ids=["whole text", "masked"])
def test_encoder_answers_and_learns_as_that_of_transformers(encoder_twins, masked):
    ours, stock = encoder_twins
    ids = torch.randint(0, 50, (3, 40), generator=torch.Generator().manual_seed(0))  # longer than the short memory
    mask = torch.arange(40) < torch.tensor([40, 17, 1])[:, None] if masked else None
    mine, theirs = ours(ids, mask), stock(ids, attention_mask=mask).last_hidden_state
    assert mine.shape == (3, 40, 32)
    assert difference(mine, theirs) < 1e-5
    for answer in (mine, theirs):
        (answer * randn(*answer.shape, seed=9)).sum().backward()
    gradients = dict(stock.named_parameters())
    for name, parameter in ours.named_parameters():
        assert difference(parameter.grad, gradients[name].grad) < 1e-4, name


@pytest.mark.parametrize(("buckets", "longest"), [(32, 128), (8, 128), (8, 20), (4, 2), (64, 300)])
def test_distances_fall_into_the_buckets_of_transformers(buckets, longest):
    distance = torch.arange(-longest, longest + 1)
    theirs = T5Attention._relative_position_bucket(distance, num_buckets=buckets, max_distance=longest)
    assert torch.equal(distance_buckets(buckets, longest), theirs)
    beyond = T5Attention._relative_position_bucket(torch.tensor([-9999, 9999]), num_buckets=buckets, max_distance=longest)
    assert distance_buckets(buckets, longest)[[0, -1]].tolist() == beyond.tolist()


def test_saved_encoder_opens_in_transformers_and_theirs_here(encoder_twins, tmp_path):
    ours, stock = encoder_twins
    ids = torch.randint(0, 50, (3, TOKENS), generator=torch.Generator().manual_seed(0))
    mask = text_of()[1]
    weights.save(ours.state_dict(), tmp_path / "ours" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "ours" / "config.json").write_text(json.dumps(ours.config))
    opened = T5EncoderModel.from_pretrained(tmp_path / "ours")
    stock.save_pretrained(tmp_path / "stock")
    again = T5Encoder.from_config(json.loads((tmp_path / "stock" / "config.json").read_text()))
    weights.load_into(again, weights.load(tmp_path / "stock" / "model.safetensors"), tmp_path)
    with torch.no_grad():
        answer = ours(ids, mask)
        assert not opened.training
        assert difference(answer, opened(ids, attention_mask=mask).last_hidden_state) < 1e-5
        assert torch.equal(answer, again(ids, mask))
    assert again.config == ours.config
    again.load_state_dict(stock.state_dict(), strict=True)  # with the embedding under both of its names
    nn.ModuleDict({"text": again}).load_state_dict({f"text.{n}": value for n, value in stock.state_dict().items()}, strict=True)


def test_new_encoder_has_the_initial_weights_of_t5():
    torch.manual_seed(0)
    sizes = {"vocab_size": 400, "d_model": 96, "d_kv": 32, "d_ff": 150, "num_layers": 2, "num_heads": 4}
    ours = encoder(**sizes).state_dict()
    stock = T5EncoderModel(T5Config(**encoder(**sizes).config)).state_dict()
    for name, value in ours.items():
        # The standard deviation of n numbers varies by 1 / sqrt(2 n).
        assert value.std().item() == pytest.approx(stock[name].std().item(), rel=6 * (2 * value.numel()) ** -0.5), name
        assert value.mean().item() == pytest.approx(stock[name].mean().item(), abs=6 * value.std().item() * value.numel() ** -0.5)


def test_encoder_does_not_read_padding_and_answers_numbers_for_it():
    network = randomised(encoder())
    mask = text_of()[1]
    ids = torch.arange(3 * TOKENS).view(3, TOKENS)
    with torch.no_grad():
        plain = network(ids, mask)
        other = network(torch.where(mask, ids, 49), mask)
        assert difference(other[mask], plain[mask]) < 1e-5
        assert network(ids, torch.zeros_like(mask)).isfinite().all()


# Both


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (transformer, "patch_size", 5),
        (transformer, "num_layers", 0),
        (transformer, "attention_head_dim", 9),
        (transformer, "cross_attention_dim", 16),
        (transformer, "caption_channels", 2.5),
        (transformer, "norm_type", "ada_norm_zero"),
        (transformer, "use_additional_conditions", True),
        (encoder, "d_model", -1),
        (encoder, "relative_attention_num_buckets", 6),
        (encoder, "relative_attention_max_distance", 8),
        (lambda **changes: T5Encoder.from_config(encoder().config | changes), "feed_forward_proj", "relu"),
        (lambda **changes: T5Encoder.from_config(encoder().config | changes), "d_kv", None),
    ],
)
def test_what_cannot_be_built_is_refused_by_name_and_value(make, name, value):
    with pytest.raises(UserError, match=f"{name} {value!r}|{name} {value}") as caught:
        make(**{name: value})
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_pictures_that_patches_do_not_tile_are_refused():
    with pytest.raises(UserError, match="18x16"):
        transformer()(randn(1, 3, 16, 18), torch.tensor([1]), *text_of((3,)))


def test_opening_needs_neither_the_libraries_nor_the_compiler():
    """Each would take longer to import than the whole model to open: sums on "meta" import torch's compiler unasked."""
    code = (
        "import sys, phosphene.models.cascade as c; model = c.open_cascade('glyph'); model.encode(['a cat']);"
        "print({'diffusers', 'transformers', 'accelerate', 'sympy', 'torch._dynamo', 'torch._inductor'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("most", [1, 100, attention.MOST_SCORES])
def test_attention_by_products_is_attention(monkeypatch, most):
    monkeypatch.setattr(attention, "MOST_SCORES", most)
    queries, keys, values = randn(2, 3, 17, 16), randn(2, 3, 5, 16, seed=1), randn(2, 3, 5, 16, seed=2)
    bias = torch.zeros(2, 1, 1, 5)
    bias[0, ..., 3:] = attention.PADDING_BIAS
    for added in (None, bias):
        theirs = nn.functional.scaled_dot_product_attention(queries, keys, values, added)
        torch.testing.assert_close(attention.by_products(queries, keys, values, added), theirs, atol=1e-5, rtol=1e-5)


def test_a_network_in_bfloat16_that_learns_has_its_gradients():
    """What fuses the product and GELU knows none, so it is for networks that do not learn."""
    expand = Expand(16).to(torch.bfloat16)
    x = randn(2, 5, 16).to(torch.bfloat16)
    learns = expand(x)
    learns.sum().backward()
    assert expand.proj.weight.grad.abs().sum() > 0
    expand.requires_grad_(False)
    torch.testing.assert_close(expand(x), learns.detach(), atol=0.02, rtol=0.02)
