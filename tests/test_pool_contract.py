"""What pooling promises beside its values: arrays of any kind, the same bits, clear refusals."""
import ctypes
import ctypes.util
import math

import numpy as np
import pytest
from kernel_helpers import normal, small_integers
from pool_cases import CASES, case, in_orders, of_rank, same

import fastconv as fc
from fastconv import checks, reference
from fastconv._kernels import _runtime

# ---------------------------------------------------------------- arrays

def views(x):
    """Arrays equal to x (N, C, H, W) with all sorts of strides."""
    wide = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    wide[tuple(slice(None, None, 2) for _ in x.shape)] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    return {"sliced": wide[tuple(slice(None, None, 2) for _ in x.shape)], "fortran": np.asfortranarray(x),
            "reversed": np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1], "read-only": frozen,
            "unaligned": unaligned, "list": x.tolist() if x.dtype == np.float64 else x}


def test_any_strides_in(threads):
    x = normal((2, 5, 8, 10), np.float64)
    y, places = reference.max_pool2d(x, 3, 2, 1, return_indices=True)
    dy = small_integers(y.shape, np.float64)
    for name, view in views(x).items():
        np.testing.assert_array_equal(fc.max_pool2d(view, 3, 2, 1), y, err_msg=name)
        np.testing.assert_allclose(fc.avg_pool2d(view, 3, 2, 1), reference.avg_pool2d(x, 3, 2, 1), err_msg=name)
    for (name, dy_view), index_view in zip(views(dy).items(), views(places).values()):
        np.testing.assert_array_equal(fc.max_pool2d_backward(dy_view, x, 3, 2, 1, indices=index_view),
                                      reference.max_pool2d_backward(dy, x, 3, 2, 1), err_msg=name)


@in_orders
def test_any_strides_out(threads, order):
    """out decides where data lands: channel slices of a wider buffer, the other order, gaps, reversed axes."""
    x = normal((2, 6, 9, 11), np.float32, order=order)
    y, dy = reference.max_pool2d(x, 3, 2, 1), small_integers((2, 6, 5, 6), np.float32, order=order)
    dx = reference.max_pool2d_backward(dy, x, 3, 2, 1)
    places = np.random.default_rng(0).integers(0, 400, x.shape)
    calls = [(y, lambda out: fc.max_pool2d(x, 3, 2, 1, out=out)),
             (dx, lambda out: fc.max_pool2d_backward(dy, x, 3, 2, 1, out=out)),
             (dx, lambda out: fc.max_pool2d_backward(
                 dy, x, 3, 2, 1, out=out, indices=reference.max_pool2d(x, 3, 2, 1, return_indices=True)[1])),
             (reference.max_unpool2d(x, places, 2, output_size=20),
              lambda out: fc.max_unpool2d(x, places, 2, output_size=20, out=out))]
    for expected, call in calls:
        n, c, h, w = expected.shape
        for out in (np.full((n, c + 5, h, w), 7, np.float32)[:, 2:c + 2],
                    np.full((n, h, w, c + 5), 7, np.float32)[..., 2:c + 2].transpose(0, 3, 1, 2),
                    np.full((n, c, 2 * h, w + 3), 7, np.float32)[:, :, ::2, 1:w + 1],
                    np.full((n, c, h, w), 7, np.float32)[::-1, :, ::-1, ::-1],
                    np.full((w, h, c, n), 7, np.float32).T.transpose(0, 1, 2, 3)):
            base = out.base if out.base.base is None else out.base.base
            assert call(out) is out
            np.testing.assert_array_equal(out, expected)
            assert np.count_nonzero(base != 7) == np.count_nonzero(expected != 7)


