"""A problem is a case made concrete: one op, dtype and memory order, with the arrays that every contender gets."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .shapes import Case

OPS = ("forward", "dx", "dw")
DTYPES = ("float32", "float64")
ORDERS = ("channels_first", "channels_last")


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be computed, once and the same for all contenders.

    Attributes
    ----------
    operands
        The arrays by letter: `x`, `w`, `dy`, those that the op reads. Activations are in `order`, weights C-contiguous.
    result_shape
        Of `y`, `dx` or `dw`.
    reduction
        Products summed into one result element at most; 0 where the result is a copy or comparison and so exact.
    """

    case: Case
    op: str
    dtype: str
    order: str
    operands: Mapping[str, np.ndarray]
    result_shape: tuple[int, ...]
    reduction: int

    @property
    def kind(self) -> tuple[str, str]:
        """The key of every table of callables: `("conv", "dx")`, `("max_pool", "forward")`, ..."""
        return self.case.family, self.op

    @property
    def name(self) -> str:
        return f"{self.case.name} {self.op}"

    @property
    def flops(self) -> int:
        return self.case.flops

    @property
    def nbytes(self) -> int:
        """Compulsory traffic: every operand read once and the result written once."""
        result = math.prod(self.result_shape) * np.dtype(self.dtype).itemsize
        return result + sum(array.nbytes for array in self.operands.values())

    def new_result(self, fill: float = np.nan) -> np.ndarray:
        """An array for the result in the memory order that the package would choose, for `out=`."""
        order = "channels_first" if self.op == "dw" else self.order
        return _in_order(np.full(self.result_shape, fill, self.dtype), order)


def make(case: Case, op: str, dtype: str = "float32", order: str = "channels_first") -> Problem:
    """Draw the operands (standard normal, the same on every run) and derive the rest."""
    rng = np.random.default_rng(zlib.crc32(f"{case.name} {op}".encode()))
    w_shape = getattr(case, "w_shape", None)
    shapes = {"x": case.x_shape, "dy": case.y_shape, "w": w_shape}
    operands = {}
    for letter in _reads(case, op):
        drawn = rng.standard_normal(shapes[letter], dtype)
        operands[letter] = drawn if letter == "w" else _in_order(drawn, order)
    result_shape = {"forward": case.y_shape, "dx": case.x_shape, "dw": w_shape}[op]
    return Problem(case, op, dtype, order, operands, result_shape, _reduction(case, op))


def _reads(case: Case, op: str) -> tuple[str, ...]:
    if case.family == "conv":
        return {"forward": ("x", "w"), "dx": ("dy", "w"), "dw": ("dy", "x")}[op]
    if case.family == "avg_pool":
        return {"forward": ("x",), "dx": ("dy",)}[op]
    return {"forward": ("x",), "dx": ("dy", "x")}[op]


def _reduction(case: Case, op: str) -> int:
    """Products in one result element."""
    if case.family == "conv":
        k, c_per_group, *taps = case.w_shape
        n, _, *out = case.y_shape
        return {
            "forward": c_per_group * math.prod(taps),
            "dx": k // case.groups * math.prod(taps),
            "dw": n * math.prod(out),
        }[op]
    if case.family == "relu" or (case.family == "max_pool" and op == "forward"):
        return 0
    return math.prod(axis.taps for axis in case.axes)


def _in_order(array: np.ndarray, order: str) -> np.ndarray:
    """The same values with strides N, C, spatial (channels-first) or N, spatial, C (channels-last)."""
    if order == "channels_first":
        return np.ascontiguousarray(array)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
