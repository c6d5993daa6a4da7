"""Convolution whose vectors hold channels of several groups (depthwise layers) or neighbouring pixels."""
import numpy as np
import pytest
from conv_cases import case, forget_choices, function
from kernel_helpers import ORDERS, Guarded, in_order, normal, small_integers

import fastconv as fc
from fastconv import planning, plans, reference
from fastconv._kernels import _runtime


@pytest.fixture
def pixels(monkeypatch):
    """pixels(True): all correlations that can have pixels as lanes do, whatever that costs; False: none does."""
    monkeypatch.setattr(plans, "uses_regions", lambda *_: False)  # these sum channels in another order

    def force(wanted):
        monkeypatch.setattr(planning, "planar_cycles", lambda *_: 0 if wanted else float("inf"))
        forget_choices()

    yield force
    forget_choices()


@case
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("out_order", ORDERS)
@pytest.mark.parametrize("activation", ["relu", "hardswish"])
def test_pixels_as_lanes_give_the_same_bits(isa, threads, pixels, x_shape, w_shape, arguments, order, out_order,
                                            activation):
    x, w = normal(x_shape, np.float32, 0, order), normal(w_shape, np.float32, 1)
    b = normal(w_shape[:1], np.float32, 2)
    forward, gradient = function("conv{}d", w_shape), function("conv{}d_backward_input", w_shape)
    pixels(False)
    expected = forward(x, w, b, activation=activation, algorithm="direct", **arguments)
    dy = in_order(expected, order)
    expected_dx = gradient(dy, w, x_shape, algorithm="direct", **arguments)
    pixels(True)
    out = Guarded(expected.shape, np.float32, out_order)
    forward(x, w, b, activation=activation, out=out.array, algorithm="direct", **arguments)
    assert out.intact()
    np.testing.assert_array_equal(out.array, expected)
    np.testing.assert_array_equal(gradient(dy, w, x_shape, algorithm="direct", **arguments), expected_dx)


@pytest.mark.parametrize("out_order", ORDERS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel, stride, groups", [(4, 2, 1), (3, (2, 3), 4), (1, 3, 2), ((5, 70), (4, 64), 1)])
def test_phases_of_pixels_as_lanes_give_the_same_bits(isa, threads, pixels, order, out_order, kernel, stride, groups):
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    x, w = normal((2, 8, 5, 37), np.float32, 0, order), normal((8, 5, *kernel), np.float32, 1)
    b = normal((5 * groups,), np.float32, 2)
    pixels(False)
    expected = fc.conv_transpose2d(x, w, b, stride, groups=groups, activation="silu", algorithm="direct")
    pixels(True)
    out = Guarded(expected.shape, np.float32, out_order)
    fc.conv_transpose2d(x, w, b, stride, groups=groups, activation="silu", algorithm="direct", out=out.array)
    assert out.intact()
    np.testing.assert_array_equal(out.array, expected)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_pixels_as_lanes_in_rows_that_are_cut(isa, pixels, order, stride):
    """The boxes, of whole vectors of pixels, are no larger than the strips planned for them."""
    pixels(True)
    x, w = small_integers((1, 1, 1247 * stride + 12), np.float32, order=order), small_integers((130, 1, 16), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[0, 0], 16)[::stride]
    np.testing.assert_array_equal(fc.conv1d(x, w, stride=stride, algorithm="direct")[0], w[:, 0] @ windows.T)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 3])
def test_pixels_as_lanes_and_weights_that_are_not_finite(isa, pixels, order, groups):
    x, w = normal((1, 2 * groups, 9, 21), np.float32, 0, order), normal((3 * groups, 2, 3, 3), np.float32, 1)
    w[1, 1, 0, 2] = np.inf
    pixels(False)
    expected = fc.conv2d(x, w, padding=1, stride=2, groups=groups, algorithm="direct")
    assert np.isfinite(expected[:, 0]).all() and not np.isfinite(expected[:, 1]).all()
    pixels(True)
    got = fc.conv2d(x, w, padding=1, stride=2, groups=groups, algorithm="direct")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [2, 3, 4, 6, 8, 12, 16])
