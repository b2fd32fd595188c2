"""A run is one state, always resumable: its folder, its lock, its checkpoint, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import refusal, thorough
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_cli import call, here, made, tree  # noqa: F401  (fixtures)
from test_glyph import gallery, shards, spoken, tiny  # noqa: F401
from test_training import environment, few, free_port, make, small  # noqa: F401

from phosphene import cli, files, lock
from phosphene.errors import UserError
from phosphene.lock import FolderLock
from phosphene.training import checkpoint
from phosphene.training.ema import Average
from phosphene.training.log import Log, read_log
from phosphene.training.mnist import run as mnist_run
from phosphene.training.mnist.recipes import Recipe
from phosphene.training.options import whole
from phosphene.training.text_to_image import run as stage_run
from phosphene.training.text_to_image.stage_trainer import StageTrainer

pytestmark = pytest.mark.usefixtures("quick_ends")

TRAIN = ("train", "class", "--dataset", "digits", "--width", "2", "--batch-size", "500", "--timesteps", "10", "--epochs", "2")


def argv(network: str, data: Path) -> tuple[str, ...]:
    """A command line that trains a tiny ``network`` into a folder yet to be named."""
    if network == "class":
        return TRAIN
    sizes = {"images": 24, "batch-size": 8, "hidden": 16, "layers": 1, "heads": 2, "patch": 16, "held-out": 0}
    return (
        "train",
        "cascade",
        "--data",
        str(data),
        *(w for k, v in sizes.items() for w in (f"--{k}", str(v))),
        "--device",
        "cpu",
    )


def same(out: Path, other: Path, logged: bool = True) -> None:
    """Two finished runs: the same checkpoint, models and log, bit for bit."""
    found = sorted(str(path.relative_to(other)) for path in other.rglob("*.safetensors"))
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.safetensors")) == found
    for name in found:
        a, b = load_file(out / name), load_file(other / name)
        assert a.keys() == b.keys() and not [k for k in a if not torch.equal(a[k], b[k])], name
    a, b = (
        [{k: v for k, v in line.items() if "per_second" not in k} for line in read_log(o / "log.jsonl")] for o in (out, other)
    )
    assert a == b or not logged


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    assert cli.main([*TRAIN, "--out", str(out)]) == 0
    return out


def step(number: int, act, monkeypatch) -> None:
    """Let ``act`` happen in the middle of the step ``number`` of a training, counted from 1."""
    steps, follow = [], Average.follow

    def followed(average, count):
        steps.append(None)
        if len(steps) == number:
            act()
        follow(average, count)

    monkeypatch.setattr(Average, "follow", followed)


# How it ends


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_saves_and_leaves_by_the_door(number, code, call, unbroken, monkeypatch):  # noqa: F811
    before = {each: signal.getsignal(each) for each, _ in SIGNALS}
    with monkeypatch.context() as patch:
        step(3, lambda: signal.raise_signal(number), patch)
        found, out, err = call(*TRAIN, "--out", "run")
    assert (found, err.count("\n")) == (code, 1) and "done" not in out
    assert err.startswith("phosphene: stopped, and the checkpoint in run is kept") and "--resume` goes on from there" in err
    assert {each: signal.getsignal(each) for each in before} == before
    assert not Path("run/.lock").exists()
    assert call(*TRAIN, "--out", "run", "--resume")[0] == 0
    same(Path("run"), unbroken, logged=False)  # what ended between two reports was reported


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_a_page_and_it_goes_on(number, code, call, here, monkeypatch):  # noqa: F811
    from phosphene.report import page

    def interrupted(*_, **__):
        signal.raise_signal(number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    with monkeypatch.context() as patch:
        patch.setattr(page, "write", interrupted)
        found, _, err = call("report", "--quick", "--sections", "1.1", "-o", "page", "--device", "cpu")
    assert (found, err) == (code, "phosphene: interrupted.\n") and not [path for path in here.rglob(".*") if path.is_file()]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_amid_an_import_waits_for_its_end(tmp_path, monkeypatch):
    """Libraries call Python from C++ there, and an exception raised in that ends the process by SIGABRT."""
    (tmp_path / "halfway.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with cli._interruptible() as came:
        import halfway

        assert halfway.whole
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(10)
        assert time.monotonic() - begun < 5  # though the main thread waits
    assert came == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_waits_for_an_import_does_not_outlive_the_command(tmp_path, monkeypatch):
    (tmp_path / "quarter.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with cli._interruptible():
        import quarter  # noqa: F401
    time.sleep(3 * cli.LATER)  # here it would be anybody's


def test_a_command_that_fails_while_a_signal_waits_was_interrupted(tmp_path, monkeypatch, capsys):
    (tmp_path / "third.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    monkeypatch.syspath_prepend(tmp_path)

    def fails(_: object) -> None:
        import third  # noqa: F401

        raise cli.Failed("x: is damaged", 2)

    monkeypatch.setattr(cli, "perform", fails)
    monkeypatch.setattr(cli.common, "leads", lambda: time.sleep(3 * cli.LATER) is None)
    assert cli.main(["digits"]) == 130 and capsys.readouterr().err == "phosphene: interrupted.\n"


START = """
import importlib.abc, os, signal, sys

