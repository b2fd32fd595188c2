"""The surroundings are not ours: umask, console encodings, home folder, devices, the network."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_cli import call, here, made, refused  # noqa: F401  (fixtures)

from phosphene import files


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_files_have_the_rights_that_the_umask_leaves(tmp_path, umask, rights):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "new" / "x.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "x.txt").stat().st_mode) == rights


def left(folder: Path, *names: str, days: float = 0) -> list[Path]:
    """Temporary files, as a process that was killed so many days ago leaves them."""
    then = time.time() - days * 86400
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (then, then))
    return paths


def test_what_a_killed_process_left_of_a_picture_goes_when_it_is_drawn_again(call, made, here):  # noqa: F811
    """A day later: until then it may be what another process is writing, and a picture's place has no lock."""
    old = left(here, ".d.png.0123abcd.png", days=2)
    stays = left(here, ".d.png.0123abce.png", days=0.5) + left(here, ".e.png.0123abcd.png", ".d.png.mine.png", days=2)
    assert call("digits", "3", "--model", made["class"], "--steps", 2, "--device", "cpu", "-o", "d.png")[0] == 0
    assert not any(path.exists() for path in old) and all(path.exists() for path in stays)


def test_what_a_killed_page_left_goes_when_it_is_made_again(monkeypatch, tmp_path):
    from phosphene.report import page

    gone = left(tmp_path, ".index.html.0123abcd.html", ".kept/.x.json.0123abcd.json", ".forward.png.0123abcd.png")
    stays = left(tmp_path, ".mine.png", "index.html", ".kept/x.json")
    monkeypatch.setattr(page, "made_sections", lambda *_: iter(()))
    page.write(tmp_path, "cpu", lambda *_: None)
    assert not any(path.exists() for path in gone) and all(path.exists() for path in stays)


def test_folders_made_in_vain_go_again(tmp_path):
    with pytest.raises(RuntimeError), files.replacing(tmp_path / "a" / "b" / "x.txt"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


ODD = "h\u00e9 \u2192 \U0001f98a"


def typed(*argv: str, **surroundings: str) -> subprocess.CompletedProcess:
    """A command in a process of its own, with no more surroundings than it needs and those named."""
    handed = ("PATH", "PYTHONPATH", "OMP_WAIT_POLICY", "SYSTEMROOT")  # with the second, the package that is tested is this one
    few = {name: os.environ[name] for name in handed if name in os.environ}
    return subprocess.run([sys.executable, "-m", "phosphene", *argv], capture_output=True, env=few | surroundings)


def test_a_process_of_its_own_runs_what_is_tested(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "phosphene.py").write_text("print('this one')")
    assert typed().stdout.split() == [b"this", b"one"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_console_that_lacks_the_signs_is_no_fault(made, tmp_path, encoding):  # noqa: F811
    out = tmp_path / f"{ODD}.png"
    draw = ["digits", "3", "--model", made["class"], "--steps", "2", "--device", "cpu", "-o", str(out)]
    done = typed(*draw, PYTHONIOENCODING=f"{encoding}:strict", PYTHONUTF8="0", LC_ALL="C.UTF-8", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"") and out.is_file()
    assert done.stdout.decode(encoding).startswith("1 picture in ")
    refusal = typed("digits", ODD, PYTHONIOENCODING=f"{encoding}:strict", LC_ALL="C.UTF-8", HOME=str(tmp_path))
    assert refusal.returncode == 2 and refusal.stderr.startswith(b"phosphene: DIGITS") and refusal.stderr.count(b"\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows names files in UTF-16")
def test_a_name_that_is_no_text_is_no_fault(made, tmp_path):  # noqa: F811
    out = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    draw = ["digits", "3", "--model", made["class"], "--steps", "2", "--device", "cpu", "-o", os.fsdecode(out)]
    done = typed(*draw, PYTHONIOENCODING="utf-8:strict", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"") and os.path.isfile(out)
    assert b"\\udcff\\udcfe.png" in done.stdout


def test_nobodys_home_is_one_sentence(monkeypatch, refused):  # noqa: F811
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nobody)
    refused("denoise-digits", "--dataset", "mnist", words=("HOME", "XDG_CACHE_HOME"))


def test_the_home_of_nobody_is_one_sentence(refused):  # noqa: F811
    refused("digits", "3", "--model", "~nobody-of-that-name/x", words="there is no such home folder")
    refused("generate", "a fox", "--model", "~nobody-of-that-name/x", words="there is no such home folder")


@pytest.mark.parametrize(("gpus", "name"), [(0, "cuda"), (0, "cuda:1"), (1, "cuda:1"), (2, "cuda:7"), (1, "gpu"), (1, "cuda:x")])
def test_a_device_that_is_not_there_is_one_sentence(refused, monkeypatch, gpus, name):  # noqa: F811
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    refused("digits", "3", "--device", name, words=f"--device {name}: ")


def test_a_device_that_is_there_is_taken(monkeypatch):
    from phosphene.devices import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1") and choose_device("cuda") == torch.device("cuda")


@pytest.mark.parametrize(
    ("surroundings", "words"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE 2: is set in the surroundings without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "WORLD_SIZE 2: is set in the surroundings without LOCAL_RANK"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE x: is set in the surroundings, and no whole number"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE -1: "),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK x: is set in the surroundings, and no whole number"),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "beside RANK 2"),
    ],
    ids=str,
)
def test_surroundings_that_speak_of_half_a_cluster_are_one_sentence(refused, monkeypatch, surroundings, words):  # noqa: F811
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    for argv in (("digits", "3", "--device", "cpu"), ("models",)):
        refused(*argv, words=(words, "unset it, or start several processes with torchrun."))


@pytest.mark.parametrize("size", ["", "0", "1"])
def test_one_process_alone_needs_nothing_more(call, monkeypatch, size):  # noqa: F811
    monkeypatch.setenv("WORLD_SIZE", size)
    code, out, err = call("models")
    assert (code, err) == (0, "") and "class-20" in out


def test_no_network_is_one_sentence_about_the_data(refused, monkeypatch):  # noqa: F811
    import pooch

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", offline)
    for name in ("mnist", "fashion"):
        refused("denoise-digits", "--dataset", name, words=(f"--dataset {name}: ", "--data", "--dataset digits"))
