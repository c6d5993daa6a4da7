"""Naive losses, each the mean as a Python float, and their gradients with respect to the first argument."""

import numpy as np

from ._common import result
from .activation import log_softmax64, sigmoid64, softmax64

__all__ = [
    "binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_backward", "cross_entropy",
    "cross_entropy_backward", "mse_loss", "mse_loss_backward",
]


def _target_probabilities(logits, target, ignore_index, label_smoothing):
    """Probability of every class, in the shape of ``logits`` and 0 at ignored positions; count of the others."""
    n, classes, *spatial = logits.shape
    target = np.asarray(target)
    kept = np.ones((n, 1, *spatial), dtype=bool)
    if np.issubdtype(target.dtype, np.integer):
        if ignore_index is not None:
            kept = (target != ignore_index)[:, np.newaxis]
        wrong = target[kept[:, 0] & ((target < 0) | (target >= classes))]
        if wrong.size:
            raise ValueError(f"cross_entropy: target {wrong[0]} is out of range for {classes} classes")
        number = np.arange(classes).reshape(1, classes, *[1] * len(spatial))
        target = np.where(number == target[:, np.newaxis], 1.0, 0.0)
    smoothed = target.astype(np.float64) * (1.0 - label_smoothing) + label_smoothing / classes
    return np.where(kept, smoothed, 0.0), np.count_nonzero(kept)


def cross_entropy(logits, target, *, ignore_index=None, label_smoothing=0.0):
    """Mean over n and the spatial axes of ``-sum over classes of p * log_softmax(logits)``; NaN if nothing is counted.

    ``logits`` is (n, classes, *spatial). ``target`` holds class indices (n, *spatial), of which those equal to
    ``ignore_index`` don't count, or probabilities in the shape of ``logits``; indices stand for probabilities 0 and 1.
    ``p = (1 - label_smoothing) * target + label_smoothing / classes``.
    """
    logits = np.asarray(logits)
    p, count = _target_probabilities(logits, target, ignore_index, label_smoothing)
    if count == 0:
        return float("nan")
    with np.errstate(all="ignore"):
        return float(-np.where(p == 0, 0.0, p * log_softmax64(logits.astype(np.float64))).sum() / count)


def cross_entropy_backward(logits, target, *, ignore_index=None, label_smoothing=0.0):
    """``(softmax(logits) * sum(p) - p) / count``, and 0 at ignored positions."""
    logits = np.asarray(logits)
    p, count = _target_probabilities(logits, target, ignore_index, label_smoothing)
    total = p.sum(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        gradient = np.where(total == 0, 0.0, softmax64(logits.astype(np.float64)) * total - p) / max(count, 1)
    return result(gradient, logits.dtype)


def _pair64(a, b):
    return np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)


def _mean(values):
    return float(values.mean()) if values.size else float("nan")


def binary_cross_entropy_with_logits(logits, target):
    """Mean of ``-target * log(s) - (1 - target) * log(1 - s)`` with ``s = sigmoid(logits)``; NaN if empty."""
    x, t = _pair64(logits, target)
    with np.errstate(all="ignore"):
        return _mean(np.maximum(x, 0.0) - x * t + np.log1p(np.exp(-np.abs(x))))


def binary_cross_entropy_with_logits_backward(logits, target):
    """``(sigmoid(logits) - target) / size``."""
    x, t = _pair64(logits, target)
    return result((sigmoid64(x) - t) / max(x.size, 1), np.asarray(logits).dtype)


def mse_loss(pred, target):
    """Mean of ``(pred - target)**2``; NaN if empty."""
    a, b = _pair64(pred, target)
    return _mean((a - b) ** 2)


def mse_loss_backward(pred, target):
    """``2 * (pred - target) / size``."""
    a, b = _pair64(pred, target)
    return result(2.0 * (a - b) / max(a.size, 1), np.asarray(pred).dtype)
