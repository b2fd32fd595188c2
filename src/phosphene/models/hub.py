"""Cascades by their name on the Hugging Face hub: fetched once, kept in its cache, and every refusal said in one sentence."""

from __future__ import annotations

import errno
from pathlib import Path

import torch

from phosphene.errors import UserError

ENLARGERS = {
    "DeepFloyd/IF-I-XL-v1.0": "DeepFloyd/IF-II-L-v1.0",
    "DeepFloyd/IF-I-L-v1.0": "DeepFloyd/IF-II-L-v1.0",
    "DeepFloyd/IF-I-M-v1.0": "DeepFloyd/IF-II-M-v1.0",
}
"""The second stage of a first one, each in a repository of its own."""
SETTINGS = ("*.json", "*.model", "*.txt")
NEVER = ("*.bin", "*.ckpt", "*.msgpack", "safety_checker/*", "watermarker/*")


def fetch(name: str, dtype: torch.dtype, text: bool = True, stages: int = 2) -> list[Path]:
    """Folders of the first ``stages`` stages of the cascade called ``name``, fetched where the cache has them not.

    For half precision the halved weights are fetched where a repository has them, else the only ones there are; for
    float32 the whole ones; never pickled ones. ``text`` False leaves the text encoder out, which is most of DeepFloyd
    IF. UserError says what is in the way and what to do.
    """
    half = dtype != torch.float32
    wanted = ("*fp16*.safetensors", "*.index.fp16.json") if half else ("*.safetensors",)
    unwanted = ("*.safetensors.index.json",) if half else ("*fp16*",)
    names = [name, ENLARGERS[name]][:stages] if name in ENLARGERS else [name]
    found = []
    for number, repository in enumerate(names):
        leave = NEVER if text and number == 0 else (*NEVER, "text_encoder/*")
        folder = _fetched(repository, [*SETTINGS, *wanted], [*leave, *unwanted])
        if half and not any(folder.rglob("*fp16*.safetensors")):
            folder = _fetched(repository, [*SETTINGS, "*.safetensors"], list(leave))
        found.append(folder)
    return found


def _fetched(name: str, allow: list[str], ignore: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    page = f"https://huggingface.co/{name}"
    try:
        return Path(snapshot_download(name, allow_patterns=allow, ignore_patterns=ignore))
    except errors.GatedRepoError as error:
        if getattr(error.response, "status_code", None) == 401:
            raise UserError(f"--model {name}: needs an account; accept its licence at {page}, then run: hf auth login") from error
        raise UserError(
            f"--model {name}: your account has not accepted its licence; read and accept it at {page}, and try again."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"--model {name}: is neither a folder here nor a repository your account can see at {page}.") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"--model {name}: is not in the cache, and the hub cannot be reached; connect once to fetch it, or name a folder."
        ) from error
    except errors.HFValidationError as error:
        raise UserError(f"--model {name}: is no name of a repository; name a folder, or OWNER/NAME.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"--model {name}: the disk is full; free space, or point HF_HOME elsewhere.") from error
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"--model {name}: could not be fetched ({reason}); try again, or name a folder.") from error
