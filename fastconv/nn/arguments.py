"""What layer constructors ask of their arguments. Shapes and values of arrays are left to the functions themselves."""

from __future__ import annotations

import math
import operator

import numpy as np


def positive_int(value, name: str) -> int:
    """`value` as an int of at least 1."""
    value = integer(value, name)
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    return value


def integer(value, name: str) -> int:
    """`value` as an int; floats, strings and bools are refused."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None


def number(value, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite float in ``[low, high]``."""
    if isinstance(value, (bool, str)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, expected a number") from None
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} is {value}, expected a finite number in [{low}, {high}]")
    return value


def flag(value, name: str) -> bool:
    """`value`, which has to be a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def per_axis(value, ndim: int, name: str) -> tuple[int, ...]:
    """A positive int for each of `ndim` axes, from one int or a sequence of `ndim`."""
    values = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,) * ndim
    if len(values) != ndim:
        raise ValueError(f"{name} has {len(values)} entries, expected an int or {ndim} of them")
    return tuple(positive_int(v, name) for v in values)


def plain(value):
    """`value` made of tuples, Python numbers, strings and None only: what a layer's `config` can hold."""
    if isinstance(value, (tuple, list, np.ndarray)):
        return tuple(plain(v) for v in value)
    if isinstance(value, np.generic):
        return value.item()
    return value


def float_dtype(dtype) -> np.dtype:
    """`dtype` as float32 or float64."""
    dtype = np.dtype(dtype)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype is {dtype}, expected float32 or float64")
    return dtype


def generator(rng) -> np.random.Generator:
    """A Generator from a Generator (itself), a seed, or None (fresh entropy)."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    return np.random.default_rng(integer(rng, "rng"))
