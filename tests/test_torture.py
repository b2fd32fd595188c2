"""Torture in the manner of curl's tests: each call that opens, writes, syncs, renames or makes a folder fails once.

Every command that writes runs with its first, second, ... such call failing, until it runs through. Each time it either
says in one sentence which file could not be written and what to do, with exit code 2, or did without what it could not
write (what is only kept to save time) and made the same as ever. Nothing is ever half-written under a final name, and no
temporary file stays.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import refusal, thorough
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from test_cli import call, here, made, tree  # noqa: F401  (fixtures)
from test_generate import cascade  # noqa: F401  (fixture)
from test_training import write_set

from phosphene.images import save_animation
from phosphene.models import weights
from phosphene.tasks import sketches
from phosphene.training.mnist import run as mnist_run
from phosphene.training.mnist.data import Split, load_dataset
from phosphene.training.text_to_image import run as stage_run

WRITING = set("wxa+")
MOST = 300
"""Calls of a command, at most: beyond, something goes round in a circle."""
EARLY = 13
"""From this call on, trainings try one in three, or fewer of a cascade's, and of these go on from every second: each takes
its time."""


class Rack:
    """Counts the calls that change something below ``folder``, and lets the ``nth`` fail, as on a full disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nth, self.count, self.failed = str(folder), 0, 0, ""

    def turn(self, nth: int) -> None:
        self.nth, self.count, self.failed = nth, 0, ""

    def minds(self, path: object) -> bool:
        return not isinstance(path, int) and os.path.abspath(os.fsdecode(path)).startswith(self.folder)

    def call(self, what: str, path: object) -> bool:
        """Count a call; whether it is the one that fails."""
        if not self.minds(path):
            return False
        self.count += 1
        if self.count == self.nth:
            self.failed = f"{what} {path}"
        return self.count == self.nth

    def need(self, what: str, path: object) -> None:
        if self.call(what, path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))  # as the system names it


