"""Activations and softmax, with their gradients.

Elementwise functions take arrays of any shape and keep the memory order; strides with gaps cost one copy.
Exponentials follow the usual reduction x = n ln 2 + r with a Taylor series in r (Muller, "Elementary Functions",
2016, chapter 5). Sigmoid and tanh are within 4 ulp where the exact value is a normal number, and 0 where it is
subnormal. Relu and relu6 pass NaN and subnormal numbers; the others may flush subnormal numbers to zero.
"""
from . import checks
from ._kernels import _elementwise
from ._kernels._runtime import Calls

__all__ = [
    "hardswish", "hardswish_backward", "leaky_relu", "leaky_relu_backward", "log_softmax", "log_softmax_backward",
    "relu", "relu6", "relu6_backward", "relu_backward", "sigmoid", "sigmoid_backward", "silu", "silu_backward",
    "softmax", "softmax_backward", "tanh", "tanh_backward",
]


def _prepare(x, out, fn):
    return checks.elementwise(fn, out, checks.operand(fn, "x", x))


def _prepare_backward(dy, saved, out, fn):
    return checks.elementwise(fn, out, *checks.gradient_pair(fn, dy, "saved", saved))


_calls, _backward_calls = Calls(_prepare), Calls(_prepare_backward)


def _operand_and_result(fn, x, out):
    """(x, y) as they lie in memory; what the kernels write may be another array than `out`."""
    x = checks.array(fn, "x", x)
    call = _calls((x, out), (fn,))
    y = call.result(fn, out, ("x",), (x,))
    return call.laid_out(x, y), y


def _gradients_and_result(fn, dy, saved, out):
    """(dy, saved, dx) as they lie in memory; what the kernels write may be another array than `out`."""
    dy, saved = checks.array(fn, "dy", dy), checks.array(fn, "saved", saved)
    call = _backward_calls((dy, saved, out), (fn,))
    dx = call.result(fn, out, ("dy", "saved"), (dy, saved))
    return call.laid_out(dy, dx), call.laid_out(saved, dx), dx


def _forward(name, x, out, num_threads, slope=0.0):
    if out is None and num_threads is None:
        y = _elementwise.activated(checks.ACTIVATIONS[name], slope, x)  # what nearly all calls are, checks included
        if y is not None:
            return y
    checks.some_threads(name, num_threads)
    x, y = _operand_and_result(name, x, out)
    _elementwise.activate(checks.ACTIVATIONS[name], slope, x, y, num_threads)
    return checks.delivered(y, out)


def _backward(name, dy, saved, out, num_threads, slope=0.0):
    fn = f"{name}_backward"
    if num_threads is not None:
        checks.some_threads(fn, num_threads)
    dy, saved, dx = _gradients_and_result(fn, dy, saved, out)
    _elementwise.activate_backward(checks.ACTIVATIONS[name], slope, dy, saved, dx, num_threads)
    return checks.delivered(dx, out)


def relu(x, *, out=None, num_threads=None):
    """``max(x, 0)``; NaN stays NaN, -0.0 becomes +0.0.

    Parameters
    ----------
    x : array of float32 or float64, any shape
    out : array of x's shape and dtype, optional
        Where the result goes; `x` itself for the operation in place.
    num_threads : int, optional
        The most threads to use; by default :func:`get_num_threads`.

    Returns
    -------
    y : array of x's shape, in its memory order

    Raises
    ------
    TypeError
        x is not float32 or float64, or `out` differs from it.
    ValueError
        `out` has another shape, is read-only or overlaps x.
    """
    return _forward("relu", x, out, num_threads)


def relu_backward(dy, saved, *, out=None, num_threads=None):
    """Gradient of :func:`relu`: 0 where `saved` is <= 0, else `dy`.

    Parameters
    ----------
    dy : array of float32 or float64, any shape
        Gradient with respect to the result.
    saved : array of dy's shape and dtype
        The output (or the input) of the forward pass.
    out : array, optional
        As in :func:`relu`; may be `dy` or `saved`.
    num_threads : int, optional

    Returns
    -------
    dx : array of dy's shape, in the memory order of `saved`

    Raises
    ------
    TypeError, ValueError
        As in :func:`relu`, and where `dy` and `saved` differ.
    """
    return _backward("relu", dy, saved, out, num_threads)


def relu6(x, *, out=None, num_threads=None):
    """``min(max(x, 0), 6)``; NaN stays NaN. Parameters, result and errors as in :func:`relu`."""
    return _forward("relu6", x, out, num_threads)


def relu6_backward(dy, saved, *, out=None, num_threads=None):
    """Gradient of :func:`relu6`: `dy` where the input `saved` lies strictly between 0 and 6, else 0.

    Otherwise as :func:`relu_backward`.
    """
    return _backward("relu6", dy, saved, out, num_threads)


def leaky_relu(x, negative_slope=0.01, *, out=None, num_threads=None):
    """``x`` where positive, else ``negative_slope * x``. Otherwise as :func:`relu`."""
    slope = checks.number("leaky_relu", "negative_slope", negative_slope)
    return _forward("leaky_relu", x, out, num_threads, slope)


def leaky_relu_backward(dy, saved, negative_slope=0.01, *, out=None, num_threads=None):
    """Gradient of :func:`leaky_relu`: `dy` where the input `saved` is positive, else ``negative_slope * dy``.

    Otherwise as :func:`relu_backward`.
    """
    slope = checks.number("leaky_relu_backward", "negative_slope", negative_slope)
    return _backward("leaky_relu", dy, saved, out, num_threads, slope)


