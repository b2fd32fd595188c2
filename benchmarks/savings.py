"""What saves work in drawing with glyph, and what it costs: how far each leads from the pictures of all steps.

    python benchmarks/savings.py [--solver dpm] [--steps 16] [--prompts 8] [--models glyph-fast] [--json FILE]

The first stage in single precision, on prompts of docs/prompts.txt. Ways to save: fewer steps; ``--guidance-every``, which keeps
what guidance adds; models distilled to few steps; and, which no option offers, keeping what the inner blocks add at all steps but
every second or third (Ma et al. 2024, DeepCache; Chen et al. 2024, Delta-DiT). Of each the distance to the pictures of all steps
(root mean square, in [-1, 1]) and the share of their work, counted: rows that blocks compute, where time is nearly all that they
take. That the same call is answered alike by what was kept of it is asserted first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from timing import told
from torch import Tensor

from phosphene.defaults import OWN_USUAL
from phosphene.drawing import Sampling, run
from phosphene.models.cascade import open_cascade
from phosphene.models.stage import Stage
from phosphene.sampler import last
from phosphene.tasks.generate import generate

GUIDANCE, SEED = OWN_USUAL.guidance, 180
PROMPTS = Path(__file__).parents[1] / "docs" / "prompts.txt"


class Deep:
    """The inner blocks of a stage's transformer: at every ``every``-th call of the network they are asked, else what each added
    to the same rows at the last such call is added again."""

    def __init__(self, stage: Stage, every: int, before: int, after: int) -> None:
        self.network, self.every, self.calls = stage.network, every, -1
        blocks = stage.network.transformer.transformer_blocks
        self.inner = list(blocks[before : len(blocks) - after])

    def _called(self, network: Callable) -> Callable:
        def called(*given: Tensor, **named: object) -> tuple[Tensor]:
            if not self.inside:  # the network calls itself for each part of a batch
                self.calls, self.parts = self.calls + 1, [0] * len(self.inner)
            inside, self.inside = self.inside, True
            try:
                return network(*given, **named)
            finally:
                self.inside = inside

        return called

    def _kept(self, number: int, block: Callable) -> Callable:
        added: dict[int, Tensor] = {}

        def asked(x: Tensor, *others: object) -> Tensor:
            part = self.parts[number]
            self.parts[number] += 1
            if self.calls % self.every:
                return x + added[part]
            answer = block(x, *others)
            added[part] = answer - x
            return answer

        return asked

    @contextmanager
    def kept(self) -> Iterator[None]:
        self.inside, self.calls = False, -1
        with ExitStack() as stack:
            stack.enter_context(patch.object(self.network, "forward", self._called(self.network.forward)))
            for number, block in enumerate(self.inner):
                stack.enter_context(patch.object(block, "forward", self._kept(number, block.forward)))
            yield


@contextmanager
def counted(stage: Stage) -> Iterator[list[int]]:
    """How many rows each block of a stage's transformer computes, call by call."""
    rows: list[int] = []
    parts = [block.ff["net"] for block in stage.network.transformer.transformer_blocks]
    hooks = [part.register_forward_hook(lambda _, given, __: rows.append(len(given[0]))) for part in parts]
    yield rows
    for hook in hooks:
        hook.remove()


def asked(count: int) -> list[str]:
    """So many of the prompts, from all kinds of them."""
    lines = [line.strip() for line in PROMPTS.read_text().splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    return prompts[:: max(1, len(prompts) // count)][:count]


def measure(options: argparse.Namespace) -> dict[str, object]:
    device, prompts = torch.device(options.device), asked(options.prompts)
    models = {name: open_cascade(name, device, torch.float32, stages=1) for name in ("glyph", *options.models)}
    stage, task, seeds = models["glyph"].stages[0], generate(prompts), range(SEED, SEED + len(prompts))

    def drawn(model: str = "glyph", deep: Deep | None = None, **named: int) -> Tensor:
        sampling = (
            Sampling() if model != "glyph" else Sampling(options.solver, guidance=GUIDANCE, **{"steps": options.steps} | named)
        )
        with deep.kept() if deep else ExitStack():
            return last(run(task, models[model], seeds, sampling=sampling))

    noise = torch.randn(2, *stage.image_shape, generator=torch.Generator().manual_seed(SEED)).to(device)
    text = stage.embed(prompts[0]).expand(2, -1, -1).to(device)
    with Deep(stage, 2, 1, 1).kept(), torch.no_grad():
        first, again = (stage(noise, torch.tensor([500, 500], device=device), text).noise for _ in range(2))
    assert torch.allclose(first, again, atol=1e-4), "what was kept of a call gives another answer to the same call"
    ways: dict[str, dict] = {"all": {}}
    ways |= {f"{steps} steps": {"steps": steps} for steps in [options.steps * part // 8 for part in (2, 4, 5, 6)]}
    ways |= {f"guidance every {every}": {"guidance_every": every} for every in (2, 4)}
    ways |= {
        f"deep every {every}, {before} + {after} blocks always": {"deep": Deep(stage, every, before, after)}
        for every, before, after in ((2, 1, 1), (2, 1, 3), (3, 1, 3))
    }
    ways |= {f"{name}, as it comes": {"model": name} for name in options.models}
    pictures, work = {}, {}
    for name, way in ways.items():
        with counted(models[way.get("model", "glyph")].stages[0]) as rows:
            pictures[name] = drawn(**way)
        work[name] = sum(rows)
    found: dict[str, object] = {}
    for name in list(ways)[1:]:
        found[f"{name}: distance"] = (pictures[name] - pictures["all"]).square().mean().sqrt().item()
        found[f"{name}: share of the work"] = work[name] / work["all"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solver", default="dpm")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--models", nargs="*", default=["glyph-fast"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()  # `make bench` hands all scripts the same options
    told(measure(options), torch.device(options.device), options.json)


if __name__ == "__main__":
    main()
