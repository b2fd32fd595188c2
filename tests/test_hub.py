"""Names on the hub: what is fetched, what is not, and what stands in the way. The network is simulated."""

from __future__ import annotations

import errno
import fnmatch
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from phosphene.errors import UserError
from phosphene.models import hub

FILES = [
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model.fp16-00001-of-00002.safetensors",
    "text_encoder/model.safetensors.index.json",
    "text_encoder/model.safetensors.index.fp16.json",
    "text_encoder/pytorch_model.bin",
    "tokenizer/spiece.model",
    "safety_checker/model.safetensors",
]


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """What was asked of the hub: of each repository, the files that the patterns let through."""
    asked = {}

    def snapshot_download(name, allow_patterns, ignore_patterns):
        def fits(file, patterns):
            return any(fnmatch.fnmatch(file, pattern) for pattern in patterns)

        there = [f for f in FILES if name != "small/whole" or "fp16" not in f]
        asked[name] = [f for f in there if fits(f, allow_patterns) and not fits(f, ignore_patterns)]
        for file in asked[name]:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).touch()
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_half_precision_fetches_half_the_bytes_and_nothing_pickled(fetched, tmp_path):
    found = hub.fetch("DeepFloyd/IF-I-XL-v1.0", torch.float16)
    assert found == [tmp_path / "DeepFloyd/IF-I-XL-v1.0", tmp_path / "DeepFloyd/IF-II-L-v1.0"]
    first, second = fetched.values()
    assert (
        "unet/diffusion_pytorch_model.fp16.safetensors" in first and "text_encoder/model.fp16-00001-of-00002.safetensors" in first
    )
    assert {"model_index.json", "tokenizer/spiece.model", "text_encoder/model.safetensors.index.fp16.json"} <= set(first)
    assert not [
        f for f in first if f.endswith(".bin") or f.startswith("safety") or (f.endswith("safetensors") and "fp16" not in f)
    ]
    assert not [f for f in second if f.startswith("text_encoder")]  # the first stage has it


def test_where_there_are_no_halves_the_whole_is_fetched(fetched):
    hub.fetch("small/whole", torch.float16)
    assert "unet/diffusion_pytorch_model.safetensors" in fetched["small/whole"]
    assert "text_encoder/model.safetensors.index.json" in fetched["small/whole"]


def test_whole_precision_and_no_text_encoder(fetched):
    assert len(hub.fetch("somebody/pictures", torch.float32, text=False)) == 1
    (files,) = fetched.values()
    assert "unet/diffusion_pytorch_model.safetensors" in files and not [f for f in files if "fp16" in f or f.startswith("text_")]
    hub.fetch("DeepFloyd/IF-I-M-v1.0", torch.float32, stages=1)
    assert list(fetched) == ["somebody/pictures", "DeepFloyd/IF-I-M-v1.0"]


def refusal(kind, status=None):
    error = kind.__new__(kind)
    error.args = ("no",)
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refusal(errors.GatedRepoError, 401), "hf auth login"),
        (refusal(errors.GatedRepoError, 403), "has not accepted its licence; read and accept it at https://huggingface.co/a/b"),
        (refusal(errors.RepositoryNotFoundError, 404), "neither a folder here nor a repository"),
        (errors.LocalEntryNotFoundError("offline"), "connect once"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (ConnectionError("refused"), "could not be fetched (refused)"),
    ],
)
def test_what_stands_in_the_way_is_said(monkeypatch, error, words):
    def snapshot_download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError) as caught:
        hub.fetch("a/b", torch.float16)
    assert str(caught.value).startswith("--model a/b: ") and words in str(caught.value)


def test_offline_a_name_that_was_never_fetched_is_one_sentence(monkeypatch, tmp_path):
    """With the real library, told to stay offline."""
    import phosphene

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="--model nobody/nothing: is not in the cache"):
        phosphene.load("nobody/nothing")
