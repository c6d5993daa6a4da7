"""Weight gradients with x and dy exchanged: few output channels."""

import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS, Guarded, assert_close, in_order, normal, small_integers

import fastconv as fc
from fastconv import reference

# x shape, w shape, arguments
CASES = {
    "3x3": ((3, 40, 17, 19), (3, 40, 3, 3), {"padding": 1}),
    "1x1": ((2, 65, 9, 11), (2, 65, 1, 1), {}),
    "one": ((2, 33, 12, 13), (1, 33, 5, 5), {"padding": 2}),
    "uneven padding": ((2, 20, 12, 13), (4, 20, 3, 4), {"padding": ((0, 2), (3, 1))}),
    "dilated": ((2, 24, 14, 15), (5, 24, 3, 3), {"padding": 2, "dilation": 2}),
    "no padding": ((1, 50, 12, 9), (8, 50, 7, 5), {}),
    "1-D": ((4, 30, 333), (2, 30, 9), {"padding": 4}),
    "3-D": ((2, 18, 6, 7, 8), (3, 18, 3, 3, 3), {"padding": 1}),
}


def of_rank(module, name, shape):
    return getattr(module, name.format(len(shape) - 2))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dy_order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_the_reference(isa, threads, name, order, dy_order, dtype):
    x_shape, w_shape, arguments = CASES[name]
    x = normal(x_shape, dtype, 0, order)
    y_shape = of_rank(reference, "conv{}d", x_shape)(x[:1, :1], np.ones((1, 1, *w_shape[2:]), dtype), **arguments).shape
    dy = in_order(normal((x_shape[0], w_shape[0], *y_shape[2:]), dtype, 1), dy_order)
    assert "exchanged" in fc.conv_algorithms(x_shape, w_shape, op="backward_weight", **arguments)
    out = Guarded(w_shape, dtype)
    gradient = of_rank(fc, "conv{}d_backward_weight", x_shape)
    dw = gradient(dy, x, w_shape, algorithm="exchanged", out=out.array, **arguments)
    assert dw is out.array and out.intact()
    expected = of_rank(reference, "conv{}d_backward_weight", x_shape)(
        dy.astype(np.float64), x.astype(np.float64), w_shape, **arguments)
    assert_close(dw, expected, dy[:, 0].size)
    summed = gradient(dy, x, w_shape, algorithm="exchanged", out=dw.copy(), accumulate=True, **arguments)
    np.testing.assert_array_equal(summed, dw + dw)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", ORDERS)
def test_same_bits_on_any_number_of_threads(name, order):
    x_shape, w_shape, arguments = CASES[name]
    w = normal(w_shape, np.float32, 1)
    x = normal(x_shape, np.float32, 0, order)
    dy = of_rank(fc, "conv{}d", x_shape)(x, w, **arguments)
    one, *others = (of_rank(fc, "conv{}d_backward", x_shape)(dy, x, w, algorithm="exchanged", num_threads=n,
                                                             need=(False, True, True), **arguments)
                    for n in (1, 2, 3, 7))
    for other in others:
        np.testing.assert_array_equal(other[1], one[1])
        np.testing.assert_array_equal(other[2], one[2])
    np.testing.assert_array_equal(one[2], of_rank(fc, "conv{}d_backward", x_shape)(
        dy, x, w, need=(False, False, True), algorithm="exchanged", **arguments)[2])


def test_padding_adds_nothing_where_x_is_not_finite():
    x, dy = small_integers((1, 24, 5, 6), np.float32), small_integers((1, 2, 5, 6), np.float32, 1)
    x[0, 3, 0, 0], dy[0, 1, 4, 5] = np.inf, np.nan
    got = fc.conv2d_backward_weight(dy, x, (2, 24, 5, 5), padding=2, algorithm="exchanged")
    expected = reference.conv2d_backward_weight(dy, x, (2, 24, 5, 5), padding=2)
    np.testing.assert_array_equal(got, expected)


def test_what_it_does_not_serve():
    for w_shape, arguments in (((30, 20, 3, 3), {}), ((2, 20, 3, 3), {"stride": 2}), ((2, 20, 3, 3), {"padding": 3}),
                               ((2, 10, 3, 3), {"groups": 2}), ((2, 20, 3, 3), {"padding": -1})):
        assert "exchanged" not in fc.conv_algorithms((1, 20, 9, 9), w_shape, op="backward_weight", **arguments)
    assert "exchanged" not in fc.conv_algorithms((1, 20, 9, 9), (2, 20, 3, 3))
    with pytest.raises(ValueError, match="'exchanged' can't serve"):
        fc.conv2d(np.ones((1, 20, 9, 9), np.float32), np.ones((2, 20, 3, 3), np.float32), algorithm="exchanged")


def test_explained():
    plan = fc.explain_conv((1, 64, 128, 128), (2, 64, 3, 3), padding=1, op="backward_weight", algorithm="exchanged")
    assert plan.algorithm == "exchanged" and plan.workspace > 0
