"""What the project wants to reach: classes of layers, and how many times faster than each peer they should be.

A class reaches a target where the geometric mean of its rows does and no row stays below `SHORT` of it. A row is lost
where the whole 95 % interval of its ratio against some peer lies below 1. Everything here reads rows as the report's
JSON has them, so that a report, and a document joined from several runs, judge alike.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .cases import Case, ConvCase, ConvTransposeCase, PoolCase, per_axis
from .timing import Interval

SHORT = 0.8
"""The share of its class's target that every single row should reach."""

LARGE = "3x3 s1, large"
MIDDLE = "3x3 s1, 14x14"
SMALL = "3x3 s1, 7x7"
NARROW = "3x3 s1, C or K 16-32"
PLAIN = "3x3 s2, 1x1, 7x7 s2"
GRAY = "C = 1, batch 64"
GROUPED = "grouped, dilated"
DEPTHWISE = "depthwise"
DEPTHWISE_5X5_S2 = "depthwise 5x5 s2"
DEPTHWISE_1D = "depthwise 1-D"
SERIES = "1-D, k = 9"
SPECTROGRAM = "1-D, k = 400"
VOLUME = "3x3x3, K <= 64"
VOLUME_STEM = "3x7x7 s2"
TRANSPOSED = "transposed"
OTHER = "other"
DOUBLE_3X3 = "float64, 3x3 s1"
DOUBLE_DEPTHWISE = "float64, depthwise"
DOUBLE_POOL = "float64, pooling and relu"
DOUBLE = "float64, other"
POOL = "pooling, in cache"
POOL_BEYOND = "pooling, beyond cache"
RELU = "relu, in cache or out="
RELU_BEYOND = "relu, fresh, beyond cache"

CACHE = 32 * 1024 * 1024
"""Bytes of input from which on a memory-bound row counts as beyond the cache."""


BY_KERNEL = {(9,): SERIES, (400,): SPECTROGRAM, (3, 7, 7): VOLUME_STEM}
"""Classes of dense layers that their kernel tells."""


LONG_KERNEL = 29
"""Taps along an axis from which on a depthwise layer is in no class of its own."""


class Terms(NamedTuple):
    """A peer, and the memory order of both sides."""

    peer: str
    order: str

    @property
    def title(self) -> str:
        return f"{self.peer}, {self.order.replace('_', '-')}"


TERMS = (
    Terms("torch", "channels_last"),
    Terms("torch", "channels_first"),
    Terms("onnxruntime", "channels_first"),
    Terms("openvino", "channels_first"),
)

TARGETS: dict[str, dict[str, tuple[float, ...]]] = {
    LARGE: {"forward": (3.0, 3.2, 3.0), "backward": (2.8, 3.2)},
    MIDDLE: {"forward": (2.3, 2.6, 2.4), "backward": (2.5, 2.8)},
    SMALL: {"forward": (2.0, 2.3, 1.3), "backward": (2.4, 2.4)},
    NARROW: {"forward": (2.2, 2.5, 2.2), "backward": (2.2, 2.5)},
    PLAIN: {"forward": (1.05, 1.3, 1.0), "backward": (1.2, 1.5)},
    GRAY: {"forward": (2.5, 2.5, 1.5), "backward": (2.5, 2.5)},
    GROUPED: {"forward": (1.2, 1.5, 1.2), "backward": (1.5, 1.5)},
    DEPTHWISE: {"forward": (1.5, 1.5), "backward": (2.0, 2.0)},
    DEPTHWISE_5X5_S2: {"forward": (1.5, 1.5), "backward": (2.0, 2.0), "dw": (10.0, 10.0)},
    DEPTHWISE_1D: {"forward": (20.0, 20.0), "backward": (15.0, 15.0)},
    SERIES: {"forward": (1.5, 1.5), "backward": (1.5, 1.5)},
    SPECTROGRAM: {"forward": (1.2, 1.2), "backward": (1.2, 1.2)},
    VOLUME: {"forward": (10.0, 10.0), "backward": (8.0, 8.0)},
    VOLUME_STEM: {"forward": (1.3, 1.3), "backward": (1.3, 1.3)},
    TRANSPOSED: {"forward": (1.3, 1.3), "backward": (1.3, 1.3)},
    OTHER: {},
    DOUBLE_3X3: {"forward": (3.0, 3.0), "backward": (3.0, 3.0)},
    DOUBLE_DEPTHWISE: {"backward": (3.0, 3.0)},
    DOUBLE: {"backward": (3.0, 3.0)},
    DOUBLE_POOL: {},
    POOL: {"forward": (2.0, 2.0), "dx": (1.5, 1.5)},
    POOL_BEYOND: {"forward": (3.0, 3.0), "dx": (3.0, 3.0)},
    RELU: {"forward": (1.0, 1.0), "dx": (1.0, 1.0)},
    RELU_BEYOND: {"forward": (3.0, 3.0), "dx": (3.0, 3.0)},
}
"""Times faster on the first of `TERMS`, by class and op. Forward of `DOUBLE` is measured by `double_shares`."""


IN_DOUBLE = {
    **dict.fromkeys((DEPTHWISE, DEPTHWISE_5X5_S2, DEPTHWISE_1D), DOUBLE_DEPTHWISE),
    **dict.fromkeys((POOL, POOL_BEYOND, RELU, RELU_BEYOND), DOUBLE_POOL),
}
"""The classes of float64 that are not `DOUBLE`, by those that the layer has in float32."""


