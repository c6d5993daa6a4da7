"""Linear layers, flatten, dropout and batch normalisation, with their gradients."""
import math

import numpy as np

from . import checks, convolve, runtime
from ._kernels import _elementwise, _norm
from ._kernels._runtime import Calls
from .activation import relu_backward
from .packed import PackedWeight
from .runtime import keeps_floating_point

__all__ = [
    "batch_norm", "batch_norm_backward", "dropout", "dropout_backward", "flatten", "flatten_backward", "linear",
    "linear_backward",
]

# Random numbers of dropout are drawn in blocks of this many, so that they stay in cache.
DROPOUT_BLOCK = 64 * 1024


# ---------------------------------------------------------------- linear

def _as_pixels(x):
    """(..., features) as a channels-last image (1, features, rows): a view, through one copy where x has gaps."""
    if x.ndim == 2 and x.strides == (x.shape[1] * x.itemsize, x.itemsize):
        return x.T[None]
    rows = math.prod(x.shape[:-1])
    return x.reshape(-1).reshape(rows, x.shape[-1]).T[None]  # from one axis: canonical strides


def _features(fn, name, x):
    x = checks.operand(fn, name, x)
    if x.ndim < 1 or x.shape[-1] == 0:
        raise ValueError(f"{fn}: {name}: got shape {x.shape}; expected (..., features) with at least one feature")
    return x


def _rows_out(out):
    """The image that an array of rows is to the engine, where it has no gaps; else None."""
    return _as_pixels(out) if out is not None and checks.is_contiguous(out) else None


def _delivered_rows(image, shape, out, written):
    """What the caller gets for the engine's image: an array (..., features), or his own, which may be `written`."""
    return out if written else checks.delivered(image[0].T.reshape(shape), out)


def _linear_weight(fn, x, w):
    """The weights (out, in) for x (..., in)."""
    if not isinstance(w, PackedWeight):
        w = checks.operand(fn, "w", w)
        checks.same_dtype(fn, "x", x, "w", w)
    if w.ndim != 2 or w.shape[0] == 0 or w.shape[1] != x.shape[-1]:
        raise ValueError(f"{fn}: w: got shape {w.shape}; expected (out, {x.shape[-1]}) for x of shape {x.shape}")
    return w


def _pixel_weight(w):
    """Weights (out, in), plain or packed, as those of a 1x1 convolution: (out, in, 1)."""
    return w.with_pixel_axis() if isinstance(w, PackedWeight) else w[:, :, None]


def _prepare_linear(x, w, b, out, fn, activation, default):
    """Check everything but the elements; returns the result's shape and the convolution, None where x has no rows.

    `default` is the default algorithm, which the convolution depends on.
    """
    x = _features(fn, "x", x)
    w = _linear_weight(fn, x, w)
    b = checks.bias(fn, b, w.shape[0], x)
    checks.choice(fn, "activation", activation, checks.ACTIVATIONS)
    shape = (*x.shape[:-1], w.shape[0])
    if out is not None:
        checks.output_layout(fn, "out", out, shape, x.dtype)
    if not x.size:
        return shape, None
    return shape, convolve.forward_call(fn, 1, _as_pixels(x), _pixel_weight(w), b, 1, 0, 1, 1, "zeros", activation,
                                        "auto", _rows_out(out))


_linear_calls = Calls(_prepare_linear)


def linear(x, w, b=None, *, activation=None, out=None, num_threads=None):
    """``x @ w.T + b`` over the last axis, as a 1x1 convolution, with an activation in the same pass.

    Parameters
    ----------
    x : array of float32 or float64, (..., in)
    w : array, (out, in), or PackedWeight
    b : array, (out,), optional
    activation : {None, "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish"}
    out : array of the result's shape and dtype, any strides, optional
    num_threads : int, optional

    Returns
    -------
    y : array, (..., out), C-contiguous
        Its rows don't depend on the other rows of x, nor on the number of threads.

    Raises
    ------
    TypeError
        x is not float32 or float64, or another array differs from it.
    ValueError
        A shape or option doesn't fit; the message names it.
    """
    fn = "linear"
    checks.some_threads(fn, num_threads)
    x, w, b = convolve.arrays(fn, x, w, b)
    shape, call = _linear_calls((x, w, b, out), (fn, activation, runtime.default_algorithm()))
    if out is not None:
        checks.separate(fn, "out", out, {"x": x, "w": None if isinstance(w, PackedWeight) else w, "b": b})
    if call is None:
        return np.empty(shape, x.dtype) if out is None else out
    image = _rows_out(out)
    y = call.run(fn, _as_pixels(x), _pixel_weight(w), b, image, num_threads)
    return _delivered_rows(y, shape, out, image is not None)


