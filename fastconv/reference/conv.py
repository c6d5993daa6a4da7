"""Naive convolution: one step per tap of the kernel, every product and sum in float64, rounded once at the end.

With n batch, g group, c in-channel and k out-channel of a group, o output position and t tap of the kernel:

    y[n, g, k, o]  = b[g, k] + sum over c, t of  w[g, k, c, t] * x[n, g, c, o * stride - before + t * dilation]
    dx[n, g, c, i] = sum over k and all (o, t) that meet input i of  w[g, k, c, t] * dy[n, g, k, o]
    dw[g, k, c, t] = sum over n, o of  dy[n, g, k, o] * x[n, g, c, o * stride - before + t * dilation]

Taps that meet zero padding are left out of the sums. The other padding modes first build the padded input. Transposed
convolution is the second formula as a forward pass: its input plays ``dy``, its output plays ``dx``.
``algorithm`` and ``num_threads`` are accepted and have no meaning here.
"""

import numpy as np

from ._common import at_ranks, like_input, pairs, per_axis, result, shape_with_batch, window_taps, with_batch
from .activation import activate

__all__ = [
    "conv1d", "conv1d_backward", "conv1d_backward_input", "conv1d_backward_weight", "conv2d", "conv2d_backward",
    "conv2d_backward_input", "conv2d_backward_weight", "conv3d", "conv3d_backward", "conv3d_backward_input",
    "conv3d_backward_weight", "conv_transpose1d", "conv_transpose1d_backward", "conv_transpose2d",
    "conv_transpose2d_backward", "conv_transpose3d", "conv_transpose3d_backward",
]

_NUMPY_MODE = {
    "reflect": "reflect",
    "replicate": "edge",
    "edge": "edge",
    "circular": "wrap",
    "wrap": "wrap",
    "symmetric": "symmetric",
}