class Amid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "phosphene.cli.common":
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:  # as what libraries call back does
                pass

sys.meta_path.insert(0, Amid())
from phosphene.__main__ import main
sys.exit(main())
"""


def test_ctrl_c_is_heard_before_anybody_listens():
    found = subprocess.run([sys.executable, "-c", START, "--help"], env=environment(), capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "phosphene: interrupted.\n")


def test_who_imports_the_command_line_keeps_ctrl_c():
    asked = "import signal, phosphene.__main__; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    found = subprocess.run([sys.executable, "-c", asked], env=environment(), capture_output=True, text=True)
    assert found.stdout == "True\n", found.stderr


def test_a_module_that_calls_the_command_line_is_interrupted_all_the_same(tmp_path):
    """What it is itself imported for is not waited for."""
    lines = ["import signal", "from phosphene import cli", "cli.perform = lambda _: signal.raise_signal(signal.SIGTERM)"]
    (tmp_path / "calls.py").write_text("\n".join([*lines, "code = cli.main(['digits', '3'])", ""]))
    found = subprocess.run(
        [sys.executable, "-c", "import calls; print(calls.code)"], cwd=tmp_path, env=environment(), capture_output=True
    )
    assert found.stdout == b"143\n", found.stderr


def test_what_ignores_that_the_terminal_goes_away_goes_on():
    """As ``nohup`` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cli._interruptible() as came:
            signal.raise_signal(signal.SIGHUP)
        assert came == []
    finally:
        signal.signal(signal.SIGHUP, before)


