"""The UNet of the MNIST chapter: 28x28 grey pictures, width D, optionally told the time and the class.

    x ---- first (D, 28x28) ------------------------------------------------ [.] out --- picture
             |  down1 (D, 14x14) ------------------------------- [.] up2 -----^
             |    |  down2 (2D, 7x7) ---------------- [.] up1 ---^
             |    |    |  pool (2D, 1x1) -- unflatten -^

Time is added and class multiplied, both at the unflattened and at the up1 level: ``c1 * u + t1``, ``c2 * up1 + t2``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from phosphene.errors import UserError


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, BatchNorm, GELU. Stride 2 halves the picture.

    The convolution has no bias: BatchNorm would subtract it again, and its (zero) gradient costs a sixth of a step.
    """
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.GELU())


def conv_transposed(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    """Transposed convolution, BatchNorm, GELU."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.GELU()
    )


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs), conv(outputs, outputs))


def down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, stride=2), block(outputs, outputs))


def up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_transposed(inputs, outputs, 4, 2, 1), block(outputs, outputs))


def embedder(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs))


class MnistUNet(nn.Module):
    """``forward(x, t, c)``: x (B, 1, 28, 28); t (B,) in 0..1 if ``time``; c (B, classes) one-hot, or zeros for no class.

    The way down sees neither time nor class. So t and c may have k * B rows, of all pictures under one condition after
    the other; the way down, and half of each way up's first convolution, are then computed once for k answers.

    1,974,017 parameters at width 64 (1,975,361 with the assignment's idle biases); time adds 21,056, ten classes 22,784.
    """

    def __init__(self, width: int, time: bool = False, classes: int = 0) -> None:
        super().__init__()
        if width < 1:
            raise UserError(f"--width {width}: must be at least 1; the assignment's is 64 (denoiser: 128).")
        self.config = {"width": width, "time": time, "classes": classes}
        d = width
        self.first = block(1, d)
        self.down1 = down(d, d)
        self.down2 = down(d, 2 * d)
        self.unflatten = conv_transposed(2 * d, 2 * d, 7, 1, 0)
        self.up1 = up(4 * d, d)
        self.up2 = up(2 * d, d)
        self.out = nn.Sequential(block(2 * d, d), nn.Conv2d(d, 1, 3, 1, 1))
        if time:
            self.time1, self.time2 = embedder(1, 2 * d), embedder(1, d)
        if classes:
            self.class1, self.class2 = embedder(classes, 2 * d), embedder(classes, d)

    def forward(self, x: Tensor, t: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        modulations = self._modulations(t, c)
        first = self.first(x)
        down1 = self.down1(first)
        down2 = self.down2(down1)
        u = self.unflatten(F.gelu(down2.mean((2, 3), keepdim=True)))
        u = self._condition(u, modulations[0])
        u = _joined(self.up1, u, down2)
        u = self._condition(u, modulations[1])
        u = _joined(self.up2, u, down1)
        return _joined(self.out, u, first)

    def _modulations(self, t: Tensor | None, c: Tensor | None) -> list[list[Tensor | None]]:
        """For either level the factor that says the class and the term that says the time, None where there is none."""
        return [
            [
                getattr(self, f"class{level}")(c)[:, :, None, None] if self.config["classes"] else None,
                getattr(self, f"time{level}")(t[:, None])[:, :, None, None] if self.config["time"] else None,
            ]
            for level in (1, 2)
        ]

    def _condition(self, u: Tensor, modulations: list[Tensor | None]) -> Tensor:
        factor, term = modulations
        rows = max(len(part) for part in (u, factor, term) if part is not None)
        if rows > len(u):
            u = u.repeat(rows // len(u), 1, 1, 1)
        if factor is not None:
            u = u * factor
        return u if term is None else u + term


def _joined(layers: nn.Sequential, u: Tensor, skip: Tensor) -> Tensor:
    """``layers(cat([u, skip]))``; where u has k rows for each of the skip, its half of the first convolution is shared."""
    if len(u) == len(skip):
        return layers(torch.cat([u, skip], dim=1))
    first = layers
    while isinstance(first[0], nn.Sequential):
        first = first[0]
    conv, own = first[0], u.shape[1]
    if isinstance(conv, nn.ConvTranspose2d):
        maps, apply = (conv.weight[:own], conv.weight[own:]), F.conv_transpose2d
    else:
        maps, apply = (conv.weight[:, :own], conv.weight[:, own:]), F.conv2d
    once = apply(skip, maps[1], conv.bias, conv.stride, conv.padding)
    u = apply(u, maps[0], None, conv.stride, conv.padding)
    u = (u.unflatten(0, (-1, len(skip))) + once).flatten(0, 1)
    return _after(layers, conv, u)


def _after(layers: nn.Sequential, conv: nn.Module, x: Tensor) -> Tensor:
    """``layers`` without its first module, ``conv``."""
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            x = _after(layer, conv, x) if any(m is conv for m in layer.modules()) else layer(x)
        elif layer is not conv:
            x = layer(x)
    return x


def fused(network: nn.Module) -> nn.Module:
    """``network`` in evaluation mode with every BatchNorm folded into the convolution before it, in place."""
    network.eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.BatchNorm2d):
            transposed = isinstance(module[0], nn.ConvTranspose2d)
            module[0] = fuse_conv_bn_eval(module[0], module[1], transpose=transposed)
            module[1] = nn.Identity()
    return network
