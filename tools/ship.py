"""Make a shipped model folder out of a finished run, or write the card of one anew.

    python tools/ship.py class-20 --storage int8 --from LOG CONFIG WEIGHTS --figures "..."
    python tools/ship.py class-20 --figures "..."

The first form copies the training log and writes config.json, the weights, SHA256SUMS and the card. The figures are a
paragraph for the card, from what ``phosphene evaluate`` printed. The weights may be a half-precision copy of the run's.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from phosphene.models import catalogue, folders, weights
from phosphene.training.mnist.recipes import Recipe
from phosphene.training.options import options_of

WHAT = {
    "denoiser": "The one-step denoiser of the MNIST chapter: it maps a digit with Gaussian noise to the digit.",
    "time": "A time-conditioned model of MNIST digits: it draws digits, but not on demand.",
    "class": "A class-conditioned model of MNIST digits: it draws the digit asked for.",
    "classifier": "The classifier that judges digits: accuracy by its classes, Fréchet distance in its 128 features.",
}

CARD = """# {name}

{what}

| | |
|---|---|
| data | MNIST, 60,000 training digits (LeCun, Cortes, Burges; made from NIST Special Databases 1 and 3) |
| network | {network}, {parameters:,} parameters |
| objective | {objective} |
| recipe | {recipe} |
| weights | moving average of the weights after epoch {epoch}, stored as {storage} |
| trained on | {machine} |
| licence | Apache-2.0, as the package |
| to make it again | `phosphene train {command}` |

{figures}
The digits of MNIST were written by employees of the US Census Bureau and by high-school students in the early 1990s:
sevens are mostly without a bar and ones mostly a plain stroke, and a model can only draw what it has seen.
"""


def card(name: str, config: dict, parameters: int, machine: str, figures: str) -> str:
    """The README of a shipped model."""
    recipe = vars(Recipe.from_json(config["recipe"]))
    options = {k: told for k, told in options_of(Recipe, recipe["network"]).items() if k not in ("dataset", "keep")}
    shown = sorted(options, key=lambda k: bool(options[k]["networks"]))  # first what all networks have
    return CARD.format(
        name=name,
        what=WHAT[recipe["network"]],
        network=", ".join(f"{k} {v}" for k, v in config["network"].items()),
        parameters=parameters,
        objective=config.get("target", config["kind"]),
        recipe=", ".join(f"{k} {recipe[k]:g}" if isinstance(recipe[k], float) else f"{k} {recipe[k]}" for k in shown),
        epoch=config["epoch"],
        storage=config["storage"],
        machine=machine,
        command=" ".join([recipe["network"], *(f"--{k.replace('_', '-')} {recipe[k]}" for k in shown)]),
        figures=figures + ("\n" if figures else ""),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--from", dest="files", type=Path, nargs=3, metavar=("LOG", "CONFIG", "WEIGHTS"))
    parser.add_argument("--storage", choices=weights.STORAGES, default="int8")
    parser.add_argument("--machine", default="one NVIDIA H100")
    parser.add_argument("--figures", default="", help="a paragraph for the card")
    options = parser.parse_args()
    out = folders.EMBEDDED / options.name
    if options.files:
        log, config, values = options.files
        kept = {k: v for k, v in json.loads(config.read_text()).items() if k != "storage"}
        catalogue.write(out, kept, weights.load(values), options.storage)
        shutil.copy(log, out / "log.jsonl")
    statistics = ("running_mean", "running_var")
    learned = {k: v for k, v in weights.load(out / folders.WEIGHTS).items() if not k.endswith(statistics)}
    parameters = sum(v.numel() for v in learned.values())
    text = card(options.name, catalogue.read_config(out), parameters, options.machine, options.figures)
    (out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
