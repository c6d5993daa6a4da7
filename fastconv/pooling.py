"""Pooling for any number of spatial axes: check, allocate, call. The public names are in pool.py."""
from typing import NamedTuple

import numpy as np

from . import checks
from ._kernels import _pool, _pool_backward
from ._kernels._runtime import Calls


def _layout(x, order):
    """The memory order that kernels are chosen by: a single channel is channels-first, its rows have no gaps."""
    return checks.CHANNELS_FIRST if x.shape[1] == 1 else order


def _in_layout(x):
    x, order = checks.in_an_order(x)
    return x, order, _layout(x, order)


def _target(fn, out, shape, dtype, order, layout, inputs, unbatched):
    """The array that kernels of a layout write: `out` itself where they can, else a new one of memory order `order`.

    With a caller's indices among the inputs it is always a new one: a wrong index may be found when half of the result
    has been written.
    """
    if out is None:
        return checks.empty(shape, dtype, order)
    if inputs.get("indices") is None:
        return checks.target(fn, "out", out, shape, dtype, layout, inputs, unbatched,
                             lambda view: checks.has_planes_in(layout, view))
    checks.output(fn, "out", out, shape[1:] if unbatched else shape, dtype, inputs)
    return checks.empty(shape, dtype, order)


def _is_last(layout):
    return layout == checks.CHANNELS_LAST


# ---------------------------------------------------------------- forward

def _sum_dtype(op, dtype):
    if op != "sum" or dtype.kind == "f":
        return dtype
    return np.dtype(np.int64 if dtype.kind == "i" else np.uint64)


class Pooling(NamedTuple):
    """What is known of a pooling, or of its gradient, before the elements of its operands."""

    windows: checks.Windows
    shape: tuple       # of the result, with a batch axis
    order: str         # of the result
    layout: str
    unbatched: bool
    ready: bool        # the kernels can read the operands as they are


def _pooling_of(fn, x, unbatched, windows):
    checks.addressable(fn, "x", (*x.shape[:2], *windows.out))
    order = checks.memory_order(x)
    ready = not unbatched and checks.is_readable(x, order)
    return Pooling(windows, (*x.shape[:2], *windows.out), order, _layout(x, order), unbatched, ready)


def _prepare_sliding(x, fn, rank, integers, *window):
    x, unbatched = checks.pool_input(fn, rank, x, integers)
    return _pooling_of(fn, x, unbatched, checks.pool_windows(fn, rank, x.shape[2:], *window))


def _prepare_adaptive(x, fn, rank, integers, output_size):
    x, unbatched = checks.pool_input(fn, rank, x, integers)
    return _pooling_of(fn, x, unbatched, checks.adaptive_windows(fn, rank, x.shape[2:], output_size))


_sliding_calls, _adaptive_calls = Calls(_prepare_sliding), Calls(_prepare_adaptive)


def _sliding(fn, rank, x, integers, kernel_size, stride, padding, dilation, ceil_mode):
    """(x as an array, its Pooling); `integers`, whether those are allowed, is 0 or 1 like `ceil_mode`."""
    x = checks.array(fn, "x", x)
    ceil_mode = int(checks.flag(fn, "ceil_mode", ceil_mode))
    return x, _sliding_calls((x,), (fn, rank, integers, kernel_size, stride, padding, dilation, ceil_mode))


def _forward(fn, op, x, call, index_dtype, average, out, num_threads):
    if num_threads is not None:
        checks.some_threads(fn, num_threads)
    _, shape, order, layout, unbatched, ready = call
    source = x if ready else checks.in_an_order(x[None] if unbatched else x)[0]
    y = _target(fn, out, shape, _sum_dtype(op, x.dtype), order, layout, {"x": x}, unbatched)
    index = None if index_dtype is None else checks.empty(shape, index_dtype, order)
    if shape[0]:
        _pool.pool(op, source, y, index, call.windows.axes, _is_last(layout), average, num_threads)
    y = checks.finish(y, out, unbatched)
    if index is None:
        return y
    return y, index[0] if unbatched else index


