"""Image sets: what loads has the right form, and what is damaged, mislabelled or missing is said in one sentence."""

import gzip
import hashlib
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from phosphene.errors import UserError
from phosphene.training.mnist import data
from phosphene.training.mnist.data import PARTS, SOURCES, Source, load_dataset, read_idx

torch.set_num_threads(1)

REAL = os.environ.get("PHOSPHENE_DATA")  # read before the fixture below takes it away
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = PARTS


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No test sees the machine's data, its cache or the network."""
    import pooch

    def refuse(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.delenv("PHOSPHENE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pooch, "retrieve", refuse)


def idx(array) -> bytes:
    """The IDX file of a uint8 array (LeCun's format: two zero bytes, type 8, rank, sizes, big endian)."""
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def arrays(train: int = 6, test: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        TRAIN_IMAGES: random.integers(0, 256, (train, 28, 28), np.uint8),
        TRAIN_LABELS: np.arange(train, dtype=np.uint8) % 10,
        TEST_IMAGES: random.integers(0, 256, (test, 28, 28), np.uint8),
        TEST_LABELS: np.arange(test, dtype=np.uint8)[::-1] % 10,
    }


def put(folder: Path, gz: bool = False, **contents: bytes | None) -> Path:
    """Four IDX files in ``folder``; ``contents`` replaces some (keys with _ for -), None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    replaced = {name.replace("_", "-"): content for name, content in contents.items()}
    for part, array in arrays().items():
        content = replaced.get(part, idx(array))
        if content is not None:
            (folder / f"{part}.gz" if gz else folder / part).write_bytes(gzip.compress(content) if gz else content)
    return folder


def refusal(*names: str, **call) -> str:
    """The UserError of ``load_dataset(**call)``: one sentence, with all of ``names`` in it."""
    with pytest.raises(UserError) as caught:
        load_dataset(**call)
    text = str(caught.value)
    assert "\n" not in text and text.endswith("."), text
    for name in names:
        assert name in text, text
    return text


# scikit-learn's digits


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_digits_have_the_form_of_mnist(digits):
    assert digits.name == "digits" and digits.classes == 10
    assert len(digits.train) + len(digits.test) == 1797
    for split in (digits.train, digits.test):
        assert split.images.shape == (len(split), 1, 28, 28) and split.images.dtype == torch.uint8
        assert split.labels.shape == (len(split),) and split.labels.dtype == torch.uint8
        assert set(split.labels.tolist()) == set(range(10))
        frame = split.images.clone()
        frame[:, :, 4:-4, 4:-4] = 0
        assert not frame.any() and split.images.amax(dim=(1, 2, 3)).min() > 128


def test_digits_are_those_of_scikit_learn_in_order(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.cat([digits.train.images, digits.test.images])[:, :, 4:-4, 4:-4].float()
    assert torch.cat([digits.train.labels, digits.test.labels]).tolist() == bunch.target.tolist()
    small = torch.nn.functional.interpolate(images, size=(8, 8), mode="area").flatten(1) / 255
    ours, theirs = small - small.mean(1, keepdim=True), torch.from_numpy(bunch.images).float().flatten(1) / 16
    theirs = theirs - theirs.mean(1, keepdim=True)
    assert torch.cosine_similarity(ours, theirs).min() > 0.95  # the same picture, only larger


DAMAGED = {
    "elsewhere": None,
    "empty": b"",
    "no gzip": b"1,2",
    "another table": gzip.compress(b"1,2\n3\n"),
    "cut": gzip.compress(b"1,2\n" * 99)[:20],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_digits_without_those_of_scikit_learn_name_the_extra(monkeypatch, tmp_path, content):
    """Where it is not there, and where it has them elsewhere or damaged."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    refusal("--dataset digits", "phosphene[train]", name="digits")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    if content is not None:
        (tmp_path / "datasets" / "data").mkdir(parents=True)
        (tmp_path / "datasets" / "data" / "digits.csv.gz").write_bytes(content)
    refusal("--dataset digits", "phosphene[train]", name="digits")


# IDX files


@pytest.mark.parametrize("gz", [False, True])
def test_idx_round_trip(tmp_path, gz):
    dataset = load_dataset("idx", put(tmp_path / "set", gz))
    wanted = arrays()
    assert np.array_equal(dataset.train.images[:, 0].numpy(), wanted[TRAIN_IMAGES])
    assert np.array_equal(dataset.train.labels.numpy(), wanted[TRAIN_LABELS])
    assert np.array_equal(dataset.test.images[:, 0].numpy(), wanted[TEST_IMAGES])
    assert np.array_equal(dataset.test.labels.numpy(), wanted[TEST_LABELS])
    assert dataset.train.images.shape == (6, 1, 28, 28) and dataset.train.images.dtype == torch.uint8
    assert len(dataset.train) == 6 and len(dataset.test) == 4 and dataset.classes == 6


def test_plain_and_gzipped_files_mix(tmp_path):
    folder = put(tmp_path / "set")
    (folder / f"{TEST_LABELS}.gz").write_bytes(gzip.compress((folder / TEST_LABELS).read_bytes()))
    (folder / TEST_LABELS).unlink()
    assert load_dataset("idx", folder).test.labels.tolist() == [3, 2, 1, 0]


def test_every_truncation_of_an_idx_file_is_noticed(tmp_path):
    for array, images in ((arrays(train=2)[TRAIN_IMAGES], True), (arrays(train=5)[TRAIN_LABELS], False)):
        content = idx(array)
        assert np.array_equal(read_idx(content, tmp_path / "file", images), array)
        for length in range(len(content)):
            with pytest.raises(UserError, match="file"):
                read_idx(content[:length], tmp_path / "file", images)


def test_truncated_files_are_named(tmp_path):
    half = idx(arrays()[TRAIN_IMAGES])[:2000]
    refusal(TRAIN_IMAGES, "truncated", name="idx", data=put(tmp_path / "plain", train_images_idx3_ubyte=half))
    folder = put(tmp_path / "gz", gz=True)
    file = folder / f"{TEST_IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:-100])
    refusal(str(file), "truncated", name="idx", data=folder)


def test_a_damaged_gzip_is_refused_or_harmless(tmp_path):
    """Whatever byte changes: a UserError, or (where gzip does not care, as in its time stamp) the same labels."""
    folder = put(tmp_path / "set", gz=True)
    file = folder / f"{TRAIN_LABELS}.gz"
    whole = file.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for bits in (0x01, 0x04, 0xFF):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
            try:
                assert load_dataset("idx", folder).train.labels.tolist() == list(range(6))
            except UserError as error:
                assert str(file) in str(error)
                refused += 1
    assert refused > len(whole)


def test_swapped_images_and_labels(tmp_path):
    images, labels = idx(arrays()[TRAIN_IMAGES]), idx(arrays()[TRAIN_LABELS])
    folder = put(tmp_path / "set", train_images_idx3_ubyte=labels, train_labels_idx1_ubyte=images)
    refusal(TRAIN_IMAGES, "2049", "swapped", name="idx", data=folder)
    folder = put(tmp_path / "half", train_labels_idx1_ubyte=images)
    refusal(TRAIN_LABELS, "2051", "swapped", name="idx", data=folder)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"<html>404</html>", b"\x89PNG\r\n\x1a\n" + bytes(100), gzip.compress(b"x", mtime=0)]
)
def test_files_that_are_no_idx(tmp_path, content):
    refusal(TEST_IMAGES, "no IDX", name="idx", data=put(tmp_path / "set", t10k_images_idx3_ubyte=content))


