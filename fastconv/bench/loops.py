"""Plain Python loops over lists, timed on a layer that is cut down to a size they can finish.

Their time is scaled by the number of operations: a step of an interpreted loop costs the same at any size. Skipped
padding taps weigh more in the cut-down layer, so the scaled time is rather too short than too long.
"""

import math
import statistics
import time
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np

from .cases import Axis, Case, ConvCase, ConvTransposeCase, PoolCase
from .problems import Problem, make

LIMIT = 200_000
"""Operations of a cut-down layer: about 10 ms of interpreted loops."""


@cache
def scaled_seconds(case: Case, op: str) -> float:
    """Median of three runs of the cut-down layer, times the operations that were cut away.

    `backward` is `dx` and then `dw`; its `db` takes no time worth mentioning.
    """
    if op == "backward":
        return scaled_seconds(case, "dx") + scaled_seconds(case, "dw")
    small = cut_down(case)
    nest = LoopNest(make(small, op, "float64"))
    runs = []
    for _ in range(3):
        begin = time.perf_counter()
        nest.run()
        runs.append(time.perf_counter() - begin)
    return statistics.median(runs) * case.flops / small.flops


def cut_down(case: Case) -> Case:
    """The same kind of layer (kernel, stride, padding, dilation) with few images, channels and pixels."""
    if isinstance(case, ConvCase):
        return _cut_conv(case)
    if isinstance(case, ConvTransposeCase):
        small = _cut_conv(case.mirror)
        extra = tuple((a.size + 2 * a.padding - a.reach) % a.stride for a in small.axes)
        return replace(case, x_shape=small.y_shape, w_shape=small.w_shape, groups=small.groups, output_padding=extra)
    spatial = case.x_shape[2:]
    if isinstance(case, PoolCase):
        spatial = tuple(_cut_axis(axis) for axis in case.axes)
    else:
        spatial = tuple(min(size, 16) for size in spatial)
    small = replace(case, x_shape=(1, 1, *spatial))
    channels = max(1, min(case.x_shape[1], LIMIT // small.flops))
    return replace(case, x_shape=(1, channels, *spatial))


def _cut_conv(case: ConvCase) -> ConvCase:
    spatial = tuple(_cut_axis(axis) for axis in case.axes)
    groups = min(case.groups, 8)
    c, k = case.w_shape[1], case.w_shape[0] // case.groups
    while True:
        shapes = {"x_shape": (1, groups * c, *spatial), "w_shape": (groups * k, c, *case.w_shape[2:])}
        small = replace(case, groups=groups, **shapes)
        if small.flops <= LIMIT or c == k == 1 and groups <= 2:
            return small
        if c == k == 1:
            groups //= 2
            continue
        c, k = (c, (k + 1) // 2) if k > c else ((c + 1) // 2, k)


def _cut_axis(axis: Axis) -> int:
    """A size that gives at least five results, where so many are."""
    return min(axis.size, max(1, axis.reach + 4 * axis.stride - 2 * axis.padding))


class LoopNest:
    """The loops of one problem over its operands as nested lists; `run` is what is timed, once or many times.

    1-D and 2-D layers get unit axes, so that one nest of each kind serves all. Inputs are padded beforehand: a nest
    never asks whether it stands in the padding. Gradients are added up, so `result` is right after the first `run`.
    """

    def __init__(self, problem: Problem):
        if problem.case.family == "conv_transpose":
            problem = problem.mirror
        case = problem.case
        self.problem = problem
        self.nest = _NESTS[problem.kind]
        windows = getattr(case, "axes", ())
        self.axes = (Axis(1, 1, 1, 0, 1),) * (3 - len(windows)) + windows if windows else ()
        fill = -math.inf if case.family == "max_pool" else 0.0
        self.operands = {letter: self._lists(letter, array, fill) for letter, array in problem.operands.items()}
        letter = "y" if problem.op == "forward" else problem.op
        self.lists = self._lists(letter, np.zeros(problem.result_shape), 0.0)
        if windows:
            self.operands["starts"] = list(product(*(range(0, a.out * a.stride, a.stride) for a in self.axes)))
            self.operands["offsets"] = list(product(*(range(0, a.taps * a.dilation, a.dilation) for a in self.axes)))

    def run(self) -> None:
        self.nest(self.lists, **self.operands)

    def result(self) -> np.ndarray:
        array = np.array(self.lists)
        if self.problem.op == "dx":
            array = array[:, :, *(slice(axis.padding, -axis.padding or None) for axis in self.axes)]
        return array.reshape(self.problem.result_shape)

    def _lists(self, letter: str, array: np.ndarray, fill: float) -> list:
        """`[n][c][d][h][w]` of the padded input, or of its gradient; of everything else `[n][c][place]`."""
        if letter not in ("x", "dx") or not self.axes:
            return array.reshape(*array.shape[:2], -1).tolist()
        lifted = array.reshape(*array.shape[:2], *(1,) * (5 - array.ndim), *array.shape[2:])
        widths = ((0, 0), (0, 0), *((axis.padding, axis.padding) for axis in self.axes))
        return np.pad(lifted, widths, constant_values=fill).tolist()


def _conv(y, x, w, starts, offsets):
    k_per_group = len(w) * len(w[0]) // len(x[0])
    for n, image in enumerate(x):
        for k, kernel in enumerate(w):
            for o, (i, j, m) in enumerate(starts):
                total = 0.0
                for c, taps in enumerate(kernel, k // k_per_group * len(kernel)):
                    plane = image[c]
                    for (t, r, s), weight in zip(offsets, taps, strict=True):
                        total += plane[i + t][j + r][m + s] * weight
                y[n][k][o] = total


def _conv_dx(dx, dy, w, starts, offsets):
    k_per_group = len(w) * len(w[0]) // len(dx[0])
    for n, image in enumerate(dx):
        for k, kernel in enumerate(w):
            for (i, j, m), gradient in zip(starts, dy[n][k], strict=True):
                for c, taps in enumerate(kernel, k // k_per_group * len(kernel)):
                    plane = image[c]
                    for (t, r, s), weight in zip(offsets, taps, strict=True):
                        plane[i + t][j + r][m + s] += gradient * weight


def _conv_dw(dw, dy, x, starts, offsets):
    k_per_group = len(dw) * len(dw[0]) // len(x[0])
    for n, image in enumerate(x):
        for k, kernel in enumerate(dw):
            for c, taps in enumerate(kernel, k // k_per_group * len(kernel)):
                plane = image[c]
                for tap, (t, r, s) in enumerate(offsets):
                    total = 0.0
                    for (i, j, m), gradient in zip(starts, dy[n][k], strict=True):
                        total += plane[i + t][j + r][m + s] * gradient
                    taps[tap] += total


def _max_pool(y, x, starts, offsets):
    for n, image in enumerate(x):
        for c, plane in enumerate(image):
            for o, (i, j, m) in enumerate(starts):
                y[n][c][o] = max(plane[i + t][j + r][m + s] for t, r, s in offsets)


def _max_pool_dx(dx, dy, x, starts, offsets):
    for n, image in enumerate(x):
        for c, plane in enumerate(image):
            for (i, j, m), gradient in zip(starts, dy[n][c], strict=True):
                best, winner = -math.inf, (i, j, m)
                for t, r, s in offsets:
                    value = plane[i + t][j + r][m + s]
                    if value > best:
                        best, winner = value, (i + t, j + r, m + s)
                i, j, m = winner
                dx[n][c][i][j][m] += gradient


def _avg_pool(y, x, starts, offsets):
    for n, image in enumerate(x):
        for c, plane in enumerate(image):
            for o, (i, j, m) in enumerate(starts):
                total = 0.0
                for t, r, s in offsets:
                    total += plane[i + t][j + r][m + s]
                y[n][c][o] = total / len(offsets)


def _avg_pool_dx(dx, dy, starts, offsets):
    for n, image in enumerate(dx):
        for c, plane in enumerate(image):
            for (i, j, m), gradient in zip(starts, dy[n][c], strict=True):
                share = gradient / len(offsets)
                for t, r, s in offsets:
                    plane[i + t][j + r][m + s] += share


def _relu(y, x):
    for n, image in enumerate(x):
        for c, plane in enumerate(image):
            for o, value in enumerate(plane):
                y[n][c][o] = value if value > 0 else 0.0


def _relu_dx(dx, dy, x):
    for n, image in enumerate(x):
        for c, plane in enumerate(image):
            for o, value in enumerate(plane):
                dx[n][c][o] = dy[n][c][o] if value > 0 else 0.0


_NESTS = {
    ("conv", "forward"): _conv,
    ("conv", "dx"): _conv_dx,
    ("conv", "dw"): _conv_dw,
    ("max_pool", "forward"): _max_pool,
    ("max_pool", "dx"): _max_pool_dx,
    ("avg_pool", "forward"): _avg_pool,
    ("avg_pool", "dx"): _avg_pool_dx,
    ("relu", "forward"): _relu,
    ("relu", "dx"): _relu_dx,
}
