"""Image sets for training from scratch: IDX files found or fetched, checked, and held as tensors.

Looked for in this order: the folder given, the folder in ``PHOSPHENE_DATA``, the cache, two mirrors. A known set is
verified by SHA-256: MNIST by its uncompressed content (the compressed files differ from mirror to mirror),
Fashion-MNIST by its published archives.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phosphene.defaults import DATASETS
from phosphene.errors import UserError, require_one_of
from phosphene.files import cache_folder, sha256
from phosphene.readers import require_bounded
from phosphene.training.tables import table

MOST_BYTES = 2**29
"""Of a file, unpacked."""
PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Source:
    """Where a known set comes from. ``content``: SHA-256 of the uncompressed parts by name; ``archive``: of the .gz files."""

    mirrors: tuple[str, ...]
    content: Mapping[str, str] = field(default_factory=dict)
    archive: Mapping[str, str] = field(default_factory=dict)


SOURCES = {name: Source(**said) for name, said in table("mnist/sources.toml").items()}


@dataclass(frozen=True)
class Split:
    """Pictures (N, 1, 28, 28) and labels (N,), both uint8; a pixel p means p / 255."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A named image set in two splits."""

    name: str
    train: Split
    test: Split

    @property
    def classes(self) -> int:
        return int(max(self.train.labels.max(), self.test.labels.max())) + 1


def load_dataset(name: str, data: Path | None = None, fetch: bool = True) -> Dataset:
    """The image set called ``name``: ``mnist``, ``fashion``, ``digits`` (scikit-learn's, no files needed), or ``idx``.

    ``idx`` is any set of 28x28 pictures in the four IDX files of MNIST. ``data`` is a folder with the files, plain or
    gzipped; without ``fetch`` they must be there already. Raises UserError for an unknown name, a missing folder or file,
    and damaged or mislabelled files.
    """
    require_one_of("--dataset", name, DATASETS)
    if name == "digits":
        if data is not None:
            raise UserError(f"--data {data}: is not read for digits, which come with scikit-learn; leave it out.")
        return _scikit_digits()
    if data is not None and not Path(data).is_dir():
        raise UserError(f"--data {data}: no such folder; name one that holds {PARTS[0]}.gz and its three companions.")
    paths = [_find(name, part, data, fetch) for part in PARTS]
    arrays = [_checked(name, part, path) for part, path in zip(PARTS, paths, strict=True)]
    splits = []
    for images, labels, where in ((arrays[0], arrays[1], paths[0]), (arrays[2], arrays[3], paths[2])):
        if len(images) != len(labels):
            raise UserError(f"{where}: holds {len(images)} pictures, but its companion {len(labels)} labels; fetch both again.")
        splits.append(Split(torch.from_numpy(images)[:, None], torch.from_numpy(labels)))
    return Dataset(name, *splits)


OTHERS = "is not here, and its mirrors gave other files"


def _find(name: str, part: str, data: Path | None, fetch: bool) -> Path:
    environment = os.environ.get("PHOSPHENE_DATA")
    # A folder in the environment may hold one subfolder for each set.
    places = [Path(data)] if data is not None else []
    if not places and environment:
        # The folder itself is MNIST's, as the four files are named alike in every set.
        places = [Path(environment) / name, *([Path(environment)] if name in ("mnist", "idx") else [])]
    places.append(cache_folder() / name)
    # Fashion-MNIST is known by its archives: a plain file of it could not be told from MNIST's, which has the same form.
    names = (f"{part}.gz",) if name == "fashion" else (f"{part}.gz", part)
    for place in places:
        for file in (place / n for n in names):
            if file.is_file():
                return file
    if data is not None:
        raise UserError(f"--data {data}: holds no {part}.gz; put the four IDX files there, or leave --data out to download them.")
    if name == "idx":
        raise UserError("--dataset idx: needs --data DIR, the folder with the four IDX files.")
    if not fetch:
        raise UserError(f"--dataset {name}: is not here; name its folder with --data, or in PHOSPHENE_DATA.")
    return _fetch(name, part)


