"""A small vocabulary of subwords for prompts: trained on captions, kept as the ``tokenizer.json`` that other tools read."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.models.folders import AGAIN
from phosphene.readers import read_json_file, read_lines, refusing, require_bounded

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer

MOST_TOKENS = 1024
"""Of a text, whatever a file says."""
MOST_BYTES = 32 * 2**20
"""Of a file of a tokenizer: those of T5 in a hundred languages have half as many."""
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
WORDS = "words.txt"
"""Beside a tokenizer: the words that a model was taught with, a line each. Of others it knows pieces, and no meaning."""
_NOTHING = re.compile(
    "(my|your|his|her|its|our|their|whose|this|that|these|those|who|which|it|he|she|we|you|they|me|him|them|is|are|was|were|be|been|am"
    "|has|have|had|do|does|did|don|isn|aren|doesn|didn|re|ve|ll|very|so|just|please|some|any|each|every|also|as|if)"
)
"""Words, and what an apostrophe leaves of them, that name nothing to draw."""
COUNTED = ("one", "two", "three", "four", "five")
"""The numbers of things that captions say (training.text_to_image.phrases). People write them in figures as well."""
_TENS = "(?:twen|thir|for|fif|six|seven|eigh|nine)ty"
_MANY = re.compile(
    r"(?<![\w.,:/'-])(?:(?:six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|hundred|thousand|dozen"
    rf"|{_TENS}(?:-[a-z]+)?|\d{{1,3}}(?:,\d{{3}})+|\d?[6-9]|[1-9]\d|[1-9]00+)|(?:dozens|hundreds|thousands) of)"
    r"(?! (?:of|years?|months?|weeks?|days?|hours?|minutes?|inch(?:es)?|feet|degrees?|pixels?|met(?:er|re)s?|miles?)\b)"
    r"(?: (?!(?:of|in|on|at|with|and|from|to|is|x|mm|cm|am|pm|bit)\b)[a-z]+){0,2}?"
    r" (?!(?:is|as|his|this|was|has|its)\b)(?:[a-z]*[a-rt-z]s|people|men|women|children|mice|geese|fish|sheep|deer|oxen|teeth)\b"
)
"""More of a thing: "seven red apples", and not "seven of hearts"."""
_LETTERS = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "So"}
"""Categories of Unicode: letters, what belongs to them, and pictures."""
ACCENTS = "[\u0300-\u036f\u20e3\ufe00-\ufe0f]"
"""What NFKD takes off Latin, Greek and Cyrillic letters, and what says of a sign how it looks; what belongs to letters of other
scripts stays."""
SIGNS = (
    ("[‐‑−]|(?<=\\w)–(?=\\w)", "-"),
    ("[;|—–]", ", "),
    (r"[^\p{L}\p{M}\p{N}\s,'&./:\u2044-]", " "),
    (r"(?<!\p{N})[./:\u2044]|[./:\u2044](?!\p{N})", " "),
    (r"(?<!\p{L})'|'(?!\p{L})", " "),
    (r"\s+", " "),
    (r"(?: ?,)+", ","),
    (r"^[ ,&-]+|[ ,&-]+$", ""),
)
"""What signs are read as: "#castle", "(castle)", "a castle!!!" and 'a "castle"' as a castle; within numbers they stay."""
_ENDINGS = (("", ""), ("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"))
_VERBAL = ("ing", "ed")


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """A unigram model of at most ``size`` subwords (Kudo 2018), lower-case; words never seen fall into known pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = _normalizer()
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


def _normalizer() -> Normalizer:
    """Lower-case, without accents and signs, which no caption has ("a piñata!"), and figures from 2 to 5 that stand alone in
    words: "2 cats" are two cats; "1.2", "2-door", "room 2b" stay."""
    from tokenizers import Regex, normalizers

    plain = [
        normalizers.Replace(Regex("[’‘`´]"), "'"),
        normalizers.NFKD(),
        normalizers.Replace(Regex(ACCENTS), ""),
        normalizers.NFKC(),
        normalizers.Lowercase(),
    ]
    plain += [normalizers.Replace(Regex(sign), read) for sign, read in SIGNS]
    alone = r"(?<![\w.,:'/\u2044-]){}(?!\w|[.,:'/\u2044-]\w)"
    figures = [normalizers.Replace(Regex(alone.format(k)), word) for k, word in enumerate(COUNTED, 1) if k > 1]
    return normalizers.Sequence([*plain, normalizers.Strip(), *figures])


def words_of(text: str) -> list[str]:
    """The words of ``text`` as the tokenizer reads it, in their order: letters in a row, of ASCII's two at least; and emoji."""
    whole = unicodedata.normalize("NFKC", text).lower()
    words = "".join(c if unicodedata.category(c) in _LETTERS else " " for c in whole).split()
    return [word for word in words if len(word) > 1 or not word.isascii()]


def strange(text: str, taught: frozenset[str]) -> list[str]:
    """The words of ``text`` that are none of those ``taught``, nor plurals or forms in -ing and -ed of them, in their order."""
    words = (word for word in dict.fromkeys(words_of(text)) if not _NOTHING.fullmatch(word))
    return [word for word in words if taught.isdisjoint(_forms(without_accents(word)))]


def uncounted(text: str) -> str:
    """The first words of ``text`` that say more of a thing than captions do: "seven red apples"; empty where none do."""
    found = _MANY.search(" ".join(unicodedata.normalize("NFKC", text).lower().split()))
    return found.group() if found else ""


def without_accents(text: str) -> str:
    """As the tokenizer reads it."""
    return unicodedata.normalize("NFKC", re.sub(ACCENTS, "", unicodedata.normalize("NFKD", text)))


def _forms(word: str) -> set[str]:
    """``word``, and what it may be a form of."""
    found = {word.removesuffix(end) + other for end, other in _ENDINGS if word.endswith(end)}
    for stem in (word.removesuffix(end) for end in _VERBAL if word.endswith(end)):
        if len(stem) > 2:  # a king is no form of k
            found |= {stem, f"{stem}e"} | ({stem[:-1]} if stem[-1] == stem[-2] else set())
    return found


def save(tokenizer: Tokenizer, folder: Path, length: int, taught: Iterable[str] = ()) -> None:
    """Write ``tokenizer.json``, the configuration by which transformers opens it, and the words ``taught``, if any."""
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
    if lines := "".join(f"{word}\n" for word in sorted(set(taught))):
        (folder / WORDS).write_text(lines, encoding="utf-8")


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


def load_words(folder: Path) -> frozenset[str] | None:
    """The words beside the tokenizer in ``folder``; None where nobody wrote any. UserError where they cannot be read."""
    path = folder / WORDS
    if not (path.exists() or path.is_symlink()):
        return None
    return frozenset(words_of("\n".join(read_lines(path, str(path), AGAIN)))) or None


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