def racked(rack: Rack, monkeypatch) -> None:
    """Put what Python writes files with on the rack, and what safetensors and ffmpeg do."""

    class Torn(io.FileIO):
        def write(self, content) -> int:
            if rack.call("write", self.name):
                super().write(bytes(content)[: len(content) // 2])  # some of it arrives
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    usual = {name: getattr(os, name) for name in ("open", "mkdir", "replace", "rename", "fsync")}
    usual_open, usual_save, usual_run = builtins.open, weights.save_file, subprocess.run

    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if not WRITING & set(mode) or not rack.minds(file):
            return usual_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        rack.need("open", file)
        raw = Torn(file, mode.replace("b", "").replace("t", ""))
        held = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return held if "b" in mode else io.TextIOWrapper(held, encoding, errors, newline)

    def created(path, flags, *rest, **named):
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            rack.need("open", path)
        return usual["open"](path, flags, *rest, **named)

    def synced(handle):
        rack.need("fsync", os.readlink(f"/proc/self/fd/{handle}") if os.path.isdir("/proc/self/fd") else rack.folder)
        return usual["fsync"](handle)

    def saved(tensors, path, metadata=None):
        if rack.call("save", path):
            Path(path).write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        return usual_save(tensors, path, metadata)

    def encoded(command, **named):
        if rack.call("encode", command[-1]):
            named["input"] = named["input"][: len(named["input"]) // 2]
            assert usual_run(command, **named).returncode == 0
            return subprocess.CompletedProcess(command, 1, b"", b"x\nError writing trailer: No space left on device\n")
        return usual_run(command, **named)

    monkeypatch.setattr(subprocess, "run", encoded)
    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(os, "open", created)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(weights, "save_file", saved)
    for name in ("mkdir", "replace", "rename"):

        def watched(path, *rest, name=name, **named):
            rack.need(name, path)
            return usual[name](path, *rest, **named)

        monkeypatch.setattr(os, name, watched)


FEW = ["--classifier", "JUDGE", "--samples", "20", "--guidance", "1", "--steps", "2", "--picture", "x.png", "--json", "x.json"]
TABLE = ["--steps", 2, "--json", "new/folder/x.json"]
COMMANDS = {
    "digits": ["digits", "3", "--model", "CLASS", "--steps", 2, "-o", "new/folder/x.png"],
    "digits, several": ["digits", "34", "--count", 2, "--model", "CLASS", "--steps", 2],
    "denoise-digits": ["denoise-digits", "--model", "DENOISER", "--dataset", "digits", "--sigma", "0.5"],
    "ambigram": ["ambigram", "69", "--model", "CLASS", "--classifier", "JUDGE", "--steps", 2],
    "evaluate": ["evaluate", "CLASS", "--dataset", "digits", *FEW],
    "evaluate anagrams": ["evaluate", "anagrams", "--pairs", "given/x.txt", "--view", "flip", "--model", "CASCADE", *TABLE],
    "generate": ["generate", "a fox", "--model", "CASCADE", "--steps", 2],
    "generate, several": ["generate", "a fox", "a hen", "--model", "CASCADE", "--steps", 2],
    "denoise": ["denoise", "castle-hill", "--model", "CASCADE"],
    "edit": ["edit", "sketch-house", "--prompt", "a fox", "--model", "CASCADE", "--steps", 2],
    "inpaint": ["inpaint", "castle-hill", "circle-mask", "--prompt", "a fox", "--model", "CASCADE", "--steps", 2],
    "anagram": ["anagram", "a fox", "a hen", "--view", "flip", "--model", "CASCADE", "--steps", 2, "--animate", "x.mp4"],
    "hybrid": ["hybrid", "a fox", "a hen", "--model", "CASCADE", "--steps", 2, "--print", "a4"],
    "overlay": ["overlay", "a fox", "a hen", "a cat", "--model", "CASCADE", "--steps", 2, "--no-upscale"],
    "pairs": ["pairs", "--view", "flip", "--concepts", "given/x.png", "--json", "new/folder/x.json"],
    "compose": ["compose", "a fox", "a hen", "--model", "CASCADE", "--steps", 2],
    "morph": ["morph", "a fox", "a hen", "--frames", 2, "--model", "CASCADE", "--steps", 2, "--animate", "x.gif"],
    "rerun": ["rerun", "given/x-1.png", "-o", "again.png", "--allow-model", "CLASS"],
    "report": ["report", "--quick", "--model", "CASCADE", "--sections", "1.1", "-o", "page"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_call_that_fails_leaves_a_trace(name, call, here, made, cascade, monkeypatch, tmp_path_factory):  # noqa: F811
    folders = {"CLASS": made["class"], "DENOISER": made["denoiser"], "JUDGE": made["classifier"], "CASCADE": str(cascade)}
    argv = [folders.get(word, word) for word in COMMANDS[name]] + ["--device", "cpu"] * (name != "rerun")
    given = tmp_path_factory.mktemp("given")
    if name == "rerun":
        assert call("digits", "34", "--model", made["class"], "--steps", 2, "-o", given / "x.png", "--device", "cpu")[0] == 0

    (given / "x.txt").write_text("a fox, a hen\n")
    if name == "pairs":
        sketches.write(sketches.Concepts(("a fox", "a hen"), torch.rand(2, 1, 3, 16, 16), 4.0), given / "x.png")

    def fresh() -> None:
        for path in here.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(given, here / "given")

    def whole() -> dict[str, bytes | None]:
        """All files but what is only kept to save time, and what says when it was made."""
        return {path: content for path, content in tree(here).items() if content is not None and "/cache/" not in path}

    fresh()
    code, _, err = call(*argv)
    assert code == 0, err
    usual, rack = whole(), Rack(here)
    racked(rack, monkeypatch)
    for nth in range(1, MOST):
        fresh()
        rack.turn(nth)
        code, _, err = call(*argv)
        found = whole()
        assert not [path for path in tree(here) if Path(path).name.startswith(".") and Path(path).name != ".kept"], rack.failed
        assert not [path for path in here.rglob("*") if path.is_dir() and not any(path.iterdir())], rack.failed
        assert set(found) <= set(usual), rack.failed
        assert all(found[path] == usual[path] for path in found if not path.endswith(".json")), rack.failed
        if code == 0:
            assert set(found) == set(usual), rack.failed
        else:
            assert code == 2 and err.startswith("phosphene: ") and err.count("\n") == 1, (rack.failed, err)
            assert "cannot be written (" in err and "; free some space, or choose another place." in err, (rack.failed, err)
            assert any(Path(path).name in err for path in {*usual, rack.failed.partition(" ")[2]}), (rack.failed, err)
            assert not (here / "new").exists()
        if not rack.failed:
            assert code == 0
            break
    else:
        pytest.fail(f"{MOST} calls, and no end")
    assert nth > 3


@pytest.mark.skipif(os.name == "nt", reason="limits by ulimit")
def test_a_film_that_its_encoder_does_not_finish_is_none(tmp_path, monkeypatch):
    """The encoder, let write 8 KB and no more."""
    from imageio_ffmpeg import get_ffmpeg_exe

    frames = [Image.effect_noise((64, 64), 90) for _ in range(30)]
    save_animation(frames, tmp_path / "whole.mp4", 1)
    size = (tmp_path / "whole.mp4").stat().st_size
    stub = tmp_path / "ffmpeg"
    stub.write_text(f'#!/bin/bash\nulimit -f 8\nexec {get_ffmpeg_exe()} "$@"\n')
    stub.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(stub))
    refusal(lambda: save_animation(frames, tmp_path / "x.mp4", 1), "x.mp4: cannot be written (")
    assert size > 8192 and sorted(path.name for path in tmp_path.iterdir()) == ["ffmpeg", "whole.mp4"]


def load_few() -> Split:
    """Ten digits."""
    train = load_dataset("digits").train
    return Split(train.images[:10], train.labels[:10])


PICTURES = ["--data", "PICTURES", "--images", 2, "--batch-size", 1, "--hidden", 8, "--layers", 1, "--heads", 1, "--patch", 32]
TRAININGS = {
    "class": [
        "train",
        "class",
        "--data",
        "DIGITS",
        "--dataset",
        "idx",
        "--width",
        1,
        "--batch-size",
        5,
        "--timesteps",
        2,
        "--epochs",
        1,
    ],
    "cascade": ["train", "cascade", *PICTURES, "--held-out", 0, "--wordnet", "PICTURES/words.json"],
}


@pytest.mark.parametrize(("name", "stride"), [("class", 3), ("cascade", 61), pytest.param("cascade", 3, marks=thorough)], ids=str)
def test_a_training_whose_nth_call_fails_goes_on_as_if_none_had(name, stride, call, here, monkeypatch, tmp_path_factory):  # noqa: F811
    """It ends in one sentence with nothing half-written, and the same command again, or --resume, ends as it would have."""
    pictures = tmp_path_factory.mktemp("pictures")
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(pictures / f"{colour}.png")
        (pictures / f"{colour}.txt").write_text(colour)
    (pictures / "words.json").write_text('{"same": {}, "near": {}}')
    digits = write_set(tmp_path_factory.mktemp("digits") / "idx", load_few(), 5)
    for kind in (mnist_run.Run, stage_run.CascadeRun):  # pictures are on the rack above
        monkeypatch.setattr(kind, "curves", lambda *_: None)
    monkeypatch.setattr(mnist_run, "preview", lambda *_: (None, {}))
    monkeypatch.setattr(stage_run.CascadeRun, "preview", lambda *_: None)
    learned = []  # once: its library adds in any order, so that another's last digits differ
    tokenizer = stage_run.learned_tokenizer
    monkeypatch.setattr(
        stage_run, "learned_tokenizer", lambda *a: learned[0] if learned else learned.append(tokenizer(*a)) or learned[0]
    )
    argv = [str(word).replace("PICTURES", str(pictures)).replace("DIGITS", str(digits)) for word in TRAININGS[name]] + [
        "--device",
        "cpu",
        "--out",
        "run",
    ]

    def found() -> dict[str, object]:
        """What does not tell the time; of weights, whose headers are in any order, the tensors."""
        told = {path: content for path, content in tree(here / "run").items() if content is not None}
        told = {path: content for path, content in told.items() if "tensorboard" not in path and not path.endswith("log.jsonl")}
        weights = {path: load_file(path) for path in told if path.endswith(".safetensors")}
        return told | {path: {k: (v.shape, v.tolist()) for k, v in found.items()} for path, found in weights.items()}

    assert call(*argv)[0] == 0
    usual, rack = found(), Rack(here)
    racked(rack, monkeypatch)
    for nth in (*range(1, EARLY), *range(EARLY, MOST, stride)):
        shutil.rmtree("run", ignore_errors=True)
        rack.turn(nth)
        code, _, err = call(*argv)
        failed = rack.failed
        if not failed:
            assert code == 0
            break
        assert code == 2 and err.startswith("phosphene: ") and err.count("\n") == 1, (failed, err)
        assert "cannot be written (" in err and "run" in err and "; free some space, or choose another place." in err, (
            failed,
            err,
        )
        assert not [path for path in here.rglob(".*") if path.is_file()] and not list(here.glob("run/model.*")), failed
        for path in here.rglob("*.safetensors"):
            load_file(path)
        if nth > EARLY and nth % 2:
            continue  # what goes on from a checkpoint takes time
        rack.turn(0)
        code, _, err = call(*argv)
        if code:
            assert "continue it with --resume" in err, (failed, err)
            code, _, err = call(*argv, "--resume")
        assert code == 0 or "has seen" in err, (failed, err)
        again = found()
        assert code or again.keys() == usual.keys(), failed
        assert not [path for path in again if again[path] != usual[path]], failed
    else:
        pytest.fail(f"{MOST} calls, and no end")
    assert nth > 20


def test_every_command_that_writes_is_on_the_rack():
    from phosphene.cli.drawing import REMADE

    found = {argv[0] for argv in (*COMMANDS.values(), *TRAININGS.values())}
    assert {*REMADE, "evaluate", "pairs", "report", "rerun", "train"} <= found
