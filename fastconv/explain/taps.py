"""Which input position lies under each tap of each output position, along one axis.

A table has a row for each output position with an entry for each tap: the input position, `PADDING` where the tap lies
on padding (a zero), `NOTHING` where it counts for nothing at all.
"""

import numpy as np

__all__ = ["NOTHING", "PADDING", "adaptive_taps", "correlation_taps", "pool_taps", "transposed_taps"]

PADDING, NOTHING = -1, -2
PAD_MODES = {1: "reflect", 2: "edge", 3: "wrap", 4: "symmetric"}  # of checks.PADDING_MODES


def correlation_taps(g, axis):
    """Of a convolution with the `ConvGeometry` `g`."""
    extent, before, after = g.in_[axis], g.before[axis], g.after[axis]
    positions = np.arange(extent) + g.crop[axis][0]
    fill = {"mode": PAD_MODES[g.mode]} if g.mode else {"constant_values": PADDING}
    padded = np.pad(positions, (before, after), **fill)
    outputs, taps = np.arange(g.out[axis])[:, None], np.arange(g.kernel[axis])
    return padded[outputs * g.stride[axis] + taps * g.dilation[axis]].tolist()


def transposed_taps(g, axis):
    """Of the transposed convolution that is the backward-input of the convolution `g`."""
    outputs, taps = np.arange(g.in_[axis])[:, None], np.arange(g.kernel[axis])
    steps, rest = np.divmod(outputs + g.before[axis] - taps * g.dilation[axis], g.stride[axis])
    return np.where((rest == 0) & (steps >= 0) & (steps < g.out[axis]), steps, NOTHING).tolist()


def pool_taps(window):
    """Of one axis of `checks.Windows`: (in, out, size, stride, dilation, before, after)."""
    extent, out, size, stride, dilation, before, after = window
    positions = np.arange(out)[:, None] * stride - before + np.arange(size) * dilation
    inside = (positions >= 0) & (positions < extent)
    return np.where(inside, positions, np.where(positions < extent + after, PADDING, NOTHING)).tolist()


def adaptive_taps(extent, out):
    """Of `out` windows that cover an axis evenly; shorter ones are filled up."""
    windows = [range(o * extent // out, -(-(o + 1) * extent // out)) for o in range(out)]
    width = max(map(len, windows))
    return [[*window, *[NOTHING] * (width - len(window))] for window in windows]
