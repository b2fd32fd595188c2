"""Run the benchmarks that this machine can run, and keep what all machines measured: RESULTS.md, and results.json behind it.

    python benchmarks/results.py [--only SCRIPT ...] [OPTION FOR THE SCRIPTS ...]     (make bench OPTIONS='...')
    python benchmarks/results.py --merge FILE ... [--script NAME]                     (what --json of a script wrote elsewhere)

A measurement takes the place of an earlier one of the same script, machine and command. Each number stands with its command.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

HERE = Path(__file__).parent
KEPT, PAGE = HERE / "results.json", HERE / "RESULTS.md"
VERSIONS = ("phosphene", "torch", "diffusers", "transformers")
TOLD = ("machine", "command", "torch", "date", "versions", "script")
HEAD = """# What was measured

Written by `python benchmarks/results.py`; each script says what it compares, and asserts first that both sides give the same.
Several values: the median, and from the least to the most.
"""


def wanted() -> Iterator[tuple[str, ...]]:
    """The scripts, with their options, that this machine can run."""
    yield ("low_pass.py",)
    yield ("stock.py",)
    yield ("anagram.py",)
    yield ("quantized.py",)
    yield ("savings.py",)
    yield ("mnist_training.py",)
    if shutil.which(os.environ.get("PHOSPHENE_CHROMIUM", "chromium")):
        yield ("studio.py",)
    if torch.cuda.is_available():
        yield ("deepfloyd.py", "--compile")
        yield ("second_process.py",)
        for shape in ("IF-I-M", "IF-I-XL"):
            yield ("anagram.py", "--device", "cuda", "--shape", shape)


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> str:
    """The processor, its cores, whether it lacks what glyph's products gain by, and the first GPU."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line for line in lines if line.startswith("flags")), "bf16")
    name += "" if "bf16" in flags else " without bfloat16"
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores{gpu}"


def measured(command: tuple[str, ...]) -> dict:
    """What ``command`` finds, as a record. CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        subprocess.run([sys.executable, str(HERE / command[0]), *command[1:], "--json", str(found)], check=True)
        told = json.loads(found.read_text())
    versions = {name: there for name in VERSIONS if (there := installed(name))}
    now = datetime.now(UTC).isoformat(timespec="minutes")
    return record(told, command[0]) | {"machine": machine(), "versions": versions, "date": now, "command": list(command)}


def record(told: Mapping, script: str) -> dict:
    """What a script's own JSON says, in the order of a record."""
    words = told.get("command") or [script]
    command = [Path(words[0]).name, *words[1:]]
    if "--json" in command:
        del command[command.index("--json") : command.index("--json") + 2]
    versions = told.get("versions") or ({"torch": told["torch"]} if "torch" in told else {})
    values = told.get("measured") or {name: value for name, value in told.items() if name not in TOLD}
    start = {"script": script, "machine": told.get("machine", "not told"), "versions": versions, "date": told.get("date")}
    return {**start, "command": command, "measured": values}


def merged(kept: list[dict], found: dict) -> list[dict]:
    """``kept`` with ``found`` in the place of what the same script, machine and command measured before."""

    def same(other: dict) -> bool:
        return all(other[name] == found[name] for name in ("script", "machine", "command"))

    others = [other for other in kept if not same(other)]
    return sorted([*others, found], key=lambda each: (each["script"], each["machine"], each["command"]))


def taken_in(path: Path, script: str | None) -> dict:
    """The record in ``path``, which a script's --json wrote, or this one's record of it."""
    told = json.loads(path.read_text())
    name = script or told.get("script") or Path((told.get("command") or [""])[0]).name
    if not (HERE / name).is_file() or not name:
        raise SystemExit(f"{path}: does not say which script measured it; name it by --script.")
    found = record(told, name)
    if not found["date"]:
        found["date"] = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="minutes")
    return found


def rows(values: Mapping, above: str = "") -> Iterator[tuple[str, str]]:
    """Name and value of each number of a measurement, however deep."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from rows(value, f"{above}{name}: ")
        elif isinstance(value, list) and len(value) in (3, 4) and all(isinstance(each, int | float) for each in value):
            middle, low, high, *first = (f"{each:.4g}" for each in value)
            yield f"{above}{name}", f"{middle} ({low} to {high})" + (f", the first call {first[0]} s" if first else "")
        else:
            yield f"{above}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def page(kept: list[dict]) -> str:
    parts = [HEAD]
    for each in kept:
        title = (HERE / each["script"]).read_text().split('"""')[1].splitlines()[0]
        versions = ", ".join(f"{name} {there}" for name, there in each["versions"].items())
        parts.append(f"## {title}\n\n    python benchmarks/{shlex.join(each['command'])}\n")
        parts.append(f"{each['machine']}; {versions}; {each['date']}.\n")
        parts.append("| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows(each["measured"])))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="SCRIPT", help="such as stock.py")
    parser.add_argument("--merge", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--script", help="that measured what --merge names, where that does not say so")
    options, others = parser.parse_known_args()
    kept, failed = json.loads(KEPT.read_text()) if KEPT.is_file() else [], []
    if options.merge:
        for path in options.merge:
            kept = merged(kept, taken_in(path, options.script))
    for command in () if options.merge else wanted():
        if options.only and command[0] not in options.only:
            continue
        print(shlex.join(command), flush=True)
        try:
            kept = merged(kept, measured((*command, *others)))
        except subprocess.CalledProcessError as error:
            failed.append(f"{shlex.join(command)} ended with {error.returncode}")
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(page(kept))
    print(f"{len(kept)} measurements in {PAGE}")
    if failed:
        raise SystemExit("; ".join(failed))


if __name__ == "__main__":
    main()
