"""Make a shipped model folder out of a finished run.

    python tools/ship.py RUN --epoch 20 --name class-20 --storage int8 --machine "one NVIDIA H100" [--weights FILE]

Copies the training log, writes config.json, the weights, SHA256SUMS and a card. Figures are added to the card by hand
from what ``phosphene evaluate`` prints. ``--weights`` takes other weights than the run's own (such as a half-precision
copy that travelled).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from phosphene.models import catalogue, weights

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, help="the run's log.jsonl")
    parser.add_argument("config", type=Path, help="the model's config.json")
    parser.add_argument("weights", type=Path, help="the model's weights")
    parser.add_argument("--name", required=True)
    parser.add_argument("--storage", choices=weights.STORAGES, required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--figures", default="", help="a paragraph for the card")
    options = parser.parse_args()
    config = json.loads(options.config.read_text())
    recipe = config["recipe"]
    out = catalogue.EMBEDDED / options.name
    values = weights.load(options.weights)
    catalogue.write(out, {k: v for k, v in config.items() if k != "storage"}, values, options.storage)
    shutil.copy(options.log, out / "log.jsonl")
    used = {"class": ("objective", "schedule", "timesteps", "drop"), "time": ("objective", "schedule", "timesteps")}
    shown = ("epochs", "batch_size", "lr", "lr_decay", "ema", "seed", *used.get(recipe["network"], ()))
    options_used = ["--" + k.replace("_", "-") + f" {recipe[k]}" for k in ("epochs", "width", "batch_size", "lr", "lr_decay")]
    if recipe["network"] in used:
        options_used.append(f"--objective {recipe['objective']}")
    learned = {k: v for k, v in values.items() if not k.endswith(("running_mean", "running_var"))}
    card = CARD.format(
        name=options.name,
        what=WHAT[recipe["network"]],
        network=", ".join(f"{k} {v}" for k, v in config["network"].items()),
        parameters=sum(v.numel() for v in learned.values()),
        objective=config.get("target", config["kind"]),
        recipe=", ".join(f"{k} {recipe[k]}" for k in shown),
        epoch=config["epoch"],
        storage=options.storage,
        machine=options.machine,
        command=" ".join([recipe["network"], *options_used]),
        figures=options.figures + ("\n" if options.figures else ""),
    )
    (out / "README.md").write_text(card)


if __name__ == "__main__":
    main()
