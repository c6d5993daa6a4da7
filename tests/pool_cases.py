"""The windows that pooling is tested with, and how its results are compared."""
import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS

import fastconv as fc
from fastconv import checks

# (x shape, arguments); extents sit at vector lengths, one beside them, and below.
CASES = {
    "2x2": ((2, 17, 12, 34), {"kernel_size": 2}),
    "2x2-odd": ((1, 16, 9, 35), {"kernel_size": 2}),
    "3x3-stride2": ((2, 5, 14, 33), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "3x3-stride2-ceil": ((1, 66, 8, 7), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "3x3-stride1": ((1, 3, 7, 40), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "5x5-stride1": ((1, 2, 9, 21), {"kernel_size": 5, "stride": 1, "padding": 2}),
    "7x5-stride2": ((1, 3, 16, 19), {"kernel_size": (7, 5), "stride": 2, "padding": ((3, 2), (0, 4))}),
    "stride3": ((1, 4, 11, 37), {"kernel_size": (2, 4), "stride": 3, "padding": 1}),
    "stride-beyond-kernel": ((1, 3, 9, 19), {"kernel_size": 1, "stride": (2, 4)}),
    "dilated": ((1, 3, 12, 25), {"kernel_size": 3, "dilation": (2, 3), "padding": (2, 3)}),
    "dilated-stride2": ((1, 2, 11, 24), {"kernel_size": (2, 3), "stride": (3, 2), "dilation": 2, "padding": (1, 2)}),
    "whole-plane": ((3, 9, 7, 7), {"kernel_size": 7}),
    "few-wide": ((1, 3, 5, 90), {"kernel_size": (2, 40), "stride": (2, 25), "padding": (0, 3)}),
    "many-taps": ((1, 2, 19, 21), {"kernel_size": 17, "stride": (1, 3), "padding": 5}),
    "one-channel": ((3, 1, 10, 36), {"kernel_size": 3, "stride": 2}),
    "one-pixel": ((2, 7, 1, 1), {"kernel_size": 1}),
    "1d": ((2, 3, 70), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "1d-long-windows": ((1, 2, 400), {"kernel_size": 70, "stride": 1, "padding": ((30, 9),)}),
    "1d-long-windows-stride2": ((1, 2, 401), {"kernel_size": 65, "stride": 2, "padding": 20, "ceil_mode": True}),
    "1d-long-row": ((1, 1, 2500), {"kernel_size": 4, "stride": 2}),
    "1d-stride4": ((2, 19, 90), {"kernel_size": 4, "stride": 4}),
    "short-rows": ((2, 33, 7, 7), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "short-rows-7x7": ((1, 35, 9, 8), {"kernel_size": 7, "stride": 1, "padding": 3}),
    "3d": ((1, 5, 6, 7, 18), {"kernel_size": 2}),
    "3d-overlapping": ((2, 3, 5, 6, 9), {"kernel_size": 3, "stride": (1, 2, 2), "padding": 1}),
    "3d-large-planes": ((1, 1, 3, 182, 190), {"kernel_size": 3, "stride": (1, 2, 2), "padding": 1}),
    "3d-one-plane": ((1, 33, 1, 6, 5), {"kernel_size": (1, 2, 3), "stride": (1, 2, 1)}),
}

case = pytest.mark.parametrize("name", CASES)
in_orders = pytest.mark.parametrize("order", ORDERS)
in_dtypes = pytest.mark.parametrize("dtype", DTYPES)
extremes = pytest.mark.parametrize("op", ["max", "min"])


def of_rank(name, array, module=fc):
    """The function for arrays (N, C, *spatial), `name` having {} where the rank stands."""
    return getattr(module, name.format(len(np.shape(array)) - 2))


def with_ties(shape, dtype, seed=0):
    """Few values, so that windows have ties, of both zeros too."""
    return np.random.default_rng(seed).choice([-1.5, -0.0, 0.0, 2.0], shape).astype(dtype)


def same(got, expected):
    """Equal shape, dtype and elements, signs of zeros included."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    if got.dtype.kind == "f":
        real = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got)[real], np.signbit(expected)[real])


def kernel_of(name):
    shape, arguments = CASES[name]
    return checks.per_axis("test", "kernel_size", arguments["kernel_size"], len(shape) - 2, 1)
