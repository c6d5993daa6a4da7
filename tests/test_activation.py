"""Activations and softmax: accuracy in ulp, special values, layouts, threads, gradients."""
import math

import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS, Guarded, in_order, normal
from reference_helpers import check_gradient, inner

import fastconv as fc
from fastconv import reference

ELEMENTWISE = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish")
SELECTING = ("relu", "relu6")
SAVED_OUTPUT = ("relu", "sigmoid", "tanh", "softmax", "log_softmax")
SOFTMAX = ("softmax", "log_softmax")
CHUNK = 16 * 1024  # elements of a work item
# Sizes at vector lengths, one beside them, and around a work item.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, CHUNK - 1, CHUNK, 2 * CHUNK + 5)
NAN, INF = math.nan, math.inf

dtypes = pytest.mark.parametrize("dtype", DTYPES)
elementwise = pytest.mark.parametrize("name", ELEMENTWISE)
softmaxes = pytest.mark.parametrize("name", SOFTMAX)


def backward(name, module=fc):
    return getattr(module, f"{name}_backward")


def saved_of(name, x, y):
    return y if name in SAVED_OUTPUT else x


def spread(size, dtype, seed=0):
    """Values that reach all branches, zeros and kinks among them."""
    x = np.random.default_rng(seed).standard_normal(size) * 4
    x.flat[::7] = np.resize([0.0, -0.0, 3.0, -3.0, 6.0, -20.0, 50.0], x.flat[::7].shape)
    return x.astype(dtype)


def assert_ulps(got, exact, ulps):
    """Within `ulps` units in the last place; exact values below the smallest normal number may be flushed."""
    info = np.finfo(got.dtype)
    normal_range = np.abs(exact) >= info.smallest_normal
    unit = np.spacing(np.abs(exact).astype(got.dtype)).astype(exact.dtype)
    error = np.abs(got.astype(exact.dtype) - exact) / unit
    assert error[normal_range].max() <= ulps
    assert np.abs(got[~normal_range]).max(initial=0) <= info.smallest_normal


# ---------------------------------------------------------------- accuracy

def samples(dtype):
    """Dense over the range of the exponential, and every magnitude down to the smallest normal number."""
    most = -math.log(float(np.finfo(dtype).smallest_normal)) + 3
    grid = np.linspace(-most, most, 100_003)
    near_zero = np.geomspace(float(np.finfo(dtype).smallest_normal), 30, 20_011)
    return np.concatenate([grid, np.linspace(-2, 2, 50_021), near_zero, -near_zero]).astype(dtype)


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@dtypes
@pytest.mark.parametrize("name, exact", [("sigmoid", exact_sigmoid), ("tanh", np.tanh)])
def test_within_4_ulp(isa, dtype, name, exact):
    x = samples(dtype)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant < np.finfo(dtype).nmant + 8:
        pytest.skip("this machine has no type that is wide enough to judge float64")
    assert_ulps(getattr(fc, name)(x), exact(x.astype(wide)), 4)


@dtypes
@elementwise
def test_sizes_against_the_reference(isa, threads, dtype, name):
    eps = np.finfo(dtype).eps
    for size in SIZES:
        x, dy = spread(size, dtype), normal((size,), dtype, 1)
        y = getattr(reference, name)(x)
        out = Guarded((size,), dtype)
        assert getattr(fc, name)(x, out=out.array) is out.array and out.intact()
        np.testing.assert_allclose(out.array, y, rtol=4 * eps, atol=np.finfo(dtype).tiny)
        out = Guarded((size,), dtype)
        saved = saved_of(name, x, y)
        assert backward(name)(dy, saved, out=out.array) is out.array and out.intact()
        np.testing.assert_allclose(out.array, backward(name, reference)(dy, saved), rtol=8 * eps, atol=8 * eps)


@dtypes
@pytest.mark.parametrize("name", SELECTING)
def test_selecting_functions_are_exact(isa, dtype, name):
    x = spread(1003, dtype)
    y = getattr(reference, name)(x)
    assert getattr(fc, name)(x).tobytes() == y.tobytes()
    dy = normal(x.shape, dtype, 1)
    saved = saved_of(name, x, y)
    assert backward(name)(dy, saved).tobytes() == backward(name, reference)(dy, saved).tobytes()


@dtypes
@elementwise
def test_an_element_has_the_same_bits_wherever_it_stands(isa, dtype, name):
    x, dy = spread(70, dtype), normal((70,), dtype, 1)
    y = getattr(fc, name)(x)
    saved = saved_of(name, x, y)
    dx = backward(name)(dy, saved)
    for start in range(0, 20):
        for end in range(start + 1, 70, 3):
            part = slice(start, end)
            assert getattr(fc, name)(x[part]).tobytes() == y[part].tobytes()
            assert backward(name)(dy[part], saved[part]).tobytes() == dx[part].tobytes()