@pytest.mark.parametrize("shape", [(2, 4, 1, 6), (1, 1, 5, 6), (3, 4, 1, 1), (2, 1, 1, 1)])
@in_orders
def test_results_have_the_order_of_x(shape, order):
    """With its canonical strides, also where axes of extent 1 would allow others."""
    x = checks.empty(shape, np.dtype(np.float32), order)
    x[...] = normal(shape, np.float32)
    kernel = (1, min(2, shape[3]))
    y, places = fc.max_pool2d(x, kernel, return_indices=True)
    dy = checks.empty(y.shape, np.dtype(np.float32), order)
    dy[...] = y
    for a in (y, places, fc.max_pool2d_backward(y, x, kernel), fc.avg_pool2d_backward(dy, shape, kernel)):
        assert a.strides == checks.empty(a.shape, a.dtype, order).strides


def test_unbatched_and_empty():
    x = normal((3, 8, 10), np.float32)
    y, taps = fc.max_pool2d(x, 2, return_indices="window")
    same(y, reference.max_pool2d(x, 2))
    assert taps.shape == y.shape
    np.testing.assert_array_equal(fc.max_pool2d_backward(y, x, 2, indices=taps), reference.max_pool2d_backward(y, x, 2))
    assert fc.avg_pool2d_backward(y, x.shape, 2).shape == x.shape
    assert fc.adaptive_avg_pool1d(x[0], 2).shape == (8, 2)
    assert fc.max_unpool2d(y, fc.max_pool2d(x, 2, return_indices=True)[1], 2).shape == x.shape
    nothing = np.empty((0, 3, 8, 10), np.float32)
    y, places = fc.max_pool2d(nothing, 2, return_indices=True)
    assert y.shape == places.shape == (0, 3, 4, 5)
    assert fc.max_pool2d_backward(y, nothing, 2, indices=places).shape == nothing.shape
    assert fc.avg_pool2d_backward(y, nothing.shape, 2).shape == nothing.shape
    assert fc.global_avg_pool(nothing).shape == (0, 3, 1, 1)
    assert fc.max_unpool2d(y, places, 2).shape == nothing.shape
    assert fc.max_unpool2d_backward(nothing, places, y.shape).shape == y.shape


# ---------------------------------------------------------------- promises

@case
@in_orders
def test_threads_and_batch_do_not_change_bits(isa, name, order):
    shape, arguments = CASES[name]
    x = normal(shape, np.float32, order=order)
    y = of_rank("avg_pool{}d", x)(x, **arguments)
    dy = normal(y.shape, np.float32, 1, order)
    dx = of_rank("avg_pool{}d_backward", x)(dy, x.shape, **arguments, num_threads=1)
    before = _runtime.set_serial_threshold(0)
    try:
        for n in (2, 3, 7):
            same(of_rank("avg_pool{}d", x)(x, **arguments, num_threads=n), y)
            same(of_rank("avg_pool{}d_backward", x)(dy, x.shape, **arguments, num_threads=n), dx)
    finally:
        _runtime.set_serial_threshold(before)
    same(of_rank("avg_pool{}d", x)(x[-1:], **arguments), y[-1:])
    same(of_rank("avg_pool{}d_backward", x)(dy[-1:], x[-1:].shape, **arguments), dx[-1:])


@pytest.mark.parametrize("name", ["max", "avg"])
@pytest.mark.parametrize("shape", [(1, 2, 6, 7), (1, 2, 9), (1, 1, 4, 4, 5)])
def test_gradients_by_central_differences(name, shape):
    rng = np.random.default_rng(0)
    x = rng.permutation(math.prod(shape)).reshape(shape) / 8.0  # no ties within a step
    arguments, step = {"kernel_size": 3, "stride": 2, "padding": 1}, 1e-3
    forward = of_rank(name + "_pool{}d", x)
    dy = rng.standard_normal(forward(x, **arguments).shape)
    dx = of_rank(name + "_pool{}d_backward", x)(dy, x if name == "max" else x.shape, **arguments)
    for i in np.ndindex(*shape):
        high, low = x.copy(), x.copy()
        high[i] += step
        low[i] -= step
        slope = np.sum(dy * (forward(high, **arguments) - forward(low, **arguments))) / (2 * step)
        assert abs(slope - dx[i]) < 1e-9


FE_INVALID = 1


