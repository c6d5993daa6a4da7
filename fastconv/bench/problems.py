"""A problem is a case made concrete: one op, dtype and memory order, with the arrays that every contender gets."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .cases import Case

MIRRORED = {"forward": "dx", "dx": "forward", "dw": "dw", "backward": "backward"}
"""Ops of a transposed convolution, and of the convolution that it mirrors, whose x is its y."""
OPS = ("forward", "dx", "dw", "backward")
PARTS = {"backward": ("dx", "dw", "db")}
"""Ops that have several results, and the ops that have them one by one."""
DTYPES = ("float32", "float64")
ORDERS = ("channels_first", "channels_last")


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be computed, once and the same for all contenders.

    Attributes
    ----------
    operands
        The arrays by letter: `x`, `w`, `dy`, those that the op reads. Activations are in `order`, weights C-contiguous.
    """

    case: Case
    op: str
    dtype: str
    order: str
    operands: Mapping[str, np.ndarray]

    @property
    def kind(self) -> tuple[str, str]:
        """The key of every table of callables: `("conv", "dx")`, `("max_pool", "forward")`, ..."""
        return self.case.family, self.op

    @property
    def name(self) -> str:
        return f"{self.case.name} {self.op}"

    @property
    def parts(self) -> tuple["Problem", ...]:
        """The problems with one result that make up this one: dx, dw and db of `backward`, else just this one."""
        return tuple(replace(self, op=op) for op in PARTS[self.op]) if self.op in PARTS else (self,)

    @property
    def mirror(self) -> "Problem":
        """A problem of transposed convolution as one of the convolution that it mirrors: x and dy change places."""
        letters = {"x": "dy", "dy": "x", "w": "w"}
        operands = {letters[letter]: array for letter, array in self.operands.items()}
        return replace(self, case=self.case.mirror, op=MIRRORED[self.op], operands=operands)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Of `y`, `dx`, `dw` or `db`."""
        case = self.case
        if self.op == "dw":
            return case.w_shape
        return {"forward": case.y_shape, "dx": case.x_shape, "db": case.y_shape[1:2]}[self.op]

    @property
    def reduction(self) -> int:
        """Products summed into one result element at most; 0 where the result is a copy or comparison and so exact."""
        case, op = self.case, self.op
        if case.family == "conv_transpose" and op != "db":
            return self.mirror.reduction
        if op == "db":
            return math.prod(case.y_shape) // case.y_shape[1]
        if case.family == "conv":
            k, c_per_group, *taps = case.w_shape
            n, _, *out = case.y_shape
            if op == "dw":
                return n * math.prod(out)
            return (c_per_group if op == "forward" else k // case.groups) * math.prod(taps)
        if case.family == "relu" or (case.family == "max_pool" and op == "forward"):
            return 0
        return math.prod(axis.taps for axis in case.axes)

    @property
    def flops(self) -> int:
        """dx and dw cost as much as forward; the additions of db are not counted."""
        return self.case.flops * (2 if self.op == "backward" else 1)

    @property
    def nbytes(self) -> int:
        """Compulsory traffic: every operand read once and the results written once."""
        results = sum(math.prod(part.result_shape) for part in self.parts) * np.dtype(self.dtype).itemsize
        return results + sum(array.nbytes for array in self.operands.values())

    def new_result(self) -> Any:
        """NaN in the memory order that the package would choose, for `out=`: an array, or a tuple of one a part."""
        if self.op in PARTS:
            return tuple(part.new_result() for part in self.parts)
        empty = np.full(self.result_shape, np.nan, self.dtype)
        return empty if self.op in ("dw", "db") else _in_order(empty, self.order)


def make(case: Case, op: str, dtype: str = "float32", order: str = "channels_first") -> Problem:
    """Draw the operands (standard normal, the same on every run) and derive the rest."""
    rng = np.random.default_rng(zlib.crc32(f"{case.name} {op}".encode()))
    w_shape = getattr(case, "w_shape", None)
    shapes = {"x": case.x_shape, "dy": case.y_shape, "w": w_shape}
    operands = {}
    for letter in _reads(case, op):
        drawn = rng.standard_normal(shapes[letter], dtype)
        operands[letter] = drawn if letter == "w" else _in_order(drawn, order)
    return Problem(case, op, dtype, order, operands)


def _reads(case: Case, op: str) -> tuple[str, ...]:
    if case.family in ("conv", "conv_transpose"):
        return {"forward": ("x", "w"), "dx": ("dy", "w"), "dw": ("dy", "x"), "backward": ("dy", "x", "w")}[op]
    if case.family == "avg_pool":
        return {"forward": ("x",), "dx": ("dy",)}[op]
    return {"forward": ("x",), "dx": ("dy", "x")}[op]


def _in_order(array: np.ndarray, order: str) -> np.ndarray:
    """The same values with strides N, C, spatial (channels-first) or N, spatial, C (channels-last)."""
    if order == "channels_first":
        return np.ascontiguousarray(array)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
