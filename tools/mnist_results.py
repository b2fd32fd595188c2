"""Make the tables of docs/results-mnist.md: train the runs, measure them and the shipped models, write the rows.

    python tools/mnist_results.py --out results [--data DIR] [--quick]

Types the very commands that stand in the tables, one after the other in one process. About ten minutes on an H100;
``--quick`` (tiny networks on scikit-learn's digits) only shows that every command runs. Runs that are there already are
not trained again, commands whose figures are there already are not repeated: a stopped call goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path

from phosphene.cli import main as phosphene

RUNS = {
    "ddpm": "train class",
    "rescaled": "train class --schedule rescaled-linear --objective velocity",
    "flow": "train class --objective flow",
}
MORE = {"time": "train time --objective flow", "denoiser": "train denoiser --keep 1,5"}
SCALES = "0,1,2,3,5"
MANY, FEW = "--solver ancestral --steps 300", "--solver dpm --steps 16"
OURS = "--solver ddim --eta 0.5 --steps 100"
AMBIGRAMS = ("", "--solver dpm --steps 16", "--guidance 5", "--model class-20-ddpm --guidance 5")


def commands() -> list[str]:
    """All that is measured, in the order of the tables; the runs lie in the folder where it is typed."""
    averages = [f"{run}/model-{epoch}" for run in ("rescaled", "flow") for epoch in ("05", "20")]
    every = [f"{run}/model-{epoch}{raw}" for run in RUNS for epoch in ("05", "20") for raw in ("", "-raw")]
    return [
        *(f"ambigram --all --count 16 {more}".strip() for more in AMBIGRAMS),
        f"evaluate class-20 {OURS} --guidance {SCALES}",
        f"evaluate class-20 --solver dpm --steps 8 --guidance {SCALES}",
        f"evaluate class-20 --solver heun --steps 8 --guidance {SCALES}",
        f"evaluate class-20 {MANY} --guidance 5",
        f"evaluate ddpm/model-20 ddpm/model-20-raw {MANY} --guidance {SCALES}",
        f"evaluate {' '.join(every)} {FEW} --guidance {SCALES}",
        f"evaluate ddpm/model-05 {' '.join(averages)} --solver ancestral --steps 100 --guidance {SCALES}",
        # Between the scales, for the plain recipe as for ours: its own sampler, and the one that suits ours best.
        f"evaluate ddpm/model-20-raw {MANY} --guidance 1.1,1.2,1.3,1.5",
        f"evaluate class-20 ddpm/model-20-raw {OURS} --guidance 1.1,1.2,1.3,1.5",
        f"evaluate time/model-05 time-20 {OURS}",
        "evaluate denoiser/model-01 denoiser-5",
        "evaluate classifier",
    ]


def run(command: str, extra: list[str]) -> None:
    print(f"$ phosphene {command}", flush=True)
    if phosphene([*shlex.split(command), *extra]):
        raise SystemExit(f"this failed: phosphene {command}")


def rows(command: str, figures: Path) -> list[str]:
    """Of one ``evaluate``, a table row for each model."""
    told = json.loads(figures.read_text())
    lines = []
    for result in told["results"]:
        cells = []
        for cell in result["figures"]:
            if "frechet" not in cell:  # of a denoiser or a classifier
                cells.append(", ".join(f"{name} {value:.5g}" for name, value in cell.items()))
                continue
            scale, read = cell["guidance"], ""
            if scale:  # at 0 the class is not heard, and a model without classes has no scale
                read = f"{scale:g}: {cell['accuracy']:.2%}, "
            cells.append(f"{read}{cell['frechet']:.2f}" if scale != 0 else f"0: {cell['frechet']:.2f}")
        lines.append(f"| {result['model']} | {'; '.join(cells)} | `phosphene {command}` |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    data = ["--data", str(options.data.resolve())] if options.data else []
    if options.quick:
        data = ["--dataset", "digits"]
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)
    small = ["--epochs", "20", "--width", "2", "--batch-size", "1024"] if options.quick else []
    for name, command in (RUNS | MORE).items():
        if not Path(name, "loss.png").exists():
            run(f"{command} --out {name}", [*data, *small])
    table = ["| model | gamma: accuracy, distance | command |", "|---|---|---|"]
    for index, command in enumerate(commands()):
        judges = command.startswith("evaluate")
        target = Path(f"{index:02d}.json" if judges else f"{index:02d}.png")
        few = []
        if options.quick and (not judges or "--solver" in command):  # what does not sample draws nothing
            few = ["--samples", "20"] if judges else ["--count", "1"]
        if not target.exists():
            run(command, [*few, "--json", str(target), *data] if judges else [*few, "-o", str(target)])
        table += rows(command, target) if judges else []
        Path("table.md").write_text(
            "\n".join(["| model | gamma: accuracy, distance | command |", "|---|---|---|", *table]) + "\n"
        )


if __name__ == "__main__":
    main()
