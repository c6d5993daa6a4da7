"""The windows of an array as the columns of a matrix, and back: tools, which no kernel of the package needs."""
import numpy as np

from . import checks
from ._kernels import _im2col
from .runtime import keeps_floating_point

__all__ = ["col2im", "im2col"]


def _windows(fn, name, shape, kernel_size, stride, padding, dilation):
    """(geometry, padding in front of each axis, shape of the columns); negative padding crops."""
    if not 3 <= len(shape) <= 5:
        raise ValueError(f"{fn}: {name}: got {len(shape)} axes, shape {shape}; expected 3, 4 or 5")
    rank = len(shape) - 2
    kernel = checks.per_axis(fn, "kernel_size", kernel_size, rank, 1)
    g = checks.conv_geometry(fn, rank, shape, (1, shape[1], *kernel), stride, padding, dilation, 1, "zeros",
                             (name, "kernel_size"))
    checks.addressable(fn, "kernel_size", (*shape[:2], *kernel, *g.out))
    before = tuple(pad - front for pad, (front, _) in zip(g.before, g.crop))
    return g, before, (shape[0], shape[1] * int(np.prod(kernel)), int(np.prod(g.out)))


@keeps_floating_point
def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """The windows of x as columns, in the layout of PyTorch's ``unfold``; padding is filled with 0.

    Parameters
    ----------
    x : array of float32 or float64, (N, C, *spatial) with one to three spatial axes
        Any strides, without a copy.
    kernel_size : int or one per axis
    stride, padding, dilation
        As in :func:`fastconv.conv2d`.

    Returns
    -------
    cols : array, (N, C * taps, positions), C-contiguous
        Rows run over channels, then taps of the kernel; columns over output positions; all row-major.

    Raises
    ------
    TypeError, ValueError
        x is not a float array of such a shape, or an option doesn't fit; the message names it.
    """
    x = checks.operand("im2col", "x", x)
    g, before, shape = _windows("im2col", "x", x.shape, kernel_size, stride, padding, dilation)
    cols = checks.new(shape, x.dtype)
    aligned = x.flags.aligned and not any(s % x.itemsize for s in x.strides)
    _im2col.run(x if aligned else x.copy(), cols, g, before, False, None)
    return cols


@keeps_floating_point
def col2im(cols, input_shape, kernel_size, stride=1, padding=0, dilation=1):
    """The adjoint of :func:`im2col`: each element of `cols` is added to the element that it was copied from.

    Parameters
    ----------
    cols : array of float32 or float64, (N, C * taps, positions)
    input_shape : tuple
        (N, C, *spatial) of the result.
    kernel_size, stride, padding, dilation
        As in :func:`im2col`.

    Returns
    -------
    x : array of shape `input_shape`, C-contiguous

    Raises
    ------
    TypeError, ValueError
        As in :func:`im2col`; also where `cols` doesn't have the shape that `im2col` gives.
    """
    cols = checks.operand("col2im", "cols", cols)
    shape = checks.shape_tuple("col2im", "input_shape", input_shape)
    g, before, expected = _windows("col2im", "input_shape", shape, kernel_size, stride, padding, dilation)
    checks.shape_of("col2im", "cols", cols, expected)
    x = np.zeros(shape, cols.dtype)
    _im2col.run(x, checks.contiguous(cols), g, before, True, None)
    return x
