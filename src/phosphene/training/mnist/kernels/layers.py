"""Layers of the MNIST networks as a GPU likes them: normalised in few passes, wide enough, their small work done aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.models.unet import MnistUNet
from phosphene.training.mnist.kernels.batchnorm import BatchNormGelu2d


class ThinConv2d(nn.Conv2d):
    """A convolution from or to fewer than eight channels, padded to eight: cuDNN's tensor-core kernels need that many."""

    def forward(self, x: Tensor) -> Tensor:
        extra_in, extra_out = max(0, 8 - self.in_channels), max(0, 8 - self.out_channels)
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, extra_in, 0, extra_out)).contiguous(memory_format=torch.channels_last)
        x = F.pad(x, (0, 0, 0, 0, 0, extra_in)).contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, weight, None, self.stride, self.padding)[:, : self.out_channels]
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


class Aside:
    """A second stream, for work that the next layer does not wait for. Small layers leave half of a GPU idle."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    @contextmanager
    def work(self, *inputs: Tensor) -> Iterator[None]:
        """Kernels called inside run on the second stream, after what the present one has been given so far."""
        self.stream.wait_stream(torch.cuda.current_stream())
        for x in inputs:
            x.record_stream(self.stream)  # or the present stream's next kernel could be given their memory
        with torch.cuda.stream(self.stream):
            yield

    def join(self) -> None:
        """What the present stream is given from now on comes after everything done aside."""
        torch.cuda.current_stream().wait_stream(self.stream)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, settings: tuple, aside: Aside):
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        ctx.settings, ctx.aside = settings, aside
        return torch.ops.aten.convolution(x, weight, None, *settings)

    @staticmethod
    def backward(ctx, dy: Tensor):
        x, weight = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        gradient = torch.ops.aten.convolution_backward
        with ctx.aside.work(dy, x):
            # Handed to the leaf and not to autograd, which could copy it on the present stream before it is there.
            weight.grad = gradient(dy, x, weight, None, *ctx.settings, [False, True, False])[1]
        return gradient(dy, x, weight, None, *ctx.settings, [True, False, False])[0], None, None, None


class AsideConv2d(nn.Conv2d):
    """A convolution without bias whose weight, a leaf, gets its gradient on the second stream."""

    def forward(self, x: Tensor) -> Tensor:
        settings = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)
        return _Convolution.apply(x, self.weight, settings, self.aside)


class AsideConvTranspose2d(nn.ConvTranspose2d):
    """The same of a transposed convolution. Of single pixels it is one matrix product, which cuDNN does not see."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] == (1, 1) and self.padding == (0, 0):
            y = x.flatten(1).to(self.weight.dtype) @ self.weight.permute(0, 2, 3, 1).flatten(1)
            return y.unflatten(1, (*self.kernel_size, self.out_channels)).permute(0, 3, 1, 2)
        settings = (self.stride, self.padding, self.dilation, True, self.output_padding, self.groups)
        return _Convolution.apply(x, self.weight, settings, self.aside)


class AsideMnistUNet(MnistUNet):
    """The UNet with its small networks for time and class, thirty short kernels each way, on the second stream."""

    def _modulations(self, t: Tensor | None, c: Tensor | None) -> list[list[Tensor | None]]:
        with self.aside.work(*(x for x in (t, c) if x is not None)):
            modulations = super()._modulations(t, c)
        for part in modulations[0] + modulations[1]:
            if part is not None:
                part.record_stream(torch.cuda.current_stream())
        return modulations

    def _condition(self, u: Tensor, modulations: list[Tensor | None]) -> Tensor:
        self.aside.join()
        return super()._condition(u, modulations)


def tune(network: nn.Module) -> Aside:
    """Swap the layers of ``network`` for those above, in place. Names and values of its parameters stay.

    Only for an ``InHalf`` with a :class:`FlatStep`, which joins what is returned before it reads the gradients.
    """
    aside = Aside()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 3 and type(module[1]) is nn.BatchNorm2d:
            module[1].__class__ = BatchNormGelu2d
            module[2] = nn.Identity()
        if type(module) is nn.Conv2d and min(module.in_channels, module.out_channels) < 8:
            module.__class__ = ThinConv2d
        for plain, tuned in ((nn.Conv2d, AsideConv2d), (nn.ConvTranspose2d, AsideConvTranspose2d)):
            if type(module) is plain and module.bias is None:
                module.__class__, module.aside = tuned, aside
    if type(network) is MnistUNet:
        network.__class__, network.aside = AsideMnistUNet, aside
    return aside
