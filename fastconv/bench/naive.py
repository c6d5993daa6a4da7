"""The naive baseline of the headline: whole-array NumPy, convolution by `sliding_window_view` and `tensordot`.

It is meant to be strong. Of the obvious forms the fastest measured is taken: weights as the left factor of `tensordot`
(2x faster than as the right one), the input gradient as one product and a whole-array addition a tap (as fast as
mirrored windows with many input channels, 8x faster with three), pooling tap by tap over whole arrays (7-40x faster
than reducing windows). Results stay in whatever memory order NumPy leaves them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .cases import Axis, ConvCase, PoolCase
from .problems import Problem


def vectorised(problem: Problem) -> Callable[[], Any]:
    """Return the whole-array NumPy call for the problem; what a forward pass would keep is computed here."""
    case, operands = problem.case, problem.operands
    if problem.kind == ("max_pool", "dx"):
        winners = _winners(operands["x"], case)
        return lambda: _max_pool_dx(operands["dy"], winners, case)
    if case.family == "conv_transpose":
        return _conv_transpose(problem)
    call = {
        ("conv", "forward"): lambda: _conv(operands["x"], operands["w"], case),
        ("conv", "dx"): lambda: _conv_dx(operands["dy"], operands["w"], case),
        ("conv", "dw"): lambda: _conv_dw(operands["dy"], operands["x"], case),
        ("conv", "backward"): lambda: _conv_backward(operands["dy"], operands["x"], operands["w"], case),
        ("max_pool", "forward"): lambda: reduce(np.maximum, _by_tap(operands["x"], case.axes, -np.inf)),
        ("avg_pool", "forward"): lambda: reduce(np.add, _by_tap(operands["x"], case.axes)) / problem.reduction,
        ("avg_pool", "dx"): lambda: _avg_pool_dx(operands["dy"], case),
        ("relu", "forward"): lambda: np.maximum(operands["x"], 0),
        ("relu", "dx"): lambda: operands["dy"] * (operands["x"] > 0),
    }
    return call[problem.kind]


def _conv_transpose(problem: Problem) -> Callable[[], Any]:
    """By the convolution that the layer mirrors."""
    if problem.op != "backward":
        return vectorised(problem.mirror)
    dx, dw = (vectorised(part) for part in problem.parts[:2])
    dy = problem.operands["dy"]
    return lambda: (dx(), dw(), dy.sum(axis=(0, *range(2, dy.ndim))))


def _padded(x: np.ndarray, axes: tuple[Axis, ...], fill: float = 0) -> np.ndarray:
    if not any(axis.padding for axis in axes):
        return x
    return np.pad(x, ((0, 0), (0, 0), *((axis.padding, axis.padding) for axis in axes)), constant_values=fill)


def _windows(x: np.ndarray, axes: tuple[Axis, ...]) -> np.ndarray:
    """A view `(n, c, *out, *taps)` of the padded input."""
    view = sliding_window_view(_padded(x, axes), tuple(axis.reach for axis in axes), tuple(range(2, x.ndim)))
    steps = (slice(None, None, axis.stride) for axis in axes)
    return view[:, :, *steps, *(slice(None, None, axis.dilation) for axis in axes)]


def _by_tap(x: np.ndarray, axes: tuple[Axis, ...], fill: float = 0) -> Iterator[np.ndarray]:
    """For every tap, row-major, the view `(n, c, *out)` of what it meets in the padded input."""
    padded = _padded(x, axes, fill)
    for tap in np.ndindex(*(axis.taps for axis in axes)):
        yield padded[:, :, *_places(axes, tap)]


def _places(axes: tuple[Axis, ...], tap: tuple[int, ...]) -> tuple[slice, ...]:
    """Where in the padded input the tap lies, over all windows."""
    firsts = (t * axis.dilation for axis, t in zip(axes, tap, strict=True))
    return tuple(
        slice(first, first + axis.stride * (axis.out - 1) + 1, axis.stride)
        for axis, first in zip(axes, firsts, strict=True)
    )


def _conv(x: np.ndarray, w: np.ndarray, case: ConvCase) -> np.ndarray:
    windows, rank = _windows(x, case.axes), len(case.axes)
    if case.groups == 1:
        taps = tuple(range(-rank, 0))
        return np.moveaxis(np.tensordot(w, windows, ((1, *range(2, w.ndim)), (1, *taps))), 0, 1)
    columns = _group_columns(windows, case)  # n g c*taps out
    return np.matmul(w.reshape(case.groups, -1, columns.shape[2]), columns).reshape(case.y_shape)


def _conv_dx(dy: np.ndarray, w: np.ndarray, case: ConvCase) -> np.ndarray:
    n, c, *_ = case.x_shape
    out, taps = case.y_shape[2:], w.shape[2:]
    left = w.reshape(case.groups, w.shape[0] // case.groups, -1).swapaxes(1, 2)  # g c*taps k
    columns = np.matmul(left, dy.reshape(n, case.groups, -1, math.prod(out))).reshape(n, c, *taps, *out)
    return _add_by_tap((columns[:, :, *tap] for tap in np.ndindex(taps)), columns.dtype, case)


def _conv_dw(dy: np.ndarray, x: np.ndarray, case: ConvCase) -> np.ndarray:
    windows, rank = _windows(x, case.axes), len(case.axes)
    if case.groups == 1:
        places = (0, *range(2, 2 + rank))
        return np.moveaxis(np.tensordot(windows, dy, (places, places)), -1, 0)
    columns = _group_columns(windows, case)  # n g c*taps out
    right = dy.reshape(len(dy), case.groups, case.w_shape[0] // case.groups, -1)  # n g k out
    return np.matmul(right, columns.swapaxes(2, 3)).sum(axis=0).reshape(case.w_shape)


def _conv_backward(dy: np.ndarray, x: np.ndarray, w: np.ndarray, case: ConvCase) -> tuple[np.ndarray, ...]:
    places = (0, *range(2, dy.ndim))
    return _conv_dx(dy, w, case), _conv_dw(dy, x, case), dy.sum(axis=places)


def _group_columns(windows: np.ndarray, case: ConvCase) -> np.ndarray:
    """im2col of a grouped layer: `(n, g, c*taps, out)`."""
    rank = len(case.axes)
    taps_first = np.moveaxis(windows, range(-rank, 0), range(2, 2 + rank))
    return taps_first.reshape(len(windows), case.groups, -1, math.prod(case.y_shape[2:]))


def _add_by_tap(parts: Iterable[np.ndarray], dtype: np.dtype, case: ConvCase | PoolCase) -> np.ndarray:
    """col2im: the sum of `parts` (n c *out), one for every tap, row-major, each where its tap lies in the input."""
    axes = case.axes
    total = np.zeros((*case.x_shape[:2], *(axis.size + 2 * axis.padding for axis in axes)), dtype)
    for tap, part in zip(np.ndindex(*(axis.taps for axis in axes)), parts, strict=True):
        total[:, :, *_places(axes, tap)] += part
    return total[:, :, *(slice(axis.padding, axis.padding + axis.size) for axis in axes)]


def _max_pool_dx(dy: np.ndarray, winners: np.ndarray, case: PoolCase) -> np.ndarray:
    taps = math.prod(axis.taps for axis in case.axes)
    return _add_by_tap((dy * (winners == flat) for flat in range(taps)), dy.dtype, case)


def _winners(x: np.ndarray, case: PoolCase) -> np.ndarray:
    """The winning tap of every window, flat, row-major; what a forward pass keeps for the backward pass."""
    return np.argmax(np.stack(list(_by_tap(x, case.axes, -np.inf))), axis=0).astype(np.uint8)


def _avg_pool_dx(dy: np.ndarray, case: PoolCase) -> np.ndarray:
    taps = math.prod(axis.taps for axis in case.axes)
    share = dy / dy.dtype.type(taps)
    return _add_by_tap([share] * taps, dy.dtype, case)
