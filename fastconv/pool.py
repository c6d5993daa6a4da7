"""Pooling and its gradients in one, two and three dimensions: sliding, adaptive and whole-plane windows, unpooling.

One implementation with three spatial axes serves all ranks; the functions here are its names. Windows follow
PyTorch's rule for their number (see :func:`max_pool2d`), including ``ceil_mode``.
"""
import functools
import inspect

from . import pooling

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


def _at_ranks(general):
    """The 1d, 2d and 3d names of ``general(fn, rank, ...)``, with its signature but those two."""
    named = []
    signature = inspect.signature(general)
    public = signature.replace(parameters=list(signature.parameters.values())[2:])
    for rank in (1, 2, 3):
        name = general.__name__.removeprefix("_").replace("_nd", f"{rank}d")
        function = functools.wraps(general)(_at_rank(general, name, rank, public))
        function.__name__ = function.__qualname__ = name
        function.__doc__ = (general.__doc__ or "").replace("_nd", f"{rank}d")  # python -OO has no docstrings
        function.__signature__ = public
        del function.__wrapped__
        named.append(function)
    return named


def _at_rank(general, name, rank, public):
    def function(*args, **kwargs):
        try:
            return general(name, rank, *args, **kwargs)
        except TypeError as error:
            if error.__traceback__.tb_next is not None:
                raise
        try:
            public.bind(*args, **kwargs)  # says the same of the arguments that the caller knows
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None

    return function


# ---------------------------------------------------------------- maximum and minimum

def _max_pool_nd(fn, rank, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
                 return_indices=False, out=None, num_threads=None):
    """The largest element of every window. NaN wins; padding never does.

    Parameters
    ----------
    x : array, (N, C, *spatial), or without the batch axis
        float32, float64 or integers; channels-first or channels-last; other strides cost one copy.
    kernel_size : int or one per axis
    stride : int or one per axis, optional
        By default the kernel size.
    padding : int, one per axis, or (before, after) pairs, not negative
    dilation : int or one per axis
    ceil_mode : bool
        Keep a last window that hangs over the padded input.
    return_indices : bool or "window"
        Also return where the winners lie: True for flat positions in the input plane (int64), "window" for
        positions in the window (uint8, windows of at most 256 elements). Of equals the first in row-major
        order counts.
    out : array of the result's shape and dtype, any strides, optional
    num_threads : int, optional

    Returns
    -------
    y : array, (N, C, *out)
        In the memory order of x; each extent is ``floor((in + before + after - dilation * (kernel - 1) - 1
        + (stride - 1 if ceil_mode else 0)) / stride) + 1``, or one less if the last window would start
        beyond the input.
    indices : array, (N, C, *out), if asked for

    Raises
    ------
    TypeError
        x is neither float32 or float64 nor of an integer dtype.
    ValueError
        A shape or option doesn't fit, or a window has no real element in it; the message names it.
    """
    return pooling.select(fn, "max", rank, x, (kernel_size, stride, padding, dilation, ceil_mode), return_indices, out,
                          num_threads)


def _min_pool_nd(fn, rank, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
                 return_indices=False, out=None, num_threads=None):
    """The smallest element of every window. NaN wins; padding never does.

    Parameters, results and errors as in :func:`max_pool_nd`.
    """
    return pooling.select(fn, "min", rank, x, (kernel_size, stride, padding, dilation, ceil_mode), return_indices, out,
                          num_threads)


def _max_pool_nd_backward(fn, rank, dy, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
                          indices=None, out=None, num_threads=None):
    """Gradient of :func:`max_pool_nd`: every winner gets the gradient of its window.

    Parameters
    ----------
    dy : array, (N, C, *out)
        Gradient with respect to the result.
    x : array, (N, C, *spatial)
        float32 or float64, like dy. With `indices` only its shape and memory order count.
    indices : array, (N, C, *out), optional
        What ``return_indices`` gave, either kind; int64 ones may point anywhere in the plane. Without them
        the winners are found again.
    Others as in :func:`max_pool_nd`.

    Returns
    -------
    dx : array, (N, C, *spatial)
        In the memory order of x. Every element adds up in the order of the outputs.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_nd`; an index that points outside is a ValueError.
    """
    return pooling.select_backward(fn, "max", rank, dy, x, (kernel_size, stride, padding, dilation, ceil_mode),
                                   indices, out, num_threads)


def _min_pool_nd_backward(fn, rank, dy, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
                          indices=None, out=None, num_threads=None):
    """Gradient of :func:`min_pool_nd`: every winner gets the gradient of its window.

    Parameters, results and errors as in :func:`max_pool_nd_backward`.
    """
    return pooling.select_backward(fn, "min", rank, dy, x, (kernel_size, stride, padding, dilation, ceil_mode),
                                   indices, out, num_threads)


max_pool1d, max_pool2d, max_pool3d = _at_ranks(_max_pool_nd)
min_pool1d, min_pool2d, min_pool3d = _at_ranks(_min_pool_nd)
max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = _at_ranks(_max_pool_nd_backward)
min_pool1d_backward, min_pool2d_backward, min_pool3d_backward = _at_ranks(_min_pool_nd_backward)


