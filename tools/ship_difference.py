"""Put a difference that was learned to glyph into the package, as few bytes as keep it, with its card and its sums.

    python tools/ship_difference.py STUDENT/model --strength 0.9 --share 0.77 --upscale-steps 4
    python tools/ship_difference.py UNPROMPTED/model --also OTHER/model 0.7 --share 0.2

The model is what ``phosphene train student`` or ``train unprompted`` wrote. Of the products that are added to the matrices the
``share`` of all components is kept that moves a weight most for its bytes; what is kept becomes eight-bit integers.
``--strength`` adds so much of the difference, and ``--also`` so much of another's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from phosphene.defaults import CASCADE, FAST, UNPROMPTED
from phosphene.models import distilled, folders, weights
from phosphene.models.cascade import open_cascade

CARD = """# {name}

{teacher} distilled to {steps} steps: `phosphene generate "a castle on a hill"`. Its network is asked {steps} times for a picture,
where that of {teacher} is asked {rows} times, and from the same seed it draws nearly the same. Its guidance, {guidance:g}, is
built in: it takes no `--guidance`, no `--negative` and no other timesteps than {timesteps}; for those take {teacher}.

"""
ADAPTED_CARD = """# {name}

What {teacher} makes of a picture of which nothing is said: `phosphene edit sketch-house`, without a prompt. It learned on from
pictures without words alone, half of them or more simple drawings, many in simple places (`phosphene train unprompted`), and a
drawing stays what it is oftener: of 64 new scenes, put together as those that it learned from, from start 7 of 34 people named
64 % for what they were, by {teacher} 28 %; of others 42 and 27 % (a former one, upon the ninth run's weights). What it makes of
prompts nobody has measured; for those take {teacher}.

"""
REST = """This folder holds the difference between the two networks' weights (low-rank products, {bytes:,} bytes). What it draws,
what it learned from, its limits, and the makers of the pictures that {teacher} learned from stand in the card of {teacher},
which applies here word for word. How it was made, and what judges and people make of it: docs/embedded-model.md. Apache-2.0.
"""


def card(name: str) -> str:
    """The card of what ships under ``name``, of what its files say."""
    here = folders.locate(name)
    words = {"name": name, "teacher": CASCADE, "bytes": (here / distilled.DIFFERENCE).stat().st_size}
    if (told := distilled.read(here)) is None:
        return (ADAPTED_CARD + REST).format(**words)
    usual = open_cascade(CASCADE, stages=1, text=False).stages[0].usual
    words |= {"steps": len(told.timesteps), "rows": 2 * usual.steps, "guidance": told.guidance}
    return (CARD + REST).format(**words, timesteps=", ".join(map(str, told.timesteps)))


def difference(model: Path) -> dict[str, Tensor]:
    """What ``model`` adds to the weights of what it is a difference to."""
    path = model / distilled.DIFFERENCE
    return {name: weights.real(value, name, path) for name, value in weights.load(path).items()}


def mixed(parts: Sequence[tuple[dict[str, Tensor], float]]) -> dict[str, Tensor]:
    """The sum of differences, each so strong: products stand side by side, so that their ranks add up."""
    found: dict[str, Tensor] = {}
    for changes, strength in parts:
        for name, value in changes.items():
            own = value.float() * (1 if name.endswith(distilled.DOWN) else strength)
            if name in found and name.endswith((distilled.UP, distilled.DOWN)):
                own = torch.cat([found[name], own])
            elif name in found:
                own = found[name] + own
            found[name] = own
    return found


def kept(changes: dict[str, Tensor], teacher: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """``changes`` with the share of their components that counts most."""
    parts, found = [], {name: value.view(1, -1) if value.ndim == 1 else value for name, value in changes.items()}
    names = [name.removesuffix(distilled.UP) for name in changes if name.endswith(distilled.UP)]
    pairs = {name: (found.pop(name + distilled.UP), found.pop(name + distilled.DOWN)) for name in names}
    for name, (up, down) in pairs.items():
        left, sizes, right = torch.linalg.svd(up.T @ down, full_matrices=False)
        for k in range(len(up)):
            root = sizes[k].sqrt()
            worth = sizes[k].square() / teacher[name].square().mean() / (len(left) + right.shape[1])
            parts.append((worth.item(), name, root * left[:, k], root * right[k]))
    parts.sort(key=lambda part: -part[0])
    parts = parts[: math.ceil(share * len(parts))]
    for name in Counter(name for _, name, *_ in parts):
        found[name + distilled.UP] = torch.stack([up for _, own, up, _ in parts if own == name])
        found[name + distilled.DOWN] = torch.stack([down for _, own, _, down in parts if own == name])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--also", nargs=2, action="append", default=[], metavar=("MODEL", "STRENGTH"))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--upscale-steps", type=int, help="of the second stage; as with the teacher by default")
    options = parser.parse_args()
    network = open_cascade(CASCADE, dtype=torch.float32, stages=1).stages[0].network
    models = [(options.model, options.strength), *((Path(model), float(strength)) for model, strength in options.also)]
    kinds = {folders.difference_of(model)[0] for model, _ in models}
    if len(kinds) > 1 or (options.upscale_steps and folders.ADAPTED in kinds):
        parser.error("differences of one kind are mixed, and --upscale-steps is of those that are distilled")
    told = distilled.read(options.model)
    changes = kept(mixed([(difference(model), s) for model, s in models]), network.transformer.state_dict(), options.share)
    here = folders.EMBEDDED / (UNPROMPTED if told is None else FAST)
    shutil.rmtree(here, ignore_errors=True)
    weights.save(changes, here / distilled.DIFFERENCE, "int8")
    file, content = folders.ADAPTED, {"base": CASCADE}
    if told is not None:
        file, content = folders.DISTILLED, told._replace(teacher=CASCADE, upscale_steps=options.upscale_steps)._asdict()
    (here / file).write_text(json.dumps(content, indent=2) + "\n")
    (here / "README.md").write_text(card(here.name))
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(here.iterdir()))
    (here / folders.SUMS).write_text("".join(sums))


if __name__ == "__main__":
    main()
