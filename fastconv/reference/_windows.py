"""The windows of pooling: which input elements, on every axis, each output position looks at."""

import math
from typing import NamedTuple

import numpy as np

from ._common import pairs, per_axis


class Window(NamedTuple):
    """One output position on one axis."""

    taps: slice  # positions in the kernel that meet a real element
    inputs: slice  # those elements
    padded: int  # taps that meet a real element or padding, not the rest that ceil_mode adds


def sliding_windows(spatial, kernel_size, stride, padding, dilation, ceil_mode):
    """A list of ``Window`` per axis, by PyTorch's window rule; and the kernel, one size per axis."""
    nd = len(spatial)
    kernel, dilation = per_axis(kernel_size, nd), per_axis(dilation, nd)
    stride = kernel if stride is None else per_axis(stride, nd)
    if min(*kernel, *stride, *dilation) < 1:
        raise ValueError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1")
    axes = []
    for axis, (size, k, s, pad, d) in enumerate(zip(spatial, kernel, stride, pairs(padding, nd), dilation)):
        axes.append(_axis_windows(axis, size, k, s, pad, d, ceil_mode))
    return axes, kernel


def _axis_windows(axis, size, k, s, pad, d, ceil_mode):
    before, after = pad
    out = (size + before + after - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
    if (out - 1) * s >= size + before:  # it would start beyond the input and the padding before it
        out -= 1
    if out < 1:
        raise ValueError(f"spatial axis {axis}: no window of kernel {k}, dilation {d} fits {size} with padding {pad}")
    windows = []
    for o in range(out):
        start = o * s - before
        real = [t for t in range(k) if 0 <= start + t * d < size]
        if not real:
            raise ValueError(f"spatial axis {axis}: window {o} of kernel {k}, padding {pad} has no real element in it")
        first, last = real[0], real[-1]
        padded = sum(start + t * d < size + after for t in range(k))
        windows.append(Window(slice(first, last + 1), slice(start + first * d, start + last * d + 1, d), padded))
    return windows


def adaptive_windows(spatial, output_size):
    """The windows of adaptive pooling: output ``o`` of ``out`` looks at [floor(o in / out), ceil((o + 1) in / out))."""
    axes = []
    if np.ndim(output_size):
        output_size = [size if out is None else out for size, out in zip(spatial, output_size, strict=True)]
    for size, out in zip(spatial, per_axis(output_size, len(spatial))):
        if out < 1:
            raise ValueError(f"output_size must be at least 1, got {output_size!r}")
        bounds = [(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]
        axes.append([Window(slice(0, hi - lo), slice(lo, hi), hi - lo) for lo, hi in bounds])
    return axes


def each_window(axes):
    """Walk the output positions in row-major order: ``(index of the output, its Window per axis)``."""
    for position in np.ndindex(*map(len, axes)):
        yield (..., *position), [windows[o] for windows, o in zip(axes, position)]


def _starts(axis, outputs, kernel, stride, padding):
    """Input position of tap 0 on one axis, in a shape that broadcasts against ``outputs`` (n, c, *out)."""
    nd = outputs.ndim - 2
    step = kernel[axis] if stride is None else per_axis(stride, nd)[axis]
    starts = np.arange(outputs.shape[2 + axis]) * step - pairs(padding, nd)[axis][0]
    return starts.reshape(-1, *[1] * (nd - 1 - axis))


def _unravel(flat, shape):
    """Row-major positions in `shape` as one array an axis."""
    axes = []
    for size in reversed(shape):
        flat, position = np.divmod(flat, size)
        axes.append(position)
    return axes[::-1]


def plane_to_window(flat, spatial, kernel, stride, padding, dilation):
    """Positions in the plane (n, c, *out) as uint8 positions in the window of that output, both flat and row-major."""
    if math.prod(kernel) > 256:
        raise ValueError(f"return_indices='window' takes windows of at most 256 elements, got {kernel}")
    steps = per_axis(dilation, len(spatial))
    taps = []
    for axis, inputs in enumerate(_unravel(flat, spatial)):
        taps.append((inputs - _starts(axis, flat, kernel, stride, padding)) // steps[axis])
    return np.ravel_multi_index(taps, kernel).astype(np.uint8)


def window_to_plane(positions, spatial, kernel, stride, padding, dilation):
    """The inverse; a position outside of the window or on padding is refused."""
    if positions.size and positions.max() >= math.prod(kernel):
        raise ValueError(f"window index {positions.max()} is out of range for kernel {kernel}")
    steps = per_axis(dilation, len(spatial))
    flat = []
    for axis, taps in enumerate(_unravel(positions, kernel)):
        inputs = _starts(axis, positions, kernel, stride, padding) + taps * steps[axis]
        if np.any((inputs < 0) | (inputs >= spatial[axis])):
            raise ValueError(f"a window index points at padding of spatial axis {axis}")
        flat.append(inputs)
    return np.ravel_multi_index(flat, spatial)
