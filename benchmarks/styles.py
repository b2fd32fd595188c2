"""In which style of emoji is a picture, by its pixels alone? Of paintings, and of things that nobody has painted.

    python benchmarks/styles.py SHARDS --out eyes [--model MODEL --seeds 3] [--device cuda]

The retrieval models cannot be asked that: they learned from icons too, which training fills with colours, and never saw
what a style makes of a thing without a painting. These are small convolutional networks that read no word. They learn from
paintings on white, all framed alike, which of five styles each is in, and from icons in colours and paintings that are
tinted in one what is in none. Of each ten names one is kept out, so that the share of right ones is of names they
have not seen: the most that can be asked of drawn pictures. ``--model`` draws icons by name in a style, as glyph_results.py
asks for them, and says how many of these are in it. Writes eyes.safetensors and styles.json.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import judge as measure
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from phosphene.drawing import Sampling, run
from phosphene.models.cascade import open_cascade
from phosphene.sampler import last
from phosphene.tasks.generate import generate
from phosphene.training.text_to_image.captions import COLOURS, MASK
from phosphene.training.text_to_image.casting import Casting, Layer, Scene
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.phrases import STYLES
from phosphene.training.text_to_image.staging import alone, drawn, staged

KEPT = ("fluent 3d", "fluent color", "fluent flat", "noto", "firefox")
"""Styles of the sets of emoji."""
CALLED = tuple(STYLES[style][0] for style in KEPT)
ICON = len(KEPT)
"""The class of what is in no style."""
SIDE, BATCH, SEED, FILE = 64, 256, 180, "eyes.safetensors"


def framed(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(B, 3, 64, 64) in [-1, 1], what is not white moved to the middle and as large as the frame; with a ``generator``
    smaller, moved, mirrored and lit by chance. How large a set draws things would tell it by itself."""
    inked, at = (x < 0.94).any(1), torch.arange(SIDE, device=x.device)

    def span(found: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.where(found, at, SIDE - 1).amin(1), torch.where(found, at, 0).amax(1)
        return (low + high + 1) / SIDE - 1, (high - low + 1).clamp(min=8) / SIDE

    (across, wide), (down, tall) = span(inked.any(1)), span(inked.any(2))
    scale, mirror = torch.maximum(wide, tall) * SIDE / 58, torch.ones_like(across)
    if generator is not None:
        chance = torch.rand(6, len(x), generator=generator, device=x.device)
        scale, mirror = scale * (0.92 + 0.4 * chance[0]), (chance[1] < 0.5).float() * 2 - 1
        across, down = across + (chance[2] - 0.5) * 0.16 * scale, down + (chance[3] - 0.5) * 0.16 * scale
    zero = torch.zeros_like(across)
    rows = torch.stack([torch.stack([scale * mirror, zero, across], 1), torch.stack([zero, scale, down], 1)], 1)
    found = F.grid_sample(x - 1, F.affine_grid(rows, list(x.shape), align_corners=False), align_corners=False) + 1
    if generator is not None:
        found = found * (0.94 + 0.12 * chance[4, :, None, None, None]) + (chance[5, :, None, None, None] - 0.5) * 0.06
    return found.contiguous(memory_format=torch.channels_last)


def network(width: int) -> nn.Sequential:
    """(B, 3, 64, 64) to the logits (B, 6) of the styles and of an icon."""
    layers: list[nn.Module] = []
    before = 3
    for times, stride in ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 1), (4, 2), (4, 1)):
        layers += [nn.Conv2d(before, times * width, 3, stride, 1, bias=False), nn.BatchNorm2d(times * width), nn.ReLU()]
        before = times * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(before, ICON + 1)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def learned(pictures: Tensor, labels: Tensor, seed: int, epochs: int, width: int) -> nn.Sequential:
    """A network that tells ``labels`` (N,) of ``pictures`` (N, 3, 64, 64), bytes."""
    device = pictures.device
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model, batch = network(width).to(device), min(BATCH, len(pictures))
    steps = epochs * (len(pictures) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(epochs):
        order = torch.randperm(len(pictures), generator=generator, device=device)
        for rows in order[: len(order) // batch * batch].split(batch):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                said = model(framed(unpacked(pictures[rows]), generator)).float()
            loss = F.cross_entropy(said, labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return model.eval()


def packed(x: Tensor) -> Tensor:
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte()


def unpacked(x: Tensor) -> Tensor:
    return x.float() / 127.5 - 1


class Eyes:
    """Networks that are asked together, of a picture and of its mirror image."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = networks

    @torch.no_grad()
    def say(self, pictures: Tensor) -> Tensor:
        """(N, 3, 64, 64) in [-1, 1] to the probabilities (N, 6) of the styles, as KEPT, and of an icon."""
        found = []
        for part in pictures.float().clamp(-1, 1).split(512):
            views = (front := framed(part), front.flip(3))
            found.append(torch.stack([n(view).float().softmax(1) for n in self.networks for view in views]).mean(0))
        return torch.cat(found)

    def save(self, folder: Path) -> None:
        parts = {f"{k}.{name}": value for k, n in enumerate(self.networks) for name, value in n.state_dict().items()}
        save_file({name: value.contiguous() for name, value in parts.items()}, folder / FILE)

    @classmethod
    def open(cls, folder: Path, device: str = "cpu") -> Eyes:
        parts, found = load_file(folder / FILE, device), []
        for k in range(1 + max(int(name.split(".")[0]) for name in parts)):
            own = {name.split(".", 1)[1]: value for name, value in parts.items() if name.startswith(f"{k}.")}
            model = network(len(own["0.weight"])).to(device)
            model.load_state_dict(own)
            found.append(model.eval())
        return cls(found)


def paintings(cutouts: Cutouts) -> tuple[Tensor, Tensor, list[str]]:
    """All that are in one of the styles, as bytes on white; the number of the style of each, and its name."""
    rows = [k for k, subject in enumerate(cutouts.subjects) if subject.style in KEPT and not subject.drawn]
    shown = torch.cat([packed(alone(cutouts, part, SIDE)) for part in _parts(rows)])
    subjects = [cutouts.subjects[k] for k in rows]
    return shown, torch.tensor([KEPT.index(s.style) for s in subjects], device=shown.device), [s.called for s in subjects]


def filled(cutouts: Cutouts, count: int, chance: random.Random) -> Tensor:
    """``count`` icons as training fills them, and as many paintings tinted in one colour."""
    cast = Casting(cutouts.subjects, cutouts.shapes)
    names = [name for name in cast.names if cast.icons[name] and not cast.painted[name]]
    painted = [
        k for k, s in enumerate(cutouts.subjects) if s.style != MASK and not (cutouts.shapes[k].opaque or unseen(s.called))
    ]
    scenes = []
    for number in range(count):
        thing = cast.thing(name := chance.choice(names), chance, own=number % 2 == 0)
        scenes.append(Scene("", [cast.hang(thing, 0.5, 0.5, 0.9, None, chance)]))
        ink, shade = chance.choice(list(COLOURS.values())), chance.choice((0.0, 0.0, 0.3))
        layer = Layer(chance.choice(painted), (1.0, 1.0, 0.0, 0.0), tint=ink, tinted=1.0, shade=shade)
        scenes.append(Scene(name, [layer]))
    device = cutouts.pictures.device
    return torch.cat([packed(drawn(staged(part).to(device), cutouts, SIDE)) for part in _parts(scenes)])


def _parts(rows: Sequence, most: int = 512) -> list[Sequence]:
    return [rows[k : k + most] for k in range(0, len(rows), most)]


def unseen(name: str) -> bool:
    """Whether pictures of ``name`` are kept out of training."""
    return zlib.crc32(name.encode()) % 10 == 0


def table(said: Tensor, labels: Tensor) -> dict:
    """The share of ``labels`` (N,) that the largest of ``said`` (N, 6) tells; and what each style is taken for."""
    best, names = said.argmax(1), (*CALLED, "an icon")
    found: dict = {"right": (best == labels).float().mean().item(), "of": len(labels)}
    for k, style in enumerate(CALLED):
        if (own := best[labels == k]).numel():
            found[style] = {name: (own == j).float().mean().item() for j, name in enumerate(names)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="SHARDS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--seed", type=int, default=SEED, help="of networks; another for who measures than for who chooses")
    parser.add_argument("--model", type=Path, help="draw icons in styles with it")
    parser.add_argument("--asked", type=Path, metavar="SHARDS", help="of which these icons are, where not of all")
    parser.add_argument("--seeds", type=int, default=3, help="so many pictures of each of these")
    parser.add_argument("--count", type=int, default=300, help="of compositions, a third of them in a style")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cutouts = Cutouts.open(options.data, SIDE)
    held = options.out / "styles.json"
    figures: dict = json.loads(held.read_text()) if held.exists() else {}
    if (options.out / FILE).exists():
        eyes = Eyes.open(options.out, options.device)
    else:
        cutouts = Cutouts(cutouts.pictures.to(options.device), cutouts.subjects, cutouts.shapes)
        shown, labels, names = paintings(cutouts)
        out = torch.tensor([unseen(name) for name in names], device=shown.device)
        icons = filled(cutouts, len(shown) // 4, random.Random(options.seed))
        pictures, told = torch.cat([shown[~out], icons]), torch.cat([labels[~out], labels.new_full((len(icons),), ICON)])
        seeds = range(options.seed, options.seed + options.networks)
        eyes = Eyes([learned(pictures, told, seed, options.epochs, options.width) for seed in seeds])
        eyes.save(options.out)
        figures["paintings of names not seen"] = table(eyes.say(unpacked(shown[out])), labels[out])
        print(json.dumps(figures), flush=True)
    if options.model is not None:
        known = cutouts if options.asked is None else Cutouts.open(options.asked, 16)
        asked = [c for c in measure.compositions(known, options.count) if c.template == measure.STYLED and c.word in CALLED]
        stage, found = open_cascade(options.model, options.device, stages=1).stages[0], []
        for k in range(options.seeds):
            seeds = range(SEED + k * len(asked), SEED + (k + 1) * len(asked))
            found.append(last(run(generate([c.told() for c in asked]), stage, seeds, sampling=Sampling(max_rows=200))))
        labels = torch.tensor([CALLED.index(c.word) for c in asked], device=found[0].device)
        figures["icons drawn in a style"] = table(eyes.say(torch.cat(found)), labels.repeat(options.seeds))
    held.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
