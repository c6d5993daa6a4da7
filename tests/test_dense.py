"""Linear layers, flatten, dropout and batch normalisation: values, layouts, threads, gradients, arguments."""
import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS, Guarded, assert_close, in_order, normal, small_integers
from reference_helpers import check_gradient, inner

import fastconv as fc
from fastconv import dense, reference

dtypes = pytest.mark.parametrize("dtype", DTYPES)
orders = pytest.mark.parametrize("order", ORDERS)

# ---------------------------------------------------------------- linear

# (leading axes of x, in, out)
LINEAR = [((), 3, 4), ((1,), 1, 1), ((7,), 10, 7), ((2, 3, 5), 65, 33), ((33,), 300, 129), ((400,), 16, 10),
          ((1,), 1100, 257), ((5,), 19, 2100)]
linear_case = pytest.mark.parametrize("leading, c, k", LINEAR)


def linear_operands(leading, c, k, dtype, make=normal):
    return make((*leading, c), dtype), make((k, c), dtype, 1), make((k,), dtype, 2), make((*leading, k), dtype, 3)


@linear_case
def test_linear_is_exact_on_small_integers(isa, threads, leading, c, k):
    x, w, b, dy = linear_operands(leading, c, k, np.float32, small_integers)
    out = Guarded((*leading, k), np.float32)
    assert fc.linear(x, w, b, out=out.array) is out.array and out.intact()
    np.testing.assert_array_equal(out.array, reference.linear(x, w, b))
    outs = [Guarded(shape, np.float32) for shape in (x.shape, w.shape, b.shape)]
    got = fc.linear_backward(dy, x, w, out=tuple(o.array for o in outs))
    for g, e, o in zip(got, reference.linear_backward(dy, x, w), outs):
        assert g is o.array and o.intact()
        np.testing.assert_array_equal(g, e)


@dtypes
@linear_case
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "silu"])
def test_linear_against_the_reference(isa, dtype, leading, c, k, activation):
    x, w, b, dy = linear_operands(leading, c, k, dtype)
    y = fc.linear(x, w, b, activation=activation)
    assert y.flags.c_contiguous
    scale = 4 * np.sqrt(c) + 4
    assert_close(y, reference.linear(*(a.astype(np.float64) for a in (x, w, b)), activation=activation), c, scale)
    rows = dy.size // k
    expected = reference.linear_backward(*(a.astype(np.float64) for a in (dy, x, w)))
    for g, e, length in zip(fc.linear_backward(dy, x, w), expected, (k, rows, rows)):
        assert_close(g, e, length, 4 * np.sqrt(length) + 4)


def test_linear_takes_packed_weights(isa):
    x, w, b, _ = linear_operands((9,), 70, 37, np.float32)
    packed = fc.pack_weight(w)
    assert fc.linear(x, packed, b).tobytes() == fc.linear(x, w, b).tobytes()
    with pytest.raises(ValueError, match=r"linear: w: got shape \(37, 70\)"):
        fc.linear(x[:, :5], packed)


