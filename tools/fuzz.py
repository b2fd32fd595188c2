"""Hands each reader of files damaged ones, and says how many it took.

    python tools/fuzz.py [--minutes 10] [--engine atheris] [READER ...]

A reader may answer or raise UserError: anything else, thirty seconds of a processor, or two gigabytes, ends the run with exit
code 1 and leaves the file in out/fuzz. What is handed in are whole files with bytes changed, put in, taken out and doubled, or,
of those that are JSON, with values changed; hypothesis chooses, a new seed every round. A damaged file that reaches lines (of
phosphene, Pillow or Python's parsers) which none before it reached is damaged further in the rounds that follow: by these lines
it gets deeper than chance does. Each reader runs in a process of its own.

With ``--engine atheris`` (``pip install atheris``, which nothing else here needs) libFuzzer chooses instead: it knows which
branches of these modules a file took and what was compared with what, and makes more files of those that are bytes.
"""

from __future__ import annotations

import argparse
import copy
import functools
import gc
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType, FunctionType, SimpleNamespace

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as tensors

from phosphene.errors import UserError
from phosphene.images import save_png
from phosphene.models import catalogue, distilled, folders, tokens, weights
from phosphene.models.cascade import open_cascade
from phosphene.models.diffusers_files import network_config
from phosphene.models.if_stage import if_network
from phosphene.models.if_unet import IFUNet
from phosphene.models.scheduler import read_schedule
from phosphene.models.t5 import T5Encoder
from phosphene.models.text import TOKENS, Text, read_embeddings
from phosphene.models.transformer import PatchTransformer
from phosphene.models.unet import MnistUNet
from phosphene.readers import read_mask, read_pairs_file, read_picture, read_provenance
from phosphene.report.page import read_config
from phosphene.tasks import sketches
from phosphene.training import checkpoint
from phosphene.training.log import read_log
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.recipes import recipe, resumed
from phosphene.training.text_to_image.captions import Thesaurus
from phosphene.training.text_to_image.pictures import read
from phosphene.training.text_to_image.recipe import CascadeRecipe, saved_recipe

FOUND = Path("out/fuzz")
SECONDS, BYTES = 30, 2 * 2**30
ROUND = 200
"""Files between two looks at the clock."""
KEPT = 300
"""Damaged files that are damaged further, at most: the newest."""
FOLLOWED = ("phosphene", "PIL", "json", "tomllib", "tarfile", "zipfile", "gzip", "csv")
"""Packages and modules whose lines are followed."""


def followed(code: CodeType) -> bool:
    return any(part in FOLLOWED for part in Path(code.co_filename).with_suffix("").parts)


class Reached:
    """The lines that anything has reached while it was followed."""

    def __init__(self) -> None:
        self.lines: set[tuple[object, int]] = set()
        self._own: dict[object, bool] = {}

    def follow(self, call: Callable[[], object]) -> bool:
        """Call it; whether it reached a line that nothing did before."""
        before = len(self.lines)
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(None)
            self.grew = len(self.lines) > before
        return self.grew

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable | None:
        code = frame.f_code
        if code not in self._own:
            self._own[code] = followed(code)
        return self._line if self._own[code] else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable:
        self.lines.add((frame.f_code, frame.f_lineno))
        return self._line


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


def sketched() -> list[bytes]:
    """A sheet of sketches."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        sketches.write(sketches.Concepts(("a fox", "a hen"), torch.zeros(2, 1, 3, sketches.SIDE, sketches.SIDE), 4.0), path)
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


# Models of a few weights, in folders of their own: one of their files is damaged, the others are whole


UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": [32, 64],
    "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "in_channels": 3,
    "out_channels": 6,
    "cross_attention_dim": 32,
    "encoder_hid_dim": 32,
    "attention_head_dim": 8,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 2,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
}
SHA = "SHA256SUMS"


@functools.cache
def model() -> Path:
    """A model folder of the MNIST chapter."""
    path = Path(tempfile.mkdtemp())
    config = json.loads(embedded("class-20/config.json")[0])
    config["network"]["width"] = 2
    catalogue.write(path, config, MnistUNet(**config["network"]).state_dict())
    return path


@functools.cache
def cascade() -> Path:
    """A stage that reads text, of our own kind, and in if/ one of DeepFloyd IF's."""
    path, glyph = Path(tempfile.mkdtemp()), folders.EMBEDDED / "glyph" / "stage-1"
    shutil.copytree(glyph / "scheduler", path / "scheduler")
    shutil.copy(glyph / "model_index.json", path)
    tokens.save(tokens.learn(["a red fox", "a hen on a hill"], 60), path / "tokenizer", 16)
    text = T5Encoder(vocab_size=60, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 4, "caption_channels": 8}
    image = PatchTransformer(sample_size=16, patch_size=4, **sizes)
    for part, network, file in (
        ("text_encoder", text, "model"),
        ("transformer", image, "diffusion_pytorch_model"),
        ("if/unet", IFUNet(UNET), "diffusion_pytorch_model"),
    ):
        (path / part).mkdir(parents=True)
        (path / part / "config.json").write_text(json.dumps(UNET if part == "if/unet" else network.config))
        weights.save(network.state_dict(), path / part / f"{file}.safetensors")
    return path


