"""Convolution against the reference: every instruction set, dtype, memory order, several threads."""
import subprocess
import sys

import numpy as np
import pytest
from conv_cases import case, function
from kernel_helpers import DTYPES, ORDERS, Guarded, assert_close, in_order, normal, small_integers

import fastconv as fc
from fastconv import reference


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
