"""Every algorithm keeps its error bound, on every instruction set.

The error is normwise: max|e| / max|y| over a whole result. The bounds are those of float32; in float64 they shrink with
the unit roundoff. Results are compared with whole-array NumPy in float64, whose BLAS sums in blocks: its own error is
below a tenth of the bounds, while one running sum would spend all of them.
"""
from functools import cache

import numpy as np
import pytest
from kernel_helpers import ORDERS, in_order

from fastconv.bench import naive
from fastconv.bench.cases import ConvCase
from fastconv.bench.contenders import Fastconv, algorithms
from fastconv.bench.problems import DTYPES, Problem

# Up to a reduction of 4,608 products for forward and dx; over any number of pixels for dw.
BOUNDS = {
    "direct": {"forward": 3e-6, "dx": 3e-6, "dw": 5e-6},
    "folded": {"forward": 3e-6, "dx": 3e-6},
    "exchanged": {"dw": 8e-6},  # of whatever algorithm it takes
    "winograd2": {"forward": 3e-6, "dx": 3e-6, "dw": 5e-6},
    "winograd4": {"forward": 5e-6, "dx": 5e-6, "dw": 8e-6},
    "winograd1d": {"forward": 5e-6, "dx": 5e-6, "dw": 8e-6},
    "fft": {"forward": 5e-6, "dx": 5e-6, "dw": 8e-6},
}
CASES = (
    ConvCase("reduction of 4,608", "", (1, 512, 14, 14), (512, 512, 3, 3), padding=1),
    ConvCase("100,000 pixels", "", (32, 20, 56, 56), (24, 20, 3, 3), padding=1),
    ConvCase("tails", "", (3, 37, 29, 23), (50, 37, 3, 3), padding=1),
    ConvCase("few results", "", (4, 64, 50, 50), (3, 64, 3, 3), padding=1),
    ConvCase("few channels", "", (2, 3, 64, 64), (8, 3, 3, 3), padding=1),
    ConvCase("strided", "", (2, 128, 15, 15), (96, 128, 3, 3), padding=1, stride=2),
    ConvCase("1x1", "", (1, 512, 7, 7), (2048, 512, 1, 1)),
    ConvCase("3x3x3", "", (1, 170, 4, 14, 14), (96, 170, 3, 3, 3), padding=1),
    ConvCase("5x5", "", (2, 180, 13, 15), (96, 180, 5, 5), padding=2),
    *(ConvCase(f"{k} taps", "", (2, 4608 // k, 90), (300, 4608 // k, k), padding=k // 2) for k in (3, 4, 5, 7, 9)),
    ConvCase("64 taps", "", (2, 72, 300), (40, 72, 64), padding=31),
    ConvCase("2,048 taps", "", (1, 1, 6000), (1, 1, 2048), padding=1000),
    ConvCase("depthwise 64 taps", "", (2, 40, 200), (40, 1, 64), padding=32, groups=40),
)
READS = {"forward": "x w", "dx": "dy w", "dw": "dy x"}


@cache
def operands(case, data):
    """float64 arrays that float32 holds exactly; `relu` has no negative activations and gradients."""
    rng = np.random.default_rng(0)
    shapes = {"x": case.x_shape, "w": case.w_shape, "dy": case.y_shape}
    drawn = {letter: rng.standard_normal(shape, np.float32).astype(np.float64) for letter, shape in shapes.items()}
    if data == "relu":
        drawn |= {letter: np.maximum(drawn[letter], 0) for letter in ("x", "dy")}
    return drawn


def problem(case, op, data, dtype, order):
    arrays = {letter: operands(case, data)[letter].astype(dtype) for letter in READS[op].split()}
    return Problem(case, op, dtype, order, {k: a if k == "w" else in_order(a, order) for k, a in arrays.items()})


@cache
def expected(case, op, data):
    return naive.vectorised(problem(case, op, data, "float64", "channels_first"))()


SERVED = [
    pytest.param(case, algorithm, op, bound, id=f"{case.name}-{algorithm}-{op}")
    for case in CASES
    for algorithm, bounds in BOUNDS.items()
    for op, bound in bounds.items()
    if algorithm in algorithms(Problem(case, op, "float32", "channels_first", {}))
]


@pytest.mark.parametrize("data", ["normal", "relu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case, algorithm, op, bound", SERVED)
def test_error_bound(isa, case, algorithm, op, bound, dtype, data):
    exact = expected(case, op, data)
    for order in ORDERS:
        result = Fastconv(algorithm).prepare(problem(case, op, data, dtype, order))()
        allowed = bound * np.finfo(dtype).eps / np.finfo(np.float32).eps
        error = np.abs(result - exact).max() / np.abs(exact).max()
        assert error <= allowed, f"{order}: {error:.3g} of the largest value, allowed are {allowed:.3g}"
