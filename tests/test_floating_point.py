"""Floating point as the caller has set it, subnormals, and values that are not finite."""
import contextlib
import ctypes
import gc
import platform
import sys
import time

import kernel_calls
import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS, in_order, normal

import fastconv as fc
from fastconv import nn, plans, reference
from fastconv._kernels import _runtime

UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}
FLAGS = {"x86_64": 0x3d, "aarch64": 0x1f}


@pytest.fixture
def environment():
    """set(flags raised?, rounding upward?): the floating-point environment of this thread."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in UPWARD:
        pytest.skip("knows the C library of Linux on x86-64 and aarch64 alone")
    libm = ctypes.CDLL("libm.so.6")

    def set_(raised, upward):
        libm.feclearexcept(FLAGS[machine])
        if raised:
            libm.feraiseexcept(FLAGS[machine])
        libm.fesetround(UPWARD[machine] if upward else 0)

    before = _runtime.floating_point_state()
    gc.disable()  # a collection may run anybody's code: Hypothesis measures them, and its sums raise flags
    yield set_
    gc.enable()
    _runtime.set_floating_point_state(before)


@pytest.fixture
def no_threshold():
    before = _runtime.set_serial_threshold(0)
    yield
    _runtime.set_serial_threshold(before)


def public_calls():
    """(name, function of no arguments) of what doesn't stand in kernel_calls, failures among them."""
    x, w, dy = normal((2, 8, 12, 20), np.float32), normal((6, 4, 3, 3), np.float32), normal((2, 6, 10, 18), np.float32)
    strided, wide, logits, target = x[:, ::2], np.empty((2, 6, 10, 36), np.float32), x[:, :, 0, 0], np.array([0, 3])
    fortran, integers = np.asfortranarray(np.zeros(w.shape, np.float32)), np.arange(64).reshape(1, 1, 8, 8)
    beyond = target + 99
    double, nowhere = w.astype(np.float64), np.full(x.shape, 10**9)
    return {
        "strided": lambda: fc.conv2d(strided, w),
        "strided result": lambda: fc.conv2d(strided, w, out=wide[..., ::2]),
        "accumulate": lambda: fc.conv2d_backward_weight(dy, strided, w.shape, out=fortran, accumulate=True),
        "packed": lambda: fc.conv2d(strided, fc.pack_weight(w)),
        "explain": lambda: fc.explain_conv(strided.shape, w.shape, num_threads=2),
        "list": lambda: fc.relu([[1.0, -2.0]]),
        "sum of integers": lambda: fc.sum_pool2d(integers, 2),
        "orders": lambda: fc.channels_first(fc.channels_last(x)),
        "cross_entropy": lambda: fc.cross_entropy(logits, target, label_smoothing=0.1),
        "cross_entropy_backward": lambda: fc.cross_entropy_backward(logits, target),
        "binary_cross_entropy": lambda: fc.binary_cross_entropy_with_logits(logits, logits),
        "binary_cross_entropy_backward": lambda: fc.binary_cross_entropy_with_logits_backward(logits, logits),
        "mse_loss": lambda: fc.mse_loss(logits, logits[::-1]),
        "mse_loss_backward": lambda: fc.mse_loss_backward(logits, logits[::-1]),
        "gradient_magnitude": lambda: fc.filters.gradient_magnitude(x[0, 0]),
        "wrong shape": lambda: fc.conv2d(x, w),
        "wrong dtype": lambda: fc.conv2d(x, double),
        "wrong index": lambda: fc.cross_entropy(logits, beyond),
        "wrong place": lambda: fc.max_unpool2d(x, nowhere, 2),
    }


def assert_state_is_kept(function, name, environment):
    """After a first call, which may import modules of NumPy; convolutions are planned anew."""
    with contextlib.suppress(ValueError, TypeError):
        function()
    for cache in plans.plan, plans._best:
        cache.cache_clear()
    for raised in (False, True):
        for upward in (False, True):
            environment(raised, upward)
            before = _runtime.floating_point_state()
            with contextlib.suppress(ValueError, TypeError):
                function()
            after = _runtime.floating_point_state()
            environment(False, False)
            assert after == before, f"{name}: {before:#x} before, {after:#x} after"


@pytest.mark.parametrize("name", public_calls())
def test_the_callers_state_is_kept(environment, name):
    assert_state_is_kept(public_calls()[name], name, environment)


def test_the_callers_state_is_kept_by_every_kernel(isa, no_threshold, environment):
    for calls in (kernel_calls.convolutions(), kernel_calls.others()):
        for name, call in calls:
            targets = call.targets(0)
            assert_state_is_kept(lambda run=call.run, t=targets: run(t, 2), name, environment)


def test_the_callers_rounding_does_not_reach_the_kernels(isa, no_threshold, environment):
    """It would reach the share of the calling thread alone, and bits would depend on the number of threads."""
    for name, call in kernel_calls.convolutions():
        expected = [r.tobytes() for r in call.run(call.targets(0), 1)]
        targets = call.targets(0)
        environment(False, True)
        got = call.run(targets, 2)
        environment(False, False)
        assert [r.tobytes() for r in got] == expected, name