def conv_pads(padding, spatial, kernel, stride, dilation):
    """``padding`` in any of its forms as one (before, after) per axis; negative numbers crop."""
    if isinstance(padding, str) and padding == "valid":
        return [(0, 0)] * len(spatial)
    if not isinstance(padding, str):
        pads = pairs(padding, len(spatial))
        for size, (before, after) in zip(spatial, pads):
            if size + min(0, before) + min(0, after) < 1:
                raise ValueError(f"padding {(before, after)} crops all {size} elements of an axis away")
        return pads
    if padding not in ("same", "same_lower"):
        raise ValueError(f"padding must be numbers, 'valid', 'same' or 'same_lower', got {padding!r}")
    pads = []
    for size, k, s, d in zip(spatial, kernel, stride, dilation):
        out = -(-size // s)  # ceil(size / s)
        total = max(0, (out - 1) * s + d * (k - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if padding == "same" else (large, small))
    return pads


def conv_out_spatial(spatial, kernel, stride, pads, dilation):
    """Output size per axis: ``floor((in + before + after - d * (k - 1) - 1) / s) + 1``, at least 1."""
    out = []
    for size, k, s, (before, after), d in zip(spatial, kernel, stride, pads, dilation):
        out.append((size + before + after - d * (k - 1) - 1) // s + 1)
        if out[-1] < 1:
            raise ValueError(f"output size {out[-1]}: input {size}, pads {(before, after)}, kernel {k}, dilation {d}")
    return tuple(out)


def _padding_grid(spatial, pads, mode):
    """Index of the spatial axes that gives the cropped and padded array: ``padded = x[grid]``.

    Cropping and padding only copy elements, so the position that each one comes from is found by doing the same to
    ``0, 1, ..., size - 1``.
    """
    axes = []
    for size, (before, after) in zip(spatial, pads):
        kept = np.arange(max(0, -before), size - max(0, -after))
        axes.append(np.pad(kept, (max(0, before), max(0, after)), _NUMPY_MODE[mode]))
    return (..., *np.ix_(*axes))


def _by_group(a, groups):
    """(n, g * c, *spatial) as (n, g, c, *spatial), in float64."""
    return a.astype(np.float64).reshape(a.shape[0], groups, a.shape[1] // groups, *a.shape[2:])


def _weight_by_group(w, groups):
    """(g * k, c, *kernel) as (g, k, c, *kernel), in float64."""
    return w.astype(np.float64).reshape(groups, w.shape[0] // groups, *w.shape[1:])


def _correlate(x, w, out_spatial, stride, before, dilation, groups):
    """The sum of the formula for ``y``: (n, c, *in), (k, c / groups, *kernel) -> (n, k, *out)."""
    xg, wg = _by_group(x, groups), _weight_by_group(w, groups)
    y = np.zeros((x.shape[0], groups, wg.shape[1], *out_spatial))
    with np.errstate(all="ignore"):
        for tap, o, i in window_taps(w.shape[2:], x.shape[2:], out_spatial, stride, before, dilation):
            y[o] += np.einsum("ngc...,gkc->ngk...", xg[i], wg[(..., *tap)])
    return y.reshape(x.shape[0], w.shape[0], *out_spatial)


def _scatter(dy, w, in_spatial, stride, before, dilation, groups):
    """The formula for ``dx``: (n, k, *out), (k, c / groups, *kernel) -> (n, c, *in)."""
    dyg, wg = _by_group(dy, groups), _weight_by_group(w, groups)
    dx = np.zeros((dy.shape[0], groups, wg.shape[2], *in_spatial))
    with np.errstate(all="ignore"):
        for tap, o, i in window_taps(w.shape[2:], in_spatial, dy.shape[2:], stride, before, dilation):
            dx[i] += np.einsum("ngk...,gkc->ngc...", dyg[o], wg[(..., *tap)])
    return dx.reshape(dy.shape[0], groups * wg.shape[2], *in_spatial)


def _correlate_weight(dy, x, kernel, stride, before, dilation, groups):
    """The formula for ``dw``: (n, k, *out), (n, c, *in) -> (k, c / groups, *kernel)."""
    dyg, xg = _by_group(dy, groups), _by_group(x, groups)
    dw = np.zeros((groups, dyg.shape[2], xg.shape[2], *kernel))
    axes = "pqr"[: len(kernel)]
    with np.errstate(all="ignore"):
        for tap, o, i in window_taps(kernel, x.shape[2:], dy.shape[2:], stride, before, dilation):
            dw[(..., *tap)] = np.einsum(f"ngk{axes},ngc{axes}->gkc", dyg[o], xg[i])
    return dw.reshape(dy.shape[1], xg.shape[2], *kernel)


def _geometry(nd, spatial, kernel, stride, padding, dilation, mode):
    """Stride, dilation and pads per axis, and the grid that pads the input first (``None`` for zeros)."""
    stride, dilation = per_axis(stride, nd), per_axis(dilation, nd)
    pads = conv_pads(padding, spatial, kernel, stride, dilation)
    grid = None if mode == "zeros" else _padding_grid(spatial, pads, mode)
    return stride, dilation, pads, grid


def _finish_forward(nd, y, b, activation, dtype, ndim, out):
    """Bias and activation in float64, then the result without a batch axis that the caller did not have."""
    if b is not None:
        y += np.asarray(b, dtype=np.float64).reshape(-1, *[1] * nd)
    return result(like_input(nd, activate(activation, y), ndim), dtype, out)


def _conv_nd(nd, x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros", activation=None,
             algorithm="auto", out=None, num_threads=None):
    """Cross-correlation: (n, c, *in) with weights (k, c / groups, *kernel) gives (n, k, *out)."""
    xb, w = with_batch(nd, x), np.asarray(w)
    stride, dilation, pads, grid = _geometry(nd, xb.shape[2:], w.shape[2:], stride, padding, dilation, padding_mode)
    out_spatial = conv_out_spatial(xb.shape[2:], w.shape[2:], stride, pads, dilation)
    before = [p[0] for p in pads]
    padded = xb
    if grid is not None:
        padded, before = xb[grid], [0] * nd
    y = _correlate(padded, w, out_spatial, stride, before, dilation, groups)
    return _finish_forward(nd, y, b, activation, xb.dtype, np.ndim(x), out)


def _conv_nd_backward_input(nd, dy, w, input_shape, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                            algorithm="auto", out=None, num_threads=None):
    """Gradient of the convolution with respect to its input, which has ``input_shape``."""
    dyb, w, shape = with_batch(nd, dy), np.asarray(w), shape_with_batch(nd, input_shape)
    stride, dilation, pads, grid = _geometry(nd, shape[2:], w.shape[2:], stride, padding, dilation, padding_mode)
    if grid is None:
        dx = _scatter(dyb, w, shape[2:], stride, [p[0] for p in pads], dilation, groups)
    else:
        padded = [size + before + after for size, (before, after) in zip(shape[2:], pads)]
        dx = np.zeros(shape)
        np.add.at(dx, grid, _scatter(dyb, w, padded, stride, [0] * nd, dilation, groups))
    return result(like_input(nd, dx, np.ndim(dy)), dyb.dtype, out)


def _conv_nd_backward_weight(nd, dy, x, weight_shape, stride=1, padding=0, dilation=1, groups=1, *,
                             padding_mode="zeros", algorithm="auto", out=None, accumulate=False, num_threads=None):
    """Gradient of the convolution with respect to its weights, which have ``weight_shape``."""
    dyb, xb, kernel = with_batch(nd, dy), with_batch(nd, x), tuple(weight_shape[2:])
    stride, dilation, pads, grid = _geometry(nd, xb.shape[2:], kernel, stride, padding, dilation, padding_mode)
    before = [p[0] for p in pads]
    if grid is not None:
        xb, before = xb[grid], [0] * nd
    dw = _correlate_weight(dyb, xb, kernel, stride, before, dilation, groups)
    return result(dw, dyb.dtype, out, accumulate)


def _bias_gradient(nd, dy, out, accumulate):
    """Sum of ``dy`` over the batch and the spatial axes."""
    dyb = with_batch(nd, dy)
    db = dyb.astype(np.float64).sum(axis=(0, *range(2, nd + 2)))
    return result(db, dyb.dtype, out, accumulate)


def _conv_nd_backward(nd, dy, x, w, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                      need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                      num_threads=None):
    """``(dx, dw, db)`` of the convolution, ``None`` where not in ``need``; ``accumulate`` adds dw, db to ``out``."""
    arguments = (stride, padding, dilation, groups)
    dx = dw = db = None
    if need[0]:
        dx = _conv_nd_backward_input(nd, dy, w, np.shape(x), *arguments, padding_mode=padding_mode, out=out[0])
    if need[1]:
        dw = _conv_nd_backward_weight(nd, dy, x, np.shape(w), *arguments, padding_mode=padding_mode, out=out[1],
                                      accumulate=accumulate)
    if need[2]:
        db = _bias_gradient(nd, dy, out[2], accumulate)
    return dx, dw, db


def _conv_transpose_nd(nd, x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                       activation=None, algorithm="auto", out=None, num_threads=None):
    """Transposed convolution: (n, c, *in) with weights (c, k / groups, *kernel) gives (n, k, *out).

    ``out = (in - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``.
    """
    xb, w = with_batch(nd, x), np.asarray(w)
    stride, dilation, extra = per_axis(stride, nd), per_axis(dilation, nd), per_axis(output_padding, nd)
    pads = pairs(padding, nd)
    out_spatial = []
    for size, k, s, (before, after), d, e in zip(xb.shape[2:], w.shape[2:], stride, pads, dilation, extra):
        out_spatial.append((size - 1) * s - before - after + d * (k - 1) + e + 1)
        if out_spatial[-1] < 1:
            raise ValueError(f"output size {out_spatial[-1]}: input {size}, padding {(before, after)}, kernel {k}")
    y = _scatter(xb, w, out_spatial, stride, [p[0] for p in pads], dilation, groups)
    return _finish_forward(nd, y, b, activation, xb.dtype, np.ndim(x), out)


def _conv_transpose_nd_backward(nd, dy, x, w, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                                need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                                num_threads=None):
    """``(dx, dw, db)`` of the transposed convolution; ``need`` and ``accumulate`` as in convolution."""
    dyb, xb, w = with_batch(nd, dy), with_batch(nd, x), np.asarray(w)
    geometry = (per_axis(stride, nd), [p[0] for p in pairs(padding, nd)], per_axis(dilation, nd), groups)
    dx = dw = db = None
    if need[0]:
        dx = _correlate(dyb, w, xb.shape[2:], *geometry)
        dx = result(like_input(nd, dx, np.ndim(x)), dyb.dtype, out[0])
    if need[1]:
        dw = result(_correlate_weight(xb, dyb, w.shape[2:], *geometry), dyb.dtype, out[1], accumulate)
    if need[2]:
        db = _bias_gradient(nd, dy, out[2], accumulate)
    return dx, dw, db


conv1d, conv2d, conv3d = at_ranks(_conv_nd)
conv1d_backward, conv2d_backward, conv3d_backward = at_ranks(_conv_nd_backward)
conv1d_backward_input, conv2d_backward_input, conv3d_backward_input = at_ranks(_conv_nd_backward_input)
conv1d_backward_weight, conv2d_backward_weight, conv3d_backward_weight = at_ranks(_conv_nd_backward_weight)
conv_transpose1d, conv_transpose2d, conv_transpose3d = at_ranks(_conv_transpose_nd)
conv_transpose1d_backward, conv_transpose2d_backward, conv_transpose3d_backward = at_ranks(_conv_transpose_nd_backward)
