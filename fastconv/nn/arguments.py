"""What constructors and training functions ask of their arguments.

`owner` is the object that is made, or the name of the function: what the errors begin with.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import checks


def _name(owner: Any) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__


def positive_int(owner: Any, name: str, value: Any) -> int:
    """`value` as an int of at least 1."""
    return integer(owner, name, value, 1)


def integer(owner: Any, name: str, value: Any, least: int = -(2**63)) -> int:
    """`value` as an int; floats, strings and bools are refused."""
    return checks.integer(_name(owner), name, value, least)


def number(owner: Any, name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite float in ``[low, high]``."""
    value = checks.number(_name(owner), name, value, low, high)
    if math.isinf(value):
        raise ValueError(f"{_name(owner)}: {name}: got {value}; expected a finite number")
    return value


def flag(owner: Any, name: str, value: Any) -> bool:
    """`value`, which has to be a bool."""
    return checks.flag(_name(owner), name, value)


def per_axis(owner: Any, name: str, value: Any, ndim: int, least: int = 1) -> tuple[int, ...]:
    """An int of at least `least` for each of `ndim` axes, from one int or a sequence of `ndim`."""
    return checks.per_axis(_name(owner), name, value, ndim, least)


def output_size(owner: Any, value: Any, ndim: int) -> tuple[int | None, ...]:
    """As `per_axis`; a sequence may hold None, too, which stands for the input's extent."""
    if not isinstance(value, (tuple, list)):
        return per_axis(owner, "output_size", value, ndim)
    extents = per_axis(owner, "output_size", [1 if extent is None else extent for extent in value], ndim)
    return tuple(None if given is None else extent for given, extent in zip(value, extents))


def padding(owner: Any, value: Any, ndim: int, words: tuple[str, ...] = (), least: int = 0) -> Any:
    """Padding as a layer keeps it: one of `words`, an int, or ints or pairs an axis, of at least `least`."""
    if not isinstance(value, str):
        checks.padding_pairs(_name(owner), value, ndim, least)
        return plain(value)
    if value not in words:
        expected = " or ".join((*map(repr, words), "integers"))
        raise ValueError(f"{_name(owner)}: padding: got {checks.said(value)}; expected {expected}")
    return value


def word(owner: Any, name: str, value: Any, choices: Any) -> str:
    """`value`, which has to be one of `choices`."""
    checks.choice(_name(owner), name, value, dict.fromkeys(choices, True))
    return value


def plain(value: Any) -> Any:
    """`value` made of tuples, Python numbers, strings and None only: what a layer's `config` can hold."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (tuple, list)):
        return tuple(plain(v) for v in value)
    return value.item() if isinstance(value, np.generic) else value


def float_dtype(owner: Any, dtype: DTypeLike) -> np.dtype:
    """`dtype` as float32 or float64."""
    return checks.float_dtype(_name(owner), "dtype", dtype)


def generator(owner: Any, rng: np.random.Generator | int | None) -> np.random.Generator:
    """A Generator from a Generator (itself), a seed, or None (fresh entropy)."""
    return checks.generator(_name(owner), rng)
