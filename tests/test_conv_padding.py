"""Convolutions whose padding is wider than a box of work, which then lies wholly outside of the image."""
import numpy as np
import pytest
from kernel_helpers import ORDERS, assert_close, small_integers

import fastconv as fc
from fastconv import reference

# Far more padding than a box of work is wide, on one side or both.
WIDE_PADDING = {
    "strided": ((1, 1, 2), (1, 1, 1), {"stride": 7, "padding": 400_000}),
    "left": ((1, 3, 5), (20, 3, 3), {"padding": ((90_000, 0),)}),
    "right": ((1, 3, 5), (20, 3, 3), {"padding": ((0, 90_000),)}),
    "depthwise": ((1, 16, 5), (16, 1, 3), {"padding": 60_000, "groups": 16}),
    "2d": ((1, 17, 3, 4), (18, 17, 3, 3), {"padding": (1, 9_000)}),
    "2d-strided": ((1, 17, 3, 4), (18, 17, 3, 3), {"padding": (1, 18_000), "stride": 2}),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", WIDE_PADDING)
def test_work_that_lies_wholly_in_the_padding(isa, name, order):
    x_shape, w_shape, arguments = WIDE_PADDING[name]
    x, w = small_integers(x_shape, np.float32, 0, order), small_integers(w_shape, np.float32, 1)
    rank = len(x_shape) - 2
    conv, backward = getattr(fc, f"conv{rank}d"), getattr(fc, f"conv{rank}d_backward")
    expected = getattr(reference, f"conv{rank}d")(x, w, **arguments)
    dy = small_integers(expected.shape, np.float32, 2, order)
    gradients = getattr(reference, f"conv{rank}d_backward")(dy, x, w, **arguments)[:2]
    for algorithm in fc.conv_algorithms(x_shape, w_shape, **arguments):
        y = conv(x, w, algorithm=algorithm, **arguments)
        if algorithm in ("direct", "folded"):
            np.testing.assert_array_equal(y, expected)
        else:
            assert_close(y, expected, 9 * x_shape[1])
    for got, wanted in zip(backward(dy, x, w, need=(True, True, False), algorithm="direct", **arguments), gradients):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular"])
@pytest.mark.parametrize("order", ORDERS)
def test_work_that_lies_wholly_in_padding_of_a_mode(isa, order, mode):
    x, w = small_integers((1, 17, 3, 4), np.float32, 0, order), small_integers((18, 17, 3, 3), np.float32, 1)
    arguments = {"padding": (1, 9_000), "padding_mode": mode}
    np.testing.assert_array_equal(fc.conv2d(x, w, algorithm="direct", **arguments),
                                  reference.conv2d(x, w, **arguments))