def select(fn, op, rank, x, window, return_indices, out, num_threads):
    """max or min over sliding windows; `window` is (kernel_size, stride, padding, dilation, ceil_mode)."""
    x, call = _sliding(fn, rank, x, 1, *window)
    index_dtype = checks.index_dtype(fn, return_indices, call.windows)
    return _forward(fn, op, x, call, index_dtype, None, out, num_threads)


def average(fn, rank, x, window, count_include_pad, divisor_override, out, num_threads):
    x, call = _sliding(fn, rank, x, 0, *window)
    divisor = checks.average(fn, count_include_pad, divisor_override)
    return _forward(fn, "avg", x, call, None, divisor, out, num_threads)


def total(fn, rank, x, window, out, num_threads):
    x, call = _sliding(fn, rank, x, 1, *window)
    return _forward(fn, "sum", x, call, None, None, out, num_threads)


def adapt(fn, op, rank, x, output_size, return_indices, out, num_threads):
    """Any operation over `output_size` windows that cover the input evenly."""
    x = checks.array(fn, "x", x)
    call = _adaptive_calls((x,), (fn, rank, int(op != "avg"), output_size))
    index_dtype = checks.index_dtype(fn, return_indices, call.windows)
    divisor = (False, 0) if op == "avg" else None
    return _forward(fn, op, x, call, index_dtype, divisor, out, num_threads)


def whole(fn, op, x, out, num_threads):
    """Any operation over whole planes."""
    x = checks.array(fn, "x", x)
    checks.rank_of(fn, "x", x, 3, 4, 5)
    return adapt(fn, op, x.ndim - 2, x, 1, False, out, num_threads)


# ---------------------------------------------------------------- backward

def _gradient_and_input(fn, rank, dy, x):
    dy, x, unbatched = checks.gradient_and_input(fn, rank, dy, x)
    checks.extents_of(fn, "x", x.shape)
    return dy, x, unbatched


def _gradient_and_shape(fn, rank, dy, input_shape):
    dy, unbatched = checks.batched(fn, rank, "dy", checks.operand(fn, "dy", dy))
    shape = checks.shape_tuple(fn, "input_shape", input_shape)
    if len(shape) != rank + 2 - unbatched:
        raise ValueError(f"{fn}: input_shape: got {shape}; expected {rank + 2 - unbatched} extents, like dy")
    shape = (1, *shape) if unbatched else shape
    checks.extents_of(fn, "input_shape", shape)
    return dy, shape, unbatched


def _add_to_winners(dy, dx, windows, last, op, source, indices, num_threads):
    """Box by box of dx where that can be; int64 indices may point elsewhere in the plane than into their windows."""
    places = indices is not None and indices.dtype != np.uint8
    if last if places else windows.taps is not None and windows.taps <= checks.WINDOW_TAPS:
        found = _pool_backward.gather(dy, dx, windows.axes, last, None, op, source, indices, num_threads)
        if found is None or not places:
            return found
    return _pool_backward.scatter_add(dy, dx, windows.axes, last, op, source, indices, num_threads)


def _select_backward(fn, op, dy, x, call, indices, out, num_threads):
    checks.some_threads(fn, num_threads)
    windows, shape, order, layout, unbatched, ready = call
    if indices is not None:
        indices = checks.indices(fn, indices, dy.shape, windows)
    inputs = {"dy": dy, "x": x, "indices": indices}
    if indices is not None:
        indices, _ = checks.in_an_order(indices[None] if unbatched else indices)
    if not ready:
        dy, x = (dy[None], x[None]) if unbatched else (dy, x)
        dy, x = checks.in_an_order(dy)[0], x if indices is not None else checks.in_an_order(x)[0]
    dx = _target(fn, out, shape, dy.dtype, order, layout, inputs, unbatched)
    if shape[0]:
        source = x if indices is None else None
        found = _add_to_winners(dy, dx, windows, _is_last(layout), op, source, indices, num_threads)
        if found is not None:
            raise checks.bad_index(fn, found, windows.spatial, windows.kernel if indices.dtype == np.uint8 else None)
    return checks.finish(dx, out, unbatched)