@pytest.mark.skipif(not ctypes.util.find_library("m"), reason="needs the C library's feclearexcept")
@pytest.mark.parametrize("call", [
    lambda x: fc.max_pool2d(x, 2), lambda x: fc.max_pool2d(x, 2, return_indices=True), lambda x: fc.avg_pool2d(x, 2),
    lambda x: fc.max_pool2d_backward(fc.max_pool2d(x, 2), x, 2)])
def test_floating_point_flags_are_restored(isa, call):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    x = np.full((1, 3, 8, 40), np.inf, np.float32)
    x[..., ::2] = -np.inf
    x[..., 3] = np.nan
    libm.feclearexcept(FE_INVALID)
    call(x)
    assert not libm.fetestexcept(FE_INVALID)


def test_subnormals_are_not_flushed_afterwards():
    x = normal((1, 3, 8, 8), np.float32)
    fc.avg_pool2d(x, 2)
    fc.avg_pool2d_backward(fc.avg_pool2d(x, 2), x.shape, 2)
    assert np.float32(1e-38) * np.float32(0.01) > 0


# ---------------------------------------------------------------- what is refused

X = np.zeros((1, 2, 6, 6), np.float32)
Y = np.zeros((1, 2, 3, 3), np.float32)
PLACES = np.zeros((1, 2, 3, 3), np.int64)
TAPS = np.zeros((1, 2, 3, 3), np.uint8)


def changed(array, value):
    array = array.copy()
    array[0, 1, 2, 1] = value
    return array


