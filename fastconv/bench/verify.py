"""Is a result right? Two hundred of its elements against float64, whoever computed it.

An expected element is one dot product (or maximum, or mean) of plain NumPy over the patch that it needs, so a row is
verified at the size and with the plan that is timed, however large it is. Nothing here is shared with the package.
"""

import math
from collections.abc import Sequence
from itertools import count, product
from typing import Any

import numpy as np

from .cases import Axis
from .problems import Problem

SAMPLES = 200


class WrongResult(Exception):
    """A result of the wrong shape, dtype or value; the message says which element and by how much."""


def check(problem: Problem, result: Any, samples: int = SAMPLES) -> float:
    """Compare sampled elements of `result` with float64 and return max|e| / max|y| over them.

    `result` is an array; where the problem has several parts one array a part, and the largest error is returned.

    Raises
    ------
    WrongResult
        Where shape or dtype differ, any element is not finite, or a sample is off by more than `tolerance`.
    """
    if len(problem.parts) > 1:
        return max(check(part, array, samples) for part, array in zip(problem.parts, result, strict=True))
    if result.shape != problem.result_shape or result.dtype != problem.dtype:
        raise WrongResult(
            f"{problem.name}: got {result.dtype} {result.shape}, expected {problem.dtype} {problem.result_shape}"
        )
    finite = np.isfinite(result)
    if not finite.all():
        raise WrongResult(f"{problem.name}: element {_first(~finite)} is {result[_first(~finite)]}")
    places = sample_places(problem.result_shape, samples)
    wanted = np.array([expected(problem, place) for place in places])
    got = np.array([result[place] for place in places], np.float64)
    scale = max(float(np.abs(wanted).max()), np.finfo(problem.dtype).tiny)
    errors = np.abs(got - wanted) / scale
    worst = int(errors.argmax())
    if errors[worst] > tolerance(problem):
        raise WrongResult(
            f"{problem.name}: element {places[worst]} is {got[worst]!r}, expected {wanted[worst]!r}; "
            f"the error is {errors[worst]:.1e} of the largest value, allowed are {tolerance(problem):.1e}"
        )
    return float(errors[worst])


def tolerance(problem: Problem) -> float:
    """Allowed max|e| / max|y|: 0 where nothing is rounded, else a constant and a random walk of the rounding errors.

    The constant leaves room for Winograd's transforms. A forgotten product shows as about 1/sqrt(reduction), which is
    50 times the tolerance or more in every row of the suite.
    """
    if problem.reduction == 0:
        return 0.0
    return float(np.finfo(problem.dtype).eps) * (64 + math.sqrt(problem.reduction))


def sample_places(shape: tuple[int, ...], samples: int = SAMPLES) -> list[tuple[int, ...]]:
    """Every corner, tails (an axis at one of its last 16 positions), the rest at random; no place twice."""
    if math.prod(shape) <= samples:
        return list(np.ndindex(shape))
    rng = np.random.default_rng(len(shape))
    places = dict.fromkeys(product(*(sorted({0, size - 1}) for size in shape)))
    for attempt in count():
        if len(places) == samples:
            return list(places)
        place = [int(rng.integers(size)) for size in shape]
        if attempt % 2:
            axis = int(rng.integers(len(shape)))
            place[axis] = int(rng.integers(max(0, shape[axis] - 16), shape[axis]))
        places[tuple(place)] = None


def expected(problem: Problem, place: tuple[int, ...]) -> float:
    """The element of the result at `place`, computed in float64."""
    if problem.case.family == "conv_transpose" and problem.op != "db":
        problem = problem.mirror
    return _EXPECTED[problem.kind](problem, place)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(mask.argmax(), mask.shape))


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    return float((a.astype(np.float64) * b).sum())


def _at_output(axis: Axis, o: int) -> tuple[np.ndarray, np.ndarray]:
    """Taps of output `o` that lie inside the input, and the inputs they meet."""
    t = np.arange(axis.taps)
    i = o * axis.stride + t * axis.dilation - axis.padding
    inside = (i >= 0) & (i < axis.size)
    return t[inside], i[inside]