# ---------------------------------------------------------------- average and sum

def _avg_pool_nd(fn, rank, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
                 count_include_pad=True, divisor_override=None, out=None, num_threads=None):
    """The average of every window.

    Parameters
    ----------
    x : array, (N, C, *spatial), or without the batch axis
        float32 or float64.
    count_include_pad : bool
        Whether the divisor counts taps on padding (never those beyond it that `ceil_mode` adds).
    divisor_override : int, optional
        Divide every sum by this instead.
    Others as in :func:`max_pool_nd`.

    Returns
    -------
    y : array, (N, C, *out)
        As in :func:`max_pool_nd`.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_nd`; integers are a TypeError.
    """
    return pooling.average(fn, rank, x, (kernel_size, stride, padding, dilation, ceil_mode), count_include_pad,
                           divisor_override, out, num_threads)


def _avg_pool_nd_backward(fn, rank, dy, input_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                          *, count_include_pad=True, divisor_override=None, out=None, num_threads=None):
    """Gradient of :func:`avg_pool_nd`: every element gets its share of its windows' gradients.

    Parameters
    ----------
    dy : array, (N, C, *out)
    input_shape : tuple of int
        The shape of x.
    Others as in :func:`avg_pool_nd`.

    Returns
    -------
    dx : array, of input_shape
        In the memory order of dy.

    Raises
    ------
    TypeError, ValueError
        As in :func:`avg_pool_nd`.
    """
    return pooling.average_backward(fn, rank, dy, input_shape, (kernel_size, stride, padding, dilation, ceil_mode),
                                    count_include_pad, divisor_override, out, num_threads)


def _sum_pool_nd(fn, rank, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *, out=None,
                 num_threads=None):
    """The sum of every window, in the dtype of x; integers add up in int64 or uint64, modulo 2**64.

    Parameters, results and errors as in :func:`max_pool_nd`.
    """
    return pooling.total(fn, rank, x, (kernel_size, stride, padding, dilation, ceil_mode), out, num_threads)


def _sum_pool_nd_backward(fn, rank, dy, input_shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                          *, out=None, num_threads=None):
    """Gradient of :func:`sum_pool_nd`: every element gets the sum of its windows' gradients.

    Parameters, results and errors as in :func:`avg_pool_nd_backward`.
    """
    return pooling.total_backward(fn, rank, dy, input_shape, (kernel_size, stride, padding, dilation, ceil_mode), out,
                                  num_threads)


avg_pool1d, avg_pool2d, avg_pool3d = _at_ranks(_avg_pool_nd)
sum_pool1d, sum_pool2d, sum_pool3d = _at_ranks(_sum_pool_nd)
avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = _at_ranks(_avg_pool_nd_backward)
sum_pool1d_backward, sum_pool2d_backward, sum_pool3d_backward = _at_ranks(_sum_pool_nd_backward)


# ---------------------------------------------------------------- adaptive windows

def _adaptive_avg_pool_nd(fn, rank, x, output_size, *, out=None, num_threads=None):
    """The average of windows that cover the input evenly: output o of n has [o * in // n, ceil((o + 1) * in / n)).

    Parameters
    ----------
    x : array, (N, C, *spatial), or without the batch axis
        float32 or float64.
    output_size : int or one per axis
        None for an axis keeps its extent.
    out, num_threads : as in :func:`max_pool_nd`

    Returns
    -------
    y : array, (N, C, *output_size)
        In the memory order of x.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_nd`.
    """
    return pooling.adapt(fn, "avg", rank, x, output_size, False, out, num_threads)


def _adaptive_max_pool_nd(fn, rank, x, output_size, *, return_indices=False, out=None, num_threads=None):
    """The largest element of windows that cover the input evenly; with `return_indices` also its flat position (int64).

    Other parameters, results and errors as in :func:`adaptive_avg_pool_nd` and :func:`max_pool_nd`.
    """
    return pooling.adapt(fn, "max", rank, x, output_size, return_indices, out, num_threads)


def _adaptive_avg_pool_nd_backward(fn, rank, dy, input_shape, *, out=None, num_threads=None):
    """Gradient of :func:`adaptive_avg_pool_nd`, of `input_shape`, in the memory order of dy.

    Parameters and errors as in :func:`avg_pool_nd_backward`.
    """
    return pooling.adapt_sum_backward(fn, "avg", rank, dy, input_shape, out, num_threads)


def _adaptive_max_pool_nd_backward(fn, rank, dy, x, *, indices=None, out=None, num_threads=None):
    """Gradient of :func:`adaptive_max_pool_nd`, in the memory order of x.

    Parameters and errors as in :func:`max_pool_nd_backward`; `indices` are int64.
    """
    return pooling.adapt_select_backward(fn, "max", rank, dy, x, indices, out, num_threads)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = _at_ranks(_adaptive_avg_pool_nd)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = _at_ranks(_adaptive_max_pool_nd)
