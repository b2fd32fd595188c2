"""Install phosphene as it is developed, and what it needs, from wheels whose sums stand in hashes.txt.

    python tools/install.py EXTRA

It is what ``make`` runs. pip compares the sums, but wants the whole list of packages then; that list depends on the platform and
on how torch was built (for CPUs alone it asks for nothing of NVIDIA's). So it is found on the way: each round installs what the
packages of the round before ask for. Only wheels are taken: to build a source pip would fetch what builds it, and compare no sum
of that.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS, HASHES = ROOT / "constraints.txt", ROOT / "hashes.txt"
# Most of the files that come are never imported: to compile them all would take longer than to unpack them.
PIP = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile", "--no-deps"]
LISTED = [*PIP, "--require-hashes", "--only-binary", ":all:", "-r"]
ITSELF = [*PIP, "--no-index", "--no-build-isolation", "-e", str(ROOT)]
FIRST = ("setuptools", "packaging")
"""What builds phosphene, and what reads who asks for what."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """The version of each package in a constraints.txt."""
    return dict(line.partition(";")[0].strip().split("==") for line in text.splitlines() if "==" in line)


def summed(text: str) -> dict[str, str]:
    """The sum of each file in a hashes.txt."""
    return {file: digest for digest, file in (line.split() for line in text.splitlines() if line and line[0] != "#")}


def wheel_of(file: str) -> tuple[str, str]:
    """Name and version of a wheel."""
    name, version = file.split("-")[:2]
    return canonical(name), version


def public(version: str) -> str:
    """A version without what a builder adds to it, as in 2.13.0+cpu: a pin holds for all builds."""
    return version.partition("+")[0]


def builds(name: str, pins: Mapping[str, str], sums: Mapping[str, str]) -> list[str]:
    """What pip reads of the package ``name``, for each of its builds: a version and the sums that its file may have.

    The last is what the package index has.
    """
    if name not in pins:
        sys.exit(f"{name}: is asked for here, and constraints.txt has no version of it; add one, then run tools/hashes.py.")
    found: dict[str, list[str]] = {}
    for file, digest in sums.items():
        package, version = wheel_of(file)
        if (package, public(version)) == (name, pins[name]):
            found.setdefault(version, []).append(f"--hash=sha256:{digest}")
    if not found:
        sys.exit(f"{name} {pins[name]}: hashes.txt has no sum of it; run tools/hashes.py.")
    return [" ".join([f"{name}=={version}", *found[version]]) for version in sorted(found, reverse=True)]


def fetch(lines: Iterable[str], **how: Any) -> bool:
    """Whether pip installed what the ``lines`` ask for."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(lines) + "\n")
        return subprocess.run([*LISTED, str(file)], **how).returncode == 0


def install(names: Iterable[str], pins: Mapping[str, str], sums: Mapping[str, str]) -> None:
    """Have pip install ``names``: of what has builds of its own one of these, where pip is told of a place that has it.

    Given the choice pip would take the package index's, whose sums it sees before it fetches: torch for GPUs, on every machine.
    """
    lines = []
    for name in sorted(names):
        *own, last = builds(name, pins, sums)
        if not any(fetch([line], capture_output=True) for line in own):
            lines.append(last)
    if lines and not fetch(lines):
        sys.exit("Not all could be installed from the files that hashes.txt lists; CONTRIBUTING.md has the way without it.")


def asked(name: str, extra: str, pins: Mapping[str, str], where: Mapping[str, str] | None = None) -> set[tuple[str, str]]:
    """What the package ``name`` with its ``extra`` ("": none) asks for: names, each with an extra; ``where``, if not here."""
    from packaging.requirements import Requirement

    found = set()
    for text in metadata.requires(name) or []:
        one = Requirement(text)
        if one.marker is not None and not one.marker.evaluate({**(where or {}), "extra": extra}):
            continue
        package = canonical(one.name)
        if package in pins and not one.specifier.contains(pins[package], prereleases=True):
            sys.exit(f"{package} {pins[package]}: {name} asks for {one.specifier}; change its version in constraints.txt.")
        found |= {(package, "")} | {(package, each) for each in one.extras}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("extra", choices=("train", "web", "video", "dev"), help="what to install beside what is always needed")
    extra = parser.parse_args().extra
    pins, sums = pinned(CONSTRAINTS.read_text()), summed(HASHES.read_text())
    install(FIRST, pins, sums)
    if code := subprocess.run(ITSELF).returncode:
        sys.exit(code)
    done, here, reached = set(), {"phosphene", *FIRST}, {("phosphene", ""), ("phosphene", extra)}
    while reached:
        importlib.invalidate_caches()
        done |= reached
        reached = {other for name, each in reached for other in asked(name, each, pins)} - done
        if missing := {name for name, _ in reached} - here:
            install(missing, pins, sums)
        here |= missing


if __name__ == "__main__":
    main()
