"""What the reference functions share: arguments per axis, the taps of a sliding window, how a result is handed out."""

import functools

import numpy as np


def at_ranks(generic):
    """The 1d, 2d and 3d forms of ``generic(nd, ...)``: ``nd``, the number of spatial axes, is filled in."""
    named = []
    for nd in (1, 2, 3):
        function = functools.partial(generic, nd)
        function.__name__ = generic.__name__.removeprefix("_").replace("_nd", f"{nd}d")
        function.__doc__ = generic.__doc__
        function.__module__ = generic.__module__
        named.append(function)
    return named


def _is_integer(value):
    return isinstance(value, (int, np.integer))


def per_axis(value, nd):
    """``value`` as a tuple of one integer per spatial axis."""
    values = (value,) * nd if _is_integer(value) else tuple(value)
    if len(values) != nd:
        raise ValueError(f"expected an int or {nd} of them, got {value!r}")
    return tuple(int(v) for v in values)


def pairs(padding, nd):
    """``padding`` (an int, or per axis an int or a pair) as one (before, after) per spatial axis."""
    values = (padding,) * nd if _is_integer(padding) else tuple(padding)
    if len(values) != nd:
        raise ValueError(f"expected an int, {nd} ints or {nd} pairs, got {padding!r}")
    return [(int(v), int(v)) if _is_integer(v) else (int(v[0]), int(v[1])) for v in values]


def window_taps(kernel, in_spatial, out_spatial, stride, before, dilation):
    """Walk the taps of a kernel in row-major order and pair the outputs with the inputs that each tap joins.

    Tap ``t`` of output ``o`` meets input ``o * stride - before + t * dilation``. Yields ``(tap, outputs, inputs)`` for
    every tap, the last two indices that select equally many elements. Outputs whose input lies outside are left out.
    """
    for tap in np.ndindex(*kernel):
        outputs, inputs = [], []
        for t, size, out, s, b, d in zip(tap, in_spatial, out_spatial, stride, before, dilation):
            shift = t * d - b
            first = max(0, -(shift // s))  # ceil(-shift / s)
            last = min(out - 1, (size - 1 - shift) // s)
            if first > last:
                outputs.append(slice(0, 0))
                inputs.append(slice(0, 0))
            else:
                outputs.append(slice(first, last + 1))
                inputs.append(slice(first * s + shift, last * s + shift + 1, s))
        yield tap, (..., *outputs), (..., *inputs)


def with_batch(nd, array):
    """``array`` as (n, c, *spatial): an unbatched one gets a batch of one."""
    array = np.asarray(array)
    return array if array.ndim == nd + 2 else array[np.newaxis]


def shape_with_batch(nd, shape):
    """The same for a shape."""
    return tuple(shape) if len(shape) == nd + 2 else (1, *shape)


def like_input(nd, value, ndim):
    """``value`` without its batch axis if the caller's array had ``ndim = nd + 1`` axes and so none."""
    return value if ndim == nd + 2 else value[0]


def result(value, dtype, out=None, accumulate=False):
    """``value``, as computed in float64, in ``dtype``; or stored in (or added to) ``out``, which is returned."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if out is None:
            return np.array(value, dtype=dtype)
        out[...] = out + value if accumulate else value
        return out
