"""Rules for arrays and for small arguments, whatever the operation."""
import sys
from functools import lru_cache, wraps
from itertools import pairwise
from math import prod
from operator import index

import numpy as np

from .._kernels._runtime import MOST_THREADS, are_apart, are_plain
from .._kernels._runtime import empty as new

# Limits that keep all arithmetic on sizes inside int64: of one small argument (a stride, a padding, an extent of a
# kernel), and of the elements of one array.
MOST = 2**31 - 1
MOST_ELEMENTS = 2**59
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


# ---------------------------------------------------------------- arrays

def array(fn, name, value):
    """``value`` as an ndarray of any dtype: arrays, lists, and what has ``__array__`` or ``__dlpack__``."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{fn}: {name}: got a masked array; fill it first, for example with {name}.filled(0)")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise TypeError(f"{fn}: {name}: got {said(value)}, which is no array ({said(error)})") from error


def said(value):
    """``repr(value)`` for an error message, on one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def operand(fn, name, value):
    """``value`` as a float32 or float64 ndarray in this machine's byte order."""
    value = array(fn, name, value)
    if value.dtype not in FLOATS:
        raise wrong_dtype(fn, name, value, "float32 or float64")
    return value


def wrong_dtype(fn, name, value, expected):
    """The error for an array of another dtype than expected."""
    if value.ndim == 0 and value.dtype == object:
        return TypeError(f"{fn}: {name}: got {said(value[()])}; expected an array of {expected}")
    return TypeError(f"{fn}: {name}: got dtype {value.dtype}; expected {expected}, "
                     f"for example {name}.astype(np.float32)")


def same_dtype(fn, first_name, first, name, other):
    if other.dtype != first.dtype:
        raise TypeError(f"{fn}: {first_name} is {first.dtype} but {name} is {other.dtype}; "
                        "expected one dtype for all operands")


def rank_of(fn, name, value, *ranks):
    if value.ndim not in ranks:
        expected = " or ".join(str(r) for r in ranks)
        raise ValueError(f"{fn}: {name}: got {value.ndim} axes, shape {value.shape}; expected {expected}")


def shape_of(fn, name, value, expected):
    if value.shape != tuple(expected):
        raise ValueError(f"{fn}: {name}: got shape {value.shape}; expected {tuple(expected)}")


def shape_tuple(fn, name, value):
    """A shape given as an argument (``input_shape``, ``weight_shape``) as a tuple of Python ints."""
    try:
        shape = tuple(integer(fn, name, extent, 0) for extent in value)
    except TypeError:
        raise TypeError(f"{fn}: {name}: got {said(value)}; expected a tuple of integers") from None
    addressable(fn, name, shape)
    return shape


def addressable(fn, name, shape):
    """Refuse a shape whose size in bytes would overflow; whether there is so much memory is not checked."""
    if prod(extent or 1 for extent in shape) > MOST_ELEMENTS:
        raise ValueError(f"{fn}: {name}: asks for an array of shape {said(tuple(shape))}; "
                         f"expected at most 2**{MOST_ELEMENTS.bit_length() - 1} elements")


def is_channels_last(x):
    """Whether the strides run N, spatial, C without gaps; where channels-first fits too, the tie rule decides."""
    if x.ndim < 3:
        return False
    if x.flags.c_contiguous:
        return (x.strides[1] == x.itemsize and x.strides[-1] == x.shape[1] * x.itemsize
                and x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous)
    return x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous


def memory_order(x):
    return CHANNELS_LAST if is_channels_last(x) else CHANNELS_FIRST


def in_an_order(x):
    """(x, its memory order); x is copied where it is in neither order or not aligned."""
    order = memory_order(x)
    if not is_readable(x, order):
        x = x.copy(order="K" if order == CHANNELS_LAST else "C")
    return x, order


def is_readable(x, order):
    """Whether kernels can read x, of this memory order, as it is: without gaps, and aligned."""
    return x.flags.aligned and (order == CHANNELS_LAST or x.flags.c_contiguous)


def is_contiguous(operand):
    """Whether kernels can read an operand in row-major order as it is; true of None and of packed weights."""
    return not isinstance(operand, np.ndarray) or is_readable(operand, CHANNELS_FIRST)


def contiguous(operand):
    """The operand as kernels read it, through one copy where they can't read it as it is."""
    return operand if is_contiguous(operand) else operand.copy()


def empty(shape, dtype, order):
    """A new array of shape (N, C, *spatial) with the canonical strides of the memory order."""
    return new(shape, dtype, order == CHANNELS_LAST)


def overlaps(a, b):
    """Whether two arrays share an element."""
    if are_apart(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=100_000)
    except np.exceptions.TooHardError:
        return True


