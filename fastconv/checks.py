"""Every argument rule and every output-size formula of the package.

Messages read ``function: argument: what came; what was expected``. Shapes leave this module with three
spatial axes: a 1-D or 2-D operation is a 3-D one whose outer axes have extent 1.
"""
from functools import lru_cache
from typing import NamedTuple

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"
PADDING_MODES = {"zeros": 0, "reflect": 1, "replicate": 2, "edge": 2, "circular": 3, "wrap": 3, "symmetric": 4}
ACTIVATIONS = {None: 0, "relu": 1, "relu6": 2, "leaky_relu": 3, "sigmoid": 4, "tanh": 5, "silu": 6, "hardswish": 7}


# ---------------------------------------------------------------- arrays

def array(fn, name, value):
    """``value`` as an ndarray of any dtype: arrays, lists, and what has ``__array__`` or ``__dlpack__``."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{fn}: {name}: got a masked array; fill it first, for example with {name}.filled(0)")
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def operand(fn, name, value):
    """``value`` as a float32 or float64 ndarray in this machine's byte order."""
    value = array(fn, name, value)
    if value.dtype not in FLOATS:
        raise TypeError(f"{fn}: {name}: got dtype {value.dtype}; expected float32 or float64, "
                        f"for example {name}.astype(np.float32)")
    return value


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
        return tuple(integer(fn, name, extent, 0) for extent in value)
    except TypeError:
        raise TypeError(f"{fn}: {name}: got {value!r}; expected a tuple of integers") from None


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
    """(x, memory order), through one copy where x is in neither order or not aligned."""
    if is_channels_last(x):
        return (x, CHANNELS_LAST) if x.flags.aligned else (x.copy(order="K"), CHANNELS_LAST)
    if not (x.flags.c_contiguous and x.flags.aligned):
        x = np.array(x, order="C", copy=True)
    return x, CHANNELS_FIRST


def empty(shape, dtype, order):
    """A new array of shape (N, C, *spatial) with the canonical strides of the memory order."""
    if order == CHANNELS_LAST:
        last = len(shape) - 1
        return np.empty((shape[0], *shape[2:], shape[1]), dtype).transpose(0, last, *range(1, last))
    return np.empty(shape, dtype)


def overlaps(a, b):
    """Whether two arrays share an element."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=100_000)
    except np.exceptions.TooHardError:
        return True


def output(fn, name, out, shape, dtype, inputs, elementwise_of=None):
    """Check a caller's result array; ``inputs`` maps names to arrays that it may not overlap."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{fn}: {name}: got {type(out).__name__}; expected a NumPy array")
    if out.shape != tuple(shape):
        raise ValueError(f"{fn}: {name}: got shape {out.shape}; expected {tuple(shape)}")
    if out.dtype != dtype:
        raise TypeError(f"{fn}: {name}: got dtype {out.dtype}; expected {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{fn}: {name}: got a read-only array; expected a writeable one")
    if out.size > 1 and 0 in [s for s, n in zip(out.strides, out.shape) if n > 1]:
        raise ValueError(f"{fn}: {name}: got strides {out.strides}, where several elements share one place")
    for other, value in inputs.items():
        if value is not None and value is not elementwise_of and overlaps(out, value):
            raise ValueError(f"{fn}: {name}: shares memory with {other}; expected a separate array")


def kernel_view(out):
    """Whether the kernels can write to these strides: adjacent channels, or adjacent pixels of a row."""
    if not out.flags.aligned or any(s % out.itemsize for s in out.strides):
        return False
    first = out.strides[-1] == out.itemsize or out.shape[-1] == 1
    return is_channels_last(out) or out.strides[1] == out.itemsize or (out.ndim > 2 and first)


# ---------------------------------------------------------------- small arguments

def integer(fn, name, value, least):
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{fn}: {name}: got {value!r}; expected an integer")
    value = value.__index__()
    if value < least:
        raise ValueError(f"{fn}: {name}: got {value}; expected at least {least}")
    return value


def per_axis(fn, name, value, rank, least):
    """An int or one int per axis, as a tuple of ``rank`` ints."""
    if hasattr(value, "__index__"):
        return (integer(fn, name, value, least),) * rank
    if not isinstance(value, (tuple, list, np.ndarray)):
        raise TypeError(f"{fn}: {name}: got {value!r}; expected an integer or {rank} of them")
    if len(value) != rank:
        raise ValueError(f"{fn}: {name}: got {len(value)} values, {tuple(value)}; expected one or {rank}")
    return tuple(integer(fn, name, v, least) for v in value)


