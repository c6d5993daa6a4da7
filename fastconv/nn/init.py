"""Initial values of parameters and buffers, and the skeleton mode in which they take no memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import DTypeLike

from ..runtime import keeps_floating_point

_SKELETON: ContextVar[bool] = ContextVar("fastconv_nn_skeleton", default=False)


@contextmanager
def skeleton() -> Iterator[None]:
    """Build layers whose arrays have a shape but no memory, until `Module.load_state_dict` replaces them.

    A model file names its own layer sizes. They are compared with the stored arrays before anything of that size
    is allocated, and no random numbers are drawn for weights that are about to be overwritten.
    """
    token = _SKELETON.set(True)
    try:
        yield
    finally:
        _SKELETON.reset(token)


def full(shape: tuple[int, ...], value: float, dtype: DTypeLike) -> np.ndarray:
    """An array filled with `value`."""
    if _SKELETON.get():
        return np.broadcast_to(np.array(value, dtype), shape)
    return np.full(shape, value, dtype)


@keeps_floating_point
def fan_in_uniform(shape: tuple[int, ...], fan_in: int, rng: np.random.Generator, dtype: DTypeLike) -> np.ndarray:
    """Uniform on ``[-1/sqrt(fan_in), 1/sqrt(fan_in))``: PyTorch's default for weights and biases.

    PyTorch writes it as ``kaiming_uniform_(a=sqrt(5))`` (He et al., 2015), which is the same bound. The numbers are
    drawn in float64, so that one seed gives a float32 and a float64 model the same weights up to rounding.
    """
    if _SKELETON.get():
        return full(shape, 0.0, dtype)
    bound = 1.0 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape).astype(dtype)
