"""Hands each reader of files damaged ones, and says how many it took.

    python tools/fuzz.py [--minutes 10] [READER ...]

A reader may answer or raise UserError: anything else, thirty seconds for one file, or two gigabytes, ends the run with exit
code 1 and leaves the file in out/fuzz. What is handed in are whole files with bytes changed, put in, taken out and doubled,
which hypothesis chooses, a new seed every round. Each reader runs in a process of its own.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import resource
import shutil
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as tensors

from phosphene.errors import UserError
from phosphene.images import save_png
from phosphene.models import catalogue, folders, weights
from phosphene.models.scheduler import Scheduler
from phosphene.models.text import TOKENS, read_embeddings
from phosphene.readers import read_mask, read_picture, read_provenance
from phosphene.training.log import read_log
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.recipes import recipe, resumed
from phosphene.training.text_to_image.pictures import read

FOUND = Path("out/fuzz")
SECONDS, BYTES = 30, 2 * 2**30
ROUND = 200
"""Files between two looks at the clock."""


def pictures() -> list[bytes]:
    """A small picture of each kind."""
    found = []
    for mode, kinds in (
        ("RGB", ("PNG", "JPEG", "WEBP", "BMP", "TIFF")),
        ("RGBA", ("PNG", "WEBP", "TIFF")),
        ("P", ("GIF", "PNG")),
    ):
        image = Image.radial_gradient("L").resize((24, 16)).convert(mode)
        for kind in kinds:
            held = io.BytesIO()
            image.save(held, kind)
            found.append(held.getvalue())
    return found


def told() -> list[bytes]:
    """A PNG that says how it was made."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        story = {
            "command": "digits",
            "version": "0",
            "arguments": {"digits": "3", "seed": 180},
            "model": "class-20",
            "torch": "2",
        }
        save_png(Image.new("L", (8, 8)), path, story)
        return [path.read_bytes()]


def saved(held: object) -> bytes:
    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


def images() -> list[bytes]:
    plain = struct.pack(">HBBIII", 0, 8, 3, 2, 28, 28) + bytes(2 * 784)
    return [plain, gzip.compress(plain)]


def shards() -> list[bytes]:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, content in (
            ("a.png", pictures()[0]),
            ("a.txt", b"a fox"),
            ("b.png", pictures()[0]),
            ("b.json", b'{"caption": "b"}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return [held.getvalue()]


def image_set(path: Path) -> None:
    """The three files beside the damaged one are whole, so that it is looked at."""
    labels = struct.pack(">HBBI", 0, 8, 1, 2) + bytes(2)
    packed = path.read_bytes()[:2] == b"\x1f\x8b"
    shutil.copy(path, path.with_name("train-images-idx3-ubyte" + ".gz" * packed))
    path.with_name("train-images-idx3-ubyte" + ".gz" * (not packed)).unlink(missing_ok=True)
    for name, content in (("train-labels-idx1", labels), ("t10k-images-idx3", images()[0]), ("t10k-labels-idx1", labels)):
        path.with_name(f"{name}-ubyte").write_bytes(content)
    load_dataset("idx", path.parent)


def embedded(*names: str) -> list[bytes]:
    return [(folders.EMBEDDED / name).read_bytes() for name in names]


READERS: dict[str, tuple[str, Callable[[], list[bytes]], Callable[[Path], object]]] = {
    "pictures": ("x.png", pictures, read_picture),
    "masks": ("x.png", pictures, read_mask),
    "provenance": ("x.png", told, read_provenance),
    "weights": ("x.safetensors", lambda: [tensors({"a": torch.ones(3, 2), "b": torch.ones(2).half()})], weights.load),
    "embeddings": ("x.pth", lambda: [saved({"a fox": torch.zeros(1, TOKENS, 2)})], lambda path: read_embeddings(path, 2)),
    "idx": ("set/x", images, image_set),
    "shards": ("set/x.tar", shards, lambda path: list(read(path))),
    "configs": ("set/config.json", lambda: embedded("class-20/config.json"), lambda path: catalogue.read_config(path.parent)),
    "schedulers": (
        "scheduler_config.json",
        lambda: embedded("glyph/stage-1/scheduler/scheduler_config.json"),
        lambda path: Scheduler.read(path).schedule(),
    ),
    "recipes": (
        "set/recipe.json",
        lambda: [json.dumps(recipe("class").to_json()).encode()],
        lambda path: resumed("class", path.parent),
    ),
    "logs": ("log.jsonl", lambda: [b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'], read_log),
}
"""What is read: under which name, from which whole files, by what."""

CHANGES = st.lists(st.tuples(st.sampled_from("spcdx"), st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), max_size=12)


def damaged(whole: bytes, changes: Sequence[tuple[str, int, bytes]]) -> bytes:
    content = bytearray(whole)
    for kind, where, new in changes:
        at = where % (len(content) + 1)
        match kind:
            case "s":
                content[at : at + len(new)] = new
            case "p":
                content[at:at] = new
            case "c":
                del content[at:]
            case "d":
                content[at:at] = content[at : at + 64]
            case _:
                del content[at : at + len(new)]
    return bytes(content)


def fuzz(name: str, minutes: float) -> None:
    """One reader, in this process; exits with 1 where it fails."""
    warnings.simplefilter("ignore")  # of libraries, about what they were handed
    file, seeds, reader = READERS[name]
    due, count, refused, slowest = time.monotonic() + 60 * minutes, 0, 0, 0.0
    usual = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.parent.mkdir(exist_ok=True)

        def check(which: int, changes: Sequence[tuple[str, int, bytes]]) -> None:
            nonlocal count, refused, slowest
            path.write_bytes(damaged(whole[which], changes))
            begun = time.monotonic()
            try:
                reader(path)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error), f"more than a line: {error}"
            count, slowest = count + 1, max(slowest, time.monotonic() - begun)
            assert slowest < SECONDS, f"took {slowest:.0f} s"
            held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert held * 1024 < BYTES, f"took {held * 1024:,} bytes"

        number, whole = 0, seeds()
        how = settings(
            max_examples=ROUND, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        while time.monotonic() < due:
            number += 1
            try:
                seed(number)(how(given(st.sampled_from(range(len(whole))), CHANGES)(check)))()
            except Exception as error:
                FOUND.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, FOUND / f"{name}-{path.name}")
                print(f"{name}: failed after {count:,} files, of which the last is {FOUND / f'{name}-{path.name}'}", flush=True)
                traceback.print_tb(error.__traceback__, -3)
                sys.exit(f"{type(error).__name__}: {str(error)[:500]}")
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worst = f"at most {slowest:.2f} s, {held / 1024:.0f} MB in all, {(held - usual) / 1024:.0f} MB more than at first"
    print(f"{name}: {count:,} files, {refused:,} refused, none failed; {worst}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; all by default")
    parser.add_argument("--minutes", type=float, default=10, help="for each reader")
    options = parser.parse_args()
    if unknown := set(options.readers) - set(READERS):
        parser.error(f"no reader is called {', '.join(unknown)}")
    failed, context = [], multiprocessing.get_context("spawn")
    for name in options.readers or READERS:
        process = context.Process(target=fuzz, args=(name, options.minutes))
        process.start()
        process.join()
        failed += [name] * (process.exitcode != 0)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