def test_a_gz_that_is_no_gzip(tmp_path):
    folder = put(tmp_path / "set", gz=True)
    (folder / f"{TRAIN_LABELS}.gz").write_bytes(idx(arrays()[TRAIN_LABELS]))
    refusal(f"{TRAIN_LABELS}.gz", name="idx", data=folder)


def test_values_that_are_no_bytes(tmp_path):
    floats = struct.pack(">BBBB3I", 0, 0, 13, 3, 1, 28, 28) + bytes(28 * 28 * 4)
    refusal(TRAIN_IMAGES, name="idx", data=put(tmp_path / "set", train_images_idx3_ubyte=floats))


def test_label_12(tmp_path):
    labels = idx([0, 1, 2, 12, 4, 5])
    refusal(TRAIN_LABELS, "12", "0..9", name="idx", data=put(tmp_path / "set", train_labels_idx1_ubyte=labels))


def test_wrong_count_of_labels(tmp_path):
    text = refusal(TRAIN_IMAGES, name="idx", data=put(tmp_path / "a", train_labels_idx1_ubyte=idx(range(5))))
    assert "6 pictures" in text and "5 labels" in text
    refusal(TEST_IMAGES, "4 pictures", "9 labels", name="idx", data=put(tmp_path / "b", t10k_labels_idx1_ubyte=idx(range(9))))


