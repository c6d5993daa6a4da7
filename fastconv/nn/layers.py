"""Activations, Linear, Flatten and Dropout."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from .. import activation, conv, dense
from . import arguments
from .module import Backward, Module
from .weighted import WeightedLayer

__all__ = ["Dropout", "Flatten", "Hardswish", "LeakyReLU", "Linear", "LogSoftmax", "ReLU", "ReLU6", "SiLU", "Sigmoid",
           "Softmax", "Tanh"]


class _Activation(Module):
    """A function without parameters, whose gradient is computed from its output or from its input."""

    _function: ClassVar[staticmethod[..., Any]]
    _function_backward: ClassVar[staticmethod[..., Any]]
    _saves_output: bool

    def _options(self) -> dict[str, Any]:
        """Keyword arguments of both functions."""
        return {}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._function(x, **self._options())

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        options = self._options()
        y = self._function(x, **options)
        saved = y if self._saves_output else x

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            return self._function_backward(dy, saved, **options) if need_input else None

        return y, backward


class ReLU(_Activation):
    """``max(x, 0)``; fused into the layer before it where `Sequential` can."""

    _function = staticmethod(activation.relu)
    _function_backward = staticmethod(activation.relu_backward)
    _saves_output = True


class ReLU6(_Activation):
    """``min(max(x, 0), 6)``."""

    _function = staticmethod(activation.relu6)
    _function_backward = staticmethod(activation.relu6_backward)
    _saves_output = False


class LeakyReLU(_Activation):
    """``x`` where positive, else ``negative_slope * x``."""

    _function = staticmethod(activation.leaky_relu)
    _function_backward = staticmethod(activation.leaky_relu_backward)
    _saves_output = False

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = arguments.number(self, "negative_slope", negative_slope)

    def _options(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``."""

    _function = staticmethod(activation.sigmoid)
    _function_backward = staticmethod(activation.sigmoid_backward)
    _saves_output = True


class Tanh(_Activation):
    """Hyperbolic tangent."""

    _function = staticmethod(activation.tanh)
    _function_backward = staticmethod(activation.tanh_backward)
    _saves_output = True


class SiLU(_Activation):
    """``x * sigmoid(x)``."""

    _function = staticmethod(activation.silu)
    _function_backward = staticmethod(activation.silu_backward)
    _saves_output = False


class Hardswish(_Activation):
    """``x * min(max(x + 3, 0), 6) / 6``."""

    _function = staticmethod(activation.hardswish)
    _function_backward = staticmethod(activation.hardswish_backward)
    _saves_output = False


class Softmax(_Activation):
    """Probabilities along `axis`. As the last layer it is left out of training: see `fastconv.nn.fit`."""

    _function = staticmethod(activation.softmax)
    _function_backward = staticmethod(activation.softmax_backward)
    _saves_output = True

    def __init__(self, axis: int = 1) -> None:
        self.axis = arguments.integer(self, "axis", axis)

    def _options(self) -> dict[str, Any]:
        return {"axis": self.axis}


class LogSoftmax(Softmax):
    """Logarithms of the probabilities along `axis`."""

    _function = staticmethod(activation.log_softmax)
    _function_backward = staticmethod(activation.log_softmax_backward)


class Linear(WeightedLayer):
    """``x @ weight.T + bias`` over the last axis.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    dtype : float32 or float64
    rng : numpy.random.Generator, int or None
        Source of the initial weights, which are uniform on +-1/sqrt(in_features) as PyTorch's.

    Attributes
    ----------
    weight : Parameter, ``(out_features, in_features)``
    bias : Parameter, ``(out_features,)``, or None
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: DTypeLike = np.float32,
                 rng: np.random.Generator | int | None = None) -> None:
        self.in_features = arguments.positive_int(self, "in_features", in_features)
        self.out_features = arguments.positive_int(self, "out_features", out_features)
        shape = (self.out_features, self.in_features)
        self._initialise(shape, self.out_features, self.in_features, bias, rng, dtype)

    def _pack(self, weight: Any) -> Any:
        return conv.pack_weight(weight)

    def _apply(self, x: Any, weight: Any, activation: Any) -> np.ndarray:
        return dense.linear(x, weight, self._bias_value(), activation=activation)

    def _gradients(self, dy: np.ndarray, x: Any, weight: Any, **how: Any) -> Any:
        return dense.linear_backward(dy, x, weight, **how)


class Flatten(Module):
    """``(N, ...)`` to ``(N, features)``, in row-major order of the axes whatever the memory order."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return dense.flatten(x)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        shape = x.shape

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            return dy.reshape(shape) if need_input else None

        return dense.flatten(x), backward


class Dropout(Module):
    """In training, zero each element with probability `p` and scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    p : float
        In ``[0, 1]``.
    rng : numpy.random.Generator, int or None
        Source of the masks. With ``None``, `fastconv.nn.fit` lets the layer draw from the generator of the run.
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int | None = None) -> None:
        self.p = arguments.number(self, "p", p, 0.0, 1.0)
        self._own_rng = rng is not None
        self.rng = arguments.generator(self, rng)

    def seed(self, rng: np.random.Generator) -> None:
        if not self._own_rng:
            self.rng = rng

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        y, mask = dense.dropout(x, self.p, self.rng)

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            return dense.dropout_backward(dy, mask, self.p) if need_input else None

        return y, backward