# ---------------------------------------------------------------- special values

@dtypes
@pytest.mark.parametrize("name, x, y", [
    ("relu", [NAN, INF, -INF, -0.0, -1.0],
     [NAN, INF, 0.0, 0.0, 0.0]),
    ("relu6", [NAN, INF, -INF, -0.0, 6.0, 7.0],
     [NAN, 6.0, 0.0, 0.0, 6.0, 6.0]),
    ("leaky_relu", [NAN, INF, -INF, -0.0, 2.0],
     [NAN, INF, -INF, -0.0, 2.0]),
    ("sigmoid", [NAN, INF, -INF, -0.0, 1e30, -1e30, 88.8, 709.8, -760.0],
     [NAN, 1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 1.0, 0.0]),
    ("tanh", [NAN, INF, -INF, 0.0, -0.0, 1e30, -1e30, 1e-20],
     [NAN, 1.0, -1.0, 0.0, -0.0, 1.0, -1.0, 1e-20]),
    ("silu", [NAN, INF, 0.0, -0.0, 1e30, -1e30],
     [NAN, INF, 0.0, -0.0, 1e30, -0.0]),
    ("hardswish", [NAN, INF, 0.0, -0.0, -3.0, 3.0, 1e38],
     [NAN, INF, 0.0, -0.0, -0.0, 3.0, 1e38]),
])
def test_special_values(isa, dtype, name, x, y):
    x, expected = np.array(x, dtype), np.array(y, dtype)
    got = getattr(fc, name)(np.tile(x, 9)).reshape(9, -1)
    for row in got:
        np.testing.assert_array_equal(row, expected)
        real = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(row[real]), np.signbit(expected[real]))


@dtypes
def test_gradient_of_relu_is_zero_up_to_zero(isa, dtype):
    saved = np.array([-1, -0.0, 0.0, np.finfo(dtype).smallest_subnormal, 2, INF, NAN], dtype)
    dy = np.array([INF, NAN, 5, 5, -5, 5, 5], dtype)
    np.testing.assert_array_equal(fc.relu_backward(dy, saved), np.array([0, 0, 0, 5, -5, 5, 5], dtype))


@dtypes
def test_subnormal_numbers(isa, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, -tiny, 3 * tiny] * 13, dtype)
    for name in SELECTING:
        expected = np.maximum(x, 0)
        assert getattr(fc, name)(x).tobytes() == expected.tobytes()
        assert backward(name)(x, np.ones_like(x)).tobytes() == x.tobytes()
    for name in ELEMENTWISE:
        got = getattr(fc, name)(x)
        assert np.abs(got - getattr(reference, name)(x)).max() <= 3 * tiny
    assert (x * dtype(1) == x).all(), "a kernel left the processor flushing subnormal numbers"


# ---------------------------------------------------------------- arrays

@elementwise
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 1, 4, 3), (2, 3, 1, 1), (3, 4, 5), (2, 3, 2, 3, 4)])
def test_results_keep_the_memory_order(name, order, shape):
    x, dy = normal(shape, np.float32, 0, order), normal(shape, np.float32, 1)
    y = getattr(fc, name)(x)
    assert y.strides == in_order(np.empty(shape, np.float32), order).strides
    np.testing.assert_allclose(y, getattr(reference, name)(x), rtol=1e-6, atol=1e-30)
    dx = backward(name)(dy, x)
    assert dx.strides == y.strides
    np.testing.assert_allclose(dx, backward(name, reference)(dy, x), rtol=1e-5, atol=1e-6)


def test_any_strides_in_and_out():
    base = normal((4, 12, 9, 20), np.float32)
    unaligned = np.frombuffer(b"\0" + base[:, :6].tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 6, 9, 20)
    read_only = base[:, :6].copy()
    read_only.flags.writeable = False
    for x in (base[:, ::2, ::-1], np.asfortranarray(base), np.broadcast_to(base[:1, :1], (2, 6, 9, 20)), unaligned,
              read_only, base[0, 0], base[0, 0, 0], base[0, 0, 0, 0]):
        x = np.asarray(x)
        expected = np.maximum(x, 0)
        np.testing.assert_array_equal(fc.relu(x), expected)
        np.testing.assert_array_equal(fc.relu_backward(x, expected), expected)
        if x.ndim == 4:
            for out in (np.asfortranarray(np.empty(x.shape, np.float32)), np.empty(x.shape, np.float32),
                        np.empty((*x.shape[:3], 40), np.float32)[..., ::2],
                        in_order(np.empty(x.shape, np.float32), "channels_last")):
                assert fc.relu(x, out=out) is out
                np.testing.assert_array_equal(out, expected)


