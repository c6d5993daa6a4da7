"""Naive activations and their gradients: the textbook formula in float64, rounded once to the dtype of the operand."""

import numpy as np

from ._common import result

__all__ = [
    "hardswish", "hardswish_backward", "leaky_relu", "leaky_relu_backward", "log_softmax", "log_softmax_backward",
    "relu", "relu6", "relu6_backward", "relu_backward", "sigmoid", "sigmoid_backward", "silu", "silu_backward",
    "softmax", "softmax_backward", "tanh", "tanh_backward",
]


def _relu(x):
    return np.where(x <= 0, 0.0, x)  # NaN stays NaN, -0.0 becomes +0.0


def _relu6(x):
    return np.where(x >= 6, 6.0, _relu(x))


def _leaky_relu(x, negative_slope=0.01):
    return np.where(x > 0, x, negative_slope * x)


def sigmoid64(x):
    """Sigmoid of a float64 array."""
    e = np.exp(-np.abs(x))  # at most 1, so nothing overflows
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def _silu(x):
    return x * sigmoid64(x)


def _hardswish(x):
    return x * (_relu6(x + 3.0) / 6.0)


_BY_NAME = {
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "sigmoid": sigmoid64,
    "tanh": np.tanh,
    "silu": _silu,
    "hardswish": _hardswish,
}


def activate(name, x):
    """The activation that a convolution or dense layer fuses into its store, on float64; ``None`` changes nothing."""
    if name is None:
        return x
    if name not in _BY_NAME:
        raise ValueError(f"activation must be None or one of {', '.join(_BY_NAME)}, got {name!r}")
    with np.errstate(all="ignore"):
        return _BY_NAME[name](x)


def _in_float64(formula, out, *operands):
    """``formula`` of the operands in float64, rounded to the dtype of the first operand or stored in ``out``."""
    operands = [np.asarray(a) for a in operands]
    with np.errstate(all="ignore"):
        value = formula(*(a.astype(np.float64) for a in operands))
    return result(value, operands[0].dtype, out)


def relu(x, *, out=None, num_threads=None):
    """``max(x, 0)``; NaN stays NaN, -0.0 becomes +0.0."""
    return _in_float64(_relu, out, x)


def relu_backward(dy, saved, *, out=None, num_threads=None):
    """0 where ``saved`` (the output or the input) is <= 0, else ``dy``."""
    return _in_float64(lambda dy, s: np.where(s <= 0, 0.0, dy), out, dy, saved)


def relu6(x, *, out=None, num_threads=None):
    """``min(max(x, 0), 6)``; NaN stays NaN, -0.0 becomes +0.0."""
    return _in_float64(_relu6, out, x)


def relu6_backward(dy, saved, *, out=None, num_threads=None):
    """``dy`` where the input ``saved`` lies strictly between 0 and 6, else 0."""
    return _in_float64(lambda dy, x: np.where((x > 0) & (x < 6), dy, 0.0), out, dy, saved)


def leaky_relu(x, negative_slope=0.01, *, out=None, num_threads=None):
    """``x`` where positive, else ``negative_slope * x``."""
    return _in_float64(lambda x: _leaky_relu(x, negative_slope), out, x)


def leaky_relu_backward(dy, saved, negative_slope=0.01, *, out=None, num_threads=None):
    """``dy`` where the input ``saved`` is positive, else ``negative_slope * dy``."""
    return _in_float64(lambda dy, x: np.where(x > 0, dy, negative_slope * dy), out, dy, saved)


def sigmoid(x, *, out=None, num_threads=None):
    """``1 / (1 + exp(-x))``."""
    return _in_float64(sigmoid64, out, x)


def sigmoid_backward(dy, saved, *, out=None, num_threads=None):
    """``dy * y * (1 - y)`` with the output ``saved = y``."""
    return _in_float64(lambda dy, y: dy * y * (1.0 - y), out, dy, saved)


def tanh(x, *, out=None, num_threads=None):
    """Hyperbolic tangent."""
    return _in_float64(np.tanh, out, x)


def tanh_backward(dy, saved, *, out=None, num_threads=None):
    """``dy * (1 - y**2)`` with the output ``saved = y``."""
    return _in_float64(lambda dy, y: dy * (1.0 - y * y), out, dy, saved)


def silu(x, *, out=None, num_threads=None):
    """``x * sigmoid(x)``."""
    return _in_float64(_silu, out, x)


def _silu_gradient(dy, x):
    s = sigmoid64(x)
    return dy * s * (1.0 + x * (1.0 - s))


def silu_backward(dy, saved, *, out=None, num_threads=None):
    """``dy * s * (1 + x * (1 - s))`` with the input ``saved = x`` and ``s = sigmoid(x)``."""
    return _in_float64(_silu_gradient, out, dy, saved)


def hardswish(x, *, out=None, num_threads=None):
    """``x * relu6(x + 3) / 6``."""
    return _in_float64(_hardswish, out, x)


def _hardswish_gradient(dy, x):
    return np.where(x <= -3, 0.0, np.where(x < 3, dy * (x / 3.0 + 0.5), dy))


def hardswish_backward(dy, saved, *, out=None, num_threads=None):
    """0 where the input ``saved = x`` is <= -3, ``dy * (x / 3 + 1/2)`` up to 3, ``dy`` from there on."""
    return _in_float64(_hardswish_gradient, out, dy, saved)


def softmax64(x, axis=1):
    """Softmax of a float64 array, shifted by the maximum so that nothing overflows."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax64(x, axis=1):
    """Logarithm of the softmax of a float64 array."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(x, axis=1, *, out=None, num_threads=None):
    """``exp(x) / sum(exp(x))`` along ``axis``."""
    return _in_float64(lambda x: softmax64(x, axis), out, x)


def softmax_backward(dy, saved, axis=1, *, out=None, num_threads=None):
    """``y * (dy - sum(dy * y))`` along ``axis`` with the output ``saved = y``."""
    return _in_float64(lambda dy, y: y * (dy - (dy * y).sum(axis=axis, keepdims=True)), out, dy, saved)


def log_softmax(x, axis=1, *, out=None, num_threads=None):
    """``x - log(sum(exp(x)))`` along ``axis``."""
    return _in_float64(lambda x: log_softmax64(x, axis), out, x)


def log_softmax_backward(dy, saved, axis=1, *, out=None, num_threads=None):
    """``dy - exp(y) * sum(dy)`` along ``axis`` with the output ``saved = y``."""
    return _in_float64(lambda dy, y: dy - np.exp(y) * dy.sum(axis=axis, keepdims=True), out, dy, saved)