def _gradient_of(fn, dy, shape, unbatched, windows, like):
    """The Pooling of a gradient of this shape, in the order of the array `like`."""
    checks.shape_of(fn, "dy", dy, (*shape[:2], *windows.out))
    order = checks.memory_order(like)
    ready = not unbatched and all(checks.is_readable(a, checks.memory_order(a)) for a in (dy, like))
    return Pooling(windows, shape, order, _layout(like, order), unbatched, ready)


def _prepare_sliding_winners(dy, x, fn, rank, *window):
    dy, x, unbatched = _gradient_and_input(fn, rank, dy, x)
    return _gradient_of(fn, dy, x.shape, unbatched, checks.pool_windows(fn, rank, x.shape[2:], *window), x)


def _prepare_adaptive_winners(dy, x, fn, rank):
    dy, x, unbatched = _gradient_and_input(fn, rank, dy, x)
    windows = checks.adaptive_windows(fn, rank, x.shape[2:], dy.shape[2:], "dy")
    return _gradient_of(fn, dy, x.shape, unbatched, windows, x)


def _prepare_sliding_shares(dy, fn, rank, input_shape, *window):
    dy, shape, unbatched = _gradient_and_shape(fn, rank, dy, input_shape)
    return _gradient_of(fn, dy, shape, unbatched, checks.pool_windows(fn, rank, shape[2:], *window), dy)


def _prepare_adaptive_shares(dy, fn, rank, input_shape):
    dy, shape, unbatched = _gradient_and_shape(fn, rank, dy, input_shape)
    windows = checks.adaptive_windows(fn, rank, shape[2:], dy.shape[2:], "dy")
    return _gradient_of(fn, dy, shape, unbatched, windows, dy)


_sliding_winners, _adaptive_winners = Calls(_prepare_sliding_winners), Calls(_prepare_adaptive_winners)
_sliding_shares, _adaptive_shares = Calls(_prepare_sliding_shares), Calls(_prepare_adaptive_shares)


def _plain_window(fn, kernel_size, stride, padding, dilation, ceil_mode):
    return kernel_size, stride, padding, dilation, int(checks.flag(fn, "ceil_mode", ceil_mode))


def select_backward(fn, op, rank, dy, x, window, indices, out, num_threads):
    dy, x = checks.array(fn, "dy", dy), checks.array(fn, "x", x)
    call = _sliding_winners((dy, x), (fn, rank, *_plain_window(fn, *window)))
    return _select_backward(fn, op, dy, x, call, indices, out, num_threads)


def adapt_select_backward(fn, op, rank, dy, x, indices, out, num_threads):
    dy, x = checks.array(fn, "dy", dy), checks.array(fn, "x", x)
    return _select_backward(fn, op, dy, x, _adaptive_winners((dy, x), (fn, rank)), indices, out, num_threads)


def _sum_backward(fn, dy, call, divisor, out, num_threads):
    checks.some_threads(fn, num_threads)
    windows, shape, order, layout, unbatched, ready = call
    dx = _target(fn, out, shape, dy.dtype, order, layout, {"dy": dy}, unbatched)
    if not ready:
        dy = checks.in_an_order(dy[None] if unbatched else dy)[0]
    if shape[0]:
        _pool_backward.gather(dy, dx, windows.axes, _is_last(layout), divisor, None, None, None, num_threads)
    return checks.finish(dx, out, unbatched)


def _sliding_sum_backward(fn, rank, dy, input_shape, window, divisor, out, num_threads):
    dy = checks.array(fn, "dy", dy)
    call = _sliding_shares((dy,), (fn, rank, input_shape, *_plain_window(fn, *window)))
    return _sum_backward(fn, dy, call, divisor, out, num_threads)


