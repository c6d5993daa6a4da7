"""Transposed convolution, and gradients that reach few results, against the reference."""
import numpy as np
import pytest
from conv_cases import function
from kernel_helpers import ORDERS, Guarded, small_integers

import fastconv as fc
from fastconv import reference

TRANSPOSED = {
    "2x2-stride2": ((2, 17, 5, 6), (17, 9, 2, 2), {"stride": 2}),
    "4x4-stride2": ((1, 6, 5, 5), (6, 18, 4, 4), {"stride": 2, "padding": 1}),
    "3x3-output-padding": ((1, 6, 5, 5), (6, 4, 3, 3), {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)}),
    "dilated-groups": ((2, 6, 4, 4), (6, 5, 3, 3), {"groups": 3, "dilation": (2, 1), "padding": ((1, 0), (0, 1))}),
    "dilated-rows": ((1, 5, 12, 9), (5, 4, 3, 3), {"dilation": (6, 2), "padding": (2, 1)}),
    "output-padding-within-dilation": ((1, 3, 4, 4), (3, 2, 3, 3), {"dilation": 3, "output_padding": 2}),
    "1d-vocoder": ((1, 12, 7), (12, 3, 16), {"stride": 8, "padding": 4}),
    "3d": ((1, 5, 3, 4, 3), (5, 6, 2, 3, 2), {"stride": (2, 1, 2)}),
}


@pytest.mark.parametrize("x_shape, w_shape, arguments", TRANSPOSED.values(), ids=TRANSPOSED)
@pytest.mark.parametrize("order", ORDERS)
def test_transposed(isa, threads, x_shape, w_shape, arguments, order):
    x, w = small_integers(x_shape, np.float32, 0, order), small_integers(w_shape, np.float32, 1)
    b = small_integers((w_shape[1] * arguments.get("groups", 1),), np.float32, 2)
    expected = function("conv_transpose{}d", w_shape, reference)(x, w, b, activation="relu", **arguments)
    got = function("conv_transpose{}d", w_shape)(x, w, b, activation="relu", algorithm="direct", **arguments)
    np.testing.assert_array_equal(got, expected)
    dy = small_integers(expected.shape, np.float32, 3, order)
    expected = function("conv_transpose{}d_backward", w_shape, reference)(dy, x, w, **arguments)
    got = function("conv_transpose{}d_backward", w_shape)(dy, x, w, algorithm="direct", **arguments)
    for g, e in zip(got, expected):
        np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("k, kernel, stride, padding", [
    (1, (150,), 75, 30), (2, (70,), 40, 0), (1, (24, 12), (12, 6), (5, 3)), (1, (9,), 20, 0),
    (3, (2, 3, 9), (1, 2, 9), 0)])
def test_blocks_of_phases_with_taps_of_their_own_are_exact(isa, threads, order, k, kernel, stride, padding):
    spatial, shape = tuple(7 - i for i in range(len(kernel))), (20, k, *kernel)
    x, w = small_integers((2, 20, *spatial), np.float32, order=order), small_integers(shape, np.float32, 1)
    arguments = {"stride": stride, "padding": padding}
    expected = function("conv_transpose{}d", shape, reference)(x, w, **arguments)
    out = Guarded(expected.shape, np.float32, order)
    function("conv_transpose{}d", shape)(x, w, out=out.array, algorithm="folded", **arguments)
    assert out.intact()
    np.testing.assert_array_equal(out.array, expected)


def test_gradient_of_a_single_output(isa, threads):
    for arguments in ({"stride": 1}, {"stride": 3, "padding": (0, 2)}, {"dilation": (2, 1)}):
        x, w = small_integers((70, 3, 5, 7), np.float32), small_integers((20, 3, 3, 7), np.float32, 1)
        x = x[:, :, :, :3] if "padding" in arguments else x
        dy = small_integers(reference.conv2d(x, w, **arguments).shape, np.float32, 2)
        assert 1 in dy.shape[2:]
        np.testing.assert_array_equal(fc.conv2d_backward_input(dy, w, x.shape, algorithm="direct", **arguments),
                                      reference.conv2d_backward_input(dy, w, x.shape, **arguments))