def test_linear_bits_do_not_depend_on_rows_or_threads(isa, threads):
    x, w, b, dy = linear_operands((50,), 130, 40, np.float32)
    y = fc.linear(x, w, b)
    assert y.tobytes() == fc.linear(x, w, b, num_threads=1).tobytes()
    assert y.tobytes() == b"".join(fc.linear(x[i:i + 7], w, b).tobytes() for i in range(0, 50, 7))
    for got, expected in zip(fc.linear_backward(dy, x, w), fc.linear_backward(dy, x, w, num_threads=1)):
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("c, k", [(16, 9), (97, 40), (513, 1300), (1100, 70)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_have_the_bits_of_many(isa, threads, rows, c, k, dtype):
    """Few rows are multiplied by plain weights where these lie, many by packed ones."""
    x, w, b, dy = linear_operands((40,), c, k, dtype)
    packed = fc.pack_weight(w[:, :, None])
    for activation in (None, "relu", "tanh"):
        y = fc.linear(x, w, b, activation=activation)
        few = fc.linear(x[:rows], w, b, activation=activation)
        assert few.tobytes() == y[:rows].tobytes()
        assert few.tobytes() == fc.conv1d(x[:rows].T[None], packed, b, activation=activation)[0].T.tobytes()
    dx = fc.linear_backward(dy, x, w)[0]
    assert fc.linear_backward(dy[:rows], x[:rows], w)[0].tobytes() == dx[:rows].tobytes()


@pytest.mark.parametrize("rows", [2, 30])
def test_weights_of_linear_that_are_not_finite_reach_their_results_alone(isa, rows):
    x, w, b, dy = linear_operands((rows,), 100, 70, np.float32)
    y, dx = fc.linear(x, w, b), fc.linear_backward(dy, x, w)[0]
    w[20, 30] = np.inf
    got, gradient = fc.linear(x, w, b), fc.linear_backward(dy, x, w)[0]
    assert not np.isfinite(got[:, 20]).any() and not np.isfinite(gradient[:, 30]).any()
    np.testing.assert_array_equal(np.delete(got, 20, 1), np.delete(y, 20, 1))
    np.testing.assert_array_equal(np.delete(gradient, 30, 1), np.delete(dx, 30, 1))


def test_linear_gradient_by_central_differences(isa):
    x, w, b, dy = linear_operands((2, 3), 4, 5, np.float64)
    dx, dw, db = fc.linear_backward(dy, x, w)
    check_gradient(lambda x: inner(fc.linear(x, w, b), dy), x, dx)
    check_gradient(lambda w: inner(fc.linear(x, w, b), dy), w, dw)
    check_gradient(lambda b: inner(fc.linear(x, w, b), dy), b, db)


def test_linear_with_any_strides():
    x, w, b, dy = linear_operands((6, 8), 10, 12, np.float64)
    y, gradients = fc.linear(x, w, b), fc.linear_backward(dy, x, w)
    wide = np.zeros((6, 8, 20))
    wide[..., ::2] = x
    out = np.empty((6, 8, 24))[..., ::2]
    assert fc.linear(wide[..., ::2], np.asfortranarray(w), b, out=out) is out
    np.testing.assert_array_equal(out, y)
    outs = np.empty((8, 6, 10)).transpose(1, 0, 2), np.empty((10, 12)).T, np.empty(24)[::2]
    for g, e, o in zip(fc.linear_backward(np.asfortranarray(dy), x[::-1][::-1], w, out=outs), gradients, outs):
        assert g is o
        np.testing.assert_allclose(g, e, rtol=1e-13)


def test_linear_backward_accumulates_and_leaves_out():
    x, w, _, dy = linear_operands((6,), 10, 12, np.float64)
    dx, dw, db = fc.linear_backward(dy, x, w)
    for into in (np.ones((12, 10)), np.ones((10, 12)).T):
        got = fc.linear_backward(dy, x, w, out=(None, into, None), accumulate=True, need=(False, True, True))
        assert got[0] is None and got[1] is into
        np.testing.assert_allclose(into, dw + 1, rtol=1e-12)
        np.testing.assert_allclose(got[2], db, rtol=1e-12)
    assert fc.linear_backward(dy, x, w, need=(True, False, False))[1:] == (None, None)


def test_linear_without_rows():
    x, w, b, dy = linear_operands((3, 0), 4, 5, np.float32)
    assert fc.linear(x, w, b).shape == (3, 0, 5)
    dx, dw, db = fc.linear_backward(dy, x, w)
    assert dx.shape == x.shape and not dw.any() and not db.any()
    dw[...] = 3
    fc.linear_backward(dy, x, w, out=(None, dw, db), accumulate=True)
    assert (dw == 3).all() and not db.any()
    fc.linear_backward(dy, x, w, out=(None, dw, db))
    assert not dw.any()


def test_bad_arguments_of_linear():
    x, w, b, dy = linear_operands((6,), 10, 12, np.float32)
    for call, error, message in (
            (lambda: fc.linear(x.astype(int), w), TypeError, "linear: x: got dtype int64"),
            (lambda: fc.linear(x, w.astype(np.float64)), TypeError, "x is float32 but w is float64"),
            (lambda: fc.linear(x, w, b.astype(np.float64)), TypeError, "x is float32 but b is float64"),
            (lambda: fc.linear(x, w.T), ValueError, r"linear: w: got shape \(10, 12\); expected \(out, 10\)"),
            (lambda: fc.linear(x, w, b[:5]), ValueError, "linear: b: got shape"),
            (lambda: fc.linear(x[:, :0], w), ValueError, "at least one feature"),
            (lambda: fc.linear(x, w[0]), ValueError, "linear: w"),
            (lambda: fc.linear(x, w, activation="gelu"), ValueError, "activation: got 'gelu'"),
            (lambda: fc.linear(x, w, out=np.empty((6, 11), np.float32)), ValueError, r"expected \(6, 12\)"),
            (lambda: fc.linear(x, w, num_threads=0), ValueError, "num_threads"),
            (lambda: fc.linear_backward(dy[:, :4], x, w), ValueError, r"dy: got shape \(6, 4\); expected \(6, 12\)"),
            (lambda: fc.linear_backward(dy, x, w, out=(None, b, None)), ValueError, r"out\[1\] \(dw\): got shape"),
            (lambda: fc.linear_backward(dy, x, w, out=(x, None, None)), ValueError, "shares memory with x")):
        with pytest.raises(error, match=message):
            call()


# ---------------------------------------------------------------- flatten

@orders
def test_flatten(order):
    x = normal((3, 4, 5, 6), np.float32, 0, order)
    y = fc.flatten(x)
    np.testing.assert_array_equal(y, reference.flatten(x))
    assert np.shares_memory(x, y) == (order == "channels_first")
    np.testing.assert_array_equal(fc.flatten_backward(y, x.shape), x)
    assert fc.flatten(x[:0]).shape == (0, 120)
    assert fc.flatten(np.arange(3)).shape == (3, 1)
    with pytest.raises(ValueError, match=r"flatten_backward: dy: got shape \(3, 120\); expected \(3, 119\)"):
        fc.flatten_backward(y, (3, 7, 17))
    with pytest.raises(ValueError, match="flatten: x"):
        fc.flatten(np.float32(1))


# ---------------------------------------------------------------- dropout

@dtypes
@orders
@pytest.mark.parametrize("p", [0, 0.25, 0.5, 1])
def test_dropout_against_the_reference(isa, threads, dtype, order, p):
    for shape in ((2, 3, 5, 7), (3, 1, 1, 17), (1, 30, 80, 90)):
        x, dy = normal(shape, dtype, 0, order), normal(shape, dtype, 1)
        y, mask = fc.dropout(x, p, 7)
        expected, kept = reference.dropout(x, p, 7)
        np.testing.assert_array_equal(mask, kept)
        np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps)
        assert mask.dtype == bool and y.strides == in_order(np.empty(shape, dtype), order).strides
        dx = fc.dropout_backward(dy, mask, p)
        assert dx.strides == y.strides
        np.testing.assert_allclose(dx, reference.dropout_backward(dy, kept, p), rtol=4 * np.finfo(dtype).eps)


def test_dropout_draws_from_the_generator():
    x = np.ones((300, 500), np.float32)
    rng = np.random.default_rng(3)
    masks = [fc.dropout(x, 0.3, rng)[1] for _ in range(2)]
    assert not np.array_equal(*masks)
    np.testing.assert_array_equal(np.concatenate(masks).ravel(),
                                  np.random.default_rng(3).random(2 * x.size, dtype=np.float32) >= 0.3)
    y, mask = fc.dropout(x, 0.3, None)
    assert abs(mask.mean() - 0.7) < 0.01 and abs(y.mean() - 1) < 0.02
    assert not np.array_equal(mask, fc.dropout(x, 0.3, None)[1])


def test_dropout_zeroes_what_is_not_finite(isa):
    x = np.full(50, np.nan, np.float32)
    np.testing.assert_array_equal(fc.dropout(x, 1.0, 0)[0], np.zeros(50, np.float32))


def test_bad_arguments_of_dropout():
    x, mask = np.ones((4, 5), np.float32), np.ones((4, 5), bool)
    for call, error, message in (
            (lambda: fc.dropout(x.astype(int), 0.5, 0), TypeError, "dropout: x"),
            (lambda: fc.dropout(x, 1.5, 0), ValueError, "dropout: p: got 1.5"),
            (lambda: fc.dropout(x, float("nan"), 0), ValueError, "dropout: p: got nan"),
            (lambda: fc.dropout(x, "0.5", 0), TypeError, "dropout: p"),
            (lambda: fc.dropout(x, 0.5, "seed"), TypeError, "dropout: rng: got str"),
            (lambda: fc.dropout(x, 0.5, -1), ValueError, "dropout: rng: got -1"),
            (lambda: fc.dropout_backward(x, x, 0.5), TypeError, "dropout_backward: mask: got dtype float32"),
            (lambda: fc.dropout_backward(x, mask[:3], 0.5), ValueError, "dropout_backward: mask: got shape")):
        with pytest.raises(error, match=message):
            call()


# ---------------------------------------------------------------- batch normalisation

# Planes below, around and above a work item of 16 Ki elements; channels beyond a block of 256; one channel.
NORM = [(6, 10), (70, 300), (5, 1), (3, 5, 7), (3, 17, 4, 5), (2, 3, 130, 127), (40, 2, 9, 9), (700, 3, 2, 3),
        (4, 1, 6, 6), (2, 270, 3, 3), (1, 4, 3, 4, 5), (12, 8, 1, 1)]
norm_case = pytest.mark.parametrize("shape", NORM)


def norm_operands(shape, dtype, order="channels_first"):
    x = in_order((normal(shape, dtype) * 2 + 3).astype(dtype), order)
    dy = normal(shape, dtype, 1)
    gamma, beta, mean = (normal(shape[1:2], dtype, seed) for seed in (2, 3, 4))
    return x, dy, gamma, beta, mean, np.abs(normal(shape[1:2], dtype, 5)) + 0.5


@dtypes
@orders
@norm_case
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_against_the_reference(isa, threads, dtype, order, shape, training):
    x, dy, gamma, beta, *running = norm_operands(shape, dtype, order if len(shape) > 2 else "channels_first")
    expected_running = [a.astype(np.float64) for a in running]
    wide = [a.astype(np.float64) for a in (x, gamma, beta)]
    y, saved = fc.batch_norm(x, gamma, beta, *running, training=training)
    expected, expected_saved = reference.batch_norm(*wide, *expected_running, training=training)
    for got, e in zip((y, *saved[:2], *running), (expected, *expected_saved[:2], *expected_running)):
        assert got.dtype == dtype
        assert_close(got, e, 16)
    assert saved[2] is training
    assert y.strides == in_order(np.empty(shape, dtype), order).strides if len(shape) > 2 else y.flags.c_contiguous

    gradients = fc.batch_norm_backward(dy, x, gamma, saved)
    expected = reference.batch_norm_backward(dy.astype(np.float64), wide[0], wide[1], expected_saved)
    # Each is a sum of terms of this size.
    steepest = np.abs(gamma * saved[1]).max() * np.abs(dy).max()
    mean, inv_std = (a.reshape(-1, *[1] * (len(shape) - 2)) for a in expected_saved[:2])
    count, farthest = x.size / shape[1], np.abs((wide[0] - mean) * inv_std).max()
    for got, e, scale in zip(gradients, expected, (steepest, np.sqrt(count) * farthest, np.sqrt(count))):
        assert got.dtype == dtype
        assert_close(got, e, 1, max(1, scale))
    assert gradients[0].strides == y.strides


@dtypes
@orders
@norm_case
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_with_relu(isa, dtype, order, shape, training):
    """The bits of the two functions one after the other; backward too, where the scale is the same number."""
    x, dy, gamma, beta, *running = norm_operands(shape, dtype, order if len(shape) > 2 else "channels_first")
    first = tuple(a.copy() for a in running)
    plain, saved = fc.batch_norm(x, gamma, beta, *first, training=training)
    y, kept = fc.batch_norm(x, gamma, beta, *running, training=training, activation="relu")
    expected = fc.relu(plain)
    assert y.tobytes("K") == expected.tobytes("K")
    assert shape[1] < 3 or 0 < np.count_nonzero(y) < y.size
    got = fc.batch_norm_backward(dy, x, gamma, kept)
    for one, other in zip(got, fc.batch_norm_backward(fc.relu_backward(dy, expected), x, gamma, saved)):
        assert_close(one, other, 1)
    wide = [a.astype(np.float64) for a in (x, gamma, beta, *running)]
    assert_close(y, reference.batch_norm(*wide, training=training, activation="relu")[0], 16)
    wide_saved = tuple(a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in kept)
    for one, other in zip(got, reference.batch_norm_backward(dy.astype(np.float64), wide[0], wide[1], wide_saved)):
        assert_close(one, other, x.size)


@dtypes
@orders
@pytest.mark.parametrize("relu", [False, True])
def test_add(isa, threads, dtype, order, relu):
    for shape in ((2, 3, 50, 61), (3, 130), (7,)):
        x, y = normal(shape, dtype), normal(shape, dtype, 1)
        x.flat[0] = np.nan
        x = in_order(x, order) if len(shape) > 2 else x
        expected = x + y
        total = dense.add(x, y, relu=relu)
        assert total.strides == x.strides
        np.testing.assert_array_equal(total, np.where(expected <= 0, 0, expected) if relu else expected)
    with pytest.raises(ValueError, match="add: y: got shape"):
        dense.add(x, x[:3])
    with pytest.raises(TypeError, match="one dtype"):
        dense.add(x, x.astype(np.float32 if dtype == np.float64 else np.float64))


@orders
def test_batch_norm_is_accurate_far_from_zero(isa, order):
    x = in_order((normal((8, 6, 30, 30), np.float64) + 10_000 * np.arange(1, 7).reshape(1, 6, 1, 1)).astype(np.float32),
                 order)
    unit, zero = np.ones(6, np.float32), np.zeros(6, np.float32)
    y, (_, inv_std, _) = fc.batch_norm(x, unit, zero, zero.copy(), unit.copy(), training=True)
    expected, (_, expected_std, _) = reference.batch_norm(
        x.astype(np.float64), np.ones(6), np.zeros(6), np.zeros(6), np.ones(6), training=True)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(inv_std, expected_std, rtol=1e-6)


@orders
def test_batch_norm_bits_do_not_depend_on_threads(isa, threads, order):
    for shape in ((4, 5, 90, 91), (300, 600), (50, 33, 8, 8)):
        x, dy, gamma, beta, mean, var = norm_operands(shape, np.float32)
        x = in_order(x, order) if len(shape) > 2 else x
        results = []
        for num_threads in (None, 1):
            running = mean.copy(), var.copy()
            y, saved = fc.batch_norm(x, gamma, beta, *running, training=True, activation="relu",
                                     num_threads=num_threads)
            gradients = fc.batch_norm_backward(dy, x, gamma, saved, num_threads=num_threads)
            results.append(b"".join(a.tobytes() for a in (y, *saved[:2], *running, *gradients)))
        assert results[0] == results[1]


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_gradient_by_central_differences(isa, training):
    x, dy, gamma, beta, mean, var = norm_operands((3, 2, 2, 3), np.float64)

    def forward(x, gamma, beta):
        return fc.batch_norm(x, gamma, beta, mean.copy(), var.copy(), training=training)

    dx, dgamma, dbeta = fc.batch_norm_backward(dy, x, gamma, forward(x, gamma, beta)[1])
    check_gradient(lambda x: inner(forward(x, gamma, beta)[0], dy), x, dx)
    check_gradient(lambda gamma: inner(forward(x, gamma, beta)[0], dy), gamma, dgamma)
    check_gradient(lambda beta: inner(forward(x, gamma, beta)[0], dy), beta, dbeta)


def test_batch_norm_by_hand():
    x = np.array([[1.0, 10], [3, 10]])
    mean, var = np.zeros(2), np.ones(2)
    y, _ = fc.batch_norm(x, np.array([1.0, 2]), np.array([0.0, 5]), mean, var, training=True, momentum=0.5, eps=0.25)
    np.testing.assert_allclose(y, [[-1 / np.sqrt(1.25), 5], [1 / np.sqrt(1.25), 5]], rtol=1e-15)
    np.testing.assert_allclose(mean, [1, 5], rtol=1e-15)
    np.testing.assert_allclose(var, [1.5, 0.5], rtol=1e-15)  # unbiased: half of 2, half of 0


def test_batch_norm_keeps_a_bad_channel_to_itself(isa):
    for order in ORDERS:
        x, dy, gamma, beta, mean, var = norm_operands((2, 20, 5, 5), np.float32, order)
        clean, _ = fc.batch_norm(x, gamma, beta, mean.copy(), var.copy(), training=True)
        x[1, 3, 2, 2] = np.nan
        y, _ = fc.batch_norm(x, gamma, beta, mean, var, training=True)
        assert np.isnan(y[:, 3]).all() and np.isnan(mean[3])
        others = np.arange(20) != 3
        np.testing.assert_array_equal(y[:, others], clean[:, others])


def test_batch_norm_of_empty_batches():
    x, dy, gamma, beta, mean, var = norm_operands((0, 3, 4, 4), np.float32)
    y, saved = fc.batch_norm(x, gamma, beta, mean, var, training=False)
    assert y.shape == x.shape
    dx, dgamma, dbeta = fc.batch_norm_backward(dy, x, gamma, saved)
    assert dx.shape == x.shape and not dgamma.any() and not dbeta.any()


def test_bad_arguments_of_batch_norm():
    x, dy, gamma, beta, mean, var = norm_operands((4, 3, 5, 5), np.float32)
    _, saved = fc.batch_norm(x, gamma, beta, mean, var, training=True)
    read_only = mean.copy()
    read_only.flags.writeable = False

    def train(x=x, gamma=gamma, mean=mean, var=var, **options):
        return fc.batch_norm(x, gamma, beta, mean, var, training=True, **options)

    for call, error, message in (
            (lambda: train(x.astype(int)), TypeError, "batch_norm: x: got dtype int64"),
            (lambda: train(x[0, 0, 0]), ValueError, "batch_norm: x: got shape"),
            (lambda: train(x[:, :0]), ValueError, "without zero extents"),
            (lambda: train(x[:1, :, :1, :1]), ValueError, "more than one element per channel"),
            (lambda: train(x[:0]), ValueError, "more than one element per channel"),
            (lambda: train(gamma=gamma[:2]), ValueError, r"batch_norm: gamma: got shape \(2,\); expected \(3,\)"),
            (lambda: train(gamma=gamma.astype(np.float64)), TypeError, "x is float32 but gamma is float64"),
            (lambda: train(mean=read_only), ValueError, "running_mean: got a read-only"),
            (lambda: train(mean=[0.0] * 3), TypeError, "running_mean: got list"),
            (lambda: train(mean=var), ValueError, "running_var: shares memory with running_mean"),
            (lambda: train(momentum=2), ValueError, "momentum: got 2"),
            (lambda: train(eps=-1), ValueError, "eps: got -1"),
            (lambda: train(num_threads=0), ValueError, "num_threads"),
            (lambda: fc.batch_norm_backward(dy[:2], x, gamma, saved), ValueError, "batch_norm_backward: dy: got shape"),
            (lambda: fc.batch_norm_backward(dy, x, gamma, saved[:2]), ValueError, "batch_norm_backward: saved"),
            (lambda: fc.batch_norm_backward(dy, x, gamma, (mean[:2], *saved[1:])), ValueError, r"saved\[0\]")):
        with pytest.raises(error, match=message):
            call()
