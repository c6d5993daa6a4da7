"""Convolution and transposed convolution layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import checks, conv, convolve
from .._types import Gradients, Padding, PaddingMode, Pairs, PerAxis
from ..packed import PackedWeight
from . import arguments
from .program import Recorder, Value
from .weighted import WeightedLayer

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class Conv(WeightedLayer):
    """Cross-correlation of ``(N, in_channels, *spatial)`` with ``weight`` and ``bias``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or sequence of int, one per axis
    padding : int, sequence of int, sequence of (before, after) pairs, ``"same"``, ``"same_lower"`` or ``"valid"``
        As the convolution function takes it.
    groups : int
        Divides both numbers of channels.
    bias : bool
    padding_mode : ``"zeros"``, ``"reflect"``, ``"replicate"``, ``"circular"`` or ``"symmetric"``
    dtype : float32 or float64
    rng : numpy.random.Generator, int or None
        Source of the initial weights, which are uniform on +-1/sqrt(fan_in) as PyTorch's.

    Attributes
    ----------
    weight : Parameter, ``(out_channels, in_channels // groups, *kernel_size)``
    bias : Parameter, ``(out_channels,)``, or None
    """

    ndim: int
    _function: Callable[..., np.ndarray]
    _function_backward: Callable[..., Gradients]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: PerAxis, stride: PerAxis = 1,
                 padding: Padding = 0, dilation: PerAxis = 1, groups: int = 1, bias: bool = True,
                 padding_mode: PaddingMode = "zeros", *, dtype: DTypeLike = np.float32,
                 rng: np.random.Generator | int | None = None) -> None:
        self.in_channels = arguments.positive_int(self, "in_channels", in_channels)
        self.out_channels = arguments.positive_int(self, "out_channels", out_channels)
        self.kernel_size = arguments.per_axis(self, "kernel_size", kernel_size, self.ndim)
        self.stride = arguments.per_axis(self, "stride", stride, self.ndim)
        self.padding = arguments.padding(self, padding, self.ndim, ("same", "same_lower", "valid"), -checks.MOST)
        self.dilation = arguments.per_axis(self, "dilation", dilation, self.ndim)
        self.groups = _groups(self, groups)
        self.padding_mode = arguments.word(self, "padding_mode", padding_mode, checks.PADDING_MODES)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self._initialise(shape, self.out_channels, math.prod(shape[1:]), bias, rng, dtype)

    def _pack(self, weight: np.ndarray) -> PackedWeight:
        return conv.pack_weight(weight, stride=self.stride, dilation=self.dilation, groups=self.groups)

    def _geometry(self) -> tuple[Any, Any, Any, Any]:
        return self.stride, self.padding, self.dilation, self.groups

    def _apply(self, x: np.ndarray, weight: Any, activation: str | None) -> np.ndarray:
        return self._function(x, weight, self._bias_value(), *self._geometry(), padding_mode=self.padding_mode,
                              activation=activation)

    def record(self, recorder: Recorder, x: Value, activation: str | None = None) -> Value:
        recorder.depends_on(self.weight, self.bias)
        weight, bias = self._packed.get(self.weight, self._pack), self._bias_value()
        call = convolve.forward_call(self._function.__name__, self.ndim, x.array, weight, bias, *self._geometry(),
                                     self.padding_mode, activation, "auto")
        if not call.is_plain:
            return super().record(recorder, x, activation)
        run, operands = call.plan.run, weight.operands_for(call.algorithm)

        def kernel(x: np.ndarray, y: np.ndarray) -> None:
            run(x, *operands, bias, y, call.activation, None)

        y = checks.empty(call.shape, x.array.dtype, call.order)
        kernel(x.array, y)
        return recorder.kernel(kernel, y, x, strided=True)

    def _gradients(self, dy: np.ndarray, x: np.ndarray, weight: np.ndarray, **how: Any) -> Gradients:
        return self._function_backward(dy, x, weight, *self._geometry(), padding_mode=self.padding_mode, **how)

    def per_output(self, values: np.ndarray) -> np.ndarray:
        """`values`, one for each output channel, in a shape that meets their weights in a product."""
        return values.reshape(-1, *(1,) * (self.ndim + 1))


class Conv1d(Conv):
    __doc__ = Conv.__doc__
    ndim = 1
    _function = staticmethod(conv.conv1d)
    _function_backward = staticmethod(conv.conv1d_backward)


class Conv2d(Conv):
    __doc__ = Conv.__doc__
    ndim = 2
    _function = staticmethod(conv.conv2d)
    _function_backward = staticmethod(conv.conv2d_backward)


class Conv3d(Conv):
    __doc__ = Conv.__doc__
    ndim = 3
    _function = staticmethod(conv.conv3d)
    _function_backward = staticmethod(conv.conv3d_backward)


class ConvTranspose(WeightedLayer):
    """Transposed convolution of ``(N, in_channels, *spatial)``: the gradient of a convolution, used as a layer.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or sequence of int, one per axis
    padding : int, sequence of int or sequence of (before, after) pairs
        What is cropped from the full result.
    output_padding : int or sequence of int
        Extra extent at the end of each axis, below ``max(stride, dilation)``.
    groups : int
        Divides both numbers of channels.
    bias : bool
    dtype : float32 or float64
    rng : numpy.random.Generator, int or None

    Attributes
    ----------
    weight : Parameter, ``(in_channels, out_channels // groups, *kernel_size)``
    bias : Parameter, ``(out_channels,)``, or None

    Notes
    -----
    The initial weights are PyTorch's, whose fan-in of this layer counts ``out_channels // groups``.
    """

    ndim: int
    _function: Callable[..., np.ndarray]
    _function_backward: Callable[..., Gradients]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: PerAxis, stride: PerAxis = 1,
                 padding: Pairs = 0, output_padding: PerAxis = 0, groups: int = 1, bias: bool = True,
                 dilation: PerAxis = 1, *, dtype: DTypeLike = np.float32,
                 rng: np.random.Generator | int | None = None) -> None:
        self.in_channels = arguments.positive_int(self, "in_channels", in_channels)
        self.out_channels = arguments.positive_int(self, "out_channels", out_channels)
        self.kernel_size = arguments.per_axis(self, "kernel_size", kernel_size, self.ndim)
        self.stride = arguments.per_axis(self, "stride", stride, self.ndim)
        self.padding = arguments.padding(self, padding, self.ndim)
        self.output_padding = arguments.per_axis(self, "output_padding", output_padding, self.ndim, 0)
        self.groups = _groups(self, groups)
        self.dilation = arguments.per_axis(self, "dilation", dilation, self.ndim)
        _check_output_padding(self)
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self._initialise(shape, self.out_channels, math.prod(shape[1:]), bias, rng, dtype)

    def _geometry(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def _apply(self, x: np.ndarray, weight: Any, activation: str | None) -> np.ndarray:
        return self._function(x, weight, self._bias_value(), *self._geometry(), activation=activation)

    def _gradients(self, dy: np.ndarray, x: np.ndarray, weight: np.ndarray, **how: Any) -> Gradients:
        return self._function_backward(dy, x, weight, *self._geometry(), **how)

    def per_output(self, values: np.ndarray) -> np.ndarray:
        """`values`, one for each output channel, in a shape that meets their weights in a product."""
        of_groups = np.repeat(values.reshape(self.groups, -1), self.in_channels // self.groups, axis=0)
        return of_groups.reshape(*of_groups.shape, *(1,) * self.ndim)


class ConvTranspose1d(ConvTranspose):
    __doc__ = ConvTranspose.__doc__
    ndim = 1
    _function = staticmethod(conv.conv_transpose1d)
    _function_backward = staticmethod(conv.conv_transpose1d_backward)


class ConvTranspose2d(ConvTranspose):
    __doc__ = ConvTranspose.__doc__
    ndim = 2
    _function = staticmethod(conv.conv_transpose2d)
    _function_backward = staticmethod(conv.conv_transpose2d_backward)


class ConvTranspose3d(ConvTranspose):
    __doc__ = ConvTranspose.__doc__
    ndim = 3
    _function = staticmethod(conv.conv_transpose3d)
    _function_backward = staticmethod(conv.conv_transpose3d_backward)


def _groups(layer: Conv | ConvTranspose, groups: int) -> int:
    groups = arguments.positive_int(layer, "groups", groups)
    if layer.in_channels % groups or layer.out_channels % groups:
        raise ValueError(f"{type(layer).__name__}: groups: got {groups}; expected a divisor of "
                         f"in_channels={layer.in_channels} and out_channels={layer.out_channels}")
    return groups


def _check_output_padding(layer: ConvTranspose) -> None:
    for extra, stride, dilation in zip(layer.output_padding, layer.stride, layer.dilation):
        if extra >= max(stride, dilation):
            raise ValueError(f"{type(layer).__name__}: output_padding: got {extra}; expected less than "
                             f"max(stride, dilation) = {max(stride, dilation)}")