def linear_backward(dy, x, w, *, need=(True, True, True), out=(None, None, None), accumulate=False, num_threads=None):
    """Gradients of :func:`linear` (without activation) with respect to x, w and b.

    Parameters
    ----------
    dy : array, (..., out)
    x : array, (..., in)
    w : array, (out, in)
    need : three bools
        Which of dx, dw and db to compute.
    out : three arrays or None
    accumulate : bool
        Add dw and db to the arrays in `out` instead of overwriting them.
    num_threads : int, optional

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and (out,), or None where not needed

    Raises
    ------
    TypeError, ValueError
        As in :func:`linear`.
    """
    fn = "linear_backward"
    checks.some_threads(fn, num_threads)
    x, dy = checks.array(fn, "x", x), checks.array(fn, "dy", dy)
    if isinstance(w, PackedWeight):
        raise ValueError(f"{fn}: w: got packed weights; expected an array, only linear takes packed ones")
    w = checks.array(fn, "w", w)
    need, out = convolve.wanted_results(fn, need, out)
    accumulate = checks.flag(fn, "accumulate", accumulate)
    shapes, call = _linear_gradients((dy, x, w, *out), (fn, need, runtime.default_algorithm()))
    convolve.check_places(fn, dy, x, w, out)
    if call is None:
        return _gradients_without_rows(need, out, shapes, x.dtype, accumulate)
    images = _gradient_images(out)
    dx, dw, db = convolve.gradients(fn, call, _as_pixels(dy), _as_pixels(x), _pixel_weight(w), need, images, accumulate,
                                    num_threads)
    if need[0]:
        dx = _delivered_rows(dx, x.shape, out[0], images[0] is not None)
    if need[1]:
        dw = dw[:, :, 0] if out[1] is None else out[1]
    return dx, dw, db


def _gradient_images(out):
    """The result arrays of a caller as a convolution takes them, None where there are none or dx has gaps."""
    dx, dw, db = out
    return _rows_out(dx), None if dw is None else _pixel_weight(dw), db


def _prepare_linear_gradients(dy, x, w, dx, dw, db, fn, need, default):
    """As `_prepare_linear`: the shapes of dx, dw and db, and the convolution's gradients."""
    x, dy = _features(fn, "x", x), checks.operand(fn, "dy", dy)
    checks.same_dtype(fn, "x", x, "dy", dy)
    k, c = _linear_weight(fn, x, w).shape
    checks.shape_of(fn, "dy", dy, (*x.shape[:-1], k))
    shapes = x.shape, (k, c), (k,)
    convolve.check_result_layouts(fn, need, (dx, dw, db), shapes, x.dtype)
    if not x.size:
        return shapes, None
    return shapes, convolve.backward_call(fn, 1, _as_pixels(dy), _as_pixels(x), _pixel_weight(w), 1, 0, 1, 1, "zeros",
                                          need, "auto", _gradient_images((dx, dw, db)))


_linear_gradients = Calls(_prepare_linear_gradients)


def _gradients_without_rows(need, out, shapes, dtype, accumulate):
    gradients = []
    for wanted, o, shape in zip(need, out, shapes):
        if wanted and o is not None and not accumulate:
            o[...] = 0
        gradients.append(None if not wanted else np.zeros(shape, dtype) if o is None else o)
    return tuple(gradients)


# ---------------------------------------------------------------- flatten

def flatten(x):
    """(N, ...) as (N, features), in row-major order of the axes whatever the memory order.

    A view where the elements of x lie in that order, else a copy.
    """
    x = checks.array("flatten", "x", x)
    if x.ndim < 1:
        raise ValueError("flatten: x: got an array without axes; expected (N, ...)")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def flatten_backward(dy, input_shape):
    """Gradient of :func:`flatten`: dy (N, features) as an array of `input_shape`, the shape of its x.

    Raises
    ------
    TypeError, ValueError
        dy is no array, or its shape doesn't follow from `input_shape`.
    """
    dy = checks.array("flatten_backward", "dy", dy)
    shape = checks.shape_tuple("flatten_backward", "input_shape", input_shape)
    checks.shape_of("flatten_backward", "dy", dy, (*shape[:1], math.prod(shape[1:])))
    return dy.reshape(shape)


# ---------------------------------------------------------------- dropout

