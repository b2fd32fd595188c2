"""Laws of memory: what a file says of its size is compared with what a file may have before any of it is taken."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import refusal
from test_cli import call, here, made  # noqa: F401  (fixtures)
from test_readers import shard
from test_trust import little_memory  # noqa: F401  (fixture)

from phosphene.errors import UserError
from phosphene.models import diffusers_files, folders, tokens
from phosphene.models.prompts import PromptCache
from phosphene.models.text import MOST_BYTES, TOKENS, read_embeddings
from phosphene.training.mnist.data import PARTS, load_dataset
from phosphene.training.text_to_image.captions import Thesaurus
from phosphene.training.text_to_image.pictures import read

HUGE = 4 * 2**30
pytestmark = pytest.mark.usefixtures("little_memory")


def hole(path: Path, size: int = HUGE, begin: bytes = b"") -> Path:
    """A file of ``size`` bytes that takes none of the disk but for its ``begin``."""
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(size)
    return path


# Image sets and shards


def test_a_plain_image_set_that_is_very_large_is_not_read(tmp_path):
    for part in PARTS:
        hole(tmp_path / part)
    refusal(lambda: load_dataset("idx", tmp_path), f"{PARTS[0]}: is 4,294,967,296 bytes, of at most 536,870,912; it is damaged")


@pytest.mark.parametrize("kind", ["L", "K", "x", "g", "X"])
def test_a_long_name_in_a_tar_is_bounded(tmp_path, kind):
    """The library reads it whole before anybody sees the member that it is of."""
    name = tarfile.TarInfo("x")
    name.type, name.size = kind.encode(), HUGE
    hole(tmp_path / "a.tar", HUGE + 4096, name.tobuf(tarfile.GNU_FORMAT))
    refusal(lambda: list(read(tmp_path)), "a.tar: is damaged or no tar", "a name or header of 4,294,967,296 bytes")


def test_names_that_are_long_are_read(tmp_path):
    name = f"{'x' * 90}/{'y' * 200}"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
            for file in ("a.png", "a.txt"):
                (tmp_path / file).write_bytes(b"a fox")
                tar.add(tmp_path / file, name + file[1:])
        from phosphene.training.text_to_image.pictures import contents

        assert [(str(where), subject.caption) for _, where, subject in contents(tmp_path)] == [
            (f"{tmp_path}/a.tar/{name}", "a fox")
        ]


def sparse() -> bytes:
    """A member with holes: GNU's own header, followed by half a gigabyte of where they are."""
    member = tarfile.TarInfo("x.png")
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[482], head[148:156] = 1, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def test_a_tar_that_says_where_its_holes_are_is_bounded(tmp_path):
    more = (b"%011o\0" % 1 * 2) * 21 + b"\1" + bytes(7)
    with gzip.open(tmp_path / "a.tar", "wb", 1) as file:
        file.write(sparse())
        for _ in range(128):
            file.write(more * 2048)
    refusal(lambda: list(read(tmp_path)), "a.tar: is damaged or no tar", "pack without --sparse")