def average_backward(fn, rank, dy, input_shape, window, count_include_pad, divisor_override, out, num_threads):
    divisor = checks.average(fn, count_include_pad, divisor_override)
    return _sliding_sum_backward(fn, rank, dy, input_shape, window, divisor, out, num_threads)


def total_backward(fn, rank, dy, input_shape, window, out, num_threads):
    return _sliding_sum_backward(fn, rank, dy, input_shape, window, None, out, num_threads)


def adapt_sum_backward(fn, op, rank, dy, input_shape, out, num_threads):
    """Of "avg" or "sum" over windows that cover the input evenly."""
    dy = checks.array(fn, "dy", dy)
    call = _adaptive_shares((dy,), (fn, rank, input_shape))
    return _sum_backward(fn, dy, call, (False, 0) if op == "avg" else None, out, num_threads)


def _planes_of(fn, dy):
    """dy of a whole-plane operation, and its number of spatial axes."""
    dy = checks.operand(fn, "dy", dy)
    checks.rank_of(fn, "dy", dy, 3, 4, 5)
    checks.shape_of(fn, "dy", dy, (*dy.shape[:2], *(1,) * (dy.ndim - 2)))
    return dy, dy.ndim - 2


def whole_select_backward(fn, op, dy, x, out, num_threads):
    dy, rank = _planes_of(fn, dy)
    return adapt_select_backward(fn, op, rank, dy, x, None, out, num_threads)


def whole_sum_backward(fn, op, dy, input_shape, out, num_threads):
    dy, rank = _planes_of(fn, dy)
    return adapt_sum_backward(fn, op, rank, dy, input_shape, out, num_threads)


# ---------------------------------------------------------------- unpooling

def unpool(fn, rank, x, indices, kernel_size, stride, padding, output_size, out, num_threads):
    checks.some_threads(fn, num_threads)
    x, unbatched = checks.pool_input(fn, rank, x, False)
    indices = checks.indices(fn, indices, x.shape[1:] if unbatched else x.shape)
    inputs = {"x": x, "indices": indices}
    indices, _ = checks.in_an_order(indices[None] if unbatched else indices)
    spatial = checks.unpool_size(fn, rank, x.shape, kernel_size, stride, padding, output_size)
    checks.addressable(fn, "output_size", (*x.shape[:2], *spatial))
    source, order, layout = _in_layout(x)
    y = _target(fn, out, (*x.shape[:2], *spatial), x.dtype, order, layout, inputs, unbatched)
    if len(x):
        found = _pool_backward.scatter_set(source, indices, y, _is_last(layout), num_threads)
        if found is not None:
            raise checks.bad_index(fn, found, spatial)
    return checks.finish(y, out, unbatched)


def unpool_backward(fn, rank, dy, indices, input_shape, out, num_threads):
    checks.some_threads(fn, num_threads)
    dy, shape, unbatched = _gradient_and_shape(fn, rank, dy, input_shape)
    checks.extents_of(fn, "dy", dy.shape)
    if dy.shape[:2] != shape[:2]:
        raise ValueError(f"{fn}: dy: got shape {dy.shape}; expected ({shape[0]}, {shape[1]}, ...)")
    indices = checks.indices(fn, indices, shape[1:] if unbatched else shape)
    inputs = {"dy": dy, "indices": indices}
    indices, _ = checks.in_an_order(indices[None] if unbatched else indices)
    gradient, order, layout = _in_layout(dy)
    dx = _target(fn, out, shape, dy.dtype, order, layout, inputs, unbatched)
    if len(dy):
        found = _pool_backward.unscatter_set(gradient, indices, dx, _is_last(layout), num_threads)
        if found is not None:
            raise checks.bad_index(fn, found, dy.shape[2:])
    return checks.finish(dx, out, unbatched)