@keeps_floating_point
def dropout(x, p, rng):
    """Zero each element with probability p and divide the others by 1 - p (Srivastava et al. 2014).

    Parameters
    ----------
    x : array of float32 or float64, any shape
    p : float in [0, 1]
    rng : numpy.random.Generator, int or None
        A seed starts a new generator; None takes a seed from the system.

    Returns
    -------
    y : array of x's shape, in its memory order
    mask : array of bool, likewise
        True where an element is kept: ``rng.random(x.shape, dtype=np.float32) >= p``, whatever the memory order.

    Raises
    ------
    TypeError, ValueError
        x is not a float array, p is not a number in [0, 1], or rng is neither a generator nor a seed.
    """
    x = checks.operand("dropout", "x", x)
    p = checks.number("dropout", "p", p, 0, 1)
    rng = checks.generator("dropout", rng)
    y = checks.elementwise("dropout", None, x).result("dropout", None, ("x",), (x,))
    mask = checks.new((x.size,), np.dtype(bool))
    drawn = np.empty(min(x.size, DROPOUT_BLOCK), np.float32)
    for at in range(0, x.size, DROPOUT_BLOCK):
        part = mask[at:at + DROPOUT_BLOCK]
        np.greater_equal(rng.random(out=drawn[:part.size], dtype=np.float32), p, out=part)
    mask = checks.laid_out_as(mask.reshape(x.shape), y)
    _elementwise.scale_kept(checks.laid_out_as(x, y), mask, _dropout_scale(p), y, None)
    return y, mask


@keeps_floating_point
def dropout_backward(dy, mask, p):
    """Gradient of :func:`dropout`: ``dy / (1 - p)`` where `mask` is True, else 0.

    Parameters
    ----------
    dy : array of float32 or float64
    mask : array of bool, of dy's shape
    p : float in [0, 1]

    Returns
    -------
    dx : array of dy's shape, in the memory order of the mask

    Raises
    ------
    TypeError, ValueError
        As in :func:`dropout`; also a mask of another shape or dtype.
    """
    fn = "dropout_backward"
    dy, mask = checks.operand(fn, "dy", dy), checks.array(fn, "mask", mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"{fn}: mask: got dtype {mask.dtype}; expected bool")
    checks.shape_of(fn, "mask", mask, dy.shape)
    p = checks.number(fn, "p", p, 0, 1)
    axes = checks.axes_in_memory(mask) or checks.AXES[:mask.ndim]
    dx = checks.empty_along(dy.shape, dy.dtype, axes)
    _elementwise.scale_kept(checks.laid_out_as(dy, dx), checks.laid_out_as(mask, dx), _dropout_scale(p), dx, None)
    return dx


def _dropout_scale(p):
    return 1 / (1 - p) if p < 1 else 0.0


# ---------------------------------------------------------------- batch normalisation

@keeps_floating_point
def batch_norm(x, gamma, beta, running_mean, running_var, *, training, momentum=0.1, eps=1e-5, activation=None,
               num_threads=None):
    """``gamma * (x - mean) / sqrt(var + eps) + beta`` per channel (Ioffe and Szegedy 2015).

    Parameters
    ----------
    x : array of float32 or float64, (N, C) or (N, C, *spatial)
    gamma, beta : arrays, (C,)
        Scale and shift.
    running_mean, running_var : arrays, (C,)
        In training they move in place by `momentum` towards the batch's mean and unbiased variance (divided by the
        count - 1).
    training : bool
        Whether mean and variance (divided by the count) are those of the batch, or the running ones.
    momentum : float in [0, 1]
    eps : float
    activation : {None, "relu"}
        Applied to the result in the same pass.
    num_threads : int, optional

    Returns
    -------
    y : array of x's shape, in its memory order
    saved : tuple
        What :func:`batch_norm_backward` needs: (mean, ``1 / sqrt(var + eps)``, training), and with an activation
        also the scale and shift of the normalised values.

    Raises
    ------
    TypeError
        x is not float32 or float64, or another array differs from it.
    ValueError
        A shape doesn't fit, or in training there is no more than one element per channel.

    Notes
    -----
    Means and variances are those of float64 arithmetic: the parts' means and squares around them are joined in a fixed
    order (Chan, Golub and LeVeque 1979).
    """
    fn = "batch_norm"
    checks.some_threads(fn, num_threads)
    training = checks.flag(fn, "training", training)
    momentum, eps = checks.number(fn, "momentum", momentum, 0, 1), checks.number(fn, "eps", eps, 0)
    relu = checks.choice(fn, "activation", activation, {None: False, "relu": True})
    x, gamma, beta = (checks.array(fn, *each) for each in (("x", x), ("gamma", gamma), ("beta", beta)))
    order = _norm_calls((x, gamma, beta, running_mean, running_var), (fn, int(training)))
    if training:
        for name, statistic, others in (("running_mean", running_mean, {}),
                                        ("running_var", running_var, {"running_mean": running_mean})):
            checks.separate(fn, name, statistic, {"x": x, "gamma": gamma, "beta": beta, **others})
    source, _ = checks.in_an_order(x)
    y = checks.empty(x.shape, x.dtype, order)
    running = [checks.contiguous(np.asarray(statistic)) for statistic in (running_mean, running_var)]
    mean, inv_std, scale, shift = _norm.normalise(
        source, y, checks.contiguous(gamma), checks.contiguous(beta), *running, training, momentum, eps, relu,
        order == checks.CHANNELS_LAST, num_threads)
    if training:
        for given, moved in zip((running_mean, running_var), running):
            if moved is not given:
                given[...] = moved
    saved = mean, inv_std, training
    return y, (*saved, scale, shift) if relu else saved


