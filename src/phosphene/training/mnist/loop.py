"""The training loop: everything of a step happens on the device, and nothing in it waits for the host.

The data set, the order of the epoch, the position in it, the learning rate, the losses and the gradient norms are
tensors on the device. On CUDA the whole step (gather, noise, forward, backward, all-reduce, Adam, EMA) is one CUDA
graph, replayed. The loop is a generator: logging, pictures and checkpoints belong to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.processes import Place
from phosphene.training import checkpoint
from phosphene.training.distributed import average, share_statistics
from phosphene.training.ema import Average
from phosphene.training.mnist.data import Split
from phosphene.training.mnist.half import InHalf
from phosphene.training.mnist.kernels import fast_update
from phosphene.training.mnist.objectives import Draws, Loss
from phosphene.training.mnist.recipes import Recipe
from phosphene.training.options import whole

WARM_STEPS = 3
"""Steps run eagerly before the CUDA graph is captured: cuDNN picks its kernels and Adam makes its state in them."""


class Progress(NamedTuple):
    """What the trainer reports: steps done in all and in this epoch, and the losses since the last report."""

    epoch: int  # the epoch in progress or just ended, from 1
    step: int  # in the epoch
    steps: int  # of an epoch
    losses: list[float]
    epoch_ended: bool


class Trainer:
    """Trains ``network`` on ``split`` by ``recipe``; ``average`` is its moving average, to sample from.

    ``report_every`` steps the host looks at the device (and checks for non-finite numbers). ``compiled`` runs the
    network through torch.compile.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        loss: Loss,
        split: Split,
        place: Place | None = None,
        compiled: bool = False,
        report_every: int = 50,
    ) -> None:
        self.recipe, self.loss, self.report_every = recipe, loss, report_every
        self.place = place or Place("cpu")
        device, world = self.place.device, self.place.world
        if recipe.batch_size > len(split):
            raise UserError(f"--batch-size {recipe.batch_size}: is more than the {len(split)} pictures; choose a smaller one.")
        self.rows = len(self.place.rows(recipe.batch_size))
        self.steps = len(split) // recipe.batch_size  # the remainder of an epoch waits for another shuffle
        self.on_gpu = device.type == "cuda"
        if self.on_gpu:
            torch.backends.cudnn.benchmark = True  # every step has the same shapes, so the search pays at once

        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.network = network.to(device, memory_format=torch.channels_last).train()
        if world > 1:
            share_statistics(self.network)
        self.ema = Average(self.network, recipe.ema)
        self.average = self.ema.network
        self.parameters = list(self.network.parameters())
        self._halved = InHalf(self.network) if self.on_gpu and not compiled else None
        self._forward = torch.compile(self.network) if compiled else self._halved or self.network
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=torch.tensor(recipe.lr, device=device), fused=True, capturable=self.on_gpu
        )
        self.generator = torch.Generator(device).manual_seed(recipe.seed)
        self.draws = Draws(self.generator, self.place.rank, world)

        self.stopping = False  # set from outside to end the run after the step in progress
        self.epoch, self.done = 0, 0  # epochs finished, steps done in the one in progress
        self.order = torch.zeros(len(split), dtype=torch.long, device=device)
        self.position = torch.zeros((), dtype=torch.long, device=device)
        self.count = torch.zeros((), device=device)  # of all steps, for the warm-up of the average
        self.losses = torch.zeros(self.steps, device=device)
        self.norms = torch.zeros(self.steps, device=device)
        self._batch = torch.arange(self.rows, device=device) + self.place.rank * self.rows
        fast = self._halved is not None and world == 1
        self._fast_update = fast_update(self._halved, self.ema, self.optimiser, self.count) if fast else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager_steps = 0

    @property
    def finished(self) -> bool:
        return self.epoch >= self.recipe.epochs

    def run(self) -> Iterator[Progress]:
        """Train from where the state stands to the last epoch. Each report comes after whole steps, average included.

        Raises FloatingPointError, naming step and cause, when a loss or gradient stops being finite.
        """
        while not self.finished:
            self._begin_epoch()
            ended = False
            while not ended:
                stop = min(self.steps, (self.done // self.report_every + 1) * self.report_every)
                start = self.done
                alone = self.place.world == 1  # several processes agree on whether to stop, between two reports
                while self.done < stop and not (self.stopping and alone):
                    self._step()
                    self.done += 1
                if self.done == start:
                    return
                losses = self._checked_losses(start, self.done)
                (agreed,) = self.place.any(self.stopping)
                self.stopping = self.stopping or agreed
                ended = self.done == self.steps
                if ended:
                    self.epoch, self.done = self.epoch + 1, 0
                yield Progress(self.epoch + (not ended), self.done or self.steps, self.steps, losses, ended)
                if agreed:
                    return

    def _begin_epoch(self) -> None:
        """The order of an epoch follows from seed and epoch alone: a resumed run needs to store no permutation."""
        shuffle = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.epoch)
        self.order.copy_(torch.randperm(len(self.order), generator=shuffle))
        self.position.fill_(self.done * self.recipe.batch_size)
        factor = self.recipe.lr_decay ** (self.epoch / self.recipe.epochs)
        for group in self.optimiser.param_groups:
            group["lr"].fill_(self.recipe.lr * factor)
        if self._halved is not None:
            self._halved.refresh()

    def _step(self) -> None:
        if not self.on_gpu:
            self._work()
        elif self._graph is not None:
            self._graph.replay()
        elif self._eager_steps < WARM_STEPS:
            # These are real steps, on the stream that the capture wants them on.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._work()
            torch.cuda.current_stream().wait_stream(stream)
            self._eager_steps += 1
        else:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph):
                self._work()
            self._graph = graph
            self._graph.replay()

    def _work(self) -> None:
        """One step, as device code: no tensor of it is read on the host."""
        index = self.order[self._batch + self.position]
        x0 = self.images[index].float() / 255
        x0 = x0.contiguous(memory_format=torch.channels_last)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.place.device.type, torch.bfloat16, enabled=self.on_gpu and torch.cuda.is_bf16_supported()):
            loss = self.loss(self._forward, x0, self.labels[index], self.draws)
        loss.backward()
        loss = loss.detach()
        self.count += 1
        norm = self._plain_update(loss) if self._fast_update is None else self._fast_update()
        step = self.position // self.recipe.batch_size
        self.losses.index_copy_(0, step[None], loss[None].float())
        self.norms.index_copy_(0, step[None], norm[None].float())
        self.position += self.recipe.batch_size

    def _plain_update(self, loss: Tensor) -> Tensor:
        """All-reduce, Adam, average and half-precision copies, by PyTorch's own kernels. The norm of the gradients."""
        if self._halved is not None:
            self._halved.return_gradients()
        if self.place.world > 1:
            average([p.grad for p in self.parameters] + [loss])
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters], foreach=True)
        self.optimiser.step()
        self.ema.follow(self.count)
        if self._halved is not None:
            self._halved.refresh()
        return norm

    def _checked_losses(self, start: int, stop: int) -> list[float]:
        losses, norms = torch.stack([self.losses[start:stop], self.norms[start:stop]]).tolist()  # the host waits here
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), start + 1):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"{loss:.4g} but the norm of its gradient is {norm}" if math.isfinite(loss) else f"{loss}"
                where = f"epoch {self.epoch + 1}, step {step} of {self.steps}"
                raise FloatingPointError(f"{where}: the loss is {what}; start a new run with an --lr below {self.recipe.lr:g}.")
        return losses

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Everything that decides the rest of the run: tensors, and the position as JSON."""
        others = {"generator": self.generator.get_state(), "count": self.count, "losses": self.losses}
        return checkpoint.gathered(self._networks, [self.optimiser], **others), {"epoch": self.epoch, "done": self.done}

    def restore(self, tensors: dict[str, Tensor], position: dict) -> None:
        """Continue from a :meth:`state`. ValueError or RuntimeError where it does not fit."""
        epoch = whole(position, "epoch", self.recipe.epochs)
        done = whole(position, "done", self.steps - 1 if epoch < self.recipe.epochs else 0)
        steps = epoch * self.steps + done
        if tensors.get("count", self.count).ne(steps).any():
            raise ValueError(f"count is not the {steps} steps of its position")
        others = {"generator": self.generator.get_state(), "count": self.count, "losses": self.losses}
        if (drawn := tensors.get("generator", others["generator"])).dtype == torch.uint8:
            torch.Generator(self.generator.device).set_state(drawn)  # refuses what is no state, before anything is changed
        checkpoint.scatter(tensors, self._networks, [self.optimiser], steps, **others)
        self.generator.set_state(others["generator"])
        self.epoch, self.done = epoch, done

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"network": self.network, "average": self.average}
