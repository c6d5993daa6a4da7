"""Conversion between the two memory orders."""
import numpy as np

from . import checks

__all__ = ["channels_first", "channels_last"]


def channels_last(x):
    """x of shape (N, C, *spatial) with the channels of a pixel adjacent in memory; x itself where it is so already.

    Parameters
    ----------
    x : array, (N, C, *spatial), any dtype

    Returns
    -------
    array of the same shape and values

    Raises
    ------
    TypeError, ValueError
        x is not an array, or doesn't have three to five axes.

    Examples
    --------
    >>> fastconv.channels_last(np.zeros((2, 3, 4, 5), np.float32)).strides
    (240, 4, 60, 12)
    """
    x = _images("channels_last", x)
    if checks.is_channels_last(x):
        return x
    last = x.ndim - 1
    pixels = x.transpose(0, *range(2, x.ndim), 1)
    # Reshaping from one axis gives axes of extent 1 their canonical strides, too.
    return np.ascontiguousarray(pixels).reshape(-1).reshape(pixels.shape).transpose(0, last, *range(1, last))


def channels_first(x):
    """x of shape (N, C, *spatial), C-contiguous; x itself where it is so already.

    Parameters
    ----------
    x : array, (N, C, *spatial), any dtype

    Returns
    -------
    array of the same shape and values

    Raises
    ------
    TypeError, ValueError
        x is not an array, or doesn't have three to five axes.
    """
    x = _images("channels_first", x)
    if x.flags.c_contiguous and not checks.is_channels_last(x):
        return x
    return np.ascontiguousarray(x).reshape(-1).reshape(x.shape)


def _images(fn, x):
    x = checks.array(fn, "x", x)
    checks.rank_of(fn, "x", x, 3, 4, 5)
    return x
