"""Convolution against the reference: every instruction set, dtype, memory order, several threads."""
import subprocess
import sys

import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS, Guarded, assert_close, in_order, normal, small_integers

import fastconv as fc
from fastconv import convolve, planning, plans, reference
from fastconv._kernels import _runtime

# (x shape, w shape, arguments); extents sit at vector lengths, one beside them, and below.
CASES = {
    "3x3": ((2, 16, 9, 10), (17, 16, 3, 3), {"padding": 1}),
    "3x3-c9-k21": ((1, 9, 13, 11), (21, 9, 3, 3), {"padding": 1}),
    "3x3-stride2": ((2, 17, 12, 9), (33, 17, 3, 3), {"stride": 2, "padding": 1}),
    "5x3-dilated": ((1, 8, 14, 15), (7, 8, 5, 3), {"padding": (2, 1), "dilation": (2, 3)}),
    "first-layer": ((2, 3, 17, 19), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    "few-channels": ((2, 3, 12, 40), (70, 3, 3, 3), {"padding": 1}),
    "few-channels-narrow": ((2, 4, 9, 5), (16, 4, 3, 3), {"padding": (1, 0)}),
    "few-channels-stride2": ((1, 4, 9, 61), (48, 4, 3, 5), {"stride": 2, "padding": (1, 2)}),
    "few-channels-dilated-rows": ((1, 2, 14, 30), (32, 2, 3, 3), {"padding": (2, 1), "dilation": (2, 1)}),
    "one-channel": ((3, 1, 28, 28), (32, 1, 3, 3), {"padding": 1}),
    "1x1": ((2, 65, 7, 7), (130, 65, 1, 1), {}),
    "1x1-few": ((2, 16, 5, 9), (64, 16, 1, 1), {}),
    "1x1-few-pixels": ((1, 16, 2, 5), (64, 16, 1, 1), {}),
    "1x1-stride2": ((1, 31, 8, 9), (16, 31, 1, 1), {"stride": 2}),
    "1x1-stride3-padded": ((1, 4, 8, 9), (5, 4, 1, 1), {"stride": 3, "padding": 2}),
    "stride-beyond-kernel": ((1, 6, 13, 13), (5, 6, 2, 2), {"stride": 4}),
    "groups": ((2, 12, 8, 8), (18, 4, 3, 3), {"groups": 3, "padding": 1}),
    "depthwise": ((2, 17, 9, 9), (17, 1, 3, 3), {"groups": 17, "padding": 1}),
    "depthwise-stride2": ((2, 32, 13, 35), (32, 1, 5, 3), {"groups": 32, "padding": (2, 1), "stride": 2}),
    "depthwise-narrow": ((2, 37, 9, 7), (37, 1, 3, 3), {"groups": 37, "padding": 1}),
    "depthwise-narrow-stride2": ((2, 20, 14, 8), (20, 1, 5, 3), {"groups": 20, "padding": (2, 1), "stride": 2}),
    "depthwise-narrow-3d": ((2, 20, 5, 6, 4), (20, 1, 3, 3, 3), {"groups": 20, "padding": 1, "stride": (1, 2, 1)}),
    "depthwise-rows": ((1, 3, 70, 67), (3, 1, 7, 7), {"groups": 3, "padding": ((3, 5), (6, 0))}),
    "depthwise-1d": ((2, 18, 700), (18, 1, 15), {"groups": 18, "padding": 7}),
    "depthwise-1d-strided": ((1, 16, 90), (16, 1, 11), {"groups": 16, "padding": ((9, 2),), "stride": 3}),
    "depthwise-row-of-padding": ((2, 18, 1, 90), (18, 1, 1, 4), {"groups": 18, "padding": ((1, 1), (2, 1)),
                                                                "stride": (3, 1)}),
    "depthwise-stride2-row": ((2, 18, 1, 183), (18, 1, 1, 4), {"groups": 18, "padding": (0, 3), "stride": 2}),
    "depthwise-stride2-wide": ((1, 18, 9, 92), (18, 1, 3, 3), {"groups": 18, "padding": (1, 0), "stride": 2}),
    "depthwise-stride-beyond-rows": ((1, 3, 8, 20), (3, 1, 3, 3), {"groups": 3, "padding": 1, "stride": (9, 1)}),
    "depthwise-3d-rows": ((1, 3, 4, 1, 70), (3, 1, 3, 1, 5), {"groups": 3, "padding": (1, 0, 2)}),
    "depthwise-3d": ((1, 16, 5, 6, 19), (16, 1, 3, 3, 3), {"groups": 16, "padding": 1, "stride": (1, 2, 1)}),
    "depthwise-dilated-columns": ((1, 20, 9, 40), (20, 1, 3, 3), {"groups": 20, "padding": (1, 4), "dilation": (1, 4)}),
    "depthwise-reflect": ((1, 16, 9, 20), (16, 1, 3, 3), {"groups": 16, "padding": 2, "padding_mode": "reflect"}),
    "depthwise-multiplier": ((1, 5, 9, 9), (15, 1, 5, 5), {"groups": 5, "padding": 2, "stride": 2}),
    "dilated-rows": ((2, 18, 14, 15), (17, 18, 3, 3), {"padding": 5, "dilation": (5, 4)}),
    "dilated-rows-uneven": ((1, 34, 29, 6), (36, 17, 3, 2),
                            {"padding": ((12, 3), (0, 0)), "dilation": (9, 1), "groups": 2}),
    "dilated-depthwise": ((1, 17, 20, 20), (17, 1, 3, 3), {"padding": 7, "dilation": 7, "groups": 17}),
    "3d-dilated": ((1, 16, 13, 18, 9), (17, 16, 3, 3, 3), {"padding": (4, 9, 1), "dilation": (4, 6, 1)}),
    "asymmetric-padding": ((1, 4, 7, 7), (3, 4, 3, 3), {"padding": ((0, 2), (3, 1))}),
    "cropped": ((1, 4, 12, 12), (3, 4, 3, 3), {"padding": ((-2, 1), (1, -3))}),
    "same": ((1, 4, 11, 10), (6, 4, 4, 3), {"padding": "same", "stride": (2, 3)}),
    "same-lower": ((1, 4, 11, 10), (6, 4, 4, 3), {"padding": "same_lower"}),
    "interleaved": ((2, 20, 9, 10), (130, 20, 3, 3), {"padding": 1}),
    "interleaved-circular": ((1, 20, 6, 7), (130, 20, 3, 3), {"padding": 2, "padding_mode": "circular"}),
    "large-reduction": ((1, 300, 4, 4), (40, 300, 3, 3), {"padding": 1}),
    "one-pixel": ((4, 20, 1, 1), (30, 20, 1, 1), {}),
    "wide": ((1, 8, 2, 700), (9, 8, 1, 5), {"padding": (0, 2)}),
    "1d": ((2, 8, 33), (16, 8, 9), {"padding": 4}),
    "1d-long-kernel": ((2, 1, 900), (17, 1, 400), {"stride": 160}),
    "1d-dilated-groups": ((1, 36, 40), (34, 18, 3), {"dilation": 4, "groups": 2, "padding": ((3, 5),)}),
    "3d": ((1, 5, 6, 7, 8), (18, 5, 3, 3, 3), {"padding": 1}),
    "3d-strided": ((2, 3, 7, 8, 9), (9, 3, 3, 5, 2), {"stride": (1, 2, 3), "padding": (1, 2, 0)}),
    "one-pixel-grouped": ((3, 40, 1, 1), (140, 20, 1, 1), {"groups": 2}),
    "few-pixels-strided": ((1, 20, 9), (33, 20, 1), {"stride": 2}),
}
for _mode in ("reflect", "replicate", "circular", "symmetric"):
    CASES[_mode] = ((2, 5, 6, 7), (4, 5, 3, 5), {"padding": ((1, 3), (9, 2)), "padding_mode": _mode})
    CASES[_mode + "-1d"] = ((1, 2, 3), (3, 2, 2), {"padding": ((-1, 5),), "padding_mode": _mode})

case = pytest.mark.parametrize("x_shape, w_shape, arguments", CASES.values(), ids=CASES)


def rank(w_shape):
    return len(w_shape) - 2


def function(name, w_shape, module=fc):
    return getattr(module, name.format(rank(w_shape)))


@case
@pytest.mark.parametrize("order", ORDERS)
def test_forward_is_exact_on_small_integers(isa, threads, x_shape, w_shape, arguments, order):
    x, w = small_integers(x_shape, np.float32, order=order), small_integers(w_shape, np.float32, 1)
    b = small_integers(w_shape[:1], np.float32, 2)
    expected = function("conv{}d", w_shape, reference)(x, w, b, **arguments)
    out = Guarded(expected.shape, np.float32, order)
    got = function("conv{}d", w_shape)(x, w, b, out=out.array, algorithm="direct", **arguments)
    assert got is out.array and out.intact()
    np.testing.assert_array_equal(got, expected)


@case
@pytest.mark.parametrize("orders", [("channels_first", "channels_last"), ("channels_last", "channels_last"),
                                    ("channels_first", "channels_first"), ("channels_last", "channels_first")])
def test_gradients_are_exact_on_small_integers(isa, threads, x_shape, w_shape, arguments, orders):
    x, w = small_integers(x_shape, np.float32, order=orders[0]), small_integers(w_shape, np.float32, 1)
    y_shape = function("conv{}d", w_shape, reference)(x, w, **arguments).shape
    dy = small_integers(y_shape, np.float32, 3, orders[1])
    expected = function("conv{}d_backward", w_shape, reference)(dy, x, w, **arguments)
    out = [Guarded(e.shape, np.float32, orders[1] if i == 0 else "channels_first") for i, e in enumerate(expected)]
    got = function("conv{}d_backward", w_shape)(
        dy, x, w, out=tuple(o.array for o in out), algorithm="direct", **arguments)
    for g, e, o in zip(got, expected, out):
        assert g is o.array and o.intact()
        np.testing.assert_array_equal(g, e)


@case
@pytest.mark.parametrize("order", ORDERS)
def test_folded_is_exact_on_small_integers(isa, threads, x_shape, w_shape, arguments, order):
    x, w = small_integers(x_shape, np.float32, order=order), small_integers(w_shape, np.float32, 1)
    b = small_integers(w_shape[:1], np.float32, 2)
    expected = function("conv{}d", w_shape, reference)(x, w, b, activation="relu", **arguments)
    out = Guarded(expected.shape, np.float32, order)
    function("conv{}d", w_shape)(x, w, b, activation="relu", out=out.array, algorithm="folded", **arguments)
    assert out.intact()
    np.testing.assert_array_equal(out.array, expected)
    dy = small_integers(expected.shape, np.float32, 3, order)
    expected = function("conv{}d_backward_input", w_shape, reference)(dy, w, x_shape, **arguments)
    got = function("conv{}d_backward_input", w_shape)(dy, w, x_shape, algorithm="folded", **arguments)
    np.testing.assert_array_equal(got, expected)


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


def forget_choices():
    """Let the next call of any layout choose its algorithm and blocking anew."""
    for cache in planning.correlation_blocking, plans.plan, plans._best:
        cache.cache_clear()
    for kept in vars(convolve).values():
        if isinstance(kept, _runtime.Calls):
            kept.clear()


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

@pytest.mark.parametrize("order", ["channels_first", "channels_last"])
@pytest.mark.parametrize("kernel", [7, 13, 31])
def test_depthwise_boxes_hold_whole_rows(kernel, order):
    """Taps that reach far share what they read: rows of results stay whole, however many channels lie side by side."""
    plan = fc.explain_conv((1, 512, 14, 14), (512, 1, kernel, kernel), padding=kernel // 2, groups=512,
                           memory_order=order)
    assert plan.box[3] == 14


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


@pytest.mark.parametrize("with_size", [True, False])
def test_packed_weights_serve_both_orders_where_their_algorithms_differ(monkeypatch, with_size):
    monkeypatch.setattr(plans, "best_correlation", lambda g, op, last, *_: "folded" if last else "direct")
    forget_choices()
    x, w = normal((1, 16, 20, 20), np.float32), normal((2, 16, 5, 5), np.float32, 1)
    packed = fc.pack_weight(w, input_shape=x.shape if with_size else None)
    for order in ORDERS:
        algorithm = fc.explain_conv(x.shape, w.shape, memory_order=order).algorithm
        assert algorithm == ("folded" if order == "channels_last" else "direct")
        got = fc.conv2d(in_order(x, order), packed, padding=1)
        np.testing.assert_array_equal(got, fc.conv2d(in_order(x, order), w, padding=1, algorithm=algorithm))
    monkeypatch.undo()
    forget_choices()


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


@pytest.mark.parametrize("dy_order", ORDERS)
def test_order_of_x_decides_on_the_weight_gradient(dy_order):
    x_shape, w_shape = (1, 8, 30, 30), (16, 8, 3, 3)
    dy = normal((1, 16, 30, 30), np.float32, 1, dy_order)
    w = normal(w_shape, np.float32, 2)
    plans = {order: fc.explain_conv(x_shape, w_shape, op="backward_weight", padding=1, memory_order=order).algorithm
             for order in ORDERS}
    for order in ORDERS:
        x = normal(x_shape, np.float32, 0, order)
        named = fc.conv2d_backward_weight(dy, x, w_shape, padding=1, algorithm=plans[order])
        np.testing.assert_array_equal(fc.conv2d_backward_weight(dy, x, w_shape, padding=1), named)
        np.testing.assert_array_equal(fc.conv2d_backward(dy, x, w, padding=1)[1], named)


def test_gradient_of_a_single_output(isa, threads):
    for arguments in ({"stride": 1}, {"stride": 3, "padding": (0, 2)}, {"dilation": (2, 1)}):
        x, w = small_integers((70, 3, 5, 7), np.float32), small_integers((20, 3, 3, 7), np.float32, 1)
        x = x[:, :, :, :3] if "padding" in arguments else x
        dy = small_integers(reference.conv2d(x, w, **arguments).shape, np.float32, 2)
        assert 1 in dy.shape[2:]
        np.testing.assert_array_equal(fc.conv2d_backward_input(dy, w, x.shape, algorithm="direct", **arguments),
                                      reference.conv2d_backward_input(dy, w, x.shape, **arguments))


@case
@pytest.mark.parametrize("dtype", DTYPES)
def test_random_values_within_tolerance(isa, x_shape, w_shape, arguments, dtype):
    x, w, b = normal(x_shape, dtype), normal(w_shape, dtype, 1), normal(w_shape[:1], dtype, 2)
    expected = function("conv{}d", w_shape, reference)(*(a.astype(np.float64) for a in (x, w, b)), **arguments)
    reduction = np.prod(w_shape[1:])
    assert_close(function("conv{}d", w_shape)(x, w, b, **arguments), expected, reduction)
    dy = normal(expected.shape, dtype, 3)
    gradients = function("conv{}d_backward", w_shape, reference)(
        *(a.astype(np.float64) for a in (dy, x, w)), **arguments)
    got = function("conv{}d_backward", w_shape)(dy, x, w, **arguments)
    pixels = expected[0, 0].size * expected.shape[0]
    for g, e, length in zip(got, gradients, (reduction * w_shape[0], pixels, pixels)):
        assert_close(g, e, length)


# 3x3, stride 1: (x shape, out-channels, arguments). The last two have weights too large to stay transformed.
WINOGRAD_CASES = {
    "one-row-of-outputs": ((2, 18, 3, 9), 20, {}),
    "one-tile": ((1, 16, 2, 2), 16, {"padding": 1}),
    "tails": ((2, 17, 13, 11), 33, {"padding": 1}),
    "few-channels": ((1, 3, 9, 10), 5, {"padding": ((0, 2), (1, 0))}),
    "groups": ((2, 24, 8, 9), 36, {"groups": 2, "padding": 1}),
    "wide": ((1, 8, 5, 300), 20, {"padding": 1}),
    "reflect": ((1, 8, 7, 6), 16, {"padding": 2, "padding_mode": "reflect"}),
    "cropped": ((1, 8, 12, 12), 16, {"padding": ((-2, 1), (0, -3))}),
    "dilated": ((2, 17, 13, 19), 20, {"padding": (1, 4), "dilation": (2, 3)}),
    "residues-without-results": ((1, 9, 6, 21), 33, {"padding": (5, 0), "dilation": (7, 9), "groups": 1}),
    "dilated-width": ((2, 24, 7, 40), 36, {"padding": 1, "dilation": (1, 2), "groups": 2}),
    "large-weights": ((1, 210, 9, 10), 150, {"padding": 1}),
    "few-tiles": ((1, 150, 7, 6), 141, {"padding": 1}),
    "few-tiles-batch": ((2, 141, 4, 3), 150, {"padding": 1}),
    "few-tiles-groups": ((1, 280, 5, 4), 300, {"groups": 2, "padding": (1, 0)}),
    "few-tiles-reflect": ((1, 150, 4, 4), 141, {"padding": 1, "padding_mode": "reflect"}),
    "large-weights-batch": ((3, 150, 14, 14), 200, {"padding": 1}),
    "3-d": ((2, 17, 5, 9, 10), 20, {"padding": 1}),
    "3-d-deep": ((2, 9, 12, 6, 5), 24, {"padding": (3, 1, 1)}),
    "3-d-groups": ((1, 24, 6, 9, 8), 36, {"groups": 2, "padding": (0, 1, 0)}),
    "3-d-dilated": ((2, 12, 9, 10, 9), 20, {"padding": (1, 2, 2), "dilation": (3, 1, 2)}),
    "3-d-replicate": ((1, 8, 3, 7, 6), 16, {"padding": (2, 1, 2), "padding_mode": "replicate"}),
    "3-d-cropped": ((1, 8, 9, 12, 12), 16, {"padding": ((-2, 1), (0, -3), 1)}),
    "3-d-large-weights": ((2, 150, 4, 9, 10), 150, {"padding": 1}),
}


# (x shape, w shape, arguments): rows of taps, in one slice and in several, the last of which may be shorter.
LINE_CASES = {
    "3-taps": ((2, 18, 50), (20, 18, 3), {}),
    "one-result": ((1, 16, 5), (16, 16, 5), {}),
    "4-taps": ((3, 17, 31), (33, 17, 4), {"padding": ((0, 3),)}),
    "7-taps": ((2, 33, 40), (24, 33, 7), {"padding": 3}),
    "9-taps": ((2, 20, 77), (70, 20, 9), {"padding": 4}),
    "15-taps-cropped": ((1, 24, 90), (18, 24, 15), {"padding": ((-2, 9),)}),
    "groups": ((2, 24, 41), (36, 12, 5), {"groups": 2, "padding": 2}),
    "long": ((1, 9, 900), (20, 9, 5), {"padding": 2}),
    "dilated": ((2, 17, 60), (20, 17, 9), {"padding": 7, "dilation": 3}),
    "residues-without-results": ((1, 9, 30), (33, 9, 4), {"padding": 1, "dilation": 9}),
    "reflect": ((1, 8, 23), (16, 8, 9), {"padding": 4, "padding_mode": "reflect"}),
    "large-weights": ((3, 210, 20), (150, 210, 9), {"padding": 4}),
    "few-tiles": ((1, 150, 7), (141, 150, 5), {"padding": 2}),
    "5x5": ((2, 17, 13, 11), (33, 17, 5, 5), {"padding": 2}),
    "5x5-large-weights": ((2, 150, 12, 27), (70, 150, 5, 5), {"padding": 2}),
    "2x9-dilated": ((2, 18, 9, 30), (20, 18, 2, 9), {"padding": (1, 4), "dilation": (2, 1)}),
    "7x7-replicate": ((1, 8, 9, 12), (16, 8, 7, 7), {"padding": 3, "padding_mode": "replicate"}),
    "3-d": ((1, 12, 5, 7, 11), (20, 12, 2, 3, 5), {"padding": (1, 1, 2)}),
}


@pytest.mark.parametrize("x_shape, k, arguments", WINOGRAD_CASES.values(), ids=WINOGRAD_CASES)
@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd4", "winograd1d"])
@pytest.mark.parametrize("order", ORDERS)
def test_algorithms_of_3x3(isa, threads, x_shape, k, arguments, algorithm, order):
    w_shape = k, x_shape[1] // arguments.get("groups", 1), *[3] * (len(x_shape) - 2)
    check_algorithm(x_shape, w_shape, arguments, algorithm, order)


@pytest.mark.parametrize("x_shape, w_shape, arguments", LINE_CASES.values(), ids=LINE_CASES)
@pytest.mark.parametrize("order", ORDERS)
def test_winograd_along_rows(isa, threads, x_shape, w_shape, arguments, order):
    check_algorithm(x_shape, w_shape, arguments, "winograd1d", order)


def check_algorithm(x_shape, w_shape, arguments, algorithm, order):
    """Forward, with plain and packed weights, and every gradient."""
    x, w = normal(x_shape, np.float32, 0, order), normal(w_shape, np.float32, 1)
    b = normal(w_shape[:1], np.float32, 2)
    conv, conv_reference = function("conv{}d", w.shape), function("conv{}d", w.shape, reference)
    expected = conv_reference(x, w, b, activation="relu", **arguments)
    out = Guarded(expected.shape, np.float32, order)
    conv(x, w, b, activation="relu", algorithm=algorithm, out=out.array, **arguments)
    assert out.intact()
    assert_close(out.array, expected, w[0].size)
    packed = fc.pack_weight(w, groups=arguments.get("groups", 1), dilation=arguments.get("dilation", 1),
                            input_shape=x_shape, algorithm=algorithm)
    assert conv(x, packed, b, activation="relu", **arguments).tobytes() == out.array.tobytes()
    dy = normal(expected.shape, np.float32, 3, order)
    backward = function("conv{}d_backward", w.shape)
    gradients = backward(dy, x, w, algorithm=algorithm, **arguments)
    expected = function("conv{}d_backward", w.shape, reference)(dy, x, w, **arguments)
    for gradient, wanted, products in zip(gradients, expected, (w[:, 0].size, 4 * dy[:, 0].size, dy[:, 0].size)):
        assert_close(gradient, wanted, products)
    again = backward(dy, x, w, algorithm=algorithm, need=(False, False, True), **arguments)
    assert again[:2] == (None, None) and again[2].tobytes() == gradients[2].tobytes()


def test_named_algorithms_have_to_serve():
    winograd = ("winograd2", "winograd4", "winograd1d")
    assert fc.conv_algorithms((1, 4, 9, 9), (4, 4, 3, 3)) == ("direct", "folded", *winograd)
    assert fc.conv_algorithms((1, 4, 9, 9), (4, 4, 3, 3), stride=2) == ("direct", "folded")
    assert fc.conv_algorithms((1, 4, 9, 9), (4, 4, 3, 3), stride=2, op="backward_weight") == ("direct",)
    assert fc.conv_algorithms((1, 4, 9), (4, 4, 9), padding=4, op="backward_weight") == ("direct", "winograd1d")
    assert fc.conv_algorithms((1, 4, 9), (4, 4, 2), op="backward_weight") == ("direct",)
    x, w = normal((1, 4, 9, 9), np.float32), normal((4, 4, 3, 3), np.float32)
    with pytest.raises(ValueError, match="winograd4.*can't serve"):
        fc.conv2d(x, w, stride=2, algorithm="winograd4")
    with pytest.raises(ValueError, match="can't serve"):
        fc.conv2d_backward(fc.conv2d(x, w, stride=2), x, w, stride=2, algorithm="winograd2")
    with pytest.raises(ValueError, match="fft"):
        fc.conv2d(x, w, algorithm="fft")


def test_auto_is_one_of_the_algorithms():
    x, w = normal((1, 64, 56, 56), np.float32), normal((64, 64, 3, 3), np.float32)
    named = fc.explain_conv(x.shape, w.shape, padding=1).algorithm
    assert named.startswith("winograd")
    assert fc.conv2d(x, w, padding=1).tobytes() == fc.conv2d(x, w, padding=1, algorithm=named).tobytes()
    with fc.algorithm("direct"):
        assert fc.conv2d(x, w, padding=1).tobytes() == fc.conv2d(x, w, padding=1, algorithm="direct").tobytes()


@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd4", "winograd1d"])
def test_same_bits_on_any_number_of_threads(isa, algorithm):
    x, w = normal((3, 33, 20, 21), np.float32), normal((70, 33, 3, 3), np.float32, 1)
    dy = normal((3, 70, 20, 21), np.float32, 2)
    before = _runtime.set_serial_threshold(0)
    try:
        results = [(fc.conv2d(x, w, padding=1, algorithm=algorithm, num_threads=t),
                    fc.conv2d_backward_input(dy, w, x.shape, padding=1, algorithm=algorithm, num_threads=t),
                    *fc.conv2d_backward(dy, x, w, padding=1, algorithm=algorithm, num_threads=t)[1:])
                   for t in (1, 2, 3, 7)]
    finally:
        _runtime.set_serial_threshold(before)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd4", "winograd1d"])
@pytest.mark.parametrize("c, k", [(20, 24), (160, 150)])
def test_bits_do_not_depend_on_the_split_of_the_batch(isa, algorithm, c, k):
    x, w = normal((5, c, 7, 7), np.float32), normal((k, c, 3, 3), np.float32, 1)
    whole = fc.conv2d(x, w, padding=1, algorithm=algorithm)
    parts = [fc.conv2d(x[i:i + 1], w, padding=1, algorithm=algorithm) for i in range(5)]
    assert whole.tobytes() == np.concatenate(parts).tobytes()
    dx = fc.conv2d_backward_input(whole, w, x.shape, padding=1, algorithm=algorithm)
    parts = [fc.conv2d_backward_input(whole[i:i + 2], w, x[i:i + 2].shape, padding=1, algorithm=algorithm)
             for i in (0, 2, 4)]
    assert dx.tobytes() == np.concatenate(parts).tobytes()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish"])
@pytest.mark.parametrize("c, k", [(9, 21), (20, 21), (3, 16)])
def test_fused_activation(isa, order, activation, c, k):
    x, w = normal((2, c, 6, 7), np.float32, 0, order), normal((k, c, 3, 3), np.float32, 1)
    b = normal((k,), np.float32)
    expected = reference.conv2d(x, w, b, padding=1, activation=activation)
    for algorithm in ("auto", "direct"):
        y = fc.conv2d(x, w, b, padding=1, activation=activation, algorithm=algorithm)
        assert_close(y, expected, 9 * c, scale=20)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_nothing_is_read_beyond_a_source_in_place(isa):
    """1x1 layers read the source where it is, here up to the last byte before a page that may not be read."""
    program = f"""
import ctypes, mmap, numpy as np, fastconv as fc
from fastconv._kernels import _runtime
_runtime._use_isa({isa!r})
pages = mmap.mmap(-1, 4 * mmap.PAGESIZE)
end = np.frombuffer(pages, np.uint8).ctypes.data + 3 * mmap.PAGESIZE
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
memory = np.frombuffer(pages, np.float32, 3 * mmap.PAGESIZE // 4)
for c, pixels in ((1, 13), (3, 11), (8, 3), (16, 12), (16, 29), (64, 23)):
    x = memory[-c * pixels:].reshape(1, c, 1, pixels)
    last = memory[-c * pixels:].reshape(1, 1, pixels, c).transpose(0, 3, 1, 2)
    w = np.ones((64, c, 1, 1), np.float32)
    for source in (x, last):
        assert not fc.conv2d(source, w).any()
        assert not fc.conv2d(source[..., ::2], w).any()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_plans_tell_where_winograd_is_fused():
    for op, what in (("forward", ", transformed weights in"), ("backward_weight", ", gradients of transformed")):
        small, large = (fc.explain_conv((1, 512, size, size), (512, 512, 3, 3), op=op, padding=1,
                                        algorithm="winograd4").reason for size in (7, 56))
        assert what in small and "registers" not in large


@pytest.mark.parametrize("order", ORDERS)
@case
def test_packed_weights_give_the_same_bits(isa, x_shape, w_shape, arguments, order):
    x, w = normal(x_shape, np.float32, 0, order), normal(w_shape, np.float32, 1)
    packed = fc.pack_weight(w, groups=arguments.get("groups", 1))
    plain = function("conv{}d", w_shape)(x, w, **arguments)
    assert function("conv{}d", w_shape)(x, packed, **arguments).tobytes() == plain.tobytes()
    assert packed.nbytes >= w.nbytes and packed.isa == isa


def test_packed_weights_are_checked():
    x, w = normal((1, 4, 6, 6), np.float32), normal((6, 4, 3, 3), np.float32)
    packed = fc.pack_weight(w)
    with pytest.raises(AttributeError):
        packed.isa = "other"
    for call, message in ((lambda: fc.conv2d(x.astype(np.float64), packed), "float32"),
                          (lambda: fc.conv2d(x, packed, groups=2), "groups"),
                          (lambda: fc.conv1d(x[0], packed), "axes"),
                          (lambda: fc.conv2d(x, fc.pack_weight(normal((64, 4, 3, 3), np.float32)), algorithm="folded"),
                           "folded"),
                          (lambda: fc.conv_transpose2d(x, packed), "packed")):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("order", ORDERS)
def test_result_keeps_the_memory_order(order):
    x, w = normal((2, 5, 6, 7), np.float32, 0, order), normal((9, 5, 3, 3), np.float32, 1)
    y = fc.conv2d(x, w, padding=1)
    assert y.strides == in_order(np.empty(y.shape, np.float32), order).strides
    dy = in_order(y, "channels_last")
    assert fc.conv2d_backward_input(dy, w, x.shape, padding=1).strides == in_order(x, "channels_last").strides
    assert fc.conv2d_backward_weight(dy, x, w.shape, padding=1).flags.c_contiguous


def test_any_strides_in_and_out():
    base = normal((2, 12, 9, 20), np.float32)
    w = normal((6, 6, 3, 3), np.float32, 1)
    views = (base[:, ::2, :, ::2], base[:, :6, ::-1], np.asfortranarray(base[:, :6]),
             np.broadcast_to(base[:1, :1, :, :], (2, 6, 9, 20)), base[:, 3:9].transpose(0, 1, 3, 2))
    for x in views:
        expected = reference.conv2d(x, w)
        assert_close(fc.conv2d(x, w), expected, 54)
        for out in (np.asfortranarray(np.empty(expected.shape, np.float32)),
                    np.empty((*expected.shape[:3], 2 * expected.shape[3]), np.float32)[..., ::2],
                    np.empty((2, 10, *expected.shape[2:]), np.float32)[:, 2:8],
                    np.empty((2, *expected.shape[2:], 10), np.float32)[..., 1:7].transpose(0, 3, 1, 2)):
            assert fc.conv2d(x, w, out=out) is out
            assert_close(out, expected, 54)


def test_accumulate_adds_to_the_given_gradients():
    x, w, dy = normal((2, 5, 6, 6), np.float64), normal((7, 5, 3, 3), np.float64), normal((2, 7, 6, 6), np.float64)
    _, dw, db = fc.conv2d_backward(dy, x, w, padding=1)
    for into in (np.ones(w.shape), np.asfortranarray(np.ones(w.shape))):
        bias = np.ones(7)
        got = fc.conv2d_backward(dy, x, w, padding=1, out=(None, into, bias), accumulate=True, need=(False, True, True))
        assert got[0] is None and got[1] is into and got[2] is bias
        np.testing.assert_allclose(into, dw + 1, rtol=1e-12)
        np.testing.assert_allclose(bias, db + 1, rtol=1e-12)


def test_empty_batch():
    w = normal((7, 5, 3, 3), np.float32)
    x, dy = np.empty((0, 5, 6, 6), np.float32), np.empty((0, 7, 4, 4), np.float32)
    assert fc.conv2d(x, w).shape == (0, 7, 4, 4)
    dx, dw, db = fc.conv2d_backward(dy, x, w)
    assert dx.shape == x.shape and not dw.any() and not db.any()


def test_padding_contributes_nothing_to_infinite_weights(isa):
    x, w = np.ones((1, 3, 4, 5), np.float32), np.ones((20, 3, 3, 3), np.float32)
    w[3, :, 0, 0] = np.inf
    w[18, 1, 2, 2] = np.nan
    for order in ORDERS:
        for algorithm in ("direct", "folded"):
            y = fc.conv2d(in_order(x, order), w, padding=1, activation="relu", algorithm=algorithm)
            np.testing.assert_array_equal(y, reference.conv2d(x, w, padding=1, activation="relu"))
        dy = in_order(np.ones((1, 20, 2, 3), np.float32), order)
        dx = fc.conv2d_backward_input(dy, w, x.shape, padding=1, stride=2)
        np.testing.assert_array_equal(dx, reference.conv2d_backward_input(dy, w, x.shape, padding=1, stride=2))


def test_non_finite_inputs_stay_where_they_are(isa):
    x, w = np.ones((1, 2, 9, 40), np.float32), np.ones((19, 2, 3, 3), np.float32)
    x[0, 1, 4, 33], x[0, 0, 2, 7] = np.nan, np.inf
    for algorithm in ("direct", "folded"):
        np.testing.assert_array_equal(fc.conv2d(x, w[:4], algorithm=algorithm), reference.conv2d(x, w[:4]))
    np.testing.assert_array_equal(fc.conv2d(x, w, algorithm="direct"), reference.conv2d(x, w))


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


def test_plans_tell_what_is_used():
    shapes = (1, 64, 56, 56), (64, 64, 3, 3)
    for op in ("forward", "backward_input", "backward_weight"):
        plan = fc.explain_conv(*shapes, op=op, padding=1, num_threads=2)
        assert plan.algorithm in fc.conv_algorithms(*shapes, op=op, padding=1)
        assert plan.flops == 2 * 64 * 64 * 9 * 56 * 56
        assert plan.work_items >= 2 and plan.workspace == plan.packed_bytes + plan.threads * plan.share_bytes
    one = fc.explain_conv(*shapes, padding=1, num_threads=1)
    assert (one.box, one.work_items) == (fc.explain_conv(*shapes, padding=1, num_threads=2).box, one.work_items)


def test_workspace_does_not_grow_with_the_image():
    sizes = [fc.explain_conv((1, 16, n, n), (16, 16, 3, 3), padding=1, num_threads=1).workspace for n in (256, 4096)]
    assert sizes[1] <= 2 * sizes[0]
    long = fc.explain_conv((1, 4, 10_000_000), (8, 4, 9), padding=4, num_threads=1)
    assert long.workspace < 4 * 2**20
