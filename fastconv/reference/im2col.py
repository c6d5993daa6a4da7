"""Naive im2col and col2im: every column is the window of one output position, copied tap by tap."""

import math

import numpy as np

from ._common import per_axis, result, window_taps
from .conv import conv_out_spatial, conv_pads

__all__ = ["col2im", "im2col"]


def _geometry(spatial, kernel_size, stride, padding, dilation):
    """Kernel and output size per axis, and the taps that join outputs with inputs."""
    nd = len(spatial)
    kernel, stride, dilation = per_axis(kernel_size, nd), per_axis(stride, nd), per_axis(dilation, nd)
    pads = conv_pads(padding, spatial, kernel, stride, dilation)
    out_spatial = conv_out_spatial(spatial, kernel, stride, pads, dilation)
    taps = window_taps(kernel, spatial, out_spatial, stride, [p[0] for p in pads], dilation)
    return kernel, out_spatial, taps


def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """The windows of ``x`` (n, c, *spatial) as columns (n, c * taps, positions), padding filled with 0.

    The layout of PyTorch's ``unfold``: rows run over channel, then tap; columns over output position; all row-major.
    """
    x = np.asarray(x)
    kernel, out_spatial, taps = _geometry(x.shape[2:], kernel_size, stride, padding, dilation)
    cols = np.zeros((*x.shape[:2], *kernel, *out_spatial), dtype=x.dtype)
    for tap, o, i in taps:
        cols[:, :, *tap][o] = x[i]
    return cols.reshape(x.shape[0], x.shape[1] * math.prod(kernel), math.prod(out_spatial))


def col2im(cols, input_shape, kernel_size, stride=1, padding=0, dilation=1):
    """The adjoint of ``im2col``: every element of ``cols`` added to the element that it was copied from."""
    cols = np.asarray(cols)
    kernel, out_spatial, taps = _geometry(input_shape[2:], kernel_size, stride, padding, dilation)
    windows = cols.reshape(*input_shape[:2], *kernel, *out_spatial)
    dx = np.zeros(input_shape)
    for tap, o, i in taps:
        dx[i] += windows[:, :, *tap][o]
    return result(dx, cols.dtype)
