"""Rules and output sizes of pooling and unpooling."""
from math import prod
from typing import NamedTuple

import numpy as np

from .arrays import (
    FLOATS,
    array,
    batched,
    cached_geometry,
    flag,
    integer,
    operand,
    padding_pairs,
    per_axis,
    said,
    shape_of,
    to_three,
    wrong_dtype,
)

INTEGERS = tuple(np.dtype(kind + str(8 * size)) for kind in ("int", "uint") for size in (1, 2, 4, 8))
WINDOW_TAPS = 256  # windows of up to this many taps have uint8 indices


class Windows(NamedTuple):
    """Which elements each output looks at, on three spatial axes."""

    axes: tuple        # (in, out, size, stride, dilation, before, after) for d h w; size 0: adaptive
    out: tuple         # the caller's spatial axes
    spatial: tuple
    kernel: tuple      # () for adaptive windows

    @property
    def taps(self):
        return prod(self.kernel) if self.kernel else None


def pool_input(fn, rank, x, integers):
    """(x with a batch axis, whether it had none): float32 or float64, or any integers if allowed."""
    x = array(fn, "x", x)
    if not (integers and x.dtype in INTEGERS):
        if integers and x.dtype not in FLOATS:
            raise wrong_dtype(fn, "x", x, "float32, float64 or integers")
        x = operand(fn, "x", x)
    x, unbatched = batched(fn, rank, "x", x)
    extents_of(fn, "x", x.shape)
    return x, unbatched


def extents_of(fn, name, shape):
    if 0 in shape[1:]:
        raise ValueError(f"{fn}: {name}: got shape {shape}; expected no zero extent but the batch")


@cached_geometry
def pool_windows(fn, rank, spatial, kernel_size, stride, padding, dilation, ceil_mode):
    """Sliding windows over an input of these spatial extents, by PyTorch's rule for their number.

    `ceil_mode` is 0 or 1.
    """
    kernel = per_axis(fn, "kernel_size", kernel_size, rank, 1)
    strides = kernel if stride is None else per_axis(fn, "stride", stride, rank, 1)
    pairs = padding_pairs(fn, padding, rank, 0)
    dilations = per_axis(fn, "dilation", dilation, rank, 1)
    axes = [_sliding(fn, i, *axis, ceil_mode) for i, axis in enumerate(zip(spatial, kernel, strides, pairs, dilations))]
    return Windows(to_three(axes, (1, 1, 1, 1, 1, 0, 0)), tuple(axis[1] for axis in axes), spatial, kernel)


def _sliding(fn, i, extent, size, stride, pair, dilation, ceil_mode):
    before, after = pair
    span = dilation * (size - 1) + 1
    out = (extent + before + after - span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if (out - 1) * stride >= extent + before:
        out -= 1
    window = (f"{fn}: kernel_size: spatial axis {i}: kernel {size} with dilation {dilation}, stride {stride}, "
              f"padding {pair}")
    if out < 1:
        raise ValueError(f"{window} spans {span}; the input of {extent} is smaller")
    # A window that starts inside the input has a real tap at once. One that starts in front has one if it
    # reaches over position 0 and, if dilated, doesn't step over the whole input.
    outside = (out - 1) * stride - before >= extent or before >= span
    if not outside and dilation > extent:
        outside = any((o * stride - before) % dilation >= extent for o in range(min(out, -(-before // stride))))
    if outside:
        raise ValueError(f"{window}: a window has no real element of the input of {extent} in it")
    return extent, out, size, stride, dilation, before, after


@cached_geometry
def adaptive_windows(fn, rank, spatial, output_size, name="output_size"):
    """Windows that cover the input evenly: output o of n has [floor(o * in / n), ceil((o + 1) * in / n)).

    `name` is that of the argument which gives the output's extents, where None is the input's.
    """
    if isinstance(output_size, (tuple, list)) and len(output_size) == rank:
        output_size = [extent if size is None else size for extent, size in zip(spatial, output_size)]
    out = per_axis(fn, name, output_size, rank, 1)
    axes = [(extent, o, 0, 1, 1, 0, 0) for extent, o in zip(spatial, out)]
    return Windows(to_three(axes, (1, 1, 0, 1, 1, 0, 0)), out, spatial, ())


def average(fn, count_include_pad, divisor_override):
    """(whether padding counts in the divisor, the divisor or 0 for the number of taps)."""
    divisor = 0 if divisor_override is None else integer(fn, "divisor_override", divisor_override, 1)
    return flag(fn, "count_include_pad", count_include_pad), divisor


def unpool_size(fn, rank, shape, kernel_size, stride, padding, output_size):
    """Spatial extents of the result of max_unpool for x (N, C, *spatial); `output_size` may begin with N and C."""
    spatial = shape[2:]
    kernel = per_axis(fn, "kernel_size", kernel_size, rank, 1)
    strides = kernel if stride is None else per_axis(fn, "stride", stride, rank, 1)
    pairs = padding_pairs(fn, padding, rank, 0)
    if output_size is not None:
        if isinstance(output_size, (tuple, list)) and tuple(output_size[:-rank]) == shape[:2]:
            output_size = output_size[-rank:]
        return per_axis(fn, "output_size", output_size, rank, 1)
    sizes = tuple((extent - 1) * s - before - after + k
                  for extent, s, (before, after), k in zip(spatial, strides, pairs, kernel))
    if min(sizes) < 1:
        raise ValueError(f"{fn}: padding: the result would have the extents {sizes}; "
                         f"got kernel {kernel}, stride {strides}, padding {pairs}")
    return sizes


# ---------------------------------------------------------------- indices

def index_dtype(fn, value, windows):
    """The dtype of the indices that ``return_indices`` asks for, or None."""
    if isinstance(value, str) and value == "window":
        if windows.taps is None:
            raise ValueError(f"{fn}: return_indices: got 'window'; adaptive windows differ in size, "
                             "expected True or False")
        if windows.taps > WINDOW_TAPS:
            raise ValueError(f"{fn}: return_indices: got 'window' for a window of {windows.taps} elements; "
                             f"expected at most {WINDOW_TAPS}")
        return np.dtype(np.uint8)
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{fn}: return_indices: got {said(value)}; expected True, False or 'window'")
    return np.dtype(np.int64) if value else None


def indices(fn, value, shape, windows=None):
    """Given indices as an array: int64 plane positions, or uint8 window positions where `windows` allow them."""
    value = array(fn, "indices", value)
    by_window = windows is not None and windows.taps is not None and windows.taps <= WINDOW_TAPS
    if value.dtype != np.int64 and not (by_window and value.dtype == np.uint8):
        expected = "int64, or uint8 positions in the window" if by_window else "int64"
        raise TypeError(f"{fn}: indices: got dtype {value.dtype}; expected {expected}")
    shape_of(fn, "indices", value, shape)
    return value


def bad_index(fn, value, spatial, kernel=None):
    """The error for an index that a kernel refused."""
    if kernel is not None:
        return ValueError(f"{fn}: indices: got {value}, which is no real element of its window; "
                          f"expected a position in a kernel of {kernel} that lies on the input")
    return ValueError(f"{fn}: indices: got {value}; expected 0 to {prod(spatial) - 1}, "
                      f"positions in a plane of {spatial}")