ERRORS = [ValueError("could not determine the shape"), UserError("x.safetensors: is damaged.")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_what_a_library_makes_of_an_interruption_is_one(error, call, monkeypatch):  # noqa: F811
    """It is raised where C++ calls Python, which knows no KeyboardInterrupt."""

    def swallowed(*_: object, **__: object) -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise error

    monkeypatch.setattr("phosphene.cli.drawing.Options.draw", swallowed)
    code, _, err = call("digits", "3", "--steps", 2)
    assert (code, err) == (143, "phosphene: interrupted.\n")


def test_a_picture_made_again_is_interrupted_once(call, here, made, monkeypatch):  # noqa: F811
    digits = ["digits", "3", "--model", made["class"], "--steps", 2, "-o", "it.png"]
    assert call(*digits)[0] == 0
    monkeypatch.setattr("phosphene.cli.drawing.Options.draw", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    code, _, err = call("rerun", "it.png", "--allow-model", made["class"])
    assert (code, err) == (143, "phosphene: interrupted.\n")


def test_a_stdout_that_is_closed_is_no_hindrance(tmp_path):
    line = f"exec {sys.executable} -m phosphene digits 3 --steps 2 -o it.png >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment()).returncode == 0
    assert (tmp_path / "it.png").is_file()


@pytest.mark.parametrize(("content", "words"), [(b"", "is damaged or no safetensors file"), (None, "holds no recipe.json")])
def test_a_run_that_lost_what_it_was_starts_elsewhere(call, here, content, words):  # noqa: F811
    """Not each sentence sends to the other."""
    assert call(*TRAIN, "--out", "run")[0] == 0
    if content is None:
        Path("run/recipe.json").unlink()
    else:
        Path("run/checkpoint.safetensors").write_bytes(content)
    code, _, err = call(*TRAIN, "--out", "run", "--resume")
    assert code == 2 and words in err and err.endswith("start a new run in another --out.\n")


def test_a_container_that_is_stopped_saves(tmp_path, unbroken):
    """From outside, as ``docker stop`` does it."""
    command = [sys.executable, "-m", "phosphene", *TRAIN, "--out", "run"]
    long = [*command, "--epochs", "2000", "--save-every", "1"]
    process = subprocess.Popen(long, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while len(read_log(tmp_path / "run" / "log.jsonl")) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        # While it trains nobody else gets in.
        other = subprocess.run([*long, "--resume"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert (other.returncode, other.stdout) == (2, "")
        assert other.stderr.startswith("phosphene: --out run: another process is writing to it; wait until")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err.count("\n")) == (143, 1) and "the checkpoint in run is kept" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes would ask for two GPUs")
@pytest.mark.parametrize("network", ["class", pytest.param("cascade", marks=thorough)])
def test_processes_that_share_a_run_save_and_leave_together(network, tmp_path, shards):  # noqa: F811
    """From outside, as a cluster does it: torchrun hands SIGTERM on to both."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    long = {"class": ("--epochs", "2000", "--save-every", "1"), "cascade": ("--images", str(10**7))}[network]
    command = [*launch, "-m", "phosphene", *argv(network, shards), *long, "--out", "run"]
    out, pipes = tmp_path / "run", {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes)
    try:
        deadline = time.monotonic() + 300
        while len(read_log(out / "log.jsonl")) < 2 and not (network == "cascade" and (out / checkpoint.NAME).exists()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=200)  # after thirty it kills them
    finally:
        process.kill()
        process.wait()
    assert err.count("phosphene: stopped, and the checkpoint in run is kept") == err.count("phosphene: ") == 1
    assert "exitcode" not in err and not [path for path in out.rglob(".*")]
    if network == "class":
        recipe = mnist_run.Recipe.read(out)
        assert mnist_run.Run(recipe, out, resume=True, device="cpu").done > 0
    else:
        assert stage_run.CascadeRun(stage_run.CascadeRecipe.read(out), out, shards, resume=True).done > 0


@pytest.mark.parametrize("kind", ["class", "adamw"])
def test_a_signal_that_comes_while_processes_agree_is_heard(kind, few, gallery, monkeypatch):  # noqa: F811
    _, fresh = trained(kind, few, gallery)
    trainer, asked = fresh(), []
    agree = trainer.place.any

    def agreed(*flags):
        found = agree(*flags)
        trainer.stopping = trainer.stopping or not asked
        asked.append(flags)
        return found

    monkeypatch.setattr(trainer.place, "any", agreed)
    list(trainer.run())
    assert trainer.stopping and not trainer.finished


# Who may write to it


HOLD = """
import os, sys, time
from pathlib import Path
from phosphene.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "--out")
if sys.argv[2] == "forks":  # as workers that load data are
    told, tell = os.pipe()
    if os.fork() == 0:
        os.write(tell, b"there")
        time.sleep(30)
        os._exit(0)
    os.read(told, 5)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no fork")
@pytest.mark.parametrize("kind", ["alone", "forks"])
def test_a_lock_dies_with_its_process(tmp_path, kind):
    """Killed, at once, even where a child of it lives on."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), kind], env=environment(), stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        refusal(lambda: FolderLock(tmp_path, "--out"), f"--out {tmp_path}: another process is writing to it", "wait")
    finally:
        process.kill()
        process.wait()
    held = FolderLock(tmp_path, "--out")
    refusal(lambda: FolderLock(tmp_path, "--out"), str(tmp_path))
    held.release()
    assert list(tmp_path.iterdir()) == []
    FolderLock(tmp_path / "new" / "folder", "--out").release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("third", [False, True])
def test_a_lock_that_is_released_while_another_opens_it_is_taken_anew(third, tmp_path, monkeypatch):
    """Whether a third has made its file by then or not."""
    usual = lock._lock

    def late(file):
        monkeypatch.setattr(lock, "_lock", usual)
        (tmp_path / ".lock").unlink()
        if third:
            (tmp_path / ".lock").touch()
        return usual(file)

    monkeypatch.setattr(lock, "_lock", late)
    held = FolderLock(tmp_path, "--out")
    refusal(lambda: FolderLock(tmp_path, "--out"), "another process is writing to it")
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_released_once(tmp_path):
    """Again, it leaves alone what another holds by then; and where its folder has gone, nothing is left to do."""
    out = tmp_path / "run"
    first = FolderLock(out, "--out")
    first.release()
    second = FolderLock(out, "--out")
    first.release()
    refusal(lambda: FolderLock(out, "--out"), "another process is writing to it")
    shutil.rmtree(out)
    second.release()
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="it has no such rights")
def test_a_lock_is_a_plain_file_and_one_that_is_refused_leaves_nothing_open(tmp_path):
    def lowest() -> int:
        """The number that the next open file would have."""
        number = os.open(os.devnull, os.O_RDONLY)
        os.close(number)
        return number

    before = os.umask(0)
    try:
        held = FolderLock(tmp_path, "--out")
    finally:
        os.umask(before)
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o666
    number = lowest()
    refusal(lambda: FolderLock(tmp_path, "--out"), "another process is writing to it")
    assert lowest() == number
    held.release()
    assert lowest() < number


@pytest.mark.skipif(os.name == "nt", reason="locks otherwise")
@pytest.mark.parametrize("there", [True, False])
def test_a_disk_without_locks_is_one_sentence_and_nothing_stays(there, tmp_path, monkeypatch):
    out = tmp_path / "new" / "folder"

    def none(*_):
        if not there:  # another was as quick to remove it
            (out / ".lock").unlink()
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    refusal(lambda: FolderLock(out, "--out"), f"{out}: cannot be written (No locks available)")
    assert list(tmp_path.iterdir()) == []


def test_a_run_holds_its_folder_until_its_end(few, tmp_path, unbroken):  # noqa: F811
    from test_training import start, write_set

    data = write_set(tmp_path / "data", few, 20)
    first = start(tmp_path / "run", data)
    refusal(lambda: start(tmp_path / "run", data), f"--out {tmp_path / 'run'}: another process is writing to it")
    reports = iter(first)
    next(reports)
    refusal(lambda: start(tmp_path / "run", data, resume=True), "another process is writing to it")
    reports.close()
    list(start(tmp_path / "run", data, resume=True))
    # One that could not start holds nothing.
    refusal(lambda: start(tmp_path / "run", data, small("denoiser", width=9), resume=True), "--width 9")
    list(start(tmp_path / "run", data, resume=True))


# What it logs


def test_the_log_never_lacks_what_a_checkpoint_has(few, tmp_path, monkeypatch):  # noqa: F811
    from test_training import start, write_set

    usual, seen = checkpoint.save, []

    def saved(trainer, path):
        logged = [line["step"] for line in read_log(path.parent / "log.jsonl")]
        seen.append((trainer.epoch * trainer.steps + trainer.done, max(logged, default=0)))
        usual(trainer, path)

    monkeypatch.setattr(checkpoint, "save", saved)
    list(start(tmp_path / "run", write_set(tmp_path / "data", few, 20), save_every=2))
    assert len(seen) > 2 and all(done == logged for done, logged in seen)


@pytest.mark.parametrize(("done", "kept"), [(0, []), (2, [1, 2]), (3, [1, 2, 3])])
def test_a_log_goes_on_after_what_is_done(tmp_path, done, kept):
    """Whatever else stands in it."""
    lines = [
        '{"step": 1}',
        "[2]",
        '{"step": 2}',
        '{"step": "2"}',
        '{"epoch": 2}',
        '{"step": 3, "x"',
        '{"step": 3}',
        '{"step": 4}',
        "\xff",
    ]
    (tmp_path / "log.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    Log(tmp_path, done).close()
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == kept


# Where it begins again


@pytest.mark.parametrize("network", ["class", pytest.param("cascade", marks=thorough)])
def test_what_died_before_its_first_checkpoint_starts_again(network, call, here, shards, monkeypatch):  # noqa: F811
    """And --resume says so."""
    monkeypatch.setattr(stage_run, "WORDNET", Path("/nowhere"))
    monkeypatch.setattr(stage_run.CascadeRun, "preview", lambda *_: None)

    def killed(*_):
        raise RuntimeError("killed")

    command = argv(network, shards)
    assert call(*command, "--out", "whole")[0] == 0
    kind = mnist_run.Run if network == "class" else stage_run.CascadeRun
    for room, name in ((checkpoint, "save"), (kind, "keep"), (kind, "reports")):
        if name == {"class": "keep", "cascade": "save"}[network]:  # of cascades a model is written too
            continue
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
            patch.setattr(room, name, killed)
            call(*command, "--out", name)
        if name != "reports":
            code, _, err = call(*command, "--out", name, "--resume")
            assert code == 2 and "it ended before its first step, start it again without --resume." in err
            assert err.count("\n") == 1
        shutil.copytree(name, "copy")
        for out, more in ((name, []), ("copy", ["--resume"] if name == "reports" else [])):
            assert call(*command, "--out", out, *more)[0] == 0
            if network == "class":  # of cascades each start learns its tokenizer
                same(Path(out), Path("whole"))
        shutil.rmtree("copy")
        code, _, err = call(*command, "--out", name)
        assert code == 2 and f"--out {name}: already holds a run; continue it with --resume" in err


def test_numbers_gone_wrong_at_once_leave_a_folder_for_another_try(call, unbroken):  # noqa: F811
    code, _, err = call(*TRAIN, "--lr", "1e30", "--out", "run")
    assert code == 2 and "start a new run with an --lr below" in err
    assert call(*TRAIN, "--out", "run")[0] == 0
    same(Path("run"), unbroken)


def test_models_without_a_checkpoint_are_not_trodden_upon(call, unbroken):  # noqa: F811
    shutil.copytree(unbroken, "run")
    Path("run", checkpoint.NAME).unlink()
    Path("broken").mkdir()
    Path("broken", checkpoint.NAME).write_bytes(b"x")
    Path("odd", checkpoint.NAME).mkdir(parents=True)
    for name in ("broken", "odd"):
        code, _, err = call(*TRAIN, "--out", name)
        assert code == 2 and f"--out {name}: already holds a run" in err
    before = sorted(Path("run").rglob("*"))
    for more, words in (([], "--out run: holds the model of a run, but no"), (["--resume"], "--resume: run holds no")):
        code, _, err = call(*TRAIN, "--out", "run", *more)
        assert code == 2 and words in err and "train a new one in another --out." in err
    assert sorted(Path("run").rglob("*")) == before


def test_a_model_that_was_kept_is_not_trodden_upon_where_its_checkpoint_was_not(call, unbroken):  # noqa: F811
    """A kill between the two leaves the checkpoint of the beginning, which has learned nothing, beside a model that has."""
    shutil.copytree(unbroken, "run")
    begun = SimpleNamespace(
        recipe=Recipe.read(Path("run")), state=lambda: ({"network.a": torch.ones(1)}, {"epoch": 0, "done": 0})
    )
    checkpoint.save(begun, Path("run", checkpoint.NAME))
    before = tree(Path("run"))
    code, _, err = call(*TRAIN, "--out", "run")
    assert code == 2 and "--out run: already holds a run; continue it with --resume" in err
    assert tree(Path("run")) == before


OURS = (
    ".log.jsonl.0123abcd.jsonl",
    ".checkpoint.safetensors.00000000.safetensors",
    ".tmpAb12Cd",
    "samples/.epoch-01.png.deadbeef.png",
)
THEIRS = (
    ".notes.txt",
    ".checkpoint.safetensors.00000000.txt",
    ".tmp",
    ".tmpAb12Cd3",
    "x.0123abcd",
    ".x.0123ABCD",
    "mine/.x.0123abcd",
)


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_what_a_killed_process_left_is_swept_at_the_next_start(call, unbroken, more):  # noqa: F811
    if more:
        shutil.copytree(unbroken, "run")
    ours = [*OURS, *["model-02/.config.json.0123abcd.json"] * len(more)]
    for name in (*ours, *THEIRS):
        Path("run", name).parent.mkdir(parents=True, exist_ok=True)
        Path("run", name).write_text("x")
    Path("run/.folder.0123abcd").mkdir()
    assert call(*TRAIN, "--out", "run", *more)[0] == 0
    assert not [name for name in ours if Path("run", name).exists()]
    assert not [name for name in THEIRS if not Path("run", name).exists()] and Path("run/.folder.0123abcd").is_dir()


def test_what_replacing_calls_a_file_is_what_is_swept(tmp_path):
    for name in ("log.jsonl", "plain", ".hidden", "a.b.c"):
        (tmp_path / "deep").mkdir()
        with files.replacing(tmp_path / "deep" / name) as temporary:
            kept = temporary.with_name(temporary.name)
            shutil.copy(temporary, tmp_path / "copy")
        shutil.move(tmp_path / "copy", kept)
        assert kept.exists()
        files.sweep(tmp_path / "deep", tmp_path / "nowhere")
        assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]
        shutil.rmtree(tmp_path / "deep")


# What is checked of a checkpoint


def trained(kind: str, few, gallery):  # noqa: F811
    """A trainer after a few steps, and what makes another that knows nothing."""
    if kind == "class":
        trainer, fresh = make(small(kind), few), lambda: make(small(kind), few)
    else:
        recipe = tiny(images=16 * 8, optimizer=kind)
        tokenizer = spoken(gallery, recipe, None)
        trainer, fresh = (lambda: StageTrainer(recipe, gallery, tokenizer))(), lambda: StageTrainer(recipe, gallery, tokenizer)
    steps = trainer.run() if kind == "class" else trainer.run(report_every=2, check_every=100)
    next(steps)
    next(steps)
    steps.close()
    return trainer, fresh


def saved(trainer, path: Path, change) -> None:
    """Write the checkpoint of ``trainer`` after ``change(tensors, position)``, with a sum that is right."""
    tensors, position = trainer.state()
    changed = change(tensors, position)
    position = position if changed is None else changed
    checkpoint.save(SimpleNamespace(recipe=trainer.recipe, state=lambda: (tensors, position)), path)


def dropped(name: str):
    def do(tensors, _):
        del tensors[next(k for k in tensors if k.startswith(name))]

    return do


def put(name: str, change):
    def do(tensors, _):
        key = next(k for k in tensors if k.startswith(name))
        tensors[key] = change(tensors[key])

    return do


def forget(tensors, _):
    for name in [k for k in tensors if k.startswith("optimiser.")]:
        del tensors[name]


def at(**values):
    return lambda _, position: {**position, **values}


@pytest.mark.parametrize("value", [True, -1, 0.5, 1.0, "1", None, 6, [1]], ids=repr)
def test_a_position_is_whole_numbers_in_their_range(value):
    assert whole({"done": 5}, "done", 5) == 5 and whole({"done": 0}, "done") == 0
    with pytest.raises(ValueError, match="^done is .*, and should be a whole number from 0 to 5$"):
        whole({"done": value}, "done", 5)


COMMON = {
    "a moment of another shape": put("optimiser.0.3.exp_avg", lambda v: v.flatten()[:1].clone()),
    "a moment much larger": put("optimiser.0.3.exp_avg", lambda v: torch.zeros(10, *v.shape)),
    "a moment of another type": put("optimiser.0.3.exp_avg", lambda v: v.double()),
    "a moment that is missing": dropped("optimiser.0.3.exp_avg_sq"),
    "a parameter that nobody remembers": lambda t, _: [t.pop(k) for k in list(t) if k.startswith("optimiser.0.3.")] and None,
    "an optimiser that remembers nothing": forget,
    "a count of steps with a shape": put("optimiser.0.3.step", lambda v: torch.ones(5)),
    "a weight of another shape": put("network.", lambda v: torch.zeros(3, *v.shape)),
    "a weight of another type": put("average.", lambda v: v.to(torch.int32)),
    "a weight that is missing": dropped("network."),
    "a tensor too many": lambda t, _: t.update({"network.more": torch.zeros(1)}),
    "a moment too many": lambda t, _: t.update({"optimiser.0.9999.step": torch.zeros(())}),
    "no count": dropped("count"),
    "a position that is a list": lambda *_: [1, 2],
}
KINDS = {
    "class": {
        "a negative epoch": at(epoch=-1),
        "an epoch too many": at(epoch=3, done=0),
        "a step beyond the epoch": at(done=6),
        "a step after the last epoch": at(epoch=2, done=1),
        "half a step": at(done=0.5),
        "a step that is true": at(done=True),
        "a step that is a word": at(done="4"),
        "another number of steps": at(done=1),
        "a generator's state that none has": put("generator", torch.zeros_like),
        "a generator's state cut short": put("generator", lambda v: v[:100].clone()),
        "losses of another epoch": put("losses", lambda v: v[:2].clone()),
    },
    "adamw": {
        "negative pictures": at(images=-16),
        "more begun than seen": at(begun=16 * 9),
        "more unreported than seen": at(unreported=16 * 9),
        "no pictures": at(images=None),
        "infinitely many": at(images=float("inf")),
    },
    "muon": {"momentum of fewer matrices": put("optimiser.1.0.momentum", lambda v: v[:1].clone())},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_of_a_checkpoint_is_named_before_it_is_used(kind, few, gallery, tmp_path):  # noqa: F811
    trainer, fresh = trained(kind, few, gallery)
    path = tmp_path / checkpoint.NAME
    saved(trainer, path, lambda *_: None)
    checkpoint.load(fresh(), path)  # as it is, it is taken
    other = fresh()
    before = {k: v.clone() for k, v in other.state()[0].items()}
    for name, change in (COMMON | KINDS[kind]).items():
        saved(trainer, path, change)
        text = refusal(
            lambda: checkpoint.load(other, path), f"{path}: does not fit this network (", "start a new run in another --out."
        )
        assert len(text) < 400, name
        after = other.state()[0]
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before), name


@pytest.mark.parametrize("kind", ["class", "muon"])
def test_no_bit_of_a_checkpoint_flips_unnoticed(kind, few, gallery, tmp_path):  # noqa: F811
    """A thousandth of all bits, of weights, moments and header alike; and the file cut off anywhere."""
    trainer, fresh = trained(kind, few, gallery)
    path = tmp_path / checkpoint.NAME
    saved(trainer, path, lambda *_: None)
    content, other, chance = path.read_bytes(), fresh(), random.Random(7)
    header = int.from_bytes(content[:8], "little") + 8
    places = [chance.randrange(header) for _ in range(60)] + [chance.randrange(header, len(content)) for _ in range(60)]
    harmless = 0
    for place in places:
        torn = bytearray(content)
        torn[place] ^= 1 << chance.randrange(8)
        path.write_bytes(torn)
        try:
            checkpoint.load(other, path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error), place
        else:
            harmless += 1  # padding of the header, or the order of its entries
            assert place < header
    assert harmless <= 3
    for length in (0, 7, 8, header - 1, header, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refusal(lambda: checkpoint.load(other, path), f"{path}: is damaged")


def test_a_checkpoint_without_a_sum_or_with_anothers_is_none(few, tmp_path):  # noqa: F811
    trainer, path = make(small("class"), few), tmp_path / checkpoint.NAME
    told = {"position": json.dumps({"epoch": 0, "done": 0}), "recipe": json.dumps(trainer.recipe.to_json())}
    tensors = {name: value.contiguous() for name, value in trainer.state()[0].items()}
    given = (
        (None, "is no checkpoint"),
        (told, "is no checkpoint"),
        ({**told, "sha256": "0" * 64}, "is damaged (its content has"),
    )
    for metadata, words in given:
        save_file(tensors, path, metadata)
        text = refusal(lambda: checkpoint.load(make(small("class"), few), path), "start a new run")
        assert text.startswith(f"{path}: {words}")
    for recipe in ("[" * 100_000, "{", "[]", "9" * 5000):
        told["recipe"] = recipe
        save_file(tensors, path, {**told, "sha256": checkpoint._sum(tensors, told)})
        with pytest.raises(UserError):
            checkpoint.load(make(small("class"), few), path)


def test_only_a_whole_checkpoint_says_that_nothing_is_learned_yet(few, tmp_path):  # noqa: F811
    """What cannot be read may hold days of work."""
    trainer, path = make(small("class"), few), tmp_path / checkpoint.NAME
    assert checkpoint.untouched(path) is False
    checkpoint.save(trainer, path)
    assert checkpoint.untouched(path) is True
    next(trainer.run())
    checkpoint.save(trainer, path)
    assert checkpoint.untouched(path) is False
    path.write_bytes(b"x")
    assert checkpoint.untouched(path) is False
    path.unlink()
    path.mkdir()
    assert checkpoint.untouched(path) is False


def test_where_a_checkpoint_stands_is_summed_with_its_tensors(few, tmp_path):  # noqa: F811
    """A position or a recipe that is as good as any, but not the one that was saved."""
    trainer, path = make(small("class"), few), tmp_path / checkpoint.NAME
    saved(trainer, path, lambda *_: None)
    with safe_open(path, framework="pt") as file:
        whole = file.metadata()
    for name, other in (("position", {"epoch": 1, "done": 0}), ("recipe", {**trainer.recipe.to_json(), "lr": 1.0})):
        save_file(load_file(path), path, {**whole, name: json.dumps(other)})
        refusal(lambda: checkpoint.load(make(small("class"), few), path), f"{path}: is damaged (its content has another SHA-256")
    for name, value in load_file(path).items():  # and what each tensor is called, whatever is in it
        save_file({**{k: v for k, v in load_file(path).items() if k != name}, f"{name}.": value}, path, whole)
        refusal(lambda: checkpoint.load(make(small("class"), few), path), f"{path}: is damaged (its content has another SHA-256")
        break


def test_a_damaged_checkpoint_is_one_sentence_on_the_command_line(call, unbroken):  # noqa: F811
    shutil.copytree(unbroken, "run")
    path = Path("run", checkpoint.NAME)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    code, out, err = call(*TRAIN, "--out", "run", "--resume")
    assert (code, out) == (2, "") and err.startswith("phosphene: run/checkpoint.safetensors: is damaged") and err.count("\n") == 1