# ---------------------------------------------------------------- subnormals

TINY = {np.float32: (1e-40, 1e-20), np.float64: (1e-310, 1e-160)}  # a subnormal; its root
SHAPES = {"3x3": ((3, 40, 20, 21), (40, 40, 3, 3), 1), "depthwise": ((3, 40, 20, 21), (40, 1, 3, 3), 40),
          "3x9": ((3, 20, 9, 40), (20, 20, 3, 9), 1), "depthwise 3x9": ((3, 40, 9, 40), (40, 1, 3, 9), 40)}
SERVED = [(name, algorithm) for name, (x_shape, w_shape, groups) in SHAPES.items()
          for algorithm in kernel_calls.ALGORITHMS
          if algorithm in fc.conv_algorithms(x_shape, w_shape, groups=groups)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape, algorithm", SERVED)
def test_every_worker_flushes_subnormals(isa, no_threshold, algorithm, shape, order, dtype):
    """What is read: one share that kept them would leave sums of 1e5 times a subnormal. What is made, likewise."""
    if isa == "scalar" and sys.platform != "linux":
        pytest.skip("only x86-64 and aarch64 flush")
    x_shape, w_shape, groups = SHAPES[shape]
    tiny, root = TINY[dtype]
    options = {"padding": tuple(r // 2 for r in w_shape[2:]), "groups": groups, "num_threads": 3}
    for value, weight in ((tiny, 1e5), (root, root)):
        x, w = in_order(np.full(x_shape, value, dtype), order), np.full(w_shape, weight, dtype)
        y = fc.conv2d(x, w, algorithm=algorithm, **options)
        dx = fc.conv2d_backward_input(x, w, x_shape, algorithm=algorithm, **options)
        assert not y.any() and not dx.any()
        if algorithm != "folded":
            assert not fc.conv2d_backward_weight(
                in_order(np.full(x_shape, weight, dtype), order), x, w_shape, algorithm=algorithm, **options).any()


def stepped(optimizer, gradient):
    parameter = nn.Parameter(np.zeros_like(gradient))
    parameter.grad = gradient
    optimizer([parameter], lr=1.0).step()
    return parameter.value


def backward_at(name, saved):
    return lambda x: getattr(fc, f"{name}_backward")(x, np.full_like(x, saved))


def normed(x):
    zeros, ones = np.zeros(x.shape[1], x.dtype), np.ones(x.shape[1], x.dtype)
    return fc.batch_norm(x, ones, zeros, zeros.copy(), ones.copy(), training=False)[0]


# Of subnormal numbers, what would be subnormal.
ARITHMETIC = {
    **{name: getattr(fc, name) for name in ("leaky_relu", "tanh", "silu", "hardswish")},
    **{f"{name}_backward": backward_at(name, 0.5) for name in ("sigmoid", "tanh", "silu", "hardswish")},
    **{f"{name}_backward": backward_at(name, -1) for name in ("leaky_relu", "log_softmax")},
    "avg_pool2d": lambda x: fc.avg_pool2d(x, 2), "sum_pool2d": lambda x: fc.sum_pool2d(x, 2),
    "global_sum_pool": fc.global_sum_pool, "adaptive_avg_pool2d": lambda x: fc.adaptive_avg_pool2d(x, (9, 7)),
    "avg_pool2d_backward": lambda x: fc.avg_pool2d_backward(x, (*x.shape[:2], 72, 70), 2),
    "sum_pool2d_backward": lambda x: fc.sum_pool2d_backward(x, (*x.shape[:2], 38, 37), 3, 1),
    "batch_norm": normed, "dropout": lambda x: fc.dropout(x, 0.5, 0)[0],
    "linear": lambda x: fc.linear(x.reshape(-1, x.shape[3]), np.ones((50, x.shape[3]), x.dtype)),
    "conv_transpose2d": lambda x: fc.conv_transpose2d(x, np.ones((x.shape[1], 5, 2, 2), x.dtype), stride=2),
    "SGD": lambda x: stepped(nn.SGD, x),
    "filter_image": lambda x: fc.filter_image(np.ascontiguousarray(x[0, 0]), np.full((3, 3), 0.1)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ARITHMETIC)
def test_every_worker_of_arithmetic_functions_flushes_subnormals(isa, no_threshold, name, order, dtype):
    x = in_order(np.full((3, 40, 36, 35), -TINY[dtype][0], dtype), order)
    with fc.threads(3):
        assert not ARITHMETIC[name](x).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_selecting_functions_pass_subnormals(isa, threads, order, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = in_order((np.random.default_rng(0).integers(-9, 9, (2, 37, 21, 19)) * tiny).astype(dtype), order)
    assert (x != 0).any()
    for name, arguments in (("relu", ()), ("relu6", ()), ("max_pool2d", (3, 2)), ("min_pool2d", (3, 2))):
        np.testing.assert_array_equal(getattr(fc, name)(x, *arguments), getattr(reference, name)(x, *arguments))
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(fc.max_unpool2d(y, indices, 2, output_size=x.shape[2:]),
                                  reference.max_unpool2d(y, indices, 2, output_size=x.shape[2:]))
    np.testing.assert_array_equal(fc.relu_backward(x, x), reference.relu_backward(x, x))
    np.testing.assert_array_equal(fc.im2col(x, 3, padding=1), reference.im2col(x, 3, padding=1))
    np.testing.assert_array_equal(fc.channels_last(fc.channels_first(x)), x)


@pytest.mark.parametrize("algorithm", ["direct", "winograd4", "winograd1d"])
def test_subnormals_do_not_cost_more(algorithm):
    """Ordinary and subnormal operands in turns: at most 1.2 times as long, where flushing makes the difference."""
    shape, tiny = (1, 64, 40, 40), np.float32(1e-40)
    w, ordinary = normal((64, 64, 3, 3), np.float32), normal(shape, np.float32, 1)
    small = ordinary * tiny
    assert (np.abs(small[small != 0]) < np.finfo(np.float32).tiny).all()

    def seconds(x):
        start = time.perf_counter()
        fc.conv2d(x, w, padding=1, algorithm=algorithm, num_threads=1)
        return time.perf_counter() - start

    seconds(ordinary)
    times = np.array([(seconds(ordinary), seconds(small)) for _ in range(60)])
    ratio = times[:, 1].min() / times[:, 0].min()
    assert ratio <= 1.2, f"subnormals take {ratio:.2f} times as long"


# ---------------------------------------------------------------- values that are not finite

ELEMENTWISE = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_elementwise_values_that_are_not_finite(isa, name, dtype, value):
    """In every lane and in tails of every length."""
    lanes = _runtime.tile_constants(dtype == np.float64)[1]
    for size in (1, lanes - 1, lanes, 2 * lanes + 1, 3 * lanes - 1):
        x = np.tile(normal((1, size), dtype), (size, 1)) if size else normal((1, 1), dtype)
        np.fill_diagonal(x, value)
        for row in x:  # one call each: every position is a place in its own vector or tail
            got, expected = getattr(fc, name)(row), getattr(reference, name)(row)
            np.testing.assert_allclose(got, expected, rtol=1e-5, equal_nan=True)
            dy = np.ones_like(row)
            with np.errstate(invalid="ignore"):
                expected = getattr(reference, f"{name}_backward")(dy, row)
            np.testing.assert_allclose(getattr(fc, f"{name}_backward")(dy, row), expected, rtol=1e-5, atol=1e-7,
                                       equal_nan=True)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [5, 16, 21])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("groups", ["dense", "depthwise"])
def test_direct_puts_values_that_are_not_finite_where_ieee_does(isa, order, channels, value, groups):
    """At every channel, and at columns that lie in vectors' first and last lanes and in tails, one at a time."""
    groups = channels if groups == "depthwise" else 1
    shape = (1, channels, 4, 35)
    w = normal((channels, channels // groups, 3, 3), np.float32, 1)
    options = {"padding": 1, "groups": groups}
    for channel in range(channels):
        x = normal(shape, np.float32, channel)
        x[0, channel, channel % 4, (7 * channel) % 35] = value
        with np.errstate(invalid="ignore"):
            expected = reference.conv2d(x, w, **options), reference.conv2d_backward_input(x, w, shape, **options)
        x = in_order(x, order)
        for algorithm in ("direct", "folded"):
            got = (fc.conv2d(x, w, algorithm=algorithm, **options),
                   fc.conv2d_backward_input(x, w, shape, algorithm=algorithm, **options))
            for g, e in zip(got, expected):
                np.testing.assert_allclose(g, e, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("algorithm, tile", [("winograd2", (2, 2)), ("winograd4", (4, 4)), ("winograd1d", (1, 6))])
@pytest.mark.parametrize("order", ORDERS)
def test_winograd_keeps_values_that_are_not_finite_within_their_tiles(isa, algorithm, tile, order):
    """Every output whose own patch holds the value is spoilt; none is whose tile doesn't reach it."""
    x, w = normal((1, 17, 24, 24), np.float32), normal((20, 17, 3, 3), np.float32, 1)
    good = fc.conv2d(in_order(x, order), w, algorithm=algorithm)
    x[0, 5, 11, 13] = np.nan
    y = fc.conv2d(in_order(x, order), w, algorithm=algorithm)
    spoilt = np.isnan(y[0]).any(axis=0)
    assert spoilt[9:12, 11:14].all() and np.isnan(y[0, :, 9:12, 11:14]).all()
    for positions, value, m in zip(np.nonzero(spoilt), (11, 13), tile):
        assert positions.min() > value - m - 2 - m and positions.max() < value + m
    np.testing.assert_array_equal(y[:, :, ~spoilt], good[:, :, ~spoilt])
