from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from ._types import Activation, Array, Gradients, Shape
from .packed import PackedWeight

__all__ = [
    "batch_norm", "batch_norm_backward", "dropout", "dropout_backward", "flatten", "flatten_backward", "linear",
    "linear_backward",
]

_Saved: TypeAlias = tuple[Array, Array, bool] | tuple[Array, Array, bool, Array, Array]

def add(x: Array, y: Array, *, relu: bool = False, num_threads: int | None = None) -> Array: ...

def batch_norm(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, running_mean: Array, running_var: Array, *, training: bool,
    momentum: float = 0.1, eps: float = 1e-05, activation: Literal["relu"] | None = None,
    num_threads: int | None = None
) -> tuple[Array, _Saved]: ...

def batch_norm_backward(
    dy: ArrayLike, x: ArrayLike, gamma: ArrayLike, saved: _Saved, *, num_threads: int | None = None
) -> tuple[Array, Array, Array]: ...

def dropout(x: ArrayLike, p: float, rng: np.random.Generator | int | None) -> tuple[Array, npt.NDArray[np.bool_]]: ...

def dropout_backward(dy: ArrayLike, mask: ArrayLike, p: float) -> Array: ...

def flatten(x: ArrayLike) -> Array: ...

def flatten_backward(dy: ArrayLike, input_shape: Shape) -> Array: ...

def linear(
    x: ArrayLike, w: ArrayLike | PackedWeight, b: ArrayLike | None = None, *, activation: Activation | None = None,
    out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def linear_backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, *, need: Sequence[bool] = (True, True, True),
    out: Sequence[Array | None] = (None, None, None), accumulate: bool = False, num_threads: int | None = None
) -> Gradients: ...
