"""Rules and output sizes of convolutions."""
from math import prod
from typing import NamedTuple

from .arrays import (
    MOST,
    addressable,
    cached_geometry,
    choice,
    integer,
    operand,
    padding_pairs,
    per_axis,
    said,
    same_dtype,
    shape_of,
    to_three,
)

PADDING_MODES = {"zeros": 0, "reflect": 1, "replicate": 2, "edge": 2, "circular": 3, "wrap": 3, "symmetric": 4}
# Phases of a stride and taps of a kernel are planned one by one.
MOST_PLANNED = 2**20
ACTIVATIONS = {None: 0, "relu": 1, "relu6": 2, "leaky_relu": 3, "sigmoid": 4, "tanh": 5, "silu": 6, "hardswish": 7}


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
    def crops(self):
        """Whether negative padding cuts x."""
        return any(front or back for front, back in self.crop)

    @property
    def macs(self):
        """Multiply-adds, padding taps counted."""
        return self.n * self.k * (self.c // self.groups) * prod(self.out) * prod(self.kernel)


def _conv_padding(fn, padding, rank, extents, kernel, stride, dilation):
    """The (before, after) pairs that a padding argument means."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * rank
        if padding not in ("same", "same_lower"):
            raise ValueError(f"{fn}: padding: got {said(padding)}; expected 'valid', 'same', 'same_lower' or integers")
        pairs = []
        for extent, k, s, d in zip(extents, kernel, stride, dilation):
            total = max(0, (-(-extent // s) - 1) * s + d * (k - 1) + 1 - extent)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if padding == "same" else (large, small))
        return tuple(pairs)
    return padding_pairs(fn, padding, rank, -MOST)


def _conv_kernel(fn, name, w_shape):
    """The extents of a kernel."""
    if 0 in w_shape:
        raise ValueError(f"{fn}: {name}: got shape {w_shape}; expected no zero extent")
    if max(w_shape[2:], default=1) > MOST_PLANNED:
        raise ValueError(f"{fn}: {name}: got shape {w_shape}; expected kernels of at most {MOST_PLANNED} an axis")
    return w_shape[2:]


def _conv_channels(fn, c, name, w_shape, groups):
    groups = integer(fn, "groups", groups, 1)
    k, c_per_group = w_shape[:2]
    if c % groups or k % groups:
        raise ValueError(f"{fn}: groups: got {groups}; expected a divisor of the {c} in- and {k} out-channels")
    if c_per_group * groups != c:
        raise ValueError(f"{fn}: {name}: got shape {w_shape}; expected (K, {c // groups}, ...) for {c} channels "
                         f"in {groups} group{'s' if groups > 1 else ''}")
    return k, groups


@cached_geometry
def conv_geometry(fn, rank, x_shape, w_shape, stride, padding, dilation, groups, padding_mode, names=("x", "w")):
    """The geometry of a convolution of x (N, C, *spatial) with w (K, C // groups, *kernel).

    `names` are the arguments that the shapes come from.
    """
    n, c, *extents = x_shape
    if 0 in x_shape[1:]:
        raise ValueError(f"{fn}: {names[0]}: got shape {x_shape}; expected no zero extent but the batch")
    kernel = _conv_kernel(fn, names[1], w_shape)
    k, groups = _conv_channels(fn, c, names[1], w_shape, groups)
    stride = per_axis(fn, "stride", stride, rank, 1, MOST_PLANNED)
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
            raise ValueError(f"{fn}: {names[0]}: spatial axis {axis}: input {extents[axis]} with padding "
                             f"({before_said}, {after_said}) is smaller than the kernel, which spans {span} "
                             f"(size {size}, dilation {d})")
        out.append(q)
    addressable(fn, names[0], (n, k, *out))
    addressable(fn, "padding", (n, c, *(e + before + after for e, (before, after) in zip(cropped, pads))))
    return ConvGeometry(
        n, c, k, groups, to_three(cropped, 1), to_three(kernel, 1), to_three(out, 1), to_three(stride, 1),
        to_three(dilation, 1), to_three([b for b, _ in pads], 0), to_three([a for _, a in pads], 0), mode,
        to_three(crop, (0, 0)), rank)


@cached_geometry
def conv_transpose_geometry(fn, rank, x_shape, w_shape, stride, padding, output_padding, dilation, groups):
    """The geometry of the convolution whose backward-input is this transposed convolution.

    x (N, C, *spatial) and w (C, K // groups, *kernel) of the transposed convolution take the parts of dy
    and w; the result takes that of dx.
    """
    n, c, *extents = x_shape
    if 0 in x_shape[1:]:
        raise ValueError(f"{fn}: x: got shape {x_shape}; expected no zero extent but the batch")
    groups = integer(fn, "groups", groups, 1)
    kernel = _conv_kernel(fn, "w", w_shape)
    if w_shape[0] != c:
        raise ValueError(f"{fn}: w: got shape {w_shape}; expected ({c}, K // groups, ...) for {c} channels")
    if c % groups:
        raise ValueError(f"{fn}: groups: got {groups}; expected a divisor of the {c} in-channels")
    stride = per_axis(fn, "stride", stride, rank, 1, MOST_PLANNED)
    dilation = per_axis(fn, "dilation", dilation, rank, 1)
    if isinstance(padding, str):
        raise ValueError(f"{fn}: padding: got {said(padding)}; expected integers or (before, after) pairs")
    pairs = padding_pairs(fn, padding, rank, 0)
    extra = per_axis(fn, "output_padding", output_padding, rank, 0)
    out = []
    for axis, (extent, (before, after), size, s, d, e) in enumerate(
            zip(extents, pairs, kernel, stride, dilation, extra)):
        if e >= max(s, d):
            raise ValueError(f"{fn}: output_padding: got {e}; expected less than max(stride, dilation) = {max(s, d)}")
        q = (extent - 1) * s - before - after + d * (size - 1) + e + 1
        if q < 1:
            raise ValueError(f"{fn}: x: spatial axis {axis}: the result would have extent {q} "
                             f"(input {extent}, kernel {size}, stride {s}, padding ({before}, {after}))")
        out.append(q)
    addressable(fn, "x", (n, w_shape[1] * groups, *out))
    addressable(fn, "padding", (n, w_shape[1] * groups, *(q + sum(pair) for q, pair in zip(out, pairs))))
    return ConvGeometry(
        n, w_shape[1] * groups, c, groups, to_three(out, 1), to_three(kernel, 1), to_three(extents, 1),
        to_three(stride, 1), to_three(dilation, 1), to_three([b for b, _ in pairs], 0),
        to_three([a for _, a in pairs], 0), 0, ((0, 0),) * 3, rank)


def bias(fn, b, k, x):
    """A bias (K,) of x's dtype as an array, or None."""
    if b is None:
        return None
    b = operand(fn, "b", b)
    same_dtype(fn, "x", x, "b", b)
    shape_of(fn, "b", b, (k,))
    return b