def difference(file: str, told: dict) -> Path:
    """A model that is a difference to the first of these, as ``told`` in a ``file``."""
    path = Path(tempfile.mkdtemp())
    (path / file).write_text(json.dumps(told))
    name = "transformer_blocks.0.attn1.to_q"
    change = {f"{name}.weight{distilled.UP}": torch.ones(2, 8), f"{name}.weight{distilled.DOWN}": torch.ones(2, 8)}
    weights.save(change | {f"{name}.bias": torch.ones(8)}, path / distilled.DIFFERENCE, "int8")
    return path


@functools.cache
def student() -> Path:
    """What is distilled of it."""
    told = {"teacher": str(cascade()), "timesteps": [999, 600, 300], "guidance": 4.0}
    return difference(folders.DISTILLED, told)


@functools.cache
def adapted() -> Path:
    """What is adapted of it."""
    return difference(folders.ADAPTED, {"base": str(cascade())})


@functools.cache
def text_encoder() -> Path:
    """A text encoder of transformers, as DeepFloyd IF has one."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    path = Path(tempfile.mkdtemp())
    vocabulary = json.loads(tokens.learn(["a red fox", "a hen on a hill"], 60).to_str())["model"]["vocab"]
    T5Tokenizer(vocab=[tuple(entry) for entry in vocabulary], extra_ids=0).save_pretrained(path / "tokenizer")
    sizes = {"vocab_size": 64, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(**sizes)).save_pretrained(path / "text_encoder")
    return path


def damaging(whole: Callable[[], Path], name: str, read: Callable[[Path], object]) -> tuple:
    """A reader of a folder ``whole()`` in which the file ``name`` is damaged."""

    def damaged(path: Path) -> None:
        folder = path.parent / "whole"
        if not folder.exists():
            shutil.copytree(whole(), folder)
            if name != SHA:
                (folder / SHA).unlink(missing_ok=True)
        shutil.copy(path, folder / name)
        read(folder)

    return Path(name).name, lambda: [(whole() / name).read_bytes()], damaged


def draws(folder: Path) -> None:
    open_cascade(folder).encode(["a red fox", None])


def taken_up(path: Path) -> None:
    """A checkpoint; what it holds is compared with its sum, and with the recipe."""
    checkpoint.load(SimpleNamespace(recipe=recipe("class"), restore=lambda *_: None), path)


def begun() -> list[bytes]:
    """A checkpoint of a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / checkpoint.NAME
        state = {"network.a": torch.ones(3, 2)}, {"epoch": 1, "done": 2}
        checkpoint.save(SimpleNamespace(recipe=recipe("class"), state=lambda: state), path)
        return [path.read_bytes()]


def captioned(path: Path) -> None:
    """The folder of a METADATA, with the pictures that it names."""
    for name in ("a.png", "b.png"):
        if not path.with_name(name).exists():
            path.with_name(name).write_bytes(pictures()[0])
    list(read(path.parent))


LINES = b'{"file_name": "a.png", "text": "a fox"}\n{"file_name": "b.png", "caption": "a hen", "size": 1}\n'
TABLE = b'file_name,text\na.png,a fox\nb.png,"a hen, a ""bird"""\n'
STAGE = {"images": 8, "recipe": CascadeRecipe().to_json()}
WORDS = b'{"same": {"fox": ["vixen"]}, "near": {"fox": ["dog", "wolf"]}}'
PAGE = b"""title = "T"

[sections.guided]
text = "What I saw."
prompt = "a castle"

[sections."1.1"]
picture = "castle-hill"

[sections.hybrid-pictures]
prompts = [["a castle", "a fox"]]
sigma = 2.5

[sections.inpainted]
pictures = [["castle-hill", "castle-hill-mask", "a lake"]]
"""