def _fetch(name: str, part: str) -> Path:
    import pooch

    source = SOURCES[name]
    known = f"sha256:{source.archive[part]}" if source.archive else None
    why = "is not here, and none of its mirrors can be reached"
    for mirror in source.mirrors:
        try:
            file = Path(pooch.retrieve(f"{mirror}{part}.gz", known, fname=f"{part}.gz", path=cache_folder() / name))
        except OSError:  # no network, or no such file there: the next mirror may do better,
            continue
        except ValueError:  # and so where it has another hash
            why = OTHERS
            continue
        try:
            _checked(name, part, file)
            return file
        except UserError:
            file.unlink(missing_ok=True)
            why = OTHERS
    raise UserError(
        f"--dataset {name}: {why}; put the four IDX files into a folder and name it with --data, "
        "or take --dataset digits, which needs neither."
    )


def _checked(name: str, part: str, path: Path) -> np.ndarray:
    """The array of an IDX file, verified for a known set."""
    source = SOURCES.get(name)
    require_bounded(path, MOST_BYTES, "it is damaged, fetch it again")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)  # a small file may unpack to one that fills the memory
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read or is truncated ({error}); fetch it again.") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: holds more than {MOST_BYTES:,} bytes, which is ten times MNIST; it is damaged, fetch it again.")
    array = read_idx(content, path, images="images" in part)
    again = "fetch it again or use --dataset idx"
    if source and source.content and hashlib.sha256(content).hexdigest() != source.content[part]:
        raise UserError(f"{path}: is not {name}'s {part} (its content has another SHA-256); {again}.")
    if source and source.archive and path.suffix == ".gz" and sha256(path) != source.archive[part]:
        raise UserError(f"{path}: is not {name}'s {part}.gz (another SHA-256); {again}.")
    return array


def read_idx(content: bytes, path: Path, images: bool) -> np.ndarray:
    """The uint8 array of an IDX file's ``content``: (N, 28, 28) pictures, or (N,) labels 0..9. ``path`` names it in errors."""
    wanted, what = (3, "pictures (magic 2051)") if images else (1, "labels (magic 2049)")
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UserError(f"{path}: is no IDX file; it should hold {what}.")
    if content[2] != 8 or content[3] != wanted:
        magic = int.from_bytes(content[:4], "big")
        raise UserError(f"{path}: has magic {magic}, but should hold {what}; the files may be swapped.")
    header = 4 + 4 * wanted
    if len(content) < header:
        raise UserError(f"{path}: is truncated in its header; fetch it again.")
    shape = struct.unpack(f">{wanted}I", content[4:header])
    if len(content) != header + int(np.prod(shape, dtype=np.int64)):
        raise UserError(
            f"{path}: says {shape} but holds {len(content) - header} bytes; it is truncated or damaged, fetch it again."
        )
    if shape[0] == 0 or (images and shape[1:] != (28, 28)):
        raise UserError(f"{path}: holds {shape}; expected at least one picture of 28x28.")
    array = np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
    if not images and array.max() > 9:
        raise UserError(f"{path}: has label {array.max()}; labels must lie in 0..9.")
    return array


def _scikit_digits() -> Dataset:
    """1,797 digits of 8x8 (UCI, bundled with scikit-learn), brought to MNIST's form: 20x20 in a 28x28 frame."""
    bundle = importlib.util.find_spec("sklearn")  # whose import would take seconds, and the file's reading takes none
    needs = "--dataset digits: needs scikit-learn, with the digits that it brings; install phosphene[train]."
    if bundle is None:
        raise UserError(needs)
    try:
        with gzip.open(Path(bundle.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
            table = np.array([line.split(",") for line in file], np.uint8).reshape(1797, 65)  # 64 pixels in 0..16 and the digit
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(needs) from error
    small = torch.from_numpy(table[:, :-1].reshape(-1, 1, 8, 8)).float() / 16
    large = torch.nn.functional.interpolate(small, size=(20, 20), mode="bicubic", align_corners=False).clamp(0, 1)
    images = torch.nn.functional.pad((large * 255).round().to(torch.uint8), (4, 4, 4, 4))
    labels = torch.from_numpy(table[:, -1].copy())
    # The file is sorted by writer, so the last fifth are people the first four fifths never saw.
    cut = len(images) * 4 // 5
    return Dataset("digits", Split(images[:cut], labels[:cut]), Split(images[cut:], labels[cut:]))
