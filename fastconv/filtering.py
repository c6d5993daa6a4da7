"""How kernels are put together for the passes of `_kernels/_filter.pyx`."""
from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import numpy as np

from ._kernels import _filter  # type: ignore[attr-defined]

TOGETHER = 4
"""Kernels that share their reads of the image: FC_FILTER_KERNELS."""

PASS_TAPS = 3
"""Taps that a second pass over a row costs besides its own: the first one's results are stored and read again."""


class Group(NamedTuple):
    """One pass over the image: kernels that are done together, or one that is separable."""

    results: tuple[int, ...]  # which kernels of the bank
    taps: list[tuple[int, int]]  # (down, along) from the result's pixel; of a separable kernel those down a column
    along: list[int]  # pixels right of the leftmost tap, of a separable kernel; else empty
    width: int  # kernels with weights, 1 or TOGETHER: some may be zeros
    weights: np.ndarray


def run(image: np.ndarray, kernels: Sequence[np.ndarray], y: np.ndarray, mode: int, offset: float,
        num_threads: int | None) -> None:
    """y[kernel, h, w, c] = image[h, w, c] filtered; the kernels are finite float64 arrays of two axes."""
    dtype = np.float64 if y.dtype == np.float64 else np.float32
    reach = [max(part) for part in zip(*(_reach(kernel.shape) for kernel in kernels), strict=True)]
    groups = groups_of(kernels, float(np.finfo(dtype).eps))
    weights = np.concatenate([group.weights.ravel() for group in groups]).astype(dtype)
    table, taps = tables_of(groups, reach, image.shape[2])
    _filter.run(image, y, table, taps, weights, np.array(reach, np.intp), mode, offset, num_threads)


def _reach(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """How far a kernel of this shape reads above, below, left and right of its result."""
    r, s = shape
    return r // 2, (r - 1) // 2, s // 2, (s - 1) // 2


def tables_of(groups: Sequence[Group], reach: Sequence[int], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups and taps as arrays, in the layout that `_filter.run` documents."""
    above, _, left, _ = reach
    table: list[list[int]] = []
    taps: list[tuple[int, int]] = []
    weights = 0
    for group in groups:
        extra = max(group.along, default=0) * channels
        results = [*group.results, *[-1] * (TOGETHER - len(group.results))]
        table.append([group.width, len(group.taps), len(group.along), extra, len(taps), weights, *results])
        taps += [(above + down, (left + along) * channels) for down, along in group.taps]
        taps += [(0, along * channels) for along in group.along]
        weights += group.weights.size
    return np.array(table, np.intp), np.array(taps, np.intp)


def groups_of(kernels: Sequence[np.ndarray], eps: float) -> list[Group]:
    """The groups of a bank: separable kernels where two passes have less to do than one, the others four at a time."""
    groups: list[Group] = []
    dense: list[int] = []
    for index, kernel in enumerate(kernels):
        factors = factors_of(kernel, eps)
        if factors is None or sum(map(np.count_nonzero, factors)) + PASS_TAPS > np.count_nonzero(kernel):
            dense.append(index)
        else:
            groups.append(_separable(index, kernel.shape, *factors))
    while dense:
        count = TOGETHER if len(dense) >= 3 else 1
        groups.append(_together(kernels, dense[:count], count))
        dense = dense[count:]
    return groups


def factors_of(kernel: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(column, row) whose outer product is the kernel to rounding, or None. Whole numbers stay whole."""
    i, j = np.unravel_index(np.abs(kernel).argmax(), kernel.shape)
    row = kernel[i]
    if not row[j]:
        return None
    whole = np.abs(kernel).max() < 2**53 and not np.any(kernel % 1)
    row = row / (gcd(*map(int, row)) if whole else row[j])
    column = kernel[:, j] / row[j]
    error = np.abs(np.outer(column, row) - kernel).max()
    return (column, row) if error <= 2 * eps * np.abs(kernel).max() else None


def _separable(index: int, shape: tuple[int, ...], column: np.ndarray, row: np.ndarray) -> Group:
    down, along = column.nonzero()[0], row.nonzero()[0]
    taps = [(int(i) - shape[0] // 2, int(along[0]) - shape[1] // 2) for i in down]
    weights = np.concatenate([column[down], row[along]])
    return Group((index,), taps, [int(j - along[0]) for j in along], 1, weights)


def _together(kernels: Sequence[np.ndarray], indices: Sequence[int], width: int) -> Group:
    """Kernels with the taps that any of them has; at least one, for a kernel of zeros."""
    places: dict[tuple[int, int], np.ndarray] = {}
    for place, index in enumerate(indices):
        kernel = kernels[index]
        for i, j in zip(*kernel.nonzero(), strict=True):
            tap = int(i) - kernel.shape[0] // 2, int(j) - kernel.shape[1] // 2
            places.setdefault(tap, np.zeros(width))[place] = kernel[i, j]
    places = places or {(0, 0): np.zeros(width)}
    taps = sorted(places)
    return Group(tuple(indices), taps, [], width, np.array([places[tap] for tap in taps]))