REFUSED = [
    (TypeError, "x: got dtype bool", lambda: fc.max_pool2d(X.astype(bool), 2)),
    (TypeError, "x: got dtype float16", lambda: fc.max_pool2d(X.astype(np.float16), 2)),
    (TypeError, "x: got dtype int32; expected float32 or float64", lambda: fc.avg_pool2d(X.astype(np.int32), 2)),
    (TypeError, "masked", lambda: fc.max_pool2d(np.ma.masked_array(X), 2)),
    (TypeError, ">f4", lambda: fc.max_pool2d(X.astype(">f4"), 2)),
    (TypeError, "dy is float64", lambda: fc.max_pool2d_backward(Y.astype(np.float64), X, 2)),
    (TypeError, "kernel_size: got 2.0", lambda: fc.max_pool2d(X, 2.0)),
    (TypeError, "ceil_mode", lambda: fc.max_pool2d(X, 2, ceil_mode=1)),
    (TypeError, "return_indices", lambda: fc.max_pool2d(X, 2, return_indices=1)),
    (TypeError, "count_include_pad", lambda: fc.avg_pool2d(X, 2, count_include_pad=None)),
    (TypeError, "indices: got dtype int32", lambda: fc.max_pool2d_backward(Y, X, 2, indices=PLACES.astype(np.int32))),
    (TypeError, "max_unpool2d: too many positional", lambda: fc.max_unpool2d(Y, PLACES, 2, 2, 0, 12, None)),
    (TypeError, "max_pool2d: missing a required argument: 'kernel_size'", lambda: fc.max_pool2d(X)),
    (ValueError, "output_size: got 4 values", lambda: fc.max_unpool2d(Y, PLACES, 2, output_size=(2, 2, 6, 6))),
    (TypeError, "indices: got dtype uint8", lambda: fc.max_unpool2d(Y, TAPS, 2)),
    (ValueError, "x: got 2 axes", lambda: fc.max_pool2d(X[0, 0], 2)),
    (ValueError, "x: got 2 axes", lambda: fc.global_max_pool(X[0, 0])),
    (ValueError, "zero extent", lambda: fc.max_pool2d(X[:, :0], 2)),
    (ValueError, "zero extent", lambda: fc.max_pool2d(X[..., :0], 2)),
    (ValueError, "kernel_size: got 0", lambda: fc.max_pool2d(X, 0)),
    (ValueError, "stride: got 3 values", lambda: fc.max_pool2d(X, 2, (1, 2, 3))),
    (ValueError, "padding: got -1", lambda: fc.max_pool2d(X, 2, padding=-1)),
    (ValueError, "spans 7; the input of 6 is smaller", lambda: fc.max_pool2d(X, 7)),
    (ValueError, r"spatial axis 1: kernel 2.*padding \(0, 4\).*no real element",
     lambda: fc.max_pool2d(X, 2, 1, ((0, 0), (0, 4)))),
    (ValueError, r"spatial axis 0: kernel 2.*padding \(2, 2\).*no real element",
     lambda: fc.avg_pool2d(X, 2, padding=(2, 0))),
    (ValueError, "with dilation 3.*no real element", lambda: fc.max_pool1d(X[0, :, 0, :2], 2, 1, 2, 3)),
    (ValueError, "divisor_override: got 0", lambda: fc.avg_pool2d(X, 2, divisor_override=0)),
    (ValueError, "window of 289 elements",
     lambda: fc.max_pool2d(np.zeros((1, 1, 20, 20)), 17, return_indices="window")),
    (ValueError, "adaptive windows differ", lambda: fc.adaptive_max_pool2d(X, 2, return_indices="window")),
    (ValueError, "output_size: got 0", lambda: fc.adaptive_avg_pool2d(X, 0)),
    (ValueError, "dy: got shape", lambda: fc.max_pool2d_backward(Y[..., :2], X, 2)),
    (ValueError, "input_shape", lambda: fc.avg_pool2d_backward(Y, (2, 6, 6), 2)),
    (ValueError, "indices: got shape", lambda: fc.max_pool2d_backward(Y, X, 2, indices=PLACES[0])),
    (ValueError, r"indices: got 36; expected 0 to 35, positions in a plane of \(6, 6\)",
     lambda: fc.max_pool2d_backward(Y, X, 2, indices=changed(PLACES, 36))),
    (ValueError, "indices: got -1", lambda: fc.max_pool2d_backward(Y, X, 2, indices=changed(PLACES, -1))),
    (ValueError, "indices: got 4, which is no real element",
     lambda: fc.max_pool2d_backward(Y, X, 2, indices=changed(TAPS, 4))),
    (ValueError, "indices: got 0, which is no real element",
     lambda: fc.max_pool2d_backward(Y, X, 3, 2, 1, indices=np.full_like(TAPS, 0))),
    (ValueError, "indices: got 36", lambda: fc.max_unpool2d(Y, changed(PLACES, 36), 2)),
    (ValueError, "indices: got 40", lambda: fc.max_unpool2d_backward(X, changed(PLACES, 40), Y.shape)),
    (ValueError, "extents", lambda: fc.max_unpool2d(Y, PLACES, 1, 1, 2)),
    (ValueError, "out: got shape", lambda: fc.max_pool2d(X, 2, out=X.copy())),
    (TypeError, "out: got dtype", lambda: fc.max_pool2d(X, 2, out=Y.astype(np.float64))),
    (ValueError, "out: shares memory with x", lambda: fc.max_pool2d(X, 1, out=X)),
    (ValueError, "num_threads", lambda: fc.max_pool2d(X, 2, num_threads=0)),
]


@pytest.mark.parametrize("error, message, call", REFUSED, ids=[message for _, message, _ in REFUSED])
def test_refused(error, message, call):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "pool" in str(caught.value) or "num_threads" in str(caught.value)


@in_orders
def test_a_bad_window_index_anywhere_is_found(isa, threads, order):
    """On edges and inside, in the first and the last channel."""
    x = normal((1, 34, 9, 37), np.float32, order=order)
    y, taps = fc.max_pool2d(x, 3, 2, 1, return_indices="window")
    places = {(0, 0, 0, 0): 0, (0, 33, 4, 18): 8, (0, 20, 2, 7): 9, (0, 5, 2, 17): 255, (0, 1, 0, 3): 2}
    for place, index in places.items():
        wrong = taps.copy(order="K")
        wrong[place] = index
        with pytest.raises(ValueError, match=f"indices: got {index}, which is no real element"):
            fc.max_pool2d_backward(y, x, 3, 2, 1, indices=wrong)
