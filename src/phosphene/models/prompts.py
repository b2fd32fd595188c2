"""Prompt embeddings kept on disk: what a text encoder of eleven gigabytes said once need not be asked again.

One file a prompt, in a folder named after the text encoder that said it: a hash of its small files and of the names,
sizes and times of its weights, so that another encoder, or the same one trained on, is not taken for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.files import is_file
from phosphene.models import weights

SMALL = 20 * 2**20
"""Files up to here are hashed whole, larger ones by name, size and time."""


class PromptCache:
    """Embeddings of the text encoder whose ``tokenizer`` and ``text_encoder`` lie in ``folder``, kept below ``place``."""

    def __init__(self, place: Path, folder: Path, dtype: torch.dtype) -> None:
        fingerprint = hashlib.sha256(str(dtype).encode())
        for part in ("tokenizer", "text_encoder"):
            for file in sorted(filter(is_file, (folder / part).iterdir())) if (folder / part).is_dir() else ():
                about = file.stat()
                fingerprint.update(f"{part}/{file.name} {about.st_size}".encode())
                small = about.st_size <= SMALL and file.suffix != ".safetensors"
                fingerprint.update(file.read_bytes() if small else str(about.st_mtime_ns).encode())
        self.folder = Path(place) / fingerprint.hexdigest()[:16]

    def _file(self, prompt: str) -> Path:
        return self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:32]}.safetensors"

    def get(self, prompt: str) -> Tensor | None:
        """The embedding (77, width) float32, or None where it is not known or its file is damaged."""
        file = self._file(prompt)
        try:
            return weights.load(file)["embedding"] if file.is_file() else None
        except (UserError, KeyError):
            return None

    def put(self, prompt: str, embedding: Tensor) -> None:
        """Keep ``embedding``. Where nothing can be written, nothing is kept: only time is lost."""
        try:
            weights.save({"embedding": embedding}, self._file(prompt))
        except (UserError, OSError):
            return