def padding_pairs(fn, value, rank, least):
    """An int, one per axis, or one (before, after) pair per axis, as a tuple of pairs."""
    if hasattr(value, "__index__"):
        value = (value,) * rank
    if not isinstance(value, (tuple, list, np.ndarray)):
        raise TypeError(f"{fn}: padding: got {value!r}; expected an integer, one per axis, or pairs")
    if len(value) != rank:
        raise ValueError(f"{fn}: padding: got {len(value)} values, {value!r}; expected one or {rank}")
    pairs = []
    for v in value:
        pair = (v, v) if hasattr(v, "__index__") else v
        if not isinstance(pair, (tuple, list, np.ndarray)):
            raise TypeError(f"{fn}: padding: got {v!r}; expected an integer or a (before, after) pair")
        if len(pair) != 2:
            raise ValueError(f"{fn}: padding: got {v!r}; expected a (before, after) pair")
        pairs.append(tuple(integer(fn, "padding", p, least) for p in pair))
    return tuple(pairs)


def hashable(value):
    """Lists and arrays as nested tuples, so that argument parsing can be cached."""
    if isinstance(value, (list, np.ndarray)):
        return tuple(hashable(v) for v in value)
    if isinstance(value, tuple):
        return tuple(hashable(v) for v in value)
    return value


def choice(fn, name, value, choices):
    try:
        return choices[value]
    except (KeyError, TypeError):
        known = ", ".join(repr(c) for c in choices)
        raise ValueError(f"{fn}: {name}: got {value!r}; expected one of {known}") from None


# ---------------------------------------------------------------- convolution