def sigmoid(x, *, out=None, num_threads=None):
    """``1 / (1 + exp(-x))``, within 4 ulp. Parameters, result and errors as in :func:`relu`."""
    return _forward("sigmoid", x, out, num_threads)


def sigmoid_backward(dy, saved, *, out=None, num_threads=None):
    """Gradient of :func:`sigmoid`, ``dy * y * (1 - y)`` with the output ``y = saved``; as :func:`relu_backward`."""
    return _backward("sigmoid", dy, saved, out, num_threads)


def tanh(x, *, out=None, num_threads=None):
    """Hyperbolic tangent, within 4 ulp. Parameters, result and errors as in :func:`relu`."""
    return _forward("tanh", x, out, num_threads)


def tanh_backward(dy, saved, *, out=None, num_threads=None):
    """Gradient of :func:`tanh`, ``dy * (1 - y**2)`` with the output ``y = saved``; as :func:`relu_backward`."""
    return _backward("tanh", dy, saved, out, num_threads)


def silu(x, *, out=None, num_threads=None):
    """``x * sigmoid(x)``, also called swish (Elfwing et al. 2017). Otherwise as :func:`relu`."""
    return _forward("silu", x, out, num_threads)


def silu_backward(dy, saved, *, out=None, num_threads=None):
    """Gradient of :func:`silu`, ``dy * s * (1 + x * (1 - s))`` with the input ``x = saved`` and ``s = sigmoid(x)``.

    Otherwise as :func:`relu_backward`.
    """
    return _backward("silu", dy, saved, out, num_threads)


def hardswish(x, *, out=None, num_threads=None):
    """``x * relu6(x + 3) / 6`` (Howard et al., "Searching for MobileNetV3", 2019). Otherwise as :func:`relu`."""
    return _forward("hardswish", x, out, num_threads)


def hardswish_backward(dy, saved, *, out=None, num_threads=None):
    """Gradient of :func:`hardswish`: 0 where the input ``x = saved`` is <= -3, ``dy * (x/3 + 1/2)`` up to 3, then `dy`.

    Otherwise as :func:`relu_backward`.
    """
    return _backward("hardswish", dy, saved, out, num_threads)


# ---------------------------------------------------------------- softmax

def extents(fn, name, y, axis):
    """(outer, length, inner): elements of y outside, along and inside of an axis, as they lie in memory."""
    if y.ndim == 0:
        raise ValueError(f"{fn}: {name}: got an array without axes; expected at least one")
    axis = checks.axis_of(fn, name, y, axis)
    if y.shape[axis] == 0:
        raise ValueError(f"{fn}: {name}: got shape {y.shape}; expected no zero extent along axis {axis}")
    axes = checks.axes_in_memory(y)
    outer = inner = 1
    for other in axes[:axes.index(axis)]:
        outer *= y.shape[other]
    for other in axes[axes.index(axis) + 1:]:
        inner *= y.shape[other]
    return outer, y.shape[axis], inner


def _softmax(fn, x, axis, out, num_threads, logarithm):
    if num_threads is not None:
        checks.some_threads(fn, num_threads)
    x, y = _operand_and_result(fn, x, out)
    _elementwise.softmax(x, y, *extents(fn, "x", y, axis), logarithm, num_threads)
    return checks.delivered(y, out)


def _softmax_backward(fn, dy, saved, axis, out, num_threads, logarithm):
    if num_threads is not None:
        checks.some_threads(fn, num_threads)
    dy, saved, dx = _gradients_and_result(fn, dy, saved, out)
    _elementwise.softmax_backward(dy, saved, dx, *extents(fn, "dy", dx, axis), logarithm, num_threads)
    return checks.delivered(dx, out)


def softmax(x, axis=1, *, out=None, num_threads=None):
    """``exp(x) / sum(exp(x))`` along an axis, shifted by the maximum so that nothing overflows.

    Parameters
    ----------
    x : array of float32 or float64, at least one axis
    axis : int
        1 is that of the classes in (N, K) and (N, K, *spatial).
    out : array of x's shape and dtype, optional
        May be `x` itself.
    num_threads : int, optional

    Returns
    -------
    y : array of x's shape, in its memory order
        NaN along the whole axis where x holds NaN or +infinity, or nothing but -infinity.

    Raises
    ------
    TypeError, ValueError
        As in :func:`relu`; also an axis that x doesn't have.
    """
    return _softmax("softmax", x, axis, out, num_threads, False)


def softmax_backward(dy, saved, axis=1, *, out=None, num_threads=None):
    """Gradient of :func:`softmax`, ``y * (dy - sum(dy * y))`` with the output ``y = saved``.

    Otherwise as :func:`relu_backward`.
    """
    return _softmax_backward("softmax_backward", dy, saved, axis, out, num_threads, False)


def log_softmax(x, axis=1, *, out=None, num_threads=None):
    """Logarithm of :func:`softmax`, ``x - max - log(sum(exp(x - max)))``; parameters and result as there."""
    return _softmax("log_softmax", x, axis, out, num_threads, True)


def log_softmax_backward(dy, saved, axis=1, *, out=None, num_threads=None):
    """Gradient of :func:`log_softmax`, ``dy - exp(y) * sum(dy)`` with the output ``y = saved``.

    Otherwise as :func:`relu_backward`.
    """
    return _softmax_backward("log_softmax_backward", dy, saved, axis, out, num_threads, True)
