"""What a trained model is asked: its loss, its classes, its probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import activation
from . import arguments
from .containers import Sequential
from .layers import LogSoftmax, Sigmoid, Softmax
from .losses import CrossEntropyLoss, Loss
from .module import Module

__all__ = ["Evaluation", "confusion_matrix", "evaluate", "predict", "predict_proba"]


class Evaluation(NamedTuple):
    """Mean loss and share of right answers (NaN if the loss knows none)."""

    loss: float
    accuracy: float


class Tally:
    """Loss and accuracy over several batches, each weighted by its elements."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._sum = 0.0
        self._count = 0
        self._correct: int | None = 0

    def add(self, value: float, outputs: np.ndarray, target: np.ndarray) -> None:
        count = self._loss.count(target)
        correct = self._loss.correct(outputs, target)
        if count:  # the loss of no elements is NaN
            self._sum += value * count
            self._count += count
            self._correct = None if correct is None or self._correct is None else self._correct + correct

    def result(self) -> Evaluation:
        if not self._count:
            return Evaluation(math.nan, math.nan)
        accuracy = math.nan if self._correct is None else self._correct / self._count
        return Evaluation(self._sum / self._count, accuracy)


def evaluate(model: Module, x: Any, y: Any, *, loss: Loss | None = None, batch_size: int = 256,
             transform: Callable[[np.ndarray], np.ndarray] | None = None) -> Evaluation:
    """Mean loss and accuracy of a model in inference.

    Parameters
    ----------
    model, x, y, loss, transform
        As in `fit`, the treatment of a final `Softmax`, `LogSoftmax` or `Sigmoid` included.
    batch_size : int
        Samples at a time; without influence on the result beyond rounding.

    Returns
    -------
    Evaluation
        ``(loss, accuracy)``
    """
    x, y = check_data("evaluate", x, y)
    loss = CrossEntropyLoss() if loss is None else loss
    tally = Tally(loss)
    for part, outputs in _outputs(without_absorbed(model, loss), x, batch_size, transform):
        target = y[part]
        if loss.count(target):
            tally.add(loss(outputs, target), outputs, target)
    return tally.result()


def predict(model: Module, x: Any, *, batch_size: int = 256,
            transform: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """The most probable class of each sample.

    Returns
    -------
    ndarray of int64
        ``(N,)``, or ``(N, *spatial)`` for outputs ``(N, K, *spatial)``: the index of the largest output along axis 1.
        Where the model ends in `Sigmoid`, or has one output alone, each output is a question of its own: 1 where its
        probability is above one half, else 0, ``(N,)`` for a single one and ``(N, K)`` for several.
    """
    head = split_head(model)[1]
    parts = []
    for _, outputs in _outputs(model, x, batch_size, transform):
        if isinstance(head, Sigmoid):
            parts.append(_answers(outputs > 0.5))
        elif outputs.shape[1] == 1:
            parts.append(_answers(outputs > 0))
        else:
            parts.append(outputs.argmax(axis=1))
    return np.concatenate(parts)


def _answers(yes: np.ndarray) -> np.ndarray:
    return (yes[:, 0] if yes.shape[1] == 1 else yes).astype(np.int64)


def predict_proba(model: Module, x: Any, *, batch_size: int = 256,
                  transform: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """Probabilities of the classes.

    Returns
    -------
    ndarray
        Of the shape of the model's output: the output itself where the model ends in `Softmax` or `Sigmoid`, its
        exponential after `LogSoftmax`, else the softmax along axis 1, or the sigmoid of a single output.
    """
    head = split_head(model)[1]
    parts = []
    for _, outputs in _outputs(model, x, batch_size, transform):
        if isinstance(head, LogSoftmax):
            outputs = np.exp(outputs)
        elif head is None:
            outputs = activation.sigmoid(outputs) if outputs.shape[1] == 1 else activation.softmax(outputs)
        parts.append(outputs)
    return np.concatenate(parts)


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, classes: int | None = None) -> np.ndarray:
    """How often each class was taken for each.

    Parameters
    ----------
    y_true, y_pred : array_like of int
        Of the same shape, each in ``[0, classes)``.
    classes : int, optional
        One more than the largest class that occurs if not given.

    Returns
    -------
    ndarray of int64, ``(classes, classes)``
        Rows are true classes, columns predicted ones.
    """
    y_true, y_pred = np.asarray(y_true).ravel(), np.asarray(y_pred).ravel()
    if y_true.shape != y_pred.shape:
        raise ValueError(f"confusion_matrix: {y_true.size} true classes, {y_pred.size} predicted ones")
    if y_true.size and not (y_true.dtype.kind in "iu" and y_pred.dtype.kind in "iu"):
        raise TypeError(f"confusion_matrix: got {y_true.dtype} and {y_pred.dtype}, expected integers")
    both = np.concatenate([y_true, y_pred]).astype(np.int64)
    largest = int(both.max(initial=-1))
    classes = max(largest + 1, 1) if classes is None else arguments.positive_int("confusion_matrix", "classes", classes)
    if largest >= classes or both.min(initial=0) < 0:
        raise ValueError(f"confusion_matrix: classes from {both.min()} to {largest}, expected 0 to {classes - 1}")
    cells = both[:y_true.size] * classes + both[y_true.size:]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def split_head(model: Module) -> tuple[Module, Module | None]:
    """The model without the layer at its end that makes probabilities, and that layer; else the model and None."""
    if isinstance(model, Sequential) and len(model):
        last = model[-1]
        if isinstance(last, (Softmax, Sigmoid)):
            return Sequential(*model[:-1]), last
        inner, head = split_head(last)
        if head is not None:
            return Sequential(*model[:-1], inner), head
    return model, None


def without_absorbed(model: Module, loss: Loss) -> Module:
    """The model up to where `loss` takes over: without a last layer that the loss contains."""
    body, head = split_head(model)
    return body if head is not None and loss.absorbs(head) else model


def check_data(fn: str, x: Any, y: Any) -> tuple[Any, ...]:
    """Samples and targets as things that can be indexed, of the same length."""
    x = x if hasattr(x, "shape") else np.asarray(x)
    y = np.asarray(y)
    if y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"{fn}: y: got targets of shape {y.shape} for {len(x)} samples; expected one for each")
    return x, y


def _outputs(model: Module, x: Any, batch_size: int,
             transform: Callable[..., Any] | None) -> Iterator[tuple[slice, np.ndarray]]:
    """``(range, output)`` for batch after batch; one empty batch if there are no samples."""
    batch_size = arguments.positive_int("predict", "batch_size", batch_size)
    x = x if hasattr(x, "shape") else np.asarray(x)
    for start in range(0, max(len(x), 1), batch_size):
        part = slice(start, start + batch_size)
        batch = np.asarray(x[part])
        yield part, model(batch if transform is None else transform(batch))
