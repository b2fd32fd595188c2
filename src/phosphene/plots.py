"""Plots, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import linear_regression

import numpy as np
from PIL import Image

SIZE, LETTERS = (4.3, 2.8), 10
"""Inches, and points of matplotlib's smallest letters: on a phone a plot is 350 pixels wide, and they are 11 of those high."""


def loss_curves(curves: Mapping[str, Sequence[tuple[float, float]]], title: str = "", x: str = "epoch") -> Image.Image:
    """Training losses, log scale; each curve is (``x``, loss) pairs, as they are, and over them smoothed."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    figure, axes = _figure()
    for label, points in curves.items():
        epochs, losses = [p[0] for p in points], [p[1] for p in points]
        many = len(points) > 1000
        (dots,) = axes.plot(epochs, losses, ".", alpha=0.06 if many else 0.3, markersize=2 if many else 4)
        axes.plot(epochs, smoothed(losses), color=dots.get_color(), linewidth=1.8, label=label, zorder=3)
    axes.set(xlabel=x, ylabel="loss", title=title, yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    if len(curves) > 1:
        axes.legend(frameon=False)
    return _drawn(figure)


def lines(curves: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, marker: str = "o") -> Image.Image:
    """(x, y) points, each a ``marker``, joined by lines."""
    figure, axes = _figure()
    for label, points in curves.items():
        axes.plot([p[0] for p in points], [p[1] for p in points], marker=marker, label=label)
    axes.set(xlabel=x, ylabel=y)
    axes.legend(frameon=False)
    return _drawn(figure)


def _figure():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=SIZE, dpi=200, layout="constrained")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _drawn(figure) -> Image.Image:
    import matplotlib.pyplot as plt

    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    return image


def smoothed(values: Sequence[float], share: float = 0.04) -> list[float]:
    """A moving average over ``share`` of the curve, or less: as much on either side, so that it does not lag, and at the
    beginning, where losses fall by a power of the steps, over no more than two thirds of what went before. At the end, where
    nothing is on the other side, it is the straight line through the last ``share``.
    """
    count, sums = len(values), list(accumulate(values, initial=0.0))
    half = max(1, round(count * share / 2))
    reaches = [min(i // 3, count - 1 - i, half) for i in range(count)]
    averages = [(sums[i + r + 1] - sums[i - r]) / (2 * r + 1) for i, r in enumerate(reaches)]
    if count > 6 * half:
        slope, level = linear_regression(range(-half, half + 1), values[-2 * half - 1 :])
        averages[-half:] = [level + slope * i for i in range(1, half + 1)]
    return averages
