"""Rules for elementwise functions, dense layers and losses, and the layouts of their results."""
import sys
from numbers import Real
from typing import NamedTuple

import numpy as np

from .._kernels._elementwise import are_below
from .arrays import (
    array,
    contiguous,
    empty,
    in_an_order,
    integer,
    is_channels_last,
    new,
    operand,
    output_layout,
    said,
    same_dtype,
    separate,
    shape_of,
)

AXES = tuple(range(64))  # as many as an array can have


# ---------------------------------------------------------------- small arguments

def number(fn, name, value, least=-np.inf, most=np.inf):
    """A real number in [least, most] as a Python float."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{fn}: {name}: got {said(value)}; expected a number")
    try:
        inside = least <= float(value) <= most
    except OverflowError:
        inside = False
    if not inside:
        raise ValueError(f"{fn}: {name}: got {said(value)}; expected {least} to {most}")
    return float(value)


def axis_of(fn, name, x, axis):
    """An axis of x, counted from the front."""
    axis = integer(fn, "axis", axis, -sys.maxsize)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{fn}: axis: got {axis}; expected {-x.ndim} to {x.ndim - 1} for the axes of {name}")
    return axis % x.ndim


def generator(fn, rng):
    """A random generator from a Generator, a seed or None."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        return np.random.default_rng()
    if isinstance(rng, (bool, np.bool_)) or not hasattr(rng, "__index__"):
        raise TypeError(f"{fn}: rng: got {type(rng).__name__}; expected a numpy.random.Generator, an integer or None")
    return np.random.default_rng(integer(fn, "rng", rng, 0))


def gradient_pair(fn, dy, saved_name, saved):
    """dy and what the forward pass saved, of one shape and dtype."""
    dy, saved = operand(fn, "dy", dy), operand(fn, saved_name, saved)
    same_dtype(fn, saved_name, saved, "dy", dy)
    shape_of(fn, "dy", dy, saved.shape)
    return dy, saved


# ---------------------------------------------------------------- layouts

def axes_in_memory(x):
    """The axes from the outermost to the innermost in memory; None if x has gaps or is not aligned."""
    flags = x.flags
    if not flags.aligned:
        return None
    if is_channels_last(x):
        return (0, *range(2, x.ndim), 1)
    if flags.c_contiguous:
        return AXES[:x.ndim]
    axes = tuple(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))
    return axes if x.transpose(axes).flags.c_contiguous else None


def empty_along(shape, dtype, axes):
    """A new array whose axes lie in memory in this order."""
    return new([shape[axis] for axis in axes], dtype).transpose(sorted(range(len(axes)), key=axes.__getitem__))


def laid_out_as(x, y):
    """x itself where its elements lie as those of y, which has no gaps; else a copy that does."""
    if x.flags.aligned and (x.strides == y.strides and x.itemsize == y.itemsize or all(
            n <= 1 or a * y.itemsize == b * x.itemsize for a, b, n in zip(x.strides, y.strides, x.shape))):
        return x
    copy = empty_along(x.shape, x.dtype, axes_in_memory(y))
    copy[...] = x
    return copy


class Elementwise(NamedTuple):
    """How an elementwise function computes from operands of certain layouts into `out`, or a new array."""

    axes: tuple      # of the result that is computed, from the outermost to the innermost; None: in their order
    direct: bool     # it is `out`
    ready: bool      # all operands lie as it does

    def result(self, fn, out, names, operands):
        """The array without gaps that is computed; `out` may be one of the operands."""
        if out is not None:
            separate(fn, "out", out, {name: a for name, a in zip(names, operands) if a is not out})
            if self.direct:
                return out
        like = operands[-1]
        return new(like.shape, like.dtype) if self.axes is None else empty_along(like.shape, like.dtype, self.axes)

    def laid_out(self, x, y):
        """x as its elements lie in the result y."""
        return x if self.ready else laid_out_as(x, y)


def elementwise(fn, out, *operands):
    """The Elementwise of checked operands of the result's shape and dtype; a new result is like the last of them."""
    like, axes = operands[-1], None
    if out is not None:
        output_layout(fn, "out", out, like.shape, like.dtype)
        axes = axes_in_memory(out)
    direct = axes is not None
    if not direct:
        axes = axes_in_memory(like) or AXES[:like.ndim]
    ready = all(axes_in_memory(a) == axes for a in operands)
    return Elementwise(None if axes == AXES[:like.ndim] else axes, direct, ready)


def delivered(y, out):
    """What the caller gets for the computed y: his own array if he gave one."""
    if out is None or y is out:
        return y
    out[...] = y
    return out


def to_order(x, order):
    """x (N, C, *spatial) in a memory order, through one copy where it is in another."""
    x, own = in_an_order(x)
    if own == order or x.ndim < 3:
        return x
    y = empty(x.shape, x.dtype, order)
    y[...] = x
    return y


# ---------------------------------------------------------------- channels and classes

def per_channel(fn, name, value, x):
    """A (C,) operand of x's dtype, contiguous."""
    value = operand(fn, name, value)
    same_dtype(fn, "x", x, name, value)
    shape_of(fn, name, value, x.shape[1:2])
    return contiguous(value)


def with_channels(fn, name, x):
    """A float array (N, C) or (N, C, *spatial), of which only the batch may be empty."""
    x = operand(fn, name, x)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"{fn}: {name}: got shape {x.shape}; expected (N, C) or (N, C, *spatial) without zero extents")
    return x


def class_target(fn, logits, target):
    """(target, whether it holds class indices) for logits (N, K, *spatial)."""
    target = array(fn, "target", target)
    if target.dtype.kind in "iu":
        shape_of(fn, "target", target, (logits.shape[0], *logits.shape[2:]))
        return target, True
    target = operand(fn, "target", target)
    same_dtype(fn, "logits", logits, "target", target)
    shape_of(fn, "target", target, logits.shape)
    return target, False


def class_indices(fn, target, classes, ignore_index):
    """(indices, where they count, or None for everywhere) of a target; an ignored index becomes 0."""
    counts = None
    plain = target.dtype == np.intp and target.flags.c_contiguous and target.flags.aligned
    if ignore_index is None and plain and are_below(target, classes):
        return target, None
    if ignore_index is not None:
        counts = target != integer(fn, "ignore_index", ignore_index, -(1 << 63))
        target = np.where(counts, target, 0)
    once = target[tuple(slice(None if step else 1) for step in target.strides)]  # without the copies of broadcasting
    if target.size and not (once.min() >= 0 and once.max() < classes):
        wrong = (once < 0) | (once >= classes)
        raise ValueError(f"{fn}: target: got class index {once[wrong][0]}; expected 0 to {classes - 1}")
    return target.astype(np.intp, copy=False), counts