class ConvGeometry(NamedTuple):
    """A convolution x (n, c, in_) -> y (n, k, out) with three spatial axes, after cropping.

    A transposed convolution is held as the convolution whose backward-input it is.
    """

    n: int
    c: int
    k: int
    groups: int
    in_: tuple       # d h w of x, cropped
    kernel: tuple
    out: tuple
    stride: tuple
    dilation: tuple
    before: tuple    # padding in front of each axis, >= 0
    after: tuple
    mode: int        # fc_pad_mode
    crop: tuple      # ((front, back), ...) elements of x that negative padding cuts off
    rank: int        # spatial axes of the caller's arrays

    @property
    def macs(self):
        """Multiply-adds, padding taps counted."""
        return self.n * self.k * (self.c // self.groups) * _product(self.out) * _product(self.kernel)


def _product(values):
    total = 1
    for v in values:
        total *= v
    return total


def _to_three(values, fill):
    return (fill,) * (3 - len(values)) + tuple(values)


def _conv_padding(fn, padding, rank, extents, kernel, stride, dilation):
    """The (before, after) pairs that a padding argument means."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * rank
        if padding not in ("same", "same_lower"):
            raise ValueError(f"{fn}: padding: got {padding!r}; expected 'valid', 'same', 'same_lower' or integers")
        pairs = []
        for extent, k, s, d in zip(extents, kernel, stride, dilation):
            total = max(0, (-(-extent // s) - 1) * s + d * (k - 1) + 1 - extent)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if padding == "same" else (large, small))
        return tuple(pairs)
    return padding_pairs(fn, padding, rank, -(1 << 62))


def _conv_channels(fn, c, w_shape, groups):
    groups = integer(fn, "groups", groups, 1)
    if 0 in w_shape:
        raise ValueError(f"{fn}: w: got shape {w_shape}; expected no zero extent")
    k, c_per_group = w_shape[:2]
    if c % groups or k % groups:
        raise ValueError(f"{fn}: groups: got {groups}; expected a divisor of the {c} in- and {k} out-channels")
    if c_per_group * groups != c:
        raise ValueError(f"{fn}: w: got shape {w_shape}; expected (K, {c // groups}, ...) for {c} channels "
                         f"in {groups} group{'s' if groups > 1 else ''}")
    return k, groups


@lru_cache(maxsize=512)
def conv_geometry(fn, rank, x_shape, w_shape, stride, padding, dilation, groups, padding_mode):
    """The geometry of a convolution of x (N, C, *spatial) with w (K, C // groups, *kernel)."""
    n, c, *extents = x_shape
    if 0 in x_shape[1:]:
        raise ValueError(f"{fn}: x: got shape {x_shape}; expected no zero extent but the batch")
    k, groups = _conv_channels(fn, c, w_shape, groups)
    kernel = w_shape[2:]
    stride = per_axis(fn, "stride", stride, rank, 1)
    dilation = per_axis(fn, "dilation", dilation, rank, 1)
    mode = choice(fn, "padding_mode", padding_mode, PADDING_MODES)
    pairs = _conv_padding(fn, padding, rank, extents, kernel, stride, dilation)
    crop = tuple((max(0, -b), max(0, -a)) for b, a in pairs)
    pads = tuple((max(0, b), max(0, a)) for b, a in pairs)
    cropped = tuple(e - front - back for e, (front, back) in zip(extents, crop))
    out = []
    for axis, (extent, (before, after), (before_said, after_said), size, s, d) in enumerate(
            zip(cropped, pads, pairs, kernel, stride, dilation)):
        span = d * (size - 1) + 1
        q = (extent + before + after - span) // s + 1
        if extent < 1 or q < 1:
            raise ValueError(f"{fn}: spatial axis {axis}: input {extents[axis]} with padding ({before_said}, "
                             f"{after_said}) is smaller than the kernel, which spans {span} "
                             f"(size {size}, dilation {d})")
        out.append(q)
    return ConvGeometry(
        n, c, k, groups, _to_three(cropped, 1), _to_three(kernel, 1), _to_three(out, 1), _to_three(stride, 1),
        _to_three(dilation, 1), _to_three([b for b, _ in pads], 0), _to_three([a for _, a in pads], 0), mode,
        _to_three(crop, (0, 0)), rank)


@lru_cache(maxsize=512)
def conv_transpose_geometry(fn, rank, x_shape, w_shape, stride, padding, output_padding, dilation, groups):
    """The geometry of the convolution whose backward-input is this transposed convolution.

    x (N, C, *spatial) and w (C, K // groups, *kernel) of the transposed convolution take the parts of dy
    and w; the result takes that of dx.
    """
    n, c, *extents = x_shape
    if 0 in x_shape[1:]:
        raise ValueError(f"{fn}: x: got shape {x_shape}; expected no zero extent but the batch")
    groups = integer(fn, "groups", groups, 1)
    if 0 in w_shape:
        raise ValueError(f"{fn}: w: got shape {w_shape}; expected no zero extent")
    if w_shape[0] != c:
        raise ValueError(f"{fn}: w: got shape {w_shape}; expected ({c}, K // groups, ...) for {c} channels")
    if c % groups:
        raise ValueError(f"{fn}: groups: got {groups}; expected a divisor of the {c} in-channels")
    kernel = w_shape[2:]
    stride = per_axis(fn, "stride", stride, rank, 1)
    dilation = per_axis(fn, "dilation", dilation, rank, 1)
    if isinstance(padding, str):
        raise ValueError(f"{fn}: padding: got {padding!r}; expected integers or (before, after) pairs")
    pairs = padding_pairs(fn, padding, rank, 0)
    extra = per_axis(fn, "output_padding", output_padding, rank, 0)
    out = []
    for axis, (extent, (before, after), size, s, d, e) in enumerate(
            zip(extents, pairs, kernel, stride, dilation, extra)):
        if e >= max(s, d):
            raise ValueError(f"{fn}: output_padding: got {e}; expected less than max(stride, dilation) = {max(s, d)}")
        q = (extent - 1) * s - before - after + d * (size - 1) + e + 1
        if q < 1:
            raise ValueError(f"{fn}: spatial axis {axis}: the result would have extent {q} "
                             f"(input {extent}, kernel {size}, stride {s}, padding ({before}, {after}))")
        out.append(q)
    return ConvGeometry(
        n, w_shape[1] * groups, c, groups, _to_three(out, 1), _to_three(kernel, 1), _to_three(extents, 1),
        _to_three(stride, 1), _to_three(dilation, 1), _to_three([b for b, _ in pairs], 0),
        _to_three([a for _, a in pairs], 0), 0, ((0, 0),) * 3, rank)


def bias(fn, b, k, x):
    """The bias as a contiguous (K,) array of x's dtype, or None."""
    if b is None:
        return None
    b = operand(fn, "b", b)
    same_dtype(fn, "x", x, "b", b)
    shape_of(fn, "b", b, (k,))
    return np.ascontiguousarray(b)
