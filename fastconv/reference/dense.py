"""Naive dense layers: linear, flatten, dropout, batch normalisation, and their gradients."""

import math

import numpy as np

from ._common import result
from .activation import activate

__all__ = [
    "batch_norm", "batch_norm_backward", "dropout", "dropout_backward", "flatten", "flatten_backward", "linear",
    "linear_backward",
]


def linear(x, w, b=None, *, activation=None, out=None, num_threads=None):
    """``x @ w.T + b`` over the last axis: (..., in) with weights (out, in) gives (..., out)."""
    x = np.asarray(x)
    with np.errstate(all="ignore"):
        y = np.einsum("...i,oi->...o", x.astype(np.float64), np.asarray(w, dtype=np.float64))
    if b is not None:
        y = y + np.asarray(b, dtype=np.float64)
    return result(activate(activation, y), x.dtype, out)


def linear_backward(dy, x, w, *, need=(True, True, True), out=(None, None, None), accumulate=False, num_threads=None):
    """``(dx, dw, db)`` of ``linear``, ``None`` where not in ``need``; ``accumulate`` adds dw, db to ``out``."""
    dy, x, w = np.asarray(dy), np.asarray(x), np.asarray(w)
    rows = math.prod(x.shape[:-1])
    dy64, x64 = (a.astype(np.float64).reshape(rows, a.shape[-1]) for a in (dy, x))
    dx = dw = db = None
    with np.errstate(all="ignore"):
        if need[0]:
            dx = result(np.einsum("mo,oi->mi", dy64, w.astype(np.float64)).reshape(x.shape), dy.dtype, out[0])
        if need[1]:
            dw = result(np.einsum("mo,mi->oi", dy64, x64), dy.dtype, out[1], accumulate)
        if need[2]:
            db = result(dy64.sum(axis=0), dy.dtype, out[2], accumulate)
    return dx, dw, db


def flatten(x):
    """(n, c, *spatial) as (n, c * spatial), in row-major order of the axes whatever the memory order."""
    x = np.asarray(x)
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def flatten_backward(dy, input_shape):
    """``dy`` (n, c * spatial) in the shape that ``flatten`` was given."""
    return np.asarray(dy).reshape(input_shape)


def dropout(x, p, rng):
    """Inverted dropout: zero with probability ``p``, the kept elements divided by ``1 - p``. Returns ``(y, mask)``.

    ``mask`` is True where an element is kept: ``rng.random(x.shape, dtype=np.float32) >= p``.
    """
    x = np.asarray(x)
    mask = np.random.default_rng(rng).random(x.shape, dtype=np.float32) >= p
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy, mask, p):
    """``dy / (1 - p)`` where ``mask`` is True, else 0."""
    dy = np.asarray(dy)
    scale = 1.0 / (1.0 - p) if p < 1 else 0.0
    return result(np.where(mask, dy.astype(np.float64) * scale, 0.0), dy.dtype)


def _per_channel(a, ndim):
    """(c,) as (1, c, 1, ..., 1), in float64."""
    return np.asarray(a, dtype=np.float64).reshape(1, -1, *[1] * (ndim - 2))


def batch_norm(x, gamma, beta, running_mean, running_var, *, training, momentum=0.1, eps=1e-5, activation=None,
               num_threads=None):
    """``gamma * (x - mean) / sqrt(var + eps) + beta`` per channel of (n, c, *spatial). Returns ``(y, saved)``.

    In training, mean and variance (divided by the count) are those of the batch, and ``momentum`` moves the running
    arrays in place towards the mean and the unbiased variance (divided by the count - 1). Else they are the running
    arrays.
    ``saved`` is ``(mean, 1 / sqrt(var + eps), training)``, the arrays of shape (c,) and the dtype of ``x``; with an
    activation also the scale and the shift of ``x - mean``.
    """
    x = np.asarray(x)
    x64 = x.astype(np.float64)
    if training:
        axes = (0, *range(2, x.ndim))
        count = x.size // x.shape[1]
        if count < 2:
            raise ValueError(f"batch_norm: training needs more than one value per channel, got x of shape {x.shape}")
        mean, var = x64.mean(axis=axes), x64.var(axis=axes)
        running_mean[...] = (1 - momentum) * running_mean.astype(np.float64) + momentum * mean
        running_var[...] = (1 - momentum) * running_var.astype(np.float64) + momentum * var * count / (count - 1)
    else:
        mean, var = running_mean.astype(np.float64), running_var.astype(np.float64)
    inv_std = 1.0 / np.sqrt(var + eps)
    y = (x64 - _per_channel(mean, x.ndim)) * _per_channel(inv_std * gamma, x.ndim) + _per_channel(beta, x.ndim)
    saved = (result(mean, x.dtype), result(inv_std, x.dtype), bool(training))
    if activation is not None:
        saved = (*saved, result(inv_std * gamma, x.dtype), result(beta, x.dtype))
    return result(activate(activation, y), x.dtype), saved


def batch_norm_backward(dy, x, gamma, saved, *, num_threads=None):
    """``(dx, dgamma, dbeta)``; after inference (``saved[2]`` False) the statistics count as constants."""
    dy, x = np.asarray(dy), np.asarray(x)
    mean, inv_std, training, *relu = saved
    axes = (0, *range(2, x.ndim))
    dy64 = dy.astype(np.float64)
    if relu:
        scale, shift = (_per_channel(a.astype(np.float64), x.ndim) for a in relu)
        dy64 = np.where((x.astype(np.float64) - _per_channel(mean, x.ndim)) * scale + shift <= 0, 0.0, dy64)
    normalised = (x.astype(np.float64) - _per_channel(mean, x.ndim)) * _per_channel(inv_std, x.ndim)
    dgamma, dbeta = (dy64 * normalised).sum(axis=axes), dy64.sum(axis=axes)
    dx = dy64
    if training:
        count = x.size // x.shape[1]
        dx = dx - _per_channel(dbeta / count, x.ndim) - normalised * _per_channel(dgamma / count, x.ndim)
    dx = dx * _per_channel(np.asarray(gamma, dtype=np.float64) * inv_std, x.ndim)
    return result(dx, dy.dtype), result(dgamma, dy.dtype), result(dbeta, dy.dtype)
