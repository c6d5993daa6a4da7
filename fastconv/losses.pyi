from typing import Any

from numpy.typing import ArrayLike

from ._types import Array

__all__ = [
    "binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_backward", "cross_entropy",
    "cross_entropy_backward", "mse_loss", "mse_loss_backward",
]

def binary_cross_entropy_with_logits(logits: ArrayLike, target: ArrayLike) -> float: ...

def binary_cross_entropy_with_logits_backward(logits: ArrayLike, target: ArrayLike) -> Array: ...

def cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> float: ...

def cross_entropy_backward(
    logits: ArrayLike, target: ArrayLike, *, ignore_index: int | None = None, label_smoothing: float = 0.0
) -> Array: ...

def entropy(
    fn: str, logits: ArrayLike, target: ArrayLike, ignore_index: int | None, label_smoothing: float
) -> Any: ...

def mse_loss(pred: ArrayLike, target: ArrayLike) -> float: ...

def mse_loss_backward(pred: ArrayLike, target: ArrayLike) -> Array: ...