@elementwise
def test_in_place(name):
    for x in (normal((3, 4, 5, 6), np.float64), normal((3, 4, 5, 6), np.float64, 0, "channels_last"),
              normal((3, 4, 5, 12), np.float64)[..., ::2]):
        expected, dy = getattr(fc, name)(x), normal(x.shape, np.float64, 1)
        dx = backward(name)(dy, x)
        for place in (0, 1):
            operands = [dy.copy(), x.copy(order="K")]
            assert backward(name)(*operands, out=operands[place]) is operands[place]
            np.testing.assert_array_equal(operands[place], dx)
        assert getattr(fc, name)(x, out=x) is x
        np.testing.assert_array_equal(x, expected)


def test_lists_and_empty_arrays():
    np.testing.assert_array_equal(fc.relu([1.0, -2.0]), [1.0, 0.0])
    assert fc.relu(np.float32(-3)).shape == ()
    for name in (*ELEMENTWISE, *SOFTMAX):
        empty = np.empty((0, 3, 4), np.float32)
        assert getattr(fc, name)(empty).shape == empty.shape
        assert backward(name)(empty, empty).shape == empty.shape


@elementwise
def test_same_bits_on_any_number_of_threads(isa, threads, name):
    x, dy = spread(7 * CHUNK + 3, np.float32), normal((7 * CHUNK + 3,), np.float32, 1)
    assert getattr(fc, name)(x).tobytes() == getattr(fc, name)(x, num_threads=1).tobytes()
    assert backward(name)(dy, x).tobytes() == backward(name)(dy, x, num_threads=1).tobytes()


def test_leaky_relu_takes_a_slope(isa):
    x = np.array([-2.0, 3.0, -0.5], np.float32)
    np.testing.assert_array_equal(fc.leaky_relu(x, 0.5), np.array([-1, 3, -0.25], np.float32))
    np.testing.assert_array_equal(fc.leaky_relu(x, -1), np.array([2, 3, 0.5], np.float32))
    np.testing.assert_array_equal(fc.leaky_relu_backward(np.ones(3, np.float32), x, np.float32(0.25)),
                                  np.array([0.25, 1, 0.25], np.float32))


@pytest.mark.parametrize("name", (*ELEMENTWISE, *SOFTMAX))
def test_gradient_by_central_differences(isa, name):
    x, dy = np.linspace(-7.05, 7.95, 24).reshape(2, 3, 4), normal((2, 3, 4), np.float64, 1)
    forward = getattr(fc, name)
    check_gradient(lambda x: inner(forward(x), dy), x, backward(name)(dy, saved_of(name, x, forward(x))))


# ---------------------------------------------------------------- softmax

# (shape, axis): rows, short and long; columns, few and many; lengths beyond what the column kernel keeps.
SOFTMAX_CASES = [((6, 10), 1), ((300, 7), 1), ((5, 1), 1), ((3, 1000), 1), ((700, 3), 0), ((2, 21, 17, 19), 1),
                 ((3, 5, 64), 1), ((2, 700, 9, 23), 1), ((2, 700, 3, 33), 1), ((1, 9000, 3), 1), ((4, 5, 6), 2),
                 ((4, 5, 6), -3), ((40,), 0)]


@dtypes
@softmaxes
@pytest.mark.parametrize("shape, axis", SOFTMAX_CASES)
def test_softmax_against_the_reference(isa, threads, dtype, name, shape, axis):
    eps = np.finfo(dtype).eps
    for order in ORDERS if len(shape) > 2 else ORDERS[:1]:
        x, dy = 4 * normal(shape, dtype, 0, order), normal(shape, dtype, 1)
        y = getattr(reference, name)(x, axis)
        out = Guarded(shape, dtype, order)
        assert getattr(fc, name)(x, axis, out=out.array) is out.array and out.intact()
        # The difference to the maximum, up to 35, is rounded before the exponential.
        np.testing.assert_allclose(out.array, y, rtol=40 * eps, atol=32 * eps if name == "log_softmax" else 0)
        out = Guarded(shape, dtype, order)
        assert backward(name)(dy, y, axis, out=out.array) is out.array and out.intact()
        expected = backward(name, reference)(dy, y, axis)
        np.testing.assert_allclose(out.array, expected, rtol=0, atol=32 * eps * max(1, np.abs(expected).max()))
        assert getattr(fc, name)(x, axis).strides == out.array.strides


