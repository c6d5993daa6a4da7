"""Which input position lies under each tap of each output position, along one axis.

A table has a row for each output position with an entry for each tap: the input position, `PADDING` where the tap lies
on padding (a zero), `NOTHING` where it counts for nothing at all.
"""

from typing import Any, TypeAlias

import numpy as np

from ..checks import ConvGeometry

__all__ = ["NOTHING", "PADDING", "adaptive_taps", "correlation_taps", "pool_taps", "transposed_taps"]

Taps: TypeAlias = list[list[int]]

PADDING, NOTHING = -1, -2
PAD_MODES = {1: "reflect", 2: "edge", 3: "wrap", 4: "symmetric"}  # of checks.PADDING_MODES


def correlation_taps(g: ConvGeometry, axis: int) -> Taps:
    """Of a convolution with the `ConvGeometry` `g`."""
    extent, before, after = g.in_[axis], g.before[axis], g.after[axis]
    positions = np.arange(extent) + g.crop[axis][0]
    fill: dict[str, Any] = {"mode": PAD_MODES[g.mode]} if g.mode else {"constant_values": PADDING}
    padded = np.pad(positions, (before, after), **fill)
    outputs, taps = np.arange(g.out[axis])[:, None], np.arange(g.kernel[axis])
    under: Taps = padded[outputs * g.stride[axis] + taps * g.dilation[axis]].tolist()
    return under


def transposed_taps(g: ConvGeometry, axis: int) -> Taps:
    """Of the transposed convolution that is the backward-input of the convolution `g`."""
    outputs, taps = np.arange(g.in_[axis])[:, None], np.arange(g.kernel[axis])
    steps, rest = np.divmod(outputs + g.before[axis] - taps * g.dilation[axis], g.stride[axis])
    under: Taps = np.where((rest == 0) & (steps >= 0) & (steps < g.out[axis]), steps, NOTHING).tolist()
    return under


def pool_taps(window: tuple[int, ...]) -> Taps:
    """Of one axis of `checks.Windows`: (in, out, size, stride, dilation, before, after)."""
    extent, out, size, stride, dilation, before, after = window
    positions = np.arange(out)[:, None] * stride - before + np.arange(size) * dilation
    inside = (positions >= 0) & (positions < extent)
    under: Taps = np.where(inside, positions, np.where(positions < extent + after, PADDING, NOTHING)).tolist()
    return under


def adaptive_taps(extent: int, out: int) -> Taps:
    """Of `out` windows that cover an axis evenly; shorter ones are filled up."""
    windows = [range(o * extent // out, -(-(o + 1) * extent // out)) for o in range(out)]
    width = max(map(len, windows))
    return [[*window, *[NOTHING] * (width - len(window))] for window in windows]