def test_a_tar_of_many_parts_is_one_sentence(tmp_path):
    headers = {f"key{k}": "x" for k in range(101)}
    tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=headers).close()
    content = (tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    shard(tmp_path / "b.tar", **{"a.png": "", "a.txt": "a fox"})
    whole = content.ljust(-(-len(content) // 512) * 512, b"\0") + (tmp_path / "b.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole)
    refusal(lambda: list(read(tmp_path)), "a.tar: is damaged or no tar", "more than 100 global headers")
    names = tarfile.TarInfo("x").create_pax_global_header({"a": "b"}) * 2000  # each read within the one before
    (tmp_path / "a.tar").write_bytes(names + (tmp_path / "b.tar").read_bytes())
    refusal(lambda: list(read(tmp_path)), "a.tar: is damaged or no tar")


# Prompt embeddings


def embeddings(path: Path, held: object) -> Path:
    torch.save(held, path)
    return path


EMBEDDINGS = {
    "wide": (lambda: {"a fox": torch.zeros(1).expand(1, TOKENS, 30_000_000)}, None, "'a fox' is 1x77x30000000, but"),
    "wide as it is wanted": (lambda: {"a fox": torch.zeros(1).expand(1, TOKENS, 4096)}, 4096, "'a fox' says more numbers than"),
    "many of few": (
        lambda: {str(k): torch.zeros(1, dtype=torch.float64).expand(1, TOKENS, 4096) for k in range(3000)},
        4096,
        "'0' says more numbers than the file holds",
    ),
    "many of one": (
        lambda: dict.fromkeys(map(str, range(3000)), torch.zeros(1, TOKENS, 4096).half()),
        4096,
        "takes 3,784,704,000",
    ),
    "sparse": (lambda: {"a fox": torch.zeros(1, TOKENS, 2).to_sparse()}, 2, "'a fox' is a tensor that does not hold its numbers"),
    "nowhere": (lambda: {"a fox": torch.zeros(1, TOKENS, 2, device="meta")}, 2, "'a fox' is a tensor that does not hold its"),
}


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_prompt_embeddings_take_no_more_than_their_file(tmp_path, kind):
    held, width, words = EMBEDDINGS[kind]
    file = embeddings(tmp_path / "x.pth", held())
    assert file.stat().st_size < 2**20
    refusal(lambda: read_embeddings(file, width), words)


def test_prompt_embeddings_are_unpacked_from_nothing(tmp_path):
    """Neither torch nor the list of what is in a zip is asked for what is larger than the file."""
    own = embeddings(tmp_path / "own.pth", {"a fox": torch.zeros(1, TOKENS, 2)})
    for packing in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        with zipfile.ZipFile(own) as old, zipfile.ZipFile(tmp_path / "x.pth", "w", packing, compresslevel=1) as new:
            for part in old.infolist():
                with new.open(part.filename, "w") as file:
                    file.write(old.read(part))
                    if part.filename.endswith("data/0" if packing == zipfile.ZIP_DEFLATED else "data.pkl"):
                        for _ in range(40):
                            file.write(b"]" * 2**20)
        words = "unpacks to more than it is" if packing == zipfile.ZIP_DEFLATED else "says more than 4,194,304 bytes of what"
        refusal(lambda: read_embeddings(tmp_path / "x.pth"), f"x.pth: {words}")
    refusal(lambda: read_embeddings(hole(tmp_path / "x.pth")), f"x.pth: is 4,294,967,296 bytes, of at most {MOST_BYTES:,}")
    long = b"PK\5\6" + bytes(4) + b"\1\0\1\0" + (2**29).to_bytes(4, "little") + bytes(6)
    hole(tmp_path / "x.pth", 2**29)
    with (tmp_path / "x.pth").open("ab") as file:
        file.write(long)
    refusal(lambda: read_embeddings(tmp_path / "x.pth"), "x.pth: is damaged, or no file of torch 1.6")


def test_prompt_embeddings_of_every_precision_are_read(tmp_path):
    for kind in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
        held = {"a fox": torch.ones(1, TOKENS, 4, dtype=kind), "": torch.ones(TOKENS, 4, dtype=kind).t().contiguous().t()}
        found = read_embeddings(embeddings(tmp_path / "x.pth", held), 4)
        assert list(found) == ["a fox", ""] and all(torch.equal(each, torch.ones(TOKENS, 4)) for each in found.values())
    embeddings(tmp_path / "x.pth", {"a fox": torch.full((1, TOKENS, 4), 1e300, dtype=torch.float64)})  # no number of float32
    refusal(lambda: read_embeddings(tmp_path / "x.pth", 4), "'a fox' holds what are no finite numbers")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pth")
        refusal(lambda: read_embeddings(tmp_path / "pipe.pth"), "pipe.pth: is no file")
    refusal(lambda: read_embeddings(tmp_path / "none.pth"), "none.pth: no such file")


# Model folders


def test_sums_that_are_very_large_are_not_read(tmp_path):
    hole(tmp_path / folders.SUMS)
    refusal(lambda: folders.sums(tmp_path), f"{folders.SUMS}: is more than 4,194,304 bytes of text; {folders.AGAIN}")


def test_a_tokenizer_that_is_very_large_is_not_read(tmp_path, monkeypatch):
    import tokenizers

    def opened(_) -> None:
        pytest.fail("it was read")

    class Watched:
        from_file = staticmethod(opened)

    monkeypatch.setattr(tokenizers, "Tokenizer", Watched)
    hole(tmp_path / "tokenizer.json")
    refusal(lambda: tokens.load(tmp_path), "tokenizer.json: is 4,294,967,296 bytes, of at most 33,554,432; fetch or train")
    (tmp_path / "tokenizer.json").unlink()
    refusal(lambda: tokens.load(tmp_path), "tokenizer.json: is missing; fetch or train")
    (tmp_path / "tokenizer.json").mkdir()
    refusal(lambda: tokens.load(tmp_path), "tokenizer.json: is no file; fetch or train")


@pytest.mark.parametrize(
    "file", ["tokenizer/spiece.model", "tokenizer/tokenizer.json", "text_encoder/model.safetensors.index.json"]
)
def test_files_of_another_text_encoder_are_bounded(tmp_path, monkeypatch, file):
    transformers = pytest.importorskip("transformers")
    from phosphene.models.text import Text

    for part in ("tokenizer", "text_encoder"):
        (tmp_path / part).mkdir()
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(b"")
    (tmp_path / "text_encoder" / "config.json").write_text("{}")
    (tmp_path / "text_encoder" / "model.safetensors").write_bytes(b"")
    hole(tmp_path / file)
    monkeypatch.setattr(transformers.T5Tokenizer, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    text = Text(tmp_path, 8, torch.device("cpu"), torch.float32)
    refusal(lambda: text.embed("a fox"), f"{file}: is 4,294,967,296 bytes, of at most 33,554,432; {folders.AGAIN}")


def test_a_folder_of_clip_is_bounded(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    from phosphene.evaluation.matching import open_clip

    monkeypatch.setattr(transformers.CLIPTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("it was read"))
    hole(tmp_path / "vocab.json")
    refusal(lambda: open_clip(str(tmp_path)), "vocab.json: is 4,294,967,296 bytes")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_a_pipe_beside_a_tokenizer_is_not_waited_for(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    os.mkfifo(tmp_path / "tokenizer" / "more.json")
    with pytest.raises(UserError, match=r"more\.json: is no file"):
        diffusers_files.require_small_files(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "folder").mkdir()
    PromptCache(tmp_path, tmp_path, torch.float32)


def test_a_wordnet_that_is_very_large_is_not_read(tmp_path):
    for name in ("index.noun", "data.noun"):
        hole(tmp_path / name)
    refusal(lambda: Thesaurus.from_wordnet(tmp_path, ["fox"]), "--wordnet ", "index.noun is no file of at most 104,857,600 bytes")


# Pages and pictures that others made


def test_what_a_page_says_that_it_keeps_is_bounded(tmp_path):
    from phosphene.report import kept, page
    from phosphene.report.sections import SECTIONS

    (tmp_path / kept.CACHE).mkdir()
    hole(tmp_path / kept.CACHE / "title")
    assert page._titled(tmp_path, None) == page.Config()
    file = tmp_path / kept.CACHE / f"{SECTIONS[0].name}.json"
    endless = [json.dumps({"digest": "x", "pictures": {"/dev/zero": "x"}})] * Path("/dev/zero").exists()
    for text in ("[" * 10**5, '{"digest": "x", "pictures": []}', *endless):
        file.write_text(text)
        assert kept._cached(tmp_path, SECTIONS[0], "digest", "x") is None
    hole(file)
    assert kept._cached(tmp_path, SECTIONS[0], "digest", "x") is None


def test_a_picture_with_a_hole_at_its_end_is_made_again(call, made, here):  # noqa: F811
    assert call("digits", "3", "--model", made["class"], "--steps", 2, "-o", "x.png", "--device", "cpu")[0] == 0
    with (here / "x.png").open("ab") as file:
        file.truncate(HUGE)
    code, out, err = call("rerun", "x.png", "--allow-model", made["class"])
    assert (code, err) == (0, "") and "x-again.png differs from x.png" in out
