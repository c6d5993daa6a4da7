"""Pooling layers: windows, whole planes, and windows that adapt to an output size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import pool
from .._types import AdaptiveSize, Pairs, PerAxis
from ..activation import relu_backward
from . import arguments
from .module import Backward, Module

__all__ = ["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d",
           "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d",
           "AvgPool1d", "AvgPool2d", "AvgPool3d", "GlobalAvgPool", "GlobalMaxPool", "GlobalMinPool", "GlobalSumPool",
           "MaxPool1d", "MaxPool2d", "MaxPool3d", "MinPool1d", "MinPool2d", "MinPool3d",
           "SumPool1d", "SumPool2d", "SumPool3d"]

WINDOW_INDEX_TAPS = 256  # windows of up to this size have uint8 indices


class _WindowPool(Module):
    """Arguments that all window pooling layers have."""

    ndim: int
    _function: Callable[..., Any]  # y, or (y, indices)
    _function_backward: Callable[..., np.ndarray]

    def _keep(self, kernel_size: PerAxis, stride: PerAxis | None, padding: Pairs, dilation: PerAxis,
              ceil_mode: bool) -> None:
        self.kernel_size = arguments.per_axis(self, "kernel_size", kernel_size, self.ndim)
        self.stride = self.kernel_size if stride is None else arguments.per_axis(self, "stride", stride, self.ndim)
        self.padding = arguments.padding(self, padding, self.ndim)
        self.dilation = arguments.per_axis(self, "dilation", dilation, self.ndim)
        self.ceil_mode = arguments.flag(self, "ceil_mode", ceil_mode)

    def _window(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode


class SelectPool(_WindowPool):
    """The largest (MaxPool) or smallest (MinPool) element of each window of ``(N, C, *spatial)``.

    Of equal elements the first takes the whole gradient.

    Parameters
    ----------
    kernel_size : int or sequence of int, one per axis
    stride : int, sequence of int or None
        ``None`` means `kernel_size`.
    padding : int, sequence of int or sequence of (before, after) pairs
        Padding never wins.
    dilation : int or sequence of int
    ceil_mode : bool
        Whether a last window may hang over the end.
    """

    def __init__(self, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
                 *, ceil_mode: bool = False) -> None:
        self._keep(kernel_size, stride, padding, dilation, ceil_mode)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._function(x, *self._window())

    def forward(self, x: np.ndarray, rectified: bool = False) -> tuple[np.ndarray, Backward]:
        """Training; `rectified` if x comes from a ReLU whose gradient is left to this layer."""
        indices = None
        if math.prod(self.kernel_size) <= WINDOW_INDEX_TAPS:
            y, indices = self._function(x, *self._window(), return_indices="window")
        else:
            y = self._function(x, *self._window())

        output = y if rectified else None

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            if not need_input:
                return None
            if output is not None:
                dy = relu_backward(dy, output)
            return self._function_backward(dy, x, *self._window(), indices=indices)

        return y, backward


class MaxPool1d(SelectPool):
    __doc__ = SelectPool.__doc__
    ndim = 1
    _function = staticmethod(pool.max_pool1d)
    _function_backward = staticmethod(pool.max_pool1d_backward)


class MaxPool2d(SelectPool):
    __doc__ = SelectPool.__doc__
    ndim = 2
    _function = staticmethod(pool.max_pool2d)
    _function_backward = staticmethod(pool.max_pool2d_backward)


class MaxPool3d(SelectPool):
    __doc__ = SelectPool.__doc__
    ndim = 3
    _function = staticmethod(pool.max_pool3d)
    _function_backward = staticmethod(pool.max_pool3d_backward)


class MinPool1d(SelectPool):
    __doc__ = SelectPool.__doc__
    ndim = 1
    _function = staticmethod(pool.min_pool1d)
    _function_backward = staticmethod(pool.min_pool1d_backward)


class MinPool2d(SelectPool):
    __doc__ = SelectPool.__doc__
    ndim = 2
    _function = staticmethod(pool.min_pool2d)
    _function_backward = staticmethod(pool.min_pool2d_backward)


class MinPool3d(SelectPool):
    __doc__ = SelectPool.__doc__
    ndim = 3
    _function = staticmethod(pool.min_pool3d)
    _function_backward = staticmethod(pool.min_pool3d_backward)


class _SumPool(_WindowPool):
    """The sum of each window of ``(N, C, *spatial)``.

    Parameters
    ----------
    kernel_size : int or sequence of int, one per axis
    stride : int, sequence of int or None
        ``None`` means `kernel_size`.
    padding : int, sequence of int or sequence of (before, after) pairs
        Of zeros.
    dilation : int or sequence of int
    ceil_mode : bool
        Whether a last window may hang over the end.
    """

    def __init__(self, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
                 *, ceil_mode: bool = False) -> None:
        self._keep(kernel_size, stride, padding, dilation, ceil_mode)

    def _options(self) -> dict[str, Any]:
        """Keyword arguments of both functions."""
        return {}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._function(x, *self._window(), **self._options())

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        shape = x.shape

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            return self._function_backward(dy, shape, *self._window(), **self._options()) if need_input else None

        return self(x), backward


class _AvgPool(_SumPool):
    """The mean of each window of ``(N, C, *spatial)``.

    Parameters
    ----------
    kernel_size : int or sequence of int, one per axis
    stride : int, sequence of int or None
        ``None`` means `kernel_size`.
    padding : int, sequence of int or sequence of (before, after) pairs
        Of zeros.
    ceil_mode : bool
        Whether a last window may hang over the end.
    count_include_pad : bool
        Whether padding counts in the divisor.
    divisor_override : int or None
        Divides every window's sum if given.
    dilation : int or sequence of int
    """

    def __init__(self, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
                 ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None, *,
                 dilation: PerAxis = 1) -> None:
        self._keep(kernel_size, stride, padding, dilation, ceil_mode)
        self.count_include_pad = arguments.flag(self, "count_include_pad", count_include_pad)
        if divisor_override is not None:
            divisor_override = arguments.positive_int(self, "divisor_override", divisor_override)
        self.divisor_override = divisor_override

    def _options(self) -> dict[str, Any]:
        return {"count_include_pad": self.count_include_pad, "divisor_override": self.divisor_override}


class SumPool1d(_SumPool):
    __doc__ = _SumPool.__doc__
    ndim = 1
    _function = staticmethod(pool.sum_pool1d)
    _function_backward = staticmethod(pool.sum_pool1d_backward)


class SumPool2d(_SumPool):
    __doc__ = _SumPool.__doc__
    ndim = 2
    _function = staticmethod(pool.sum_pool2d)
    _function_backward = staticmethod(pool.sum_pool2d_backward)


class SumPool3d(_SumPool):
    __doc__ = _SumPool.__doc__
    ndim = 3
    _function = staticmethod(pool.sum_pool3d)
    _function_backward = staticmethod(pool.sum_pool3d_backward)


class AvgPool1d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    ndim = 1
    _function = staticmethod(pool.avg_pool1d)
    _function_backward = staticmethod(pool.avg_pool1d_backward)


class AvgPool2d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    ndim = 2
    _function = staticmethod(pool.avg_pool2d)
    _function_backward = staticmethod(pool.avg_pool2d_backward)


class AvgPool3d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    ndim = 3
    _function = staticmethod(pool.avg_pool3d)
    _function_backward = staticmethod(pool.avg_pool3d_backward)


class _PlanePool(Module):
    """A pooling layer whose windows follow from the shapes: the whole plane, or `output_size` parts of it."""

    _function: Callable[..., Any]  # y, or (y, indices)
    _function_backward: Callable[..., np.ndarray]
    _saves_input: bool  # the backward function asks for x, else for its shape

    def _sizes(self) -> tuple[Any, ...]:
        """Arguments of the function after x."""
        return ()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._function(x, *self._sizes())

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        saved = x if self._saves_input else x.shape

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            return self._function_backward(dy, saved) if need_input else None

        return self(x), backward


class GlobalMaxPool(_PlanePool):
    """The largest element of each plane: ``(N, C, *spatial)`` to ``(N, C, 1, ...)``."""

    _function = staticmethod(pool.global_max_pool)
    _function_backward = staticmethod(pool.global_max_pool_backward)
    _saves_input = True


class GlobalMinPool(_PlanePool):
    """The smallest element of each plane: ``(N, C, *spatial)`` to ``(N, C, 1, ...)``."""

    _function = staticmethod(pool.global_min_pool)
    _function_backward = staticmethod(pool.global_min_pool_backward)
    _saves_input = True


class GlobalAvgPool(_PlanePool):
    """The mean of each plane: ``(N, C, *spatial)`` to ``(N, C, 1, ...)``."""

    _function = staticmethod(pool.global_avg_pool)
    _function_backward = staticmethod(pool.global_avg_pool_backward)
    _saves_input = False


class GlobalSumPool(_PlanePool):
    """The sum of each plane: ``(N, C, *spatial)`` to ``(N, C, 1, ...)``."""

    _function = staticmethod(pool.global_sum_pool)
    _function_backward = staticmethod(pool.global_sum_pool_backward)
    _saves_input = False


class _AdaptivePool(_PlanePool):
    """Pooling over as many near-equal windows as the output has elements.

    Parameters
    ----------
    output_size : int or sequence of int or None, one per axis
        None in a sequence is the input's extent.
    """

    ndim: int

    def __init__(self, output_size: AdaptiveSize) -> None:
        self.output_size = arguments.output_size(self, output_size, self.ndim)

    def _sizes(self) -> tuple[Any, ...]:
        return (self.output_size,)


class AdaptiveAvgPool1d(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    ndim = 1
    _function = staticmethod(pool.adaptive_avg_pool1d)
    _function_backward = staticmethod(pool.adaptive_avg_pool1d_backward)
    _saves_input = False


class AdaptiveAvgPool2d(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    ndim = 2
    _function = staticmethod(pool.adaptive_avg_pool2d)
    _function_backward = staticmethod(pool.adaptive_avg_pool2d_backward)
    _saves_input = False


class AdaptiveAvgPool3d(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    ndim = 3
    _function = staticmethod(pool.adaptive_avg_pool3d)
    _function_backward = staticmethod(pool.adaptive_avg_pool3d_backward)
    _saves_input = False


class AdaptiveMaxPool1d(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    ndim = 1
    _function = staticmethod(pool.adaptive_max_pool1d)
    _function_backward = staticmethod(pool.adaptive_max_pool1d_backward)
    _saves_input = True


class AdaptiveMaxPool2d(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    ndim = 2
    _function = staticmethod(pool.adaptive_max_pool2d)
    _function_backward = staticmethod(pool.adaptive_max_pool2d_backward)
    _saves_input = True


class AdaptiveMaxPool3d(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    ndim = 3
    _function = staticmethod(pool.adaptive_max_pool3d)
    _function_backward = staticmethod(pool.adaptive_max_pool3d_backward)
    _saves_input = True