@softmaxes
def test_softmax_bits_do_not_depend_on_threads_or_place(isa, threads, name):
    for shape in ((600, 100), (3000, 7), (3, 30, 40, 41), (2, 700, 20, 20)):
        x = normal(shape, np.float32)
        y, dy = getattr(fc, name)(x), normal(shape, np.float32, 1)
        assert y.tobytes() == getattr(fc, name)(x, num_threads=1).tobytes()
        assert backward(name)(dy, y).tobytes() == backward(name)(dy, y, num_threads=1).tobytes()
        assert getattr(fc, name)(x[1:2]).tobytes() == y[1:2].tobytes()
        same = x.copy()
        assert getattr(fc, name)(same, out=same).tobytes() == y.tobytes()


def test_softmax_of_one_class(isa):
    x = np.array([[3], [-1e30], [INF], [-INF], [NAN]], np.float32)
    np.testing.assert_array_equal(fc.softmax(x), [[1], [1], [NAN], [NAN], [NAN]])
    np.testing.assert_array_equal(fc.log_softmax(x), [[0], [0], [NAN], [NAN], [NAN]])
    dy = normal((3, 1, 50, 37), np.float32)  # planes, whose channel is the only class
    for name, one in (("softmax", 1), ("log_softmax", 0)):
        y = getattr(fc, name)(dy)
        np.testing.assert_array_equal(y, np.full_like(dy, one))
        np.testing.assert_array_equal(backward(name)(dy, y), np.zeros_like(dy))


@dtypes
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_large_and_missing_logits(isa, dtype, axis):
    x = np.array([[1e30, 1e30, -1e30], [-1e30] * 3, [-INF, 0, 0], [0, NAN, 0], [0, INF, 0], [-INF] * 3], dtype)
    expected = np.array([[0.5, 0.5, 0], [1 / 3] * 3, [0, 0.5, 0.5], [NAN] * 3, [NAN] * 3, [NAN] * 3], dtype)
    with np.errstate(divide="ignore"):
        logarithm = np.log(expected)
    logarithm[0, 2] = -2e30
    for got, y in ((fc.softmax(x if axis else x.T.copy(), axis), expected),
                   (fc.log_softmax(x if axis else x.T.copy(), axis), logarithm)):
        np.testing.assert_allclose(got if axis else got.T, y, rtol=4 * np.finfo(dtype).eps)


# ---------------------------------------------------------------- arguments

@pytest.mark.parametrize("name", (*ELEMENTWISE, *SOFTMAX))
def test_bad_arguments(name):
    forward, gradient = getattr(fc, name), backward(name)
    x = np.zeros((4, 6), np.float32)
    for bad in (np.zeros((4, 6), int), np.zeros((4, 6), bool), x.astype(np.float16), x.astype(complex),
                x.astype(object), x.astype(">f4"), np.ma.masked_array(x), [[1, 2]]):
        with pytest.raises(TypeError, match=f"^{name}: x: "):
            forward(bad)
        with pytest.raises(TypeError, match=f"^{name}_backward: (dy|saved): "):
            gradient(x, bad)
    with pytest.raises(TypeError, match="float32.*float64"):
        gradient(x.astype(np.float64), x)
    with pytest.raises(ValueError, match=r"dy: got shape \(3, 6\); expected \(4, 6\)"):
        gradient(x[:3], x)
    read_only = np.empty_like(x)
    read_only.flags.writeable = False
    buffer = np.zeros((5, 6), np.float32)
    for out, error, message in ((np.empty((4, 5), np.float32), ValueError, "shape"),
                                (np.empty((4, 6)), TypeError, "float64"), (read_only, ValueError, "read-only"),
                                (buffer[1:], ValueError, "shares memory"), ([0.0], TypeError, "list")):
        with pytest.raises(error, match=message):
            forward(buffer[:4], out=out)
    with pytest.raises(ValueError, match="num_threads"):
        forward(x, num_threads=0)


def test_bad_slope_and_axis():
    x = np.zeros((4, 6), np.float32)
    for slope in ("1", None, True, x):
        with pytest.raises(TypeError, match="leaky_relu: negative_slope"):
            fc.leaky_relu(x, slope)
    for axis in (2, -3):
        with pytest.raises(ValueError, match=f"softmax: axis: got {axis}"):
            fc.softmax(x, axis)
    with pytest.raises(TypeError, match="softmax: axis"):
        fc.softmax(x, 1.0)
    with pytest.raises(ValueError, match="zero extent"):
        fc.softmax(np.zeros((4, 0), np.float32))
    with pytest.raises(ValueError, match="without axes"):
        fc.softmax(np.float32(1), 0)
