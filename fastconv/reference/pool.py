"""Naive pooling: every output position looks at its window once, for all images and channels together.

Max and min pooling find the index of the winner; values and gradients follow from it. Sum and average pooling add up in
float64 (integers in int64 or uint64), and their gradients give every element of the window its share of ``dy``.
``num_threads`` is accepted and has no meaning here.
"""

import math

import numpy as np

from ._common import at_ranks, like_input, pairs, per_axis, result, shape_with_batch, with_batch
from ._windows import adaptive_windows, each_window, plane_to_window, sliding_windows, window_to_plane

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool1d_backward", "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d", "adaptive_avg_pool3d_backward", "adaptive_max_pool1d", "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d", "adaptive_max_pool2d_backward", "adaptive_max_pool3d", "adaptive_max_pool3d_backward",
    "avg_pool1d", "avg_pool1d_backward", "avg_pool2d", "avg_pool2d_backward", "avg_pool3d", "avg_pool3d_backward",
    "global_avg_pool", "global_avg_pool_backward", "global_max_pool", "global_max_pool_backward", "global_min_pool",
    "global_min_pool_backward", "global_sum_pool", "global_sum_pool_backward", "max_pool1d", "max_pool1d_backward",
    "max_pool2d", "max_pool2d_backward", "max_pool3d", "max_pool3d_backward", "max_unpool1d", "max_unpool1d_backward",
    "max_unpool2d", "max_unpool2d_backward", "max_unpool3d", "max_unpool3d_backward", "min_pool1d",
    "min_pool1d_backward", "min_pool2d", "min_pool2d_backward", "min_pool3d", "min_pool3d_backward", "sum_pool1d",
    "sum_pool1d_backward", "sum_pool2d", "sum_pool2d_backward", "sum_pool3d", "sum_pool3d_backward",
]


def _planes(a):
    """(n, c, *spatial) as (n, c, elements)."""
    return a.reshape(*a.shape[:2], math.prod(a.shape[2:]))


def _inputs(window):
    """Index of the input elements in a window."""
    return (..., *(axis.inputs for axis in window))


# Max and min. ``pick`` is np.argmax or np.argmin: NaN wins, and of equals the first in row-major order.


def _winners(x, axes, pick):
    """Flat position in the input plane of every window's winner, int64 (n, c, *out)."""
    position = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    winners = np.empty((*x.shape[:2], *map(len, axes)), dtype=np.int64)
    for o, window in each_window(axes):
        winner = pick(_planes(x[_inputs(window)]), axis=-1)
        winners[o] = position[_inputs(window)].ravel()[winner]
    return winners


def _gather(x, flat):
    """The elements of ``x`` (n, c, *spatial) at flat positions in its planes (n, c, *out)."""
    return np.take_along_axis(_planes(x), _planes(flat), axis=-1).reshape(flat.shape)


def _scatter(dy, flat, shape):
    """Zeros of ``shape`` with ``dy`` added at flat positions in the planes: the adjoint of ``_gather``."""
    n, c = shape[:2]
    dx = np.zeros((n, c, math.prod(shape[2:])))
    np.add.at(dx, (np.arange(n)[:, None, None], np.arange(c)[:, None], _planes(flat)), _planes(dy))
    return dx.reshape(shape)


def _check_flat(flat, spatial):
    """Refuse indices that are not int64 or lie outside of the plane."""
    if flat.dtype != np.int64:
        raise TypeError(f"indices must be int64 (flat positions), got {flat.dtype}")
    wrong = flat[(flat < 0) | (flat >= math.prod(spatial))]
    if wrong.size:
        raise ValueError(f"index {wrong[0]} is out of range for a plane of shape {tuple(spatial)}")
    return flat