def class_of(case: Case, dtype: str) -> str:
    """The class of a row, a key of `TARGETS`."""
    single = _single_class(case)
    if dtype == "float32":
        return single
    if isinstance(case, ConvCase) and _is_dense_3x3_s1(case):
        return DOUBLE_3X3
    return IN_DOUBLE.get(single, DOUBLE)


def _is_dense_3x3_s1(case: ConvCase) -> bool:
    steps = {*per_axis(case.stride, len(case.x_shape) - 2), *per_axis(case.dilation, len(case.x_shape) - 2)}
    return case.groups == 1 and case.w_shape[2:] == (3, 3) and steps == {1}


def _single_class(case: Case) -> str:
    if isinstance(case, ConvTransposeCase):
        return TRANSPOSED
    if not isinstance(case, ConvCase):
        beyond = math.prod(case.x_shape) * np.dtype(np.float32).itemsize > CACHE
        if isinstance(case, PoolCase):
            return POOL_BEYOND if beyond else POOL
        return RELU_BEYOND if beyond and not case.variant else RELU
    n, c, *size = case.x_shape
    kernel, narrow = case.w_shape[2:], min(c, case.w_shape[0])
    stride, dilation = (set(per_axis(value, len(size))) for value in (case.stride, case.dilation))
    dense = case.groups == 1 and dilation == {1}
    ours = _is_dense_3x3_s1(case)
    if case.groups == c > 1:
        if max(kernel) >= LONG_KERNEL:
            return OTHER
        if len(size) == 1:
            return DEPTHWISE_1D
        return DEPTHWISE_5X5_S2 if kernel == (5, 5) and stride == {2} else DEPTHWISE
    if not dense:
        return GROUPED
    if c == 1 and len(size) == 2 and n >= 64:
        return GRAY
    if ours and narrow >= 64:
        if n >= 8 or min(size) >= 28:
            return LARGE
        return MIDDLE if min(size) >= 14 else SMALL
    if ours and 16 <= narrow <= 32:
        return NARROW
    if kernel == (1, 1) or (stride == {2} and kernel in ((3, 3), (7, 7))):
        return PLAIN
    if kernel == (3, 3, 3) and case.w_shape[0] <= 64 and c >= 16:
        return VOLUME
    return BY_KERNEL.get(kernel, OTHER)


class Comparison(NamedTuple):
    """One row against one peer."""

    row: str
    layer_class: str
    op: str
    terms: Terms
    ratio: Interval

    @property
    def target(self) -> float | None:
        """What the class should reach on these terms, None where nothing is wanted."""
        wanted = TARGETS.get(self.layer_class, {}).get(self.op, ())
        place = TERMS.index(self.terms)
        return wanted[place] if place < len(wanted) else None

    @property
    def short(self) -> bool:
        return self.target is not None and self.ratio.median < SHORT * self.target

    @property
    def lost(self) -> bool:
        return self.ratio.high < 1


def full_name(row: Mapping[str, Any]) -> str:
    """Of a row of the JSON: layer, op, dtype and memory order."""
    return f"{row['name']} {row['op']}, {row['dtype']}, {row['order']}"


def comparisons(rows: Iterable[Mapping[str, Any]]) -> list[Comparison]:
    """Every ratio against a peer of `TERMS` in the rows of a report's JSON."""
    return [
        Comparison(full_name(row), row["class"], row["op"], terms, Interval(**row["times_faster_than"][terms.peer]))
        for row in rows
        for terms in TERMS
        if row["order"] == terms.order and terms.peer in row["times_faster_than"]
    ]


@dataclass(frozen=True)
class ClassSummary:
    """One op of one class: its rows, the geomean of their shares of the FMA peak, and of their ratios by terms."""

    layer_class: str
    op: str
    rows: int
    share: float
    ratios: dict[Terms, float]
    targets: dict[Terms, float]

    def cell(self, terms: Terms) -> str:
        """The ratio, and the target where there is one."""
        if terms not in self.ratios:
            return "-"
        wanted = f" / {self.targets[terms]:.3g}" if terms in self.targets else ""
        return f"{self.ratios[terms]:.3g}{wanted}"


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[ClassSummary]:
    """A summary for every class and op that rows of a report's JSON have, in the order of `TARGETS`."""
    found = []
    for layer_class in TARGETS:
        members = [row for row in rows if row["class"] == layer_class and row["share_of_limit"]]
        for op in dict.fromkeys(row["op"] for row in members):
            chosen = [row for row in members if row["op"] == op]
            compared = comparisons(chosen)
            ratios = {
                terms: geomean(c.ratio.median for c in compared if c.terms == terms)
                for terms in TERMS
                if any(c.terms == terms for c in compared)
            }
            targets = {c.terms: c.target for c in compared if c.target is not None}
            share = geomean(row["share_of_limit"] for row in chosen)
            found.append(ClassSummary(layer_class, op, len(chosen), share, ratios, targets))
    return found


def double_shares(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """By row of class `DOUBLE`: its share of the float64 peak over the share that the same row has in float32.

    It should be 1. Rows that were not measured in both types are left out.
    """
    shares = {(row["name"], row["op"], row["order"], row["dtype"]): row["share_of_limit"] for row in rows}
    return {
        full_name(row): row["share_of_limit"] / shares[single]
        for row in rows
        if row["class"] == DOUBLE
        if shares.get(single := (row["name"], row["op"], row["order"], "float32"))
    }


def geomean(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))