def _at_tap(axis: Axis, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Outputs whose tap `t` lies inside the input, and the inputs they meet."""
    o = np.arange(axis.out)
    i = o * axis.stride + t * axis.dilation - axis.padding
    inside = (i >= 0) & (i < axis.size)
    return o[inside], i[inside]


def _at_input(axis: Axis, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that read input `i`, and the taps by which they do."""
    t = np.arange(axis.taps)
    o, rest = np.divmod(i + axis.padding - t * axis.dilation, axis.stride)
    meets = (rest == 0) & (o >= 0) & (o < axis.out)
    return o[meets], t[meets]


def _patches(at, axes: Sequence[Axis], place: Sequence[int]) -> tuple[tuple, tuple]:
    """Both results of `at` over all axes, as indices of rectangular patches."""
    first, second = zip(*(at(axis, position) for axis, position in zip(axes, place, strict=True)), strict=True)
    return np.ix_(*first), np.ix_(*second)


def _group(problem: Problem, k: int) -> int:
    return k // (problem.case.w_shape[0] // problem.case.groups)


def _conv(problem: Problem, place: tuple[int, ...]) -> float:
    n, k, *out = place
    taps, inputs = _patches(_at_output, problem.case.axes, out)
    w = problem.operands["w"][k]
    first = _group(problem, k) * len(w)
    return _dot(problem.operands["x"][n, first : first + len(w)][:, *inputs], w[:, *taps])


def _conv_dx(problem: Problem, place: tuple[int, ...]) -> float:
    n, c, *into = place
    outputs, taps = _patches(_at_input, problem.case.axes, into)
    w = problem.operands["w"]
    group, c_of_group = divmod(c, w.shape[1])
    k_per_group = len(w) // problem.case.groups
    ks = slice(group * k_per_group, (group + 1) * k_per_group)
    return _dot(problem.operands["dy"][n, ks][:, *outputs], w[ks, c_of_group][:, *taps])


def _conv_dw(problem: Problem, place: tuple[int, ...]) -> float:
    k, c_of_group, *taps = place
    outputs, inputs = _patches(_at_tap, problem.case.axes, taps)
    c = _group(problem, k) * problem.case.w_shape[1] + c_of_group
    return _dot(problem.operands["dy"][:, k][:, *outputs], problem.operands["x"][:, c][:, *inputs])


def _conv_db(problem: Problem, place: tuple[int, ...]) -> float:
    (k,) = place
    return float(problem.operands["dy"][:, k].sum(dtype=np.float64))


def _max_pool(problem: Problem, place: tuple[int, ...]) -> float:
    n, c, *out = place
    _, inputs = _patches(_at_output, problem.case.axes, out)
    return float(problem.operands["x"][n, c][inputs].max())


def _max_pool_dx(problem: Problem, place: tuple[int, ...]) -> float:
    """The gradient of every window that reads the place and whose first maximum stands there."""
    n, c, *into = place
    x, dy = problem.operands["x"][n, c], problem.operands["dy"][n, c]
    total = 0.0
    outputs = (_at_input(axis, i)[0] for axis, i in zip(problem.case.axes, into, strict=True))
    for out in product(*outputs):
        _, inputs = _patches(_at_output, problem.case.axes, out)
        window = x[inputs]
        first = np.unravel_index(window.argmax(), window.shape)
        if [int(axis.flat[i]) for axis, i in zip(inputs, first, strict=True)] == into:
            total += float(dy[out])
    return total


def _avg_pool(problem: Problem, place: tuple[int, ...]) -> float:
    """Every divisor is the window's size: no case of the suite has a window that leaves the padded input."""
    n, c, *out = place
    _, inputs = _patches(_at_output, problem.case.axes, out)
    return float(problem.operands["x"][n, c][inputs].sum(dtype=np.float64)) / problem.reduction


def _avg_pool_dx(problem: Problem, place: tuple[int, ...]) -> float:
    n, c, *into = place
    outputs, _ = _patches(_at_input, problem.case.axes, into)
    return float(problem.operands["dy"][n, c][outputs].sum(dtype=np.float64)) / problem.reduction


def _relu(problem: Problem, place: tuple[int, ...]) -> float:
    return max(float(problem.operands["x"][place]), 0.0)


def _relu_dx(problem: Problem, place: tuple[int, ...]) -> float:
    return float(problem.operands["dy"][place]) if problem.operands["x"][place] > 0 else 0.0


_EXPECTED = {
    ("conv", "forward"): _conv,
    ("conv", "dx"): _conv_dx,
    ("conv", "dw"): _conv_dw,
    ("conv", "db"): _conv_db,
    ("conv_transpose", "db"): _conv_db,
    ("max_pool", "forward"): _max_pool,
    ("max_pool", "dx"): _max_pool_dx,
    ("avg_pool", "forward"): _avg_pool,
    ("avg_pool", "dx"): _avg_pool_dx,
    ("relu", "forward"): _relu,
    ("relu", "dx"): _relu_dx,
}