def _extreme_pool(pick, nd, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out):
    """Max or min pooling: the values at the winners, and where asked for their positions."""
    xb = with_batch(nd, x)
    axes, kernel = sliding_windows(xb.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    flat = _winners(xb, axes, pick)
    y = result(like_input(nd, _gather(xb, flat), np.ndim(x)), xb.dtype, out)
    if not return_indices:
        return y
    if return_indices == "window":
        flat = plane_to_window(flat, xb.shape[2:], kernel, stride, padding, dilation)
    return y, like_input(nd, flat, np.ndim(x))


def _extreme_pool_backward(pick, nd, dy, x, kernel_size, stride, padding, dilation, ceil_mode, indices, out):
    """Its gradient: ``dy`` added at the winners."""
    dyb, xb = with_batch(nd, dy), with_batch(nd, x)
    axes, kernel = sliding_windows(xb.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    if indices is None:
        flat = _winners(xb, axes, pick)
    elif np.asarray(indices).dtype == np.uint8:
        flat = window_to_plane(with_batch(nd, indices), xb.shape[2:], kernel, stride, padding, dilation)
    else:
        flat = _check_flat(with_batch(nd, indices), xb.shape[2:])
    return result(like_input(nd, _scatter(dyb, flat, xb.shape), np.ndim(x)), dyb.dtype, out)


def _max_pool_nd(nd, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, return_indices=False,
                 out=None, num_threads=None):
    """The largest real element of every window.

    ``return_indices=True`` also gives its position in the flat plane (int64), ``"window"`` that in the window (uint8).
    """
    return _extreme_pool(np.argmax, nd, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def _min_pool_nd(nd, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, return_indices=False,
                 out=None, num_threads=None):
    """The smallest real element of every window.

    ``return_indices=True`` also gives its position in the flat plane (int64), ``"window"`` that in the window (uint8).
    """
    return _extreme_pool(np.argmin, nd, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def _max_pool_nd_backward(nd, dy, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, indices=None,
                          out=None, num_threads=None):
    """``dy`` added where the maximum was found: at ``indices`` of either kind, or at those found again."""
    return _extreme_pool_backward(np.argmax, nd, dy, x, kernel_size, stride, padding, dilation, ceil_mode, indices, out)


def _min_pool_nd_backward(nd, dy, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, indices=None,
                          out=None, num_threads=None):
    """``dy`` added where the minimum was found: at ``indices`` of either kind, or at those found again."""
    return _extreme_pool_backward(np.argmin, nd, dy, x, kernel_size, stride, padding, dilation, ceil_mode, indices, out)


# Sum and average.


def _window_sums(x, axes):
    """Sum of every window: float64, or int64 / uint64 for integers."""
    kind = {"i": np.int64, "u": np.uint64}.get(x.dtype.kind, np.float64)
    sums = np.empty((*x.shape[:2], *map(len, axes)), dtype=kind)
    with np.errstate(all="ignore"):
        for o, window in each_window(axes):
            sums[o] = _planes(x[_inputs(window)]).sum(axis=-1, dtype=kind)
    return sums


def _spread(dy, axes, shape):
    """Every ``dy`` added to all elements of its window: the adjoint of ``_window_sums``."""
    dx = np.zeros(shape)
    for o, window in each_window(axes):
        dx[_inputs(window)] += dy[o].astype(np.float64).reshape(*shape[:2], *[1] * len(window))
    return dx


def _divisors(axes, count_include_pad=False, divisor_override=None):
    """What the average divides by at every output position, float64 of shape (*out,)."""
    divisors = np.empty(tuple(map(len, axes)))
    for o, window in each_window(axes):
        real = math.prod(axis.taps.stop - axis.taps.start for axis in window)
        padded = math.prod(axis.padded for axis in window)
        divisors[o] = divisor_override or (padded if count_include_pad else real)
    return divisors


def _sum_result(nd, sums, x, out):
    """Sums in the dtype of ``x``, or their own 64-bit integer dtype."""
    dtype = x.dtype if sums.dtype == np.float64 else sums.dtype
    return result(like_input(nd, sums, np.ndim(x)), dtype, out)


def _avg_pool_nd(nd, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, count_include_pad=True,
                 divisor_override=None, out=None, num_threads=None):
    """The sum of every window over its divisor: its taps on input and padding, or its real ones, or the override."""
    xb = with_batch(nd, x)
    axes, _ = sliding_windows(xb.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    y = _window_sums(xb, axes) / _divisors(axes, count_include_pad, divisor_override)
    return result(like_input(nd, y, np.ndim(x)), xb.dtype, out)


def _avg_pool_nd_backward(nd, dy, input_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
                          count_include_pad=True, divisor_override=None, out=None, num_threads=None):
    """``dy`` over the divisor of its window, added to every real element of the window."""
    dyb, shape = with_batch(nd, dy), shape_with_batch(nd, input_shape)
    axes, _ = sliding_windows(shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    dx = _spread(dyb / _divisors(axes, count_include_pad, divisor_override), axes, shape)
    return result(like_input(nd, dx, np.ndim(dy)), dyb.dtype, out)


def _sum_pool_nd(nd, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, out=None,
                 num_threads=None):
    """The sum of the real elements of every window; of integers in int64 or uint64."""
    xb = with_batch(nd, x)
    axes, _ = sliding_windows(xb.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return _sum_result(nd, _window_sums(xb, axes), np.asarray(x), out)


def _sum_pool_nd_backward(nd, dy, input_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
                          out=None, num_threads=None):
    """``dy`` added to every real element of its window."""
    dyb, shape = with_batch(nd, dy), shape_with_batch(nd, input_shape)
    axes, _ = sliding_windows(shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return result(like_input(nd, _spread(dyb, axes, shape), np.ndim(dy)), dyb.dtype, out)


# Adaptive pooling: ``output_size`` windows that cover the input evenly.


def _adaptive_avg_pool_nd(nd, x, output_size, *, out=None, num_threads=None):
    """The average of every window: (n, c, *in) gives (n, c, *output_size)."""
    xb = with_batch(nd, x)
    axes = adaptive_windows(xb.shape[2:], output_size)
    return result(like_input(nd, _window_sums(xb, axes) / _divisors(axes), np.ndim(x)), xb.dtype, out)


def _adaptive_avg_pool_nd_backward(nd, dy, input_shape, *, out=None, num_threads=None):
    """``dy`` over the size of its window, added to every element of the window."""
    dyb, shape = with_batch(nd, dy), shape_with_batch(nd, input_shape)
    axes = adaptive_windows(shape[2:], dyb.shape[2:])
    return result(like_input(nd, _spread(dyb / _divisors(axes), axes, shape), np.ndim(dy)), dyb.dtype, out)


def _adaptive_extreme_pool(pick, nd, x, output_size, return_indices, out):
    """Adaptive max or min pooling."""
    if return_indices == "window":
        raise ValueError("adaptive windows differ in size: return_indices must be True or False")
    xb = with_batch(nd, x)
    flat = _winners(xb, adaptive_windows(xb.shape[2:], output_size), pick)
    y = result(like_input(nd, _gather(xb, flat), np.ndim(x)), xb.dtype, out)
    return (y, like_input(nd, flat, np.ndim(x))) if return_indices else y


def _adaptive_extreme_pool_backward(pick, nd, dy, x, indices, out):
    """Its gradient: ``dy`` added at the winners."""
    dyb, xb = with_batch(nd, dy), with_batch(nd, x)
    if indices is None:
        flat = _winners(xb, adaptive_windows(xb.shape[2:], dyb.shape[2:]), pick)
    else:
        flat = _check_flat(with_batch(nd, indices), xb.shape[2:])
    return result(like_input(nd, _scatter(dyb, flat, xb.shape), np.ndim(x)), dyb.dtype, out)


def _adaptive_max_pool_nd(nd, x, output_size, *, return_indices=False, out=None, num_threads=None):
    """The largest element of every window; with ``return_indices`` also its flat position (int64)."""
    return _adaptive_extreme_pool(np.argmax, nd, x, output_size, return_indices, out)


def _adaptive_max_pool_nd_backward(nd, dy, x, *, indices=None, out=None, num_threads=None):
    """``dy`` added where the maximum was found: at ``indices``, or at those found again."""
    return _adaptive_extreme_pool_backward(np.argmax, nd, dy, x, indices, out)


# Global pooling: one window over all spatial axes, which stay with extent 1: (n, c, *spatial) gives (n, c, 1, ...).


def global_max_pool(x, *, out=None, num_threads=None):
    """The largest element of every plane."""
    return _adaptive_extreme_pool(np.argmax, np.ndim(x) - 2, x, 1, False, out)


def global_max_pool_backward(dy, x, *, out=None, num_threads=None):
    """``dy`` where the maximum of the plane is, else 0."""
    return _adaptive_extreme_pool_backward(np.argmax, np.ndim(x) - 2, dy, x, None, out)


def global_min_pool(x, *, out=None, num_threads=None):
    """The smallest element of every plane."""
    return _adaptive_extreme_pool(np.argmin, np.ndim(x) - 2, x, 1, False, out)


def global_min_pool_backward(dy, x, *, out=None, num_threads=None):
    """``dy`` where the minimum of the plane is, else 0."""
    return _adaptive_extreme_pool_backward(np.argmin, np.ndim(x) - 2, dy, x, None, out)


def global_avg_pool(x, *, out=None, num_threads=None):
    """The average of every plane."""
    return _adaptive_avg_pool_nd(np.ndim(x) - 2, x, 1, out=out)


def global_avg_pool_backward(dy, input_shape, *, out=None, num_threads=None):
    """``dy`` over the size of the plane, in every element."""
    return _adaptive_avg_pool_nd_backward(len(input_shape) - 2, dy, input_shape, out=out)


def global_sum_pool(x, *, out=None, num_threads=None):
    """The sum of every plane; of integers in int64 or uint64."""
    x = np.asarray(x)
    return _sum_result(x.ndim - 2, _window_sums(x, adaptive_windows(x.shape[2:], 1)), x, out)


def global_sum_pool_backward(dy, input_shape, *, out=None, num_threads=None):
    """``dy`` in every element of the plane."""
    dy = np.asarray(dy)
    return result(_spread(dy, adaptive_windows(input_shape[2:], 1), input_shape), dy.dtype, out)


# Unpooling.


def _last_writers(flat, elements):
    """Which position of ``flat`` (n, c, *in) is the last in row-major order to name each element; -1 for none."""
    flat = _planes(flat)
    writers = np.full((*flat.shape[:2], elements), -1)
    for p in range(flat.shape[2]):
        np.put_along_axis(writers, flat[:, :, p : p + 1], p, axis=-1)
    return writers


def _max_unpool_nd(nd, x, indices, kernel_size, stride=None, padding=0, output_size=None, *, out=None,
                   num_threads=None):
    """Zeros with every element of ``x`` at its flat position in ``indices``; of equal positions the last wins.

    ``output_size`` is one number per spatial axis, after n and c if it has them, by default
    ``(in - 1) * stride - before - after + kernel``.
    """
    xb, flat = with_batch(nd, x), with_batch(nd, indices)
    spatial = output_size
    if output_size is None:
        kernel = per_axis(kernel_size, nd)
        strides = kernel if stride is None else per_axis(stride, nd)
        sizes = zip(xb.shape[2:], strides, pairs(padding, nd), kernel)
        spatial = [(size - 1) * s - before - after + k for size, s, (before, after), k in sizes]
    spatial = per_axis(spatial[-nd:] if np.ndim(spatial) else spatial, nd)
    writers = _last_writers(_check_flat(flat, spatial), math.prod(spatial))
    values = np.take_along_axis(_planes(xb), np.maximum(writers, 0), axis=-1)
    y = np.where(writers < 0, 0, values).reshape(*xb.shape[:2], *spatial)
    return result(like_input(nd, y, np.ndim(x)), xb.dtype, out)


def _max_unpool_nd_backward(nd, dy, indices, input_shape, *, out=None, num_threads=None):
    """``dy`` read back from the flat positions ``indices``; where they are equal only the last one gets it."""
    dyb, flat, shape = with_batch(nd, dy), with_batch(nd, indices), shape_with_batch(nd, input_shape)
    writers = _last_writers(_check_flat(flat, dyb.shape[2:]), math.prod(dyb.shape[2:]))
    wrote = np.take_along_axis(writers, _planes(flat), axis=-1) == np.arange(math.prod(flat.shape[2:]))
    dx = np.where(wrote.reshape(shape), _gather(dyb, flat), 0)
    return result(like_input(nd, dx, np.ndim(dy)), dyb.dtype, out)


max_pool1d, max_pool2d, max_pool3d = at_ranks(_max_pool_nd)
max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = at_ranks(_max_pool_nd_backward)
min_pool1d, min_pool2d, min_pool3d = at_ranks(_min_pool_nd)
min_pool1d_backward, min_pool2d_backward, min_pool3d_backward = at_ranks(_min_pool_nd_backward)
avg_pool1d, avg_pool2d, avg_pool3d = at_ranks(_avg_pool_nd)
avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = at_ranks(_avg_pool_nd_backward)
sum_pool1d, sum_pool2d, sum_pool3d = at_ranks(_sum_pool_nd)
sum_pool1d_backward, sum_pool2d_backward, sum_pool3d_backward = at_ranks(_sum_pool_nd_backward)
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = at_ranks(_adaptive_avg_pool_nd)
adaptive_avg_pool1d_backward, adaptive_avg_pool2d_backward, adaptive_avg_pool3d_backward = at_ranks(
    _adaptive_avg_pool_nd_backward
)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = at_ranks(_adaptive_max_pool_nd)
adaptive_max_pool1d_backward, adaptive_max_pool2d_backward, adaptive_max_pool3d_backward = at_ranks(
    _adaptive_max_pool_nd_backward
)
max_unpool1d, max_unpool2d, max_unpool3d = at_ranks(_max_unpool_nd)
max_unpool1d_backward, max_unpool2d_backward, max_unpool3d_backward = at_ranks(_max_unpool_nd_backward)