def test_groups_of_few_channels_run_with_pixels_as_lanes(isa, threads, channels, order):
    groups = 7
    x = small_integers((2, groups * channels, 9, 13), np.float32, 0, order)
    for cols in (channels, 2 * channels, channels // 2):
        w = small_integers((groups * cols, channels, 3, 3), np.float32, 1)
        expected = reference.conv2d(x, w, padding=1, groups=groups)
        packed = fc.pack_weight(w, groups=groups)
        for weights in (w, packed):
            np.testing.assert_array_equal(
                fc.conv2d(x, weights, padding=1, groups=groups, algorithm="direct"), expected)
    plan = fc.explain_conv((1, 28, 56, 56), (28, 4, 3, 3), padding=1, groups=7, algorithm="direct", memory_order=order)
    if 4 < _runtime.tile_constants(False)[1]:
        assert "pixels" in plan.reason


@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
@pytest.mark.parametrize("kernel", [7, 13, 31])
def test_depthwise_boxes_hold_whole_rows(kernel, order):
    """Taps that reach far share what they read: rows of results stay whole, however many channels lie side by side."""
    plan = fc.explain_conv((1, 512, 14, 14), (512, 1, kernel, kernel), padding=kernel // 2, groups=512,
                           memory_order=order)
    assert plan.box[3] == 14


@pytest.mark.parametrize("order", ORDERS)
def test_depthwise_and_weights_that_are_not_finite(isa, order):
    x, w = normal((1, 17, 6, 21), np.float32), normal((17, 1, 3, 3), np.float32, 1)
    w[3, 0, 0, 2], w[16, 0, 1, 0] = np.inf, np.nan
    arguments = {"groups": 17, "padding": 1}
    got = fc.conv2d(in_order(x, order), w, **arguments)
    np.testing.assert_allclose(got, reference.conv2d(x, w, **arguments), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels, groups, size, k, stride, padding", [
    (20, 20, 11, 3, 1, 0), (20, 20, 13, 3, 2, 1), (20, 20, 19, 5, 1, 1), (17, 17, 20, 3, 3, 1), (12, 6, 11, 3, 1, 0)])
def test_infinite_sources_reach_the_gradients_of_their_taps_alone(isa, order, channels, groups, size, k, stride,
                                                                  padding):
    x, w_shape = normal((2, channels, size, size), np.float32), (channels, channels // groups, k, k)
    arguments = {"groups": groups, "padding": padding, "stride": stride}
    dy = normal(reference.conv2d(x, np.zeros(w_shape, np.float32), **arguments).shape, np.float32, 1)
    for at in ((0, 0), (0, size - 1), (size // 2, size - 1), (size - 1, 0), (size - 2, 3), (size - 1, size - 1)):
        infinite = x.copy()
        infinite[0, 1, *at] = np.inf
        expected = reference.conv2d_backward_weight(dy, infinite, w_shape, **arguments)
        got = fc.conv2d_backward_weight(in_order(dy, order), in_order(infinite, order), w_shape, algorithm="direct",
                                        **arguments)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))


@pytest.mark.parametrize("order", ORDERS)
def test_depthwise_bits_do_not_depend_on_threads_or_batch(isa, order):
    x, w = normal((3, 40, 37, 41), np.float32), normal((40, 1, 5, 5), np.float32, 1)
    dy = normal((3, 40, 19, 21), np.float32, 2)
    arguments = {"groups": 40, "padding": 2, "stride": 2}
    x, dy = in_order(x, order), in_order(dy, order)
    one = fc.conv2d(x, w, num_threads=1, **arguments), *fc.conv2d_backward(dy, x, w, num_threads=1, **arguments)
    for count in (2, 3, 7):
        got = fc.conv2d(x, w, num_threads=count, **arguments), *fc.conv2d_backward(
            dy, x, w, num_threads=count, **arguments)
        for a, b in zip(got, one):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(fc.conv2d(x[1:2], w, **arguments), one[0][1:2])
    np.testing.assert_array_equal(fc.conv2d_backward_input(dy[1:2], w, (1, *x.shape[1:]), **arguments), one[1][1:2])
