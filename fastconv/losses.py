"""Losses: the mean over the batch as a Python float, and its gradient with respect to the first argument.

Sums are taken in float64. Logits go through the stable :func:`fastconv.log_softmax` or ``log1p(exp(-|x|))``, so that
no finite logit overflows.
"""
from typing import NamedTuple

import numpy as np

from . import activation, checks
from ._kernels import _elementwise
from ._kernels._runtime import Calls
from .runtime import keeps_floating_point

__all__ = [
    "binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_backward", "cross_entropy",
    "cross_entropy_backward", "mse_loss", "mse_loss_backward",
]


class Entropy(NamedTuple):
    """The checked operands of a cross entropy."""

    logits: np.ndarray
    target: np.ndarray      # class indices of intp, or probabilities
    counts: np.ndarray      # where indices count; None: everywhere, or probabilities
    by_index: bool
    smoothing: float

    @property
    def total(self):
        """How many positions the mean runs over."""
        return self.logits.size // self.logits.shape[1] if self.counts is None else int(self.counts.sum())

    @property
    def probabilities(self):
        share = self.smoothing / self.logits.shape[1]
        return (1 - self.smoothing) * self.target + share if self.smoothing else self.target

    @keeps_floating_point
    def loss(self):
        log_p = activation.log_softmax(self.logits)
        if self.by_index:
            target, counts, extents = self._as_in_memory(log_p)
            loss = -(1 - self.smoothing) * _elementwise.picked(log_p, target, counts, *extents)
            if self.smoothing:
                where = True if self.counts is None else self.counts[:, None]
                loss -= self.smoothing / self.logits.shape[1] * np.sum(log_p, where=where, dtype=np.float64)
        else:
            p = self.probabilities
            loss = -np.sum(np.multiply(p, log_p, out=log_p, where=p != 0), where=p != 0, dtype=np.float64)
        return float(loss / self.total) if self.total else float("nan")

    @keeps_floating_point
    def gradient(self):
        gradient = activation.softmax(self.logits)
        scale = 1 / max(self.total, 1)
        if self.by_index:
            if self.smoothing:
                gradient -= self.smoothing / self.logits.shape[1]
            target, counts, extents = self._as_in_memory(gradient)
            _elementwise.less_picked(gradient, target, counts, 1 - self.smoothing, scale, *extents)
        else:
            p = self.probabilities
            gradient *= p.sum(axis=1, keepdims=True)
            gradient -= p
            gradient *= scale
        return gradient

    def _as_in_memory(self, y):
        """(target, counts, (outer, classes, inner)) in the order of y's positions in memory."""
        axes = [axis - (axis > 0) for axis in checks.axes_in_memory(y) if axis != 1]
        target, counts = (None if a is None else np.ascontiguousarray(a.transpose(axes))
                          for a in (self.target, self.counts))
        return target, counts, activation.extents("cross_entropy", "logits", y, 1)


@keeps_floating_point
def entropy(fn, logits, target, ignore_index, label_smoothing):
    """The Entropy of a user's arguments."""
    logits, target = checks.array(fn, "logits", logits), checks.array(fn, "target", target)
    by_index, counts = _entropy_calls((logits, target), (fn,)), None
    smoothing = checks.number(fn, "label_smoothing", label_smoothing, 0, 1)
    if by_index:
        target, counts = checks.class_indices(fn, target, logits.shape[1], ignore_index)
    return Entropy(logits, target, counts, by_index, smoothing)


def _prepare_entropy(logits, target, fn):
    """Check all but the elements; returns whether the target holds class indices."""
    return checks.class_target(fn, checks.with_channels(fn, "logits", logits), target)[1]


_entropy_calls = Calls(_prepare_entropy)


def cross_entropy(logits, target, *, ignore_index=None, label_smoothing=0.0):
    """Mean over the batch and space of ``-sum(p * log_softmax(logits))`` over the classes.

    Parameters
    ----------
    logits : array of float32 or float64, (N, K) or (N, K, *spatial)
    target : array of integers, (N,) or (N, *spatial); or array of logits' shape and dtype
        Class indices, or the probability of each class.
    ignore_index : int, optional
        Positions whose class index is this don't count.
    label_smoothing : float in [0, 1]
        p is ``(1 - label_smoothing) * target + label_smoothing / K`` (Szegedy et al. 2016).

    Returns
    -------
    loss : float
        NaN if no position counts.

    Raises
    ------
    TypeError
        logits are not float32 or float64, or the target is neither integers nor of their dtype.
    ValueError
        Shapes don't fit, or a class index is out of range; the message names it.
    """
    return entropy("cross_entropy", logits, target, ignore_index, label_smoothing).loss()


def cross_entropy_backward(logits, target, *, ignore_index=None, label_smoothing=0.0):
    """Gradient of :func:`cross_entropy` with respect to the logits, in their memory order.

    ``(softmax(logits) * sum(p) - p) / count``, and 0 at ignored positions. Parameters and errors as there.
    """
    return entropy("cross_entropy_backward", logits, target, ignore_index, label_smoothing).gradient()


def _pair(fn, name, first, target):
    first, target = checks.operand(fn, name, first), checks.operand(fn, "target", target)
    checks.same_dtype(fn, name, first, "target", target)
    checks.shape_of(fn, "target", target, first.shape)
    return first, target


def _mean_loss(first, target, logistic):
    if not first.size:
        return float("nan")
    if checks.axes_in_memory(first) is None:
        first = first.copy()
    return _elementwise.pair_loss(first, checks.laid_out_as(target, first), logistic) / first.size


@keeps_floating_point
def binary_cross_entropy_with_logits(logits, target):
    """Mean of ``-target * log(s) - (1 - target) * log(1 - s)`` with ``s = sigmoid(logits)``.

    Parameters
    ----------
    logits, target : arrays of float32 or float64, one shape and dtype
        The target is a probability, 0 or 1 for hard labels.

    Returns
    -------
    loss : float
        NaN if the arrays are empty.

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes don't fit.
    """
    x, t = _pair("binary_cross_entropy_with_logits", "logits", logits, target)
    return _mean_loss(x, t, True)


@keeps_floating_point
def binary_cross_entropy_with_logits_backward(logits, target):
    """Gradient of :func:`binary_cross_entropy_with_logits`: ``(sigmoid(logits) - target) / size``.

    With respect to the logits, of their shape; parameters and errors as there.
    """
    x, t = _pair("binary_cross_entropy_with_logits_backward", "logits", logits, target)
    gradient = activation.sigmoid(x)
    gradient -= t
    gradient /= max(x.size, 1)
    return gradient


@keeps_floating_point
def mse_loss(pred, target):
    """Mean of ``(pred - target)**2``.

    Parameters
    ----------
    pred, target : arrays of float32 or float64, one shape and dtype

    Returns
    -------
    loss : float
        NaN if the arrays are empty.

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes don't fit.
    """
    a, b = _pair("mse_loss", "pred", pred, target)
    return _mean_loss(a, b, False)


@keeps_floating_point
def mse_loss_backward(pred, target):
    """Gradient of :func:`mse_loss`: ``2 * (pred - target) / size``.

    With respect to `pred`, of its shape; parameters and errors as there.
    """
    a, b = _pair("mse_loss_backward", "pred", pred, target)
    gradient = a - b
    gradient *= 2 / max(a.size, 1)
    return gradient