@pytest.mark.parametrize("shape", [(6, 27, 28), (6, 28, 32), (6, 32, 32), (0, 28, 28)])
def test_wrong_picture_size(tmp_path, shape):
    images = idx(np.zeros(shape))
    refusal(TRAIN_IMAGES, "28x28", name="idx", data=put(tmp_path / "set", train_images_idx3_ubyte=images))


@pytest.mark.parametrize("shape", [(5, 28, 28), (7, 28, 28), (6, 28, 27), (2**32 - 1, 28, 28), (2**31, 2**31, 4), (0, 0, 0)])
def test_a_header_that_lies(tmp_path, shape):
    images = idx(arrays()[TRAIN_IMAGES])
    lie = images[:4] + struct.pack(">3I", *shape) + images[16:]
    refusal(TRAIN_IMAGES, name="idx", data=put(tmp_path / "set", train_images_idx3_ubyte=lie))


# Where files are looked for


def test_missing_folder_and_missing_file(tmp_path):
    refusal("--data", str(tmp_path / "nowhere"), name="idx", data=tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("x")
    refusal("--data", str(file), name="mnist", data=file)
    folder = put(tmp_path / "set", t10k_labels_idx1_ubyte=None)
    refusal("--data", str(folder), TEST_LABELS, name="idx", data=folder)


def test_unknown_dataset():
    refusal("--dataset cifar", "mnist", "fashion", "digits", "idx", name="cifar")


def test_idx_needs_a_folder():
    refusal("--dataset idx", "--data", name="idx")


def test_the_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOSPHENE_DATA", str(put(tmp_path / "all")))
    assert len(load_dataset("idx").train) == 6
    put(tmp_path / "all" / "idx", train_images_idx3_ubyte=idx(np.zeros((3, 28, 28))), train_labels_idx1_ubyte=idx([1, 2, 3]))
    assert len(load_dataset("idx").train) == 3  # a subfolder with the name of the set comes first
    named = put(tmp_path / "named", train_images_idx3_ubyte=idx(np.zeros((2, 28, 28))), train_labels_idx1_ubyte=idx([1, 2]))
    assert len(load_dataset("idx", named).train) == 2  # and the folder named before both


def test_the_files_of_mnist_are_not_taken_for_fashion(tmp_path, monkeypatch):
    """The files of all these sets have the same names; a flat folder in the environment is MNIST's."""
    monkeypatch.setenv("PHOSPHENE_DATA", str(put(tmp_path / "flat", gz=True)))
    refusal("--dataset fashion", "--data", name="fashion")
    refusal(TRAIN_IMAGES, "SHA-256", name="mnist")


def test_a_folder_named_is_used_wherever_it_lies(tmp_path, monkeypatch):
    """--data names the folder on purpose: the working folder and the environment's folder count like any other."""
    folder = put(tmp_path / "set", gz=True)
    refusal("SHA-256", name="fashion", data=folder)
    monkeypatch.setenv("PHOSPHENE_DATA", str(folder))
    refusal("SHA-256", name="fashion", data=folder)
    monkeypatch.delenv("PHOSPHENE_DATA")
    monkeypatch.chdir(folder)
    refusal("SHA-256", name="fashion", data=Path("."))


# Known sets


@pytest.mark.parametrize("gz", [False, True])
def test_another_set_is_not_taken_for_mnist(tmp_path, gz):
    folder = put(tmp_path / "set", gz)
    assert len(load_dataset("idx", folder).train) == 6
    refusal(str(folder / TRAIN_IMAGES), "SHA-256", "--dataset idx", name="mnist", data=folder)


def test_another_set_is_not_taken_for_fashion(tmp_path):
    refusal(f"{TRAIN_IMAGES}.gz", "SHA-256", name="fashion", data=put(tmp_path / "set", gz=True))


@pytest.mark.parametrize("name", SOURCES)
def test_no_network(name):
    refusal(f"--dataset {name}", "--data", "--dataset digits", name=name)
    assert not data.cache_folder().exists()


@pytest.fixture
def published(monkeypatch):
    """A set that two mirrors offer as ``mnist``; gives its files and its SHA-256s to the module under test."""
    files = {part: idx(array) for part, array in arrays(seed=1).items()}
    sums = {part: hashlib.sha256(files[part]).hexdigest() for part in PARTS}
    monkeypatch.setitem(SOURCES, "mnist", Source(mirrors=("https://first/", "https://second/"), content=sums))
    return files


def mirror(monkeypatch, answer) -> list[str]:
    """Let pooch fetch ``answer(mirror, part)``; the URLs it was asked for."""
    import pooch

    asked = []

    def retrieve(url, known_hash, fname, path, **_):
        asked.append(url)
        content = answer(*url.removeprefix("https://").removesuffix(".gz").split("/"))
        if known_hash is not None and hashlib.sha256(content).hexdigest() != known_hash.removeprefix("sha256:"):
            raise ValueError("SHA256 hash of downloaded file does not match the known hash")  # as pooch does
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / fname).write_bytes(content)
        return str(Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return asked


CORRUPT = {
    "html": lambda good: b"<html>Please log in.</html>",
    "truncated": lambda good: gzip.compress(good)[:-9],
    "other": lambda good: gzip.compress(good[:-1] + bytes([good[-1] ^ 1])),  # whole, but one bit differs
}


@pytest.mark.parametrize("damage", CORRUPT)
def test_the_second_mirror_mends_the_first(monkeypatch, published, damage):
    def answer(where, part):
        return CORRUPT[damage](published[part]) if where == "first" else gzip.compress(published[part])

    asked = mirror(monkeypatch, answer)
    dataset = load_dataset("mnist")
    assert dataset.train.images[:, 0].numpy().tobytes() == published[TRAIN_IMAGES][16:]
    assert dataset.test.labels.numpy().tobytes() == published[TEST_LABELS][8:]
    assert asked == [f"https://{where}/{part}.gz" for part in PARTS for where in ("first", "second")]
    mirror(monkeypatch, lambda *_: pytest.fail("what lies in the cache is not fetched again"))
    assert torch.equal(load_dataset("mnist").train.images, dataset.train.images)


def test_no_mirror_with_the_right_content_leaves_nothing(monkeypatch, published):
    mirror(monkeypatch, lambda where, part: CORRUPT["other"](published[part]))
    refusal("--dataset mnist: is not here, and its mirrors gave other files", "--data", "--dataset digits", name="mnist")
    assert [p for p in data.cache_folder().rglob("*") if p.is_file()] == []


def test_without_a_network_it_is_said_that_there_is_none():
    refusal("--dataset mnist: is not here, and none of its mirrors can be reached", "--data", "--dataset digits", name="mnist")


def test_fashion_is_fetched_by_its_archives_hash(monkeypatch):
    archives = {part: gzip.compress(idx(array)) for part, array in arrays(seed=2).items()}
    sums = {part: hashlib.sha256(archives[part]).hexdigest() for part in PARTS}
    monkeypatch.setitem(SOURCES, "fashion", Source(mirrors=("https://first/", "https://second/"), archive=sums))
    asked = mirror(monkeypatch, lambda where, part: b"moved" if where == "first" else archives[part])
    assert len(load_dataset("fashion").test) == 4
    assert len(asked) == 8


# The real thing


@pytest.fixture(scope="module")
def mnist():
    if not REAL or not (Path(REAL) / f"{TRAIN_IMAGES}.gz").is_file():
        pytest.skip(f"PHOSPHENE_DATA names no folder with {TRAIN_IMAGES}.gz")
    return load_dataset("mnist", Path(REAL))


def test_mnist_is_whole(mnist):
    assert len(mnist.train) == 60_000 and len(mnist.test) == 10_000 and mnist.classes == 10
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(mnist.train.labels.long()).tolist() == counts
    assert abs(mnist.train.images.float().mean().item() / 255 - 0.1307) < 1e-4
    content = idx(mnist.test.images[:, 0].numpy())
    assert hashlib.sha256(content).hexdigest() == "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"


def test_mnist_with_one_pixel_changed_is_refused(mnist, tmp_path):
    for part in PARTS:
        (tmp_path / f"{part}.gz").symlink_to(Path(REAL).resolve() / f"{part}.gz")
    images = mnist.test.images[:, 0].numpy().copy()
    images[1234, 14, 14] ^= 1
    (tmp_path / f"{TEST_IMAGES}.gz").unlink()
    (tmp_path / TEST_IMAGES).write_bytes(idx(images))
    refusal(TEST_IMAGES, "SHA-256", name="mnist", data=tmp_path)
