"""Losses: the mean over the batch as a Python float, and its gradient with respect to the first argument.

Sums are taken in float64. Logits go through the stable :func:`fastconv.log_softmax` or ``log1p(exp(-|x|))``, so that
no finite logit overflows.
"""
import numpy as np

from . import activation, checks
from .runtime import keeps_floating_point

__all__ = [
    "binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_backward", "cross_entropy",
    "cross_entropy_backward", "mse_loss", "mse_loss_backward",
]


def _entropy_operands(fn, logits, target, label_smoothing):
    logits = checks.with_channels(fn, "logits", logits)
    target, by_index = checks.class_target(fn, logits, target)
    return logits, target, by_index, checks.number(fn, "label_smoothing", label_smoothing, 0, 1)


def _smoothed(probabilities, smoothing, classes):
    return (1 - smoothing) * probabilities + smoothing / classes if smoothing else probabilities


@keeps_floating_point
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
    fn = "cross_entropy"
    logits, target, by_index, smoothing = _entropy_operands(fn, logits, target, label_smoothing)
    classes = logits.shape[1]
    log_p = activation.log_softmax(logits)
    if by_index:
        index, counts = checks.class_indices(fn, target, classes, ignore_index)
        total = counts.sum()
        hit = np.take_along_axis(log_p, index[:, None], 1)[:, 0]
        loss = -(1 - smoothing) * np.sum(hit, where=counts, dtype=np.float64)
        if smoothing:
            loss -= smoothing / classes * np.sum(log_p, where=counts[:, None], dtype=np.float64)
    else:
        total = logits.size // classes
        p = _smoothed(target, smoothing, classes)
        loss = -np.sum(np.multiply(p, log_p, out=log_p, where=p != 0), where=p != 0, dtype=np.float64)
    return float(loss / total) if total else float("nan")


@keeps_floating_point
def cross_entropy_backward(logits, target, *, ignore_index=None, label_smoothing=0.0):
    """Gradient of :func:`cross_entropy` with respect to the logits, in their memory order.

    ``(softmax(logits) * sum(p) - p) / count``, and 0 at ignored positions. Parameters and errors as there.
    """
    fn = "cross_entropy_backward"
    logits, target, by_index, smoothing = _entropy_operands(fn, logits, target, label_smoothing)
    classes = logits.shape[1]
    gradient = activation.softmax(logits)
    if by_index:
        index, counts = checks.class_indices(fn, target, classes, ignore_index)
        total = counts.sum()
        hit = np.take_along_axis(gradient, index[:, None], 1)
        np.put_along_axis(gradient, index[:, None], hit - (1 - smoothing), 1)
        if smoothing:
            gradient -= smoothing / classes
        if total < counts.size:
            np.copyto(gradient, 0, where=~counts[:, None])
    else:
        total = logits.size // classes
        p = _smoothed(target, smoothing, classes)
        gradient *= p.sum(axis=1, keepdims=True)
        gradient -= p
    gradient /= max(total, 1)
    return gradient


def _pair(fn, name, first, target):
    first, target = checks.operand(fn, name, first), checks.operand(fn, "target", target)
    checks.same_dtype(fn, name, first, "target", target)
    checks.shape_of(fn, "target", target, first.shape)
    return first, target


def _mean(values):
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


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
    return _mean(np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))))


@keeps_floating_point
def binary_cross_entropy_with_logits_backward(logits, target):
    """Gradient of :func:`binary_cross_entropy_with_logits`: ``(sigmoid(logits) - target) / size``."""
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
    return _mean((a - b) ** 2)


@keeps_floating_point
def mse_loss_backward(pred, target):
    """Gradient of :func:`mse_loss`: ``2 * (pred - target) / size``."""
    a, b = _pair("mse_loss_backward", "pred", pred, target)
    return (a - b) * (2 / max(a.size, 1))