READERS: dict[str, tuple[str, Callable[[], list[bytes]], Callable[[Path], object]]] = {
    "pictures": ("x.png", pictures, read_picture),
    "masks": ("x.png", pictures, read_mask),
    "provenance": ("x.png", told, read_provenance),
    "sheets": ("x.png", sketched, sketches.read),
    "pairs": ("x.txt", lambda: [b"# mine\na duck, a rabbit\na man, old\tfruit\n"], lambda path: read_pairs_file(path, "--pairs")),
    "weights": ("x.safetensors", lambda: [tensors({"a": torch.ones(3, 2), "b": torch.ones(2).half()})], weights.load),
    "embeddings": ("x.pth", lambda: [saved({"a fox": torch.zeros(1, TOKENS, 2)})], lambda path: read_embeddings(path, 2)),
    "idx": ("set/x", images, image_set),
    "shards": ("set/x.tar", shards, lambda path: list(read(path))),
    "captions": ("set/metadata.jsonl", lambda: [LINES], captioned),
    "tables": ("set/metadata.csv", lambda: [TABLE], captioned),
    "thesauri": ("x.json", lambda: [WORDS], Thesaurus.load),
    "models": damaging(model, "config.json", catalogue.load),
    "sums": damaging(model, SHA, catalogue.load),
    "networks": damaging(cascade, "transformer/config.json", draws),
    "encoders": damaging(cascade, "text_encoder/config.json", draws),
    "tokenizers": damaging(cascade, "tokenizer/tokenizer.json", draws),
    "T5's tokenizers": damaging(
        text_encoder,
        "tokenizer/tokenizer.json",
        lambda folder: Text(folder, 8, torch.device("cpu"), torch.float32).embed("a red fox"),
    ),
    "students": damaging(student, folders.DISTILLED, draws),
    "adapted": damaging(adapted, folders.ADAPTED, draws),
    "differences": damaging(student, distilled.DIFFERENCE, draws),
    "unets": damaging(
        cascade,
        "if/unet/config.json",
        lambda folder: if_network(folder / "if" / "unet", network_config(folder / "if"), torch.float32, False),
    ),
    "schedulers": (
        "scheduler_config.json",
        lambda: embedded("glyph/stage-1/scheduler/scheduler_config.json"),
        lambda path: read_schedule(path.parent),
    ),
    "checkpoints": ("x.safetensors", begun, taken_up),
    "recipes": (
        "set/recipe.json",
        lambda: [json.dumps(recipe("class").to_json()).encode()],
        lambda path: resumed("class", path.parent),
    ),
    "stages": ("set/recipe.json", lambda: [json.dumps(STAGE).encode()], lambda path: saved_recipe(path.parent)),
    "pages": ("page.toml", lambda: [PAGE], read_config),
    "logs": ("log.jsonl", lambda: [b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'], read_log),
}
"""What is read: under which name, from which whole files, by what."""

OF_BYTES = ("pictures", "masks", "provenance", "weights", "embeddings", "idx", "shards")
"""Readers of what is no text, which libFuzzer changes best."""
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


VALUES = [None, True, False, -1, 0, 3, 0.5, 1e308, 10**5, 2**70, "", "x", "\0", "../x", [], [1], [[]], {}, {"x": 1}]
"""What is put in the place of a value of JSON; the last is to take the place away."""
RESHAPES = st.lists(st.tuples(st.integers(0, 2**20), st.sampled_from(range(len(VALUES) + 1))), min_size=1, max_size=4)


def reshaped(whole: bytes, changes: Sequence[tuple[int, int]]) -> bytes:
    """JSON, or lines of it, with values changed."""
    try:
        held = [json.loads(whole)]
    except ValueError:
        held = [json.loads(line) for line in whole.splitlines()]
    for where, value in changes:
        places = list(inner(held))
        container, key = places[where % len(places)]
        if value < len(VALUES):
            container[key] = copy.deepcopy(VALUES[value])
        elif container is not held:
            del container[key]
    return b"\n".join(json.dumps(each).encode() for each in held)


def inner(held: object) -> Iterator[tuple]:
    """Each container in ``held`` with each of its keys."""
    for key, value in list(held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()):
        yield held, key
        yield from inner(value)


def fuzz(name: str, minutes: float) -> None:
    """One reader, in this process; exits with 1 where it fails."""
    warnings.simplefilter("ignore")  # of libraries, about what they were handed
    file, seeds, reader = READERS[name]
    count, refused, slowest, reached, deeper = 0, 0, 0.0, Reached(), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.parent.mkdir(exist_ok=True)

        def check(which: int, changes: Sequence[tuple[str, int, bytes]], values: Sequence[tuple[int, int]]) -> None:
            nonlocal count, refused, slowest
            every = [*whole, *deeper]
            of = every[which % len(every)]
            # Of JSON most damage of bytes leaves no JSON: half of its files are otherwise whole.
            reshapes = structured and count % 2
            content = reshaped(of, values) if reshapes else damaged(of, changes)
            path.write_bytes(content)
            begun = time.process_time()
            try:
                reached.follow(lambda: reader(path))
            except UserError as error:
                refused += 1
                assert "\n" not in str(error), f"more than a line: {error}"
            count, slowest = count + 1, max(slowest, time.process_time() - begun)
            if reached.grew and (reshapes or not structured):  # what is damaged in its bytes is no JSON to change values of
                deeper.append(content)
                del deeper[:-KEPT]
            assert slowest < SECONDS, f"took {slowest:.0f} s"
            held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert held * 1024 < BYTES, f"took {held * 1024:,} bytes"

        number, whole, structured = 0, seeds(), path.suffix in (".json", ".jsonl")
        for content in whole:  # these are read, and what that takes is loaded
            path.write_bytes(content)
            reached.follow(lambda: reader(path))
        usual, known = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(reached.lines)
        due = time.monotonic() + 60 * minutes
        how = settings(
            max_examples=ROUND, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        while time.monotonic() < due:
            number += 1
            try:
                seed(number)(how(given(st.integers(0, 2**20), CHANGES, RESHAPES)(check)))()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # what panics in Rust is no Exception
                FOUND.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, FOUND / f"{name}-{path.name}")
                print(f"{name}: failed after {count:,} files, of which the last is {FOUND / f'{name}-{path.name}'}", flush=True)
                traceback.print_tb(error.__traceback__, -3)
                sys.exit(f"{type(error).__name__}: {str(error)[:500]}")
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worst = f"at most {slowest:.2f} s, {held / 1024:.0f} MB in all, {(held - usual) / 1024:.0f} MB more than at first"
    lines = f"{len(reached.lines):,} lines reached, {len(reached.lines) - known:,} of them by damaged files alone"
    print(f"{name}: {count:,} files, {refused:,} refused, none failed; {lines}; {worst}", flush=True)


def by_atheris(name: str, minutes: float, folder: Path) -> None:
    """One reader, in this process, by libFuzzer: it says how many files it made, and ends the process itself."""
    import atheris

    file, seeds, reader = READERS[name]
    path, corpus = folder / file, folder / "corpus"
    for each in (path.parent, corpus, FOUND):
        each.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds()):
        (corpus / str(number)).write_bytes(content)
        path.write_bytes(content)
        reader(path)  # and what that takes is loaded
    for each in gc.get_objects():
        if type(each) is FunctionType and followed(each.__code__):  # isinstance would wake what is deprecated
            atheris.instrument_func(each)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with warnings.catch_warnings(action="ignore"), suppress(UserError):
            reader(path)

    limits = {"max_total_time": round(60 * minutes), "timeout": SECONDS, "rss_limit_mb": BYTES >> 20}
    how = limits | {"artifact_prefix": f"{FOUND / name}-", "print_final_stats": 1, "verbosity": 0}
    print(f"{name}, by atheris:", flush=True)
    atheris.Setup([name, *(f"-{option}={value}" for option, value in how.items()), str(corpus)], check)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; all by default")
    parser.add_argument("--minutes", type=float, default=10, help="for each reader")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis", help="what chooses the damage")
    options = parser.parse_args()
    if options.engine == "atheris" and find_spec("atheris") is None:
        parser.error("--engine atheris: is not installed; pip install atheris")
    if unknown := set(options.readers) - set(READERS):
        parser.error(f"no reader is called {', '.join(unknown)}")
    failed, context = [], multiprocessing.get_context("spawn")
    for name in options.readers or (READERS if options.engine == "hypothesis" else OF_BYTES):
        with tempfile.TemporaryDirectory() as folder:
            more = () if options.engine == "hypothesis" else (Path(folder),)
            process = context.Process(target=by_atheris if more else fuzz, args=(name, options.minutes, *more))
            process.start()
            process.join()
        failed += [name] * (process.exitcode != 0)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
