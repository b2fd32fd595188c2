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
SCALES = "0,1,2,3,5"
FINE = "1,1.1,1.2,1.3,1.5"
ROUTES = {  # of all models, at the five scales
    "ddpm": ("--solver ancestral --steps 300", "--solver dpm --steps 16"),
    "rescaled": ("--solver ancestral --steps 100", "--solver dpm --steps 16"),
    "flow": ("--solver ancestral --steps 100", "--solver dpm --steps 16"),
}
SHIPPED = (
    "--solver ancestral --steps 300",
    "--solver ddim --eta 0.5 --steps 100",
    "--solver dpm --steps 8",
    "--solver heun --steps 8",
)
AMBIGRAMS = ("", "--solver dpm --steps 16", "--guidance 5", "--model class-5", "--model class-20-ddpm --guidance 5")


def commands() -> list[str]:
    """All that is measured, in the order of the tables; the runs lie in the folder where it is typed."""
    found = []
    for run, routes in ROUTES.items():
        models = " ".join(f"{run}/model-{epoch}{raw}" for epoch in ("05", "20") for raw in ("", "-raw"))
        found += [f"evaluate {models} {route} --guidance {SCALES}" for route in routes]
    found += [f"evaluate class-5 class-20 {route} --guidance {SCALES}" for route in SHIPPED]
    # Between the scales, for the plain recipe as for ours: its own sampler, and the one that suits ours best.
    found += [f"evaluate ddpm/model-20 ddpm/model-20-raw --solver ancestral --steps 300 --guidance {FINE}"]
    found += [f"evaluate ddpm/model-20 class-20 --solver ddim --eta 0.5 --steps 100 --guidance {FINE}"]
    return found + [f"ambigram --all --count 16 {more}".strip() for more in AMBIGRAMS]


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
            read = "" if cell["guidance"] == 0 else f"{cell['accuracy']:.2%}, "
            cells.append(f"{cell['guidance']:g}: {read}{cell['frechet']:.2f}")
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
    for name, command in RUNS.items():
        if not Path(name, "loss.png").exists():
            run(f"{command} --out {name}", [*data, *small])
    table = []
    for index, command in enumerate(commands()):
        judges = command.startswith("evaluate")
        target = Path(f"{index:02d}.json" if judges else f"{index:02d}.png")
        few = (["--samples", "20"] if judges else ["--count", "1"]) if options.quick else []
        if not target.exists():
            run(command, [*few, "--json", str(target), *data] if judges else [*few, "-o", str(target)])
        table += rows(command, target) if judges else []
    Path("table.md").write_text("\n".join(["| model | gamma: accuracy, distance | command |", "|---|---|---|", *table]) + "\n")


if __name__ == "__main__":
    main()