def output(fn, name, out, shape, dtype, inputs):
    """Check a caller's result array; ``inputs`` maps names to arrays (or None) that it may not overlap."""
    output_layout(fn, name, out, shape, dtype)
    separate(fn, name, out, inputs)


def output_layout(fn, name, out, shape, dtype):
    """Check all of a caller's result array but its place in memory."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{fn}: {name}: got {type(out).__name__}; expected a NumPy array")
    if out.shape != tuple(shape):
        raise ValueError(f"{fn}: {name}: got shape {out.shape}; expected {tuple(shape)}")
    if out.dtype != dtype:
        raise TypeError(f"{fn}: {name}: got dtype {out.dtype}; expected {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{fn}: {name}: got a read-only array; expected a writeable one")
    if not out.flags.c_contiguous and shares_places(out):
        raise ValueError(f"{fn}: {name}: got strides {out.strides}, where several elements share one place")


def shares_places(a):
    """Whether two elements of one array share a byte, as with strides of 0 or overlapping windows."""
    axes = sorted((abs(stride), extent) for stride, extent in zip(a.strides, a.shape) if extent > 1)
    span = a.itemsize
    for stride, extent in axes:
        if stride < span:
            break
        span += stride * (extent - 1)
    else:
        return False
    span = a.itemsize + sum(stride * (extent - 1) for stride, extent in axes)
    if a.size == 0 or a.nbytes > span:
        return a.size > 0
    # The axes interleave without a nesting order, and the array is smaller than what it spans: look at every place.
    places = np.zeros(1, np.intp)
    for stride, extent in axes:
        places = (places[:, None] + stride * np.arange(extent)).reshape(-1)
    places.sort()
    return bool((np.diff(places) < a.itemsize).any())


def separate(fn, name, out, inputs):
    """Refuse a result array that shares an element with an input."""
    for other, value in inputs.items():
        if value is not None and overlaps(out, value):
            raise ValueError(f"{fn}: {name}: shares memory with {other}; expected a separate array")


def batched(fn, rank, name, value):
    """(value with a batch axis, whether it had none)."""
    rank_of(fn, name, value, rank + 1, rank + 2)
    return (value[None], True) if value.ndim == rank + 1 else (value, False)


def gradient_and_input(fn, rank, dy, x):
    """(dy, x, whether both had none) with a batch axis: a gradient, and an input of the same dtype."""
    dy, x = operand(fn, "dy", dy), operand(fn, "x", x)
    same_dtype(fn, "x", x, "dy", dy)
    dy, unbatched = batched(fn, rank, "dy", dy)
    x, x_unbatched = batched(fn, rank, "x", x)
    if unbatched != x_unbatched:
        raise ValueError(f"{fn}: dy and x: got {dy.ndim - unbatched} and {x.ndim - x_unbatched} axes; "
                         "expected both with or both without a batch axis")
    return dy, x, unbatched


def has_planes_in(order, a):
    """Whether kernels of pooling can write to an array (N, C, *spatial) of this order.

    Its spatial axes are one run of adjacent elements (channels-first), or of evenly spaced pixels whose channels are
    adjacent (channels-last): a slice of the channels of a larger array will do.
    """
    if not a.flags.aligned or any(s % a.itemsize for s in a.strides):
        return False
    axes = [(n, s) for n, s in zip(a.shape[2:], a.strides[2:]) if n > 1]
    if any(outer[1] != inner[0] * inner[1] for outer, inner in pairwise(axes)):
        return False
    if order == CHANNELS_LAST:
        return a.shape[1] == 1 or a.strides[1] == a.itemsize
    return not axes or axes[-1][1] == a.itemsize


def target(fn, name, out, shape, dtype, order, inputs, unbatched, writable):
    """The array (N, C, *spatial) that the kernels write: `out` itself where that is `writable`, else a new one."""
    if out is not None:
        output(fn, name, out, shape[1:] if unbatched else shape, dtype, inputs)
        view = out[None] if unbatched else out
        if writable(view):
            return view
    return empty(shape, dtype, order)


def finish(written, out, unbatched):
    """What a call returns for the array that :func:`target` gave: `out`, filled, if the caller passed one."""
    if out is None:
        return written[0] if unbatched else written
    if not np.may_share_memory(written, out):
        out[...] = written[0] if unbatched else written
    return out


def kernel_view(out):
    """Whether kernels of convolution can write to these strides: channels, or pixels of a row, are adjacent."""
    if not out.flags.aligned:
        return False
    if out.flags.c_contiguous:
        return True
    if any(s % out.itemsize for s in out.strides):
        return False
    first = out.strides[-1] == out.itemsize or out.shape[-1] == 1
    return is_channels_last(out) or out.strides[1] == out.itemsize or (out.ndim > 2 and first)


# ---------------------------------------------------------------- small arguments

def flag(fn, name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{fn}: {name}: got {said(value)}; expected True or False")
    return bool(value)


def integer(fn, name, value, least, most=sys.maxsize):
    """An integer in [least, most] as a Python int; bools are refused."""
    if type(value) is not int:
        try:
            if isinstance(value, (bool, np.bool_)):
                raise TypeError
            value = index(value)
        except TypeError:
            raise TypeError(f"{fn}: {name}: got {said(value)}; expected an integer") from None
    if not least <= value <= most:
        limits = f"at least {least}" if value < least else f"at most {most}"
        raise ValueError(f"{fn}: {name}: got {said(value)}; expected {limits}")
    return value


def _listed(value):
    """An array as a list (of a scalar array, its element); anything else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def per_axis(fn, name, value, rank, least, most=MOST):
    """An int or one int per axis, as a tuple of ``rank`` ints."""
    value = _listed(value)
    if hasattr(value, "__index__"):
        return (integer(fn, name, value, least, most),) * rank
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{fn}: {name}: got {said(value)}; expected an integer or {rank} of them")
    if len(value) != rank:
        raise ValueError(f"{fn}: {name}: got {len(value)} values, {said(tuple(value))}; expected one or {rank}")
    return tuple(integer(fn, name, v, least, most) for v in value)


