"""tools/install.py: make installs wheels alone whose sums stand in hashes.txt, and has one for all that is asked for."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tarfile
from itertools import product
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))
import hashes  # noqa: E402
import install  # noqa: E402

PINS, SUMS = install.pinned(install.CONSTRAINTS.read_text()), install.summed(install.HASHES.read_text())
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "arm": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
    "mac": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}


def test_what_is_pinned_has_sums_and_nothing_else_has():
    wheels = {install.wheel_of(file) for file in SUMS}
    assert {(name, install.public(version)) for name, version in wheels} == set(PINS.items())
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in SUMS.values()) and len(set(SUMS.values())) == len(SUMS)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
def test_linux_has_a_wheel_of_all_that_is_pinned(python, machine):
    version = tuple(map(int, python.split(".")))
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(34, 4, -1)] + [
        f"manylinux2014_{machine}",
        f"manylinux1_{machine}",
    ]
    tags = {*cpython_tags(version, platforms=platforms), *compatible_tags(version, platforms=platforms)}
    there = {install.wheel_of(file)[0] for file in SUMS if parse_wheel_filename(file)[3] & tags}
    assert {*PINS} - there <= {"audioop-lts"} and ("audioop-lts" in there) == (version >= (3, 13))


@pytest.mark.parametrize(("python", "platform"), product(PYTHONS, PLATFORMS))
def test_what_packages_ask_for_elsewhere_is_pinned_too(python, platform):
    where = PLATFORMS[platform] | {"python_version": python, "python_full_version": f"{python}.9"}
    todo, seen = [("phosphene", ""), ("phosphene", "dev")], set()
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            todo += install.asked(*one, PINS, where)
        except install.metadata.PackageNotFoundError:
            assert one[0] in PINS, one  # it is of another platform, and what it asks for cannot be seen here
    assert len(seen) > 60


def test_make_installs_by_these_sums_alone():
    makefile = (ROOT / "Makefile").read_text()
    assert "tools/install.py $(1)" in makefile and "pip install" not in makefile
    assert {"--require-hashes", "--no-deps", ":all:"} <= {*install.LISTED} and {"--no-deps", "--no-index"} <= {*install.ITSELF}


# Packages made here, for the pip that make runs: into a folder of their own, and from one.


def wheel(folder: Path, version: str = "1.0", content: str = "") -> str:
    """A wheel of the package ``lamp`` in ``folder``; its sum."""
    about = f"lamp-{version}.dist-info"
    file = folder / f"lamp-{version}-py3-none-any.whl"
    with ZipFile(file, "w") as archive:
        archive.writestr("lamp.py", f"version = {version!r}\n{content}")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: lamp\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", f"lamp.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Where pip looks for packages; it installs into ``tmp_path / "there"``."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "shelf").mkdir()
    told = {
        "NO_INDEX": "1",
        "FIND_LINKS": str(tmp_path / "shelf"),
        "TARGET": str(tmp_path / "there"),
        "CONFIG_FILE": os.devnull,
        "NO_BUILD_ISOLATION": "0",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return tmp_path / "shelf"


def lamp(shelf: Path) -> str | None:
    file = shelf.parent / "there" / "lamp.py"
    return file.read_text().splitlines()[0] if file.exists() else None


def test_a_wheel_whose_sum_is_listed_is_installed(shelf):
    sums = {"lamp-1.0-py3-none-any.whl": wheel(shelf)}
    install.install(["lamp"], {"lamp": "1.0"}, sums)
    assert lamp(shelf) == "version = '1.0'"


def test_a_wheel_that_was_changed_is_refused(shelf, capfd):
    sums = {"lamp-1.0-py3-none-any.whl": wheel(shelf)}
    wheel(shelf, content="print('not what was listed')\n")
    with pytest.raises(SystemExit, match=r"hashes\.txt"):
        install.install(["lamp"], {"lamp": "1.0"}, sums)
    assert lamp(shelf) is None and "DO NOT MATCH THE HASHES" in capfd.readouterr().err


def test_a_source_is_not_built_though_its_sum_is_listed(shelf):
    setup = shelf / "setup.py"
    setup.write_text(f"open({str(shelf / 'ran')!r}, 'w')\nfrom setuptools import setup\nsetup(name='lamp', version='1.0')\n")
    source = shelf / "lamp-1.0.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        archive.add(setup, "lamp-1.0/setup.py")
    assert not install.fetch([f"lamp==1.0 --hash=sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"])
    assert lamp(shelf) is None and not (shelf / "ran").exists()


@pytest.mark.parametrize(("own", "which"), [(True, "1.0+cpu"), (False, "1.0")])
def test_a_build_of_its_own_is_taken_where_there_is_one(shelf, own, which):
    sums = {f"lamp-{version}-py3-none-any.whl": wheel(shelf, version) for version in ("1.0", "1.0+cpu")}
    if not own:
        (shelf / "lamp-1.0+cpu-py3-none-any.whl").unlink()
    install.install(["lamp"], {"lamp": "1.0"}, sums)
    assert lamp(shelf) == f"version = {which!r}"


@pytest.mark.parametrize(
    ("pins", "words"),
    [({}, "lamp: is asked for here"), ({"lamp": "2.0"}, r"lamp 2.0: hashes\.txt has no sum")],
    ids=["no version", "no sum"],
)
def test_what_is_not_listed_is_refused_before_pip_is_asked(shelf, pins, words):
    sums = {"lamp-1.0-py3-none-any.whl": wheel(shelf)}
    with pytest.raises(SystemExit, match=words):
        install.install(["lamp"], pins, sums)
    assert lamp(shelf) is None


def test_a_version_that_a_package_does_not_take_is_refused():
    with pytest.raises(SystemExit, match=r"pillow 12\.0: phosphene asks for >=12\.3"):
        install.asked("phosphene", "", {"pillow": "12.0"})


@pytest.mark.parametrize(
    "tags", ["cp310-cp310-win_amd64", "cp314-cp314t-win_amd64", "cp312-cp312-musllinux_1_2_x86_64", "pp311-pp73-any"]
)
def test_only_files_that_fit_are_listed(tags):
    assert all(any(map(hashes.fits, parse_wheel_filename(file)[3])) for file in SUMS)
    assert not any(map(hashes.fits, parse_wheel_filename(f"lamp-1.0-{tags}.whl")[3]))
