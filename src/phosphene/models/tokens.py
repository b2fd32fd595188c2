"""A small vocabulary of subwords for prompts: trained on captions, kept as the ``tokenizer.json`` that other tools read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.models.folders import AGAIN
from phosphene.readers import read_json_file, refusing, require_bounded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_TOKENS = 1024
"""Of a text, whatever a file says."""
MOST_BYTES = 32 * 2**20
"""Of a file of a tokenizer: those of T5 in a hundred languages have half as many."""
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """A unigram model of at most ``size`` subwords (Kudo 2018), lower-case; words never seen fall into known pieces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=[PAD, END, UNKNOWN],
        unk_token=UNKNOWN,
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789'-&"),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, length: int) -> None:
    """Write ``tokenizer.json`` and the configuration by which transformers opens it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "pad_token": PAD,
        "eos_token": END,
        "unk_token": UNKNOWN,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder: Path) -> tuple[Tokenizer, int]:
    """What :func:`save` wrote: the tokenizer and the length of its texts. UserError where it cannot be read."""
    from tokenizers import Tokenizer

    require_bounded(folder / "tokenizer.json", MOST_BYTES, AGAIN)
    with refusing(folder / "tokenizer.json", AGAIN):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    path = folder / "tokenizer_config.json"
    if tokenizer.token_to_id(END) is None:
        raise UserError(f"{folder}: its tokenizer knows no {END}, with which a text ends; {AGAIN}.")
    length = read_json_file(path, AGAIN).get("model_max_length")
    if type(length) is not int or not 2 <= length <= MOST_TOKENS:
        raise UserError(f"{path}: model_max_length {length!r} is no length in 2..{MOST_TOKENS}; {AGAIN}.")
    return tokenizer, length


def unread(tokenizer: Tokenizer, text: str, length: int) -> str:
    """The end of ``text`` that :func:`encode` cuts off; empty where it is read whole."""
    with refusing("tokenizer.json", AGAIN):
        found = tokenizer.encode(text)
    return "" if len(found.ids) <= length else text[found.offsets[length - 1][0] :].strip()


def encode(tokenizer: Tokenizer, texts: Sequence[str], length: int, known: int) -> tuple[Tensor, Tensor]:
    """Ids (B, length) and which of them are text (B, length; bool). A text that is too long is cut, and still has its end.

    ``known``: so many ids the text encoder knows. UserError where the tokenizer makes others.
    """
    end = tokenizer.token_to_id(END)
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    with refusing("tokenizer.json", AGAIN):
        found = tokenizer.encode_batch(list(texts))
    for row, encoding in zip(ids, found, strict=True):
        fitting = encoding.ids if len(encoding.ids) <= length else [*encoding.ids[: length - 1], end]
        row[: len(fitting)] = torch.tensor(fitting)
    require_known(ids, known)
    return ids, ids != 0


def require_known(ids: Tensor, known: int) -> None:
    """UserError where a tokenizer made ``ids`` that are more than its text encoder knows."""
    if len(ids) and (most := int(ids.max())) >= known:
        raise UserError(f"tokenizer: says {most}, and its text encoder knows {known} ids; {AGAIN}.")