def padding_pairs(fn, value, rank, least):
    """An int, one per axis, or one (before, after) pair per axis, as a tuple of pairs."""
    value = _listed(value)
    if hasattr(value, "__index__"):
        value = (value,) * rank
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{fn}: padding: got {said(value)}; expected an integer, one per axis, or pairs")
    if len(value) != rank:
        raise ValueError(f"{fn}: padding: got {len(value)} values, {said(value)}; expected one or {rank}")
    pairs = []
    for v in map(_listed, value):
        pair = (v, v) if hasattr(v, "__index__") else v
        if not isinstance(pair, (tuple, list)):
            raise TypeError(f"{fn}: padding: got {said(v)}; expected an integer or a (before, after) pair")
        if len(pair) != 2:
            raise ValueError(f"{fn}: padding: got {said(v)}; expected a (before, after) pair")
        pairs.append(tuple(integer(fn, "padding", p, least, MOST) for p in pair))
    return tuple(pairs)


def thread_count(fn, name, value):
    return integer(fn, name, value, 1, MOST_THREADS)


def some_threads(fn, num_threads):
    """Check the argument `num_threads`, of which None leaves the number open."""
    if num_threads is not None:
        thread_count(fn, "num_threads", num_threads)


def some_dtype(fn, name, value):
    """A dtype from what NumPy takes for one, but for None."""
    try:
        if value is not None:
            return np.dtype(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{fn}: {name}: got {said(value)}; expected a dtype")


def float_dtype(fn, name, value):
    """float32 or float64 from what NumPy takes for them."""
    dtype = some_dtype(fn, name, value)
    if dtype not in FLOATS:
        raise TypeError(f"{fn}: {name}: got {said(value)}; expected float32 or float64")
    return dtype


FLAGS_AS_INTS = {(bool(i), bool(j), bool(k)): (i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)}


def three_flags(fn, name, value):
    """Three bools as a tuple of the ints 0 and 1, which :class:`Calls` can keep calls by."""
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise TypeError(f"{fn}: {name}: got {said(value)}; expected three bools, for dx, dw and db")
    a, b, c = value
    if not type(a) is type(b) is type(c) is bool:
        a, b, c = (flag(fn, name, v) for v in value)
    return FLAGS_AS_INTS[a, b, c]


def cached_geometry(function):
    """Decorator: results are cached where all arguments are ints, strings, None, and tuples of them.

    Others are computed anew: 1, 1.0 and True are the same key of a cache, but not all of them are legal.
    """
    cached = lru_cache(maxsize=512)(function)

    @wraps(function)
    def call(*args):
        return cached(*args) if are_plain(args) else function(*args)

    return call


def choice(fn, name, value, choices):
    """What `choices` maps a name (or None) to."""
    if value is None or isinstance(value, str):
        try:
            return choices[value]
        except KeyError:
            pass
    known = ", ".join(repr(c) for c in choices)
    raise ValueError(f"{fn}: {name}: got {said(value)}; expected one of {known}")


def to_three(values, fill):
    """Values of one to three spatial axes as those of three, with `fill` for the missing ones in front."""
    return (fill,) * (3 - len(values)) + tuple(values)