adaptive_avg_pool1d_backward, adaptive_avg_pool2d_backward, adaptive_avg_pool3d_backward = _at_ranks(
    _adaptive_avg_pool_nd_backward)
adaptive_max_pool1d_backward, adaptive_max_pool2d_backward, adaptive_max_pool3d_backward = _at_ranks(
    _adaptive_max_pool_nd_backward)


# ---------------------------------------------------------------- whole planes

def global_max_pool(x, *, out=None, num_threads=None):
    """The largest element of every plane: (N, C, *spatial) to (N, C, 1, ...). x as in :func:`max_pool2d`."""
    return pooling.whole("global_max_pool", "max", x, out, num_threads)


def global_max_pool_backward(dy, x, *, out=None, num_threads=None):
    """Gradient of :func:`global_max_pool`: the first largest element gets dy.

    dy has the shape of the result, x and errors are as there; dx is in the memory order of x.
    """
    return pooling.whole_select_backward("global_max_pool_backward", "max", dy, x, out, num_threads)


def global_min_pool(x, *, out=None, num_threads=None):
    """The smallest element of every plane: (N, C, *spatial) to (N, C, 1, ...). x as in :func:`max_pool2d`."""
    return pooling.whole("global_min_pool", "min", x, out, num_threads)


def global_min_pool_backward(dy, x, *, out=None, num_threads=None):
    """Gradient of :func:`global_min_pool`: the first smallest element gets dy.

    dy has the shape of the result, x and errors are as there; dx is in the memory order of x.
    """
    return pooling.whole_select_backward("global_min_pool_backward", "min", dy, x, out, num_threads)


def global_avg_pool(x, *, out=None, num_threads=None):
    """The average of every plane: (N, C, *spatial) to (N, C, 1, ...). x is float32 or float64.

    Otherwise as :func:`global_max_pool`.
    """
    return pooling.whole("global_avg_pool", "avg", x, out, num_threads)


def global_avg_pool_backward(dy, input_shape, *, out=None, num_threads=None):
    """Gradient of :func:`global_avg_pool`, of `input_shape`: dy over the size of the plane in every element.

    dy has the shape of the result, errors are as there; dx is in the memory order of dy.
    """
    return pooling.whole_sum_backward("global_avg_pool_backward", "avg", dy, input_shape, out, num_threads)


def global_sum_pool(x, *, out=None, num_threads=None):
    """The sum of every plane: (N, C, *spatial) to (N, C, 1, ...). Integers add up in int64 or uint64.

    Otherwise as :func:`global_max_pool`.
    """
    return pooling.whole("global_sum_pool", "sum", x, out, num_threads)


def global_sum_pool_backward(dy, input_shape, *, out=None, num_threads=None):
    """Gradient of :func:`global_sum_pool`, of `input_shape`: dy in every element of the plane.

    dy has the shape of the result, errors are as there; dx is in the memory order of dy.
    """
    return pooling.whole_sum_backward("global_sum_pool_backward", "sum", dy, input_shape, out, num_threads)


# ---------------------------------------------------------------- unpooling

def _max_unpool_nd(fn, rank, x, indices, kernel_size, stride=None, padding=0, output_size=None, *, out=None,
                   num_threads=None):
    """Zeros with every element of x at its place in `indices`; of equal places the last wins.

    Parameters
    ----------
    x : array, (N, C, *spatial), or without the batch axis
        float32 or float64.
    indices : int64 array of the shape of x
        Flat positions in the planes of the result, as :func:`max_pool_nd` returns them.
    kernel_size, stride, padding : as in :func:`max_pool_nd`
    output_size : one int per spatial axis, or the whole shape (N, C, *spatial), optional
        By default ``(in - 1) * stride - before - after + kernel``.
    out, num_threads : as in :func:`max_pool_nd`

    Returns
    -------
    y : array, (N, C, *output_size)
        In the memory order of x.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_nd`; an index that points outside is a ValueError.
    """
    return pooling.unpool(fn, rank, x, indices, kernel_size, stride, padding, output_size, out, num_threads)


def _max_unpool_nd_backward(fn, rank, dy, indices, input_shape, *, out=None, num_threads=None):
    """Gradient of :func:`max_unpool_nd`, of `input_shape`: dy at `indices`; of equal indices only the last gets it.

    Parameters
    ----------
    dy : array, (N, C, *output_size)
        Gradient with respect to the result.
    indices : int64 array of the shape of x
    input_shape : tuple of int
        The shape of x.
    out, num_threads : as in :func:`max_pool_nd`

    Returns
    -------
    dx : array, of input_shape
        In the memory order of dy.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_unpool_nd`.
    """
    return pooling.unpool_backward(fn, rank, dy, indices, input_shape, out, num_threads)


max_unpool1d, max_unpool2d, max_unpool3d = _at_ranks(_max_unpool_nd)
max_unpool1d_backward, max_unpool2d_backward, max_unpool3d_backward = _at_ranks(_max_unpool_nd_backward)
