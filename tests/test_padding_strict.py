"""With `direct`, taps that lie on padding contribute nothing, whatever is not finite: dy in dw, w in y and dx."""
import numpy as np
import pytest
from kernel_helpers import ORDERS, in_order, small_integers

import fastconv as fc
from fastconv import reference

# (x shape, w shape, arguments)
CASES = {
    "dense": ((2, 20, 9, 21), (18, 20, 3, 3), {"padding": 1}),
    "few-channels": ((2, 3, 19, 37), (33, 3, 7, 7), {"padding": 3, "stride": 2}),
    "many-channels": ((1, 150, 5, 6), (141, 150, 3, 3), {"padding": 1}),
    "dilated": ((2, 17, 13, 15), (20, 17, 3, 3), {"padding": 4, "dilation": 4}),
    "wide": ((1, 5, 3, 4), (6, 5, 2, 3), {"padding": 5, "stride": (2, 1)}),
    "1x1": ((2, 18, 4, 5), (19, 18, 1, 1), {"padding": 2}),
    "one-sided": ((1, 6, 7, 8), (7, 6, 3, 4), {"padding": ((0, 2), (3, -1))}),
    "regions": ((2, 32, 56, 56), (40, 32, 3, 3), {"padding": 1}),
    "groups": ((2, 24, 8, 9), (36, 8, 3, 3), {"groups": 3, "padding": 1}),
    "few-channels-a-group": ((2, 28, 9, 33), (28, 4, 3, 3), {"groups": 7, "padding": 1}),
    "depthwise": ((2, 37, 9, 35), (37, 1, 3, 3), {"groups": 37, "padding": 1}),
    "depthwise-strided": ((1, 17, 21, 40), (17, 1, 5, 3), {"groups": 17, "padding": (2, 1), "stride": 2}),
    "depthwise-small": ((3, 20, 5, 4), (20, 1, 5, 5), {"groups": 20, "padding": 2}),
    "depthwise-multiplied": ((2, 9, 8, 20), (18, 1, 3, 3), {"groups": 9, "padding": (2, 2), "dilation": 2}),
    "1d": ((3, 7, 50), (12, 7, 9), {"padding": 4}),
    "1d-depthwise": ((2, 18, 45), (18, 1, 7), {"groups": 18, "padding": 3}),
    "3d": ((2, 6, 4, 6, 7), (9, 6, 3, 3, 3), {"padding": 1}),
    "3d-depthwise": ((1, 17, 4, 6, 20), (17, 1, 3, 3, 3), {"groups": 17, "padding": 1}),
    "reflect": ((2, 6, 8, 9), (7, 6, 3, 3), {"padding": 2, "padding_mode": "reflect"}),
    "reflect-depthwise": ((2, 18, 8, 20), (18, 1, 3, 3), {"groups": 18, "padding": 1, "padding_mode": "reflect"}),
}
VALUES = (np.nan, np.inf, -np.inf)


def named(name, w_shape, module=fc):
    return getattr(module, name.format(len(w_shape) - 2))


def spoilt(a, seed):
    """A copy with values that are not finite in its corners, at an edge and somewhere inside, in some channels."""
    a, rng = a.copy(), np.random.default_rng(seed)
    for place in range(4):
        channel = rng.integers(a.shape[1])
        at = [rng.choice([0, n - 1]) if place < 3 else rng.integers(n) for n in a.shape[2:]]
        a[rng.integers(a.shape[0]), channel, *at] = rng.choice(VALUES)
    return a


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CASES)
def test_gradients_that_are_not_finite_beside_padding(isa, order, name):
    x_shape, w_shape, arguments = CASES[name]
    x, w = small_integers(x_shape, np.float32), small_integers(w_shape, np.float32, 1)
    dy = small_integers(named("conv{}d", w_shape, reference)(x, w, **arguments).shape, np.float32, 2)
    for seed in range(2):
        bad = spoilt(dy, seed)
        expected = named("conv{}d_backward", w_shape, reference)(bad, x, w, **arguments)
        got = named("conv{}d_backward", w_shape)(in_order(bad, order), in_order(x, order), w, algorithm="direct",
                                                 **arguments)
        assert np.isfinite(expected[1]).any()
        for g, e in zip(got, expected):
            np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CASES)
def test_weights_that_are_not_finite_beside_padding(isa, order, name):
    x_shape, w_shape, arguments = CASES[name]
    x, w = small_integers(x_shape, np.float32), spoilt(small_integers(w_shape, np.float32, 1), 3)
    expected = named("conv{}d", w_shape, reference)(x, w, **arguments)
    got = named("conv{}d", w_shape)(in_order(x, order), w, algorithm="direct", **arguments)
    np.testing.assert_array_equal(got, expected)
    dy = small_integers(expected.shape, np.float32, 2)
    expected = named("conv{}d_backward_input", w_shape, reference)(dy, w, x_shape, **arguments)
    got = named("conv{}d_backward_input", w_shape)(in_order(dy, order), w, x_shape, algorithm="direct", **arguments)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("x_shape, w_shape, arguments", [
    ((2, 17, 5, 6), (17, 9, 4, 4), {"stride": 2, "padding": 1}),
    ((2, 20, 6, 7), (20, 1, 3, 3), {"groups": 20, "padding": 1}),
    ((1, 6, 12), (6, 3, 8), {"stride": 4, "padding": 2}),
    ((1, 5, 3, 4, 3), (5, 6, 3, 3, 3), {"padding": 1, "stride": (2, 1, 2)}),
])
def test_transposed_convolution(isa, order, x_shape, w_shape, arguments):
    x, w = spoilt(small_integers(x_shape, np.float32), 0), small_integers(w_shape, np.float32, 1)
    expected = named("conv_transpose{}d", w_shape, reference)(x, w, **arguments)
    got = named("conv_transpose{}d", w_shape)(in_order(x, order), w, algorithm="direct", **arguments)
    np.testing.assert_array_equal(got, expected)
    dy = small_integers(expected.shape, np.float32, 2)
    for operands in ((dy, x, w), (spoilt(dy, 1), x, w), (dy, x, spoilt(w, 2))):
        expected = named("conv_transpose{}d_backward", w_shape, reference)(*operands, **arguments)
        got = named("conv_transpose{}d_backward", w_shape)(in_order(operands[0], order), in_order(operands[1], order),
                                                           operands[2], algorithm="direct", **arguments)
        for g, e in zip(got, expected):
            np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["dense", "depthwise", "many-channels"])
def test_gradients_that_are_not_finite_are_accumulated_once(isa, order, name):
    x_shape, w_shape, arguments = CASES[name]
    x, dy = small_integers(x_shape, np.float32), spoilt(small_integers(x_shape[:1] + w_shape[:1] + x_shape[2:],
                                                                       np.float32, 2), 0)
    into = small_integers(w_shape, np.float32, 3)
    expected = into + reference.conv2d_backward_weight(dy, x, w_shape, **arguments).astype(np.float32)
    fc.conv2d_backward_weight(in_order(dy, order), in_order(x, order), w_shape, algorithm="direct", out=into,
                              accumulate=True, **arguments)
    np.testing.assert_array_equal(into, expected)
