"""Write hashes.txt: the sums of the wheels of all that constraints.txt pins.

    python tools/hashes.py [WHEEL ...]

``uv`` (``pip install uv``, which nothing else here needs) asks the package index for them. Those are taken that a CPython without
changes may install, from 3.11 on, on Linux, macOS and Windows with processors of 64 bits. A wheel that is named lies beside, or
on another index, as torch for CPUs alone does: its sum joins the list, and stays there as long as its version is pinned.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from install import CONSTRAINTS, HASHES, pinned, public, summed, wheel_of
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

HEAD = """\
# The sums (SHA-256) of all files that make installs from: wheels of what constraints.txt pins.
# python tools/hashes.py writes this.
"""
INTERPRETER = r"py3|cp3(1[1-9]|[2-9]\d)"
PLATFORM = r"any|manylinux\w*_(x86_64|aarch64)|macosx_\w+|win_(amd64|arm64)"
UV = ["uv", "pip", "compile", "--no-deps", "--universal", "--python-version", "3.11", "--format", "pylock.toml", "--quiet"]


def fits(tag: Tag) -> bool:
    speaks = re.fullmatch(INTERPRETER, tag.interpreter) or tag.abi == "abi3"
    return bool(speaks and tag.abi in ("none", "abi3", tag.interpreter) and re.fullmatch(PLATFORM, tag.platform))


def listed() -> dict[str, str]:
    """The sum of each wheel that fits, as the index tells it."""
    lock = tomllib.loads(subprocess.run([*UV, str(CONSTRAINTS)], check=True, capture_output=True, text=True).stdout)
    wheels = [wheel for package in lock["packages"] for wheel in package.get("wheels", [])]
    named = {wheel["url"].rpartition("/")[2].replace("%2B", "+"): wheel["hashes"]["sha256"] for wheel in wheels}
    return {file: digest for file, digest in named.items() if any(map(fits, parse_wheel_filename(file)[3]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL", help="a wheel that the index does not have")
    beside = parser.parse_args().wheels
    if shutil.which(UV[0]) is None:
        parser.error("uv: is not installed; pip install uv")
    pins = pinned(CONSTRAINTS.read_text())
    before = summed(HASHES.read_text()) if HASHES.exists() else {}
    sums = {file: digest for file, digest in before.items() if "+" in file} | listed()
    sums |= {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in beside}
    wheels = {file: wheel_of(file) for file in sorted(sums)}
    files = sorted((f for f, (name, version) in wheels.items() if pins.get(name) == public(version)), key=wheels.get)
    HASHES.write_text(HEAD + "".join(f"{sums[file]}  {file}\n" for file in files))
    print(f"{len(files)} files of {len({wheels[file][0] for file in files})} packages in {HASHES.name}")


if __name__ == "__main__":
    main()