def _prepare_norm(x, gamma, beta, running_mean, running_var, fn, training):
    """Check everything of :func:`batch_norm` but the elements; returns the memory order."""
    x = checks.with_channels(fn, "x", x)
    for name, value in (("gamma", gamma), ("beta", beta)):
        checks.per_channel(fn, name, value, x)
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if training:
            checks.output_layout(fn, name, value, x.shape[1:2], x.dtype)
        else:
            checks.per_channel(fn, name, value, x)
    if training and x.size // x.shape[1] < 2:
        raise ValueError(f"{fn}: x: got shape {x.shape}; expected more than one element per channel in training")
    return checks.memory_order(x)


_norm_calls = Calls(_prepare_norm)


@keeps_floating_point
def batch_norm_backward(dy, x, gamma, saved, *, num_threads=None):
    """Gradients of :func:`batch_norm` with respect to x, gamma and beta.

    Parameters
    ----------
    dy : array of x's shape and dtype
    x, gamma : as given to the forward pass
    saved : tuple
        As returned by it. After inference the statistics count as constants. With an activation, dy is with respect
        to its result.
    num_threads : int, optional

    Returns
    -------
    dx : array of x's shape, in its memory order
    dgamma, dbeta : arrays, (C,)

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes don't fit.
    """
    fn = "batch_norm_backward"
    checks.some_threads(fn, num_threads)
    dy, x, gamma = (checks.array(fn, *each) for each in (("dy", dy), ("x", x), ("gamma", gamma)))
    if not isinstance(saved, tuple) or len(saved) not in (3, 5):
        raise ValueError(f"{fn}: saved: got {checks.said(saved)}; expected the tuple that batch_norm returns")
    mean, inv_std, training, *affine = saved
    training = checks.flag(fn, "saved[2]", training)
    mean, inv_std, *affine = (checks.array(fn, "saved", each) for each in (mean, inv_std, *affine))
    scale, offset = affine or (None, None)
    order = _norm_gradients((dy, x, gamma, mean, inv_std, scale, offset), (fn,))
    x, dy, last = checks.in_an_order(x)[0], checks.to_order(dy, order), order == checks.CHANNELS_LAST
    gamma, mean, inv_std, scale, offset = map(checks.contiguous, (gamma, mean, inv_std, scale, offset))
    dx = checks.empty(x.shape, x.dtype, order)
    if affine and not training:
        _norm.scale_and_shift(x, dx, mean, scale, offset, True, last, num_threads)
        dy, offset = relu_backward(dy, dx, num_threads=num_threads), None
    dgamma, dbeta = _norm.normalise_backward(dy, x, dx, gamma, mean, inv_std, scale, offset, training, last,
                                             num_threads)
    return dx, dgamma, dbeta


def _prepare_norm_gradients(dy, x, gamma, *saved):
    """Check everything but the elements; returns the memory order of x."""
    *saved, fn = saved
    dy, x = checks.gradient_pair(fn, dy, "x", checks.with_channels(fn, "x", x))
    checks.per_channel(fn, "gamma", gamma, x)
    for i, value in zip((0, 1, 3, 4), saved):
        if value is not None:
            checks.per_channel(fn, f"saved[{i}]", value, x)
    return checks.memory_order(x)


_norm_gradients = Calls(_prepare_norm_gradients)


# ---------------------------------------------------------------- sums

def _prepare_sum(x, y):
    checks.same_dtype("add", "x", x, "y", y)
    checks.shape_of("add", "y", y, x.shape)
    return checks.elementwise("add", None, checks.operand("add", "y", y), checks.operand("add", "x", x))


_sums = Calls(_prepare_sum)


def add(x, y, *, relu=False, num_threads=None):
    """``x + y`` of arrays of one shape and dtype, in the memory order of x; with `relu`, 0 where that isn't above 0."""
    x, y = checks.array("add", "x", x), checks.array("add", "y", y)
    call = _sums((x, y), ())
    total = call.result("add", None, ("y", "x"), (y, x))
    _norm.add(call.laid_out(x, total), call.laid_out(y, total), relu, total, num_threads)
    return total
