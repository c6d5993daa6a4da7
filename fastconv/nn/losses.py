"""Losses: what a model's output is compared by, and which part of the comparison counts as right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import losses
from . import arguments, layers
from .module import Module

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "Loss", "MSELoss"]


class Loss:
    """A mean over the elements of a batch, and its gradient.

    ``value = loss(pred, target)`` gives the loss as a float; ``value, backward = loss.forward(pred, target)`` gives
    a function of no arguments besides, whose result is the gradient with respect to `pred`.
    """

    def __call__(self, pred: np.ndarray, target: ArrayLike) -> float:
        raise NotImplementedError

    def forward(self, pred: np.ndarray, target: ArrayLike) -> tuple[float, Callable[[], np.ndarray]]:
        raise NotImplementedError

    def count(self, target: ArrayLike) -> int:
        """How many elements of `target` the mean runs over: the weight of this batch in a larger mean."""
        return int(np.size(target))

    def correct(self, pred: np.ndarray, target: ArrayLike) -> int | None:
        """How many of these elements `pred` gets right; None where the question makes no sense."""
        return None

    def absorbs(self, layer: Module) -> bool:
        """Whether the loss contains what `layer` computes, so that training on the layer's input is the same."""
        return False


class CrossEntropyLoss(Loss):
    """Cross entropy of logits ``(N, K)`` or ``(N, K, *spatial)`` with class indices or probabilities.

    Parameters
    ----------
    ignore_index : int or None
        Target elements of this value count for nothing.
    label_smoothing : float
        In ``[0, 1]``: the share of the target that is spread over all classes.
    """

    def __init__(self, ignore_index: int | None = None, label_smoothing: float = 0.0) -> None:
        if ignore_index is not None:
            ignore_index = arguments.integer(self, "ignore_index", ignore_index)
        self.ignore_index = ignore_index
        self.label_smoothing = arguments.number(self, "label_smoothing", label_smoothing, 0.0, 1.0)

    def _options(self) -> dict[str, Any]:
        return {"ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing}

    def __call__(self, pred: np.ndarray, target: ArrayLike) -> float:
        return losses.cross_entropy(pred, target, **self._options())

    def forward(self, pred: np.ndarray, target: ArrayLike) -> tuple[float, Callable[[], np.ndarray]]:
        checked = losses.entropy("cross_entropy", pred, target, **self._options())
        return checked.loss(), checked.gradient

    def count(self, target: ArrayLike) -> int:
        target = np.asarray(target)
        if target.dtype.kind == "f":
            return target.size // target.shape[1]
        return int(target.size if self.ignore_index is None else np.count_nonzero(target != self.ignore_index))

    def correct(self, pred: np.ndarray, target: ArrayLike) -> int | None:
        target = np.asarray(target)
        if target.dtype.kind == "f":
            target = target.argmax(axis=1)
        right = pred.argmax(axis=1) == target
        if self.ignore_index is not None:
            right &= target != self.ignore_index
        return int(np.count_nonzero(right))

    def absorbs(self, layer: Module) -> bool:
        return isinstance(layer, layers.Softmax) and layer.axis in (1, -1)  # LogSoftmax is one, too


class _ElementwiseLoss(Loss):
    """A loss whose target has an entry for each element of `pred`; axes of extent 1 may be left out of it."""

    _function: Callable[..., float]
    _function_backward: Callable[..., np.ndarray]

    def __call__(self, pred: np.ndarray, target: ArrayLike) -> float:
        return self._function(pred, _fit_target(pred, target))

    def forward(self, pred: np.ndarray, target: ArrayLike) -> tuple[float, Callable[[], np.ndarray]]:
        target = _fit_target(pred, target)
        return self._function(pred, target), lambda: self._function_backward(pred, target)


class BCEWithLogitsLoss(_ElementwiseLoss):
    """Binary cross entropy of logits with targets in ``[0, 1]`` (bools and integers as well) of the same shape."""

    _function = staticmethod(losses.binary_cross_entropy_with_logits)
    _function_backward = staticmethod(losses.binary_cross_entropy_with_logits_backward)

    def correct(self, pred: np.ndarray, target: ArrayLike) -> int | None:
        return int(np.count_nonzero((pred > 0) == (_fit_target(pred, target) > 0.5)))

    def absorbs(self, layer: Module) -> bool:
        return isinstance(layer, layers.Sigmoid)


class MSELoss(_ElementwiseLoss):
    """Mean squared difference from a target of the same shape."""

    _function = staticmethod(losses.mse_loss)
    _function_backward = staticmethod(losses.mse_loss_backward)


def _fit_target(pred: np.ndarray, target: ArrayLike) -> np.ndarray:
    """`target` in the dtype and the shape of `pred`; never broadcast, which would compare each with each."""
    target = np.asarray(target)
    if [n for n in target.shape if n != 1] != [n for n in pred.shape if n != 1]:
        raise ValueError(f"loss: target has shape {target.shape}, expected {pred.shape} as the prediction")
    return target.astype(pred.dtype, copy=False).reshape(pred.shape)
