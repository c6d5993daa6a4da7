"""Losses: values, gradients, targets of every kind, extreme logits, arguments."""
import math

import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS, in_order, normal
from reference_helpers import check_gradient

import fastconv as fc
from fastconv import reference

dtypes = pytest.mark.parametrize("dtype", DTYPES)
SHAPES = [(6, 10), (1, 2), (3, 4, 5), (2, 7, 4, 3), (2, 3, 2, 2, 3)]
PAIRS = ("binary_cross_entropy_with_logits", "mse_loss")


def backward(name, module=fc):
    return getattr(module, f"{name}_backward")


def logits_of(shape, dtype, order="channels_first"):
    return in_order((4 * normal(shape, dtype)).astype(dtype), order if len(shape) > 2 else "channels_first")


def targets(shape, dtype):
    """(target, arguments): indices of several types, some ignored; probabilities."""
    index = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    ignored = index.copy()
    ignored.flat[::2] = -100
    probabilities = reference.softmax(normal(shape, np.float64, 2)).astype(dtype)
    yield index, {}
    yield index.astype(np.uint8), {"label_smoothing": 0.1}
    yield ignored.astype(np.int16), {"ignore_index": -100, "label_smoothing": 0.2}
    yield index, {"ignore_index": int(index.flat[0])}
    yield probabilities, {}
    yield probabilities, {"label_smoothing": 0.3}


@dtypes
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_against_the_reference(isa, dtype, order, shape):
    eps = float(np.finfo(dtype).eps)
    logits = logits_of(shape, dtype, order)
    for target, arguments in targets(shape, dtype):
        loss = fc.cross_entropy(logits, target, **arguments)
        assert type(loss) is float
        expected = reference.cross_entropy(logits, target, **arguments)
        assert loss == pytest.approx(expected, rel=16 * eps, nan_ok=True)
        gradient = fc.cross_entropy_backward(logits, target, **arguments)
        assert gradient.dtype == dtype and gradient.strides == fc.relu(logits).strides
        np.testing.assert_allclose(gradient, reference.cross_entropy_backward(logits, target, **arguments), rtol=0,
                                   atol=16 * eps)


@pytest.mark.parametrize("shape", SHAPES[2:])
def test_cross_entropy_gradient_by_central_differences(shape):
    logits = logits_of(shape, np.float64)
    for target, arguments in targets(shape, np.float64):
        check_gradient(lambda x, t=target, a=arguments: fc.cross_entropy(x, t, **a), logits,
                       fc.cross_entropy_backward(logits, target, **arguments))


def test_cross_entropy_by_hand():
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    assert fc.cross_entropy(logits, [0, 2]) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    assert fc.cross_entropy(logits, [0, 2], ignore_index=2) == pytest.approx(-math.log(0.5))
    np.testing.assert_allclose(fc.cross_entropy_backward(logits, [0, 2]),
                               [[-0.25, 0.125, 0.125], [0.05, 0.05, -0.1]], atol=1e-15)


@dtypes
def test_extreme_logits(dtype):
    logits = np.array([[1e30, -1e30, 0], [-1e30, -1e30, -1e30]], dtype)
    assert fc.cross_entropy(logits, [0, 1]) == pytest.approx(math.log(3) / 2, rel=1e-6)
    assert fc.cross_entropy(np.array([[0, -np.inf]], dtype), np.array([[1, 0]], dtype)) == 0
    assert fc.binary_cross_entropy_with_logits(logits, (logits > 0).astype(dtype)) < 1
    assert np.isfinite(fc.cross_entropy_backward(logits, [0, 1])).all()
    assert np.isfinite(fc.binary_cross_entropy_with_logits_backward(logits, np.ones_like(logits))).all()


def test_nothing_that_counts():
    logits = normal((3, 4), np.float32)
    assert math.isnan(fc.cross_entropy(logits, [1, 1, 1], ignore_index=1))
    assert not fc.cross_entropy_backward(logits, [1, 1, 1], ignore_index=1).any()
    assert math.isnan(fc.cross_entropy(logits[:0], np.empty(0, int)))
    assert fc.cross_entropy_backward(logits[:0], np.empty(0, int)).shape == (0, 4)
    for name in PAIRS:
        assert math.isnan(getattr(fc, name)(logits[:0], logits[:0]))
        assert backward(name)(logits[:0], logits[:0]).shape == (0, 4)


@dtypes
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4, 5)])
def test_pairs_against_the_reference(isa, dtype, name, shape):
    eps = float(np.finfo(dtype).eps)
    x = 4 * normal(shape, dtype)
    target = np.random.default_rng(1).random(shape).astype(dtype)
    loss = getattr(fc, name)(x, target)
    assert type(loss) is float
    assert loss == pytest.approx(getattr(reference, name)(x, target), rel=8 * eps)
    gradient = backward(name)(x, target)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, backward(name, reference)(x, target), rtol=8 * eps, atol=8 * eps / x.size)
    if dtype == np.float64:
        check_gradient(lambda x: getattr(fc, name)(x, target), x, gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_on_every_instruction_set(isa, threads, name, dtype):
    """Tails, several work items, layouts that differ, and losses far below 1."""
    rng, eps = np.random.default_rng(0), float(np.finfo(dtype).eps)
    for n in (1, 3, 15, 16, 17, 40_001):
        for scale in (1e-3, 1, 30):
            x, target = (scale * rng.standard_normal(n)).astype(dtype), rng.random(n).astype(dtype)
            if scale == 30:
                target = (x > 0).astype(dtype)
            expected = getattr(reference, name)(x.astype(float), target.astype(float))
            assert getattr(fc, name)(x, target) == pytest.approx(expected, rel=16 * eps)
    x, target = rng.standard_normal((2, 3, 5, 7)).astype(dtype), rng.random((2, 3, 5, 7)).astype(dtype)
    expected = getattr(fc, name)(x, target)
    last = [fc.channels_last(a) for a in (x, target)]
    gaps = np.stack((x, target), axis=-1)
    for a, b in ((x, last[1]), last, (gaps[..., 0], gaps[..., 1]), (x.T, target.T)):
        assert getattr(fc, name)(a, b) == pytest.approx(expected, rel=16 * eps)
        np.testing.assert_array_equal(backward(name)(a, b), backward(name)(a.copy(), b.copy()))


@pytest.mark.parametrize("x, target, expected", [
    (np.inf, 1, np.nan), (-np.inf, 0.5, np.inf), (np.nan, 1, np.nan), (-100, 0, 0), (1000, 1, 0), (-1000, 1, 1000)])
def test_binary_cross_entropy_at_the_ends(isa, x, target, expected):
    x, target = np.array([x], np.float32), np.array([target], np.float32)
    np.testing.assert_allclose(fc.binary_cross_entropy_with_logits(x, target), expected, atol=1e-37)


def test_sums_are_taken_in_float64():
    x = np.full(3_000_000, 0.1, np.float32)
    assert fc.mse_loss(x, np.zeros_like(x)) == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-6)
    logits = np.zeros((400_000, 2), np.float32)
    assert fc.cross_entropy(logits, np.zeros(400_000, np.int8)) == pytest.approx(math.log(2), rel=1e-6)


def test_bad_arguments():
    logits, index = normal((4, 3, 5), np.float32), np.zeros((4, 5), int)
    for bad in (-1, 3, 1000):
        target = index.copy()
        target[2, 3] = bad
        for function in (fc.cross_entropy, fc.cross_entropy_backward):
            with pytest.raises(ValueError, match=f"target: got class index {bad}; expected 0 to 2"):
                function(logits, target)
    with pytest.raises(ValueError, match="class index 18446744073709551615"):
        fc.cross_entropy(logits, index.astype(np.uint64) - 1)
    for call, error, message in (
            (lambda: fc.cross_entropy(logits.astype(int), index), TypeError, "cross_entropy: logits: got dtype int64"),
            (lambda: fc.cross_entropy(logits[0, 0], index[0]), ValueError, "cross_entropy: logits: got shape"),
            (lambda: fc.cross_entropy(logits, index.T), ValueError, r"target: got shape \(5, 4\); expected \(4, 5\)"),
            (lambda: fc.cross_entropy(logits, index.astype(bool)), TypeError, "target: got dtype bool"),
            (lambda: fc.cross_entropy(logits, logits.astype(np.float64)), TypeError, "float32 but target is float64"),
            (lambda: fc.cross_entropy(logits, logits[:, :2]), ValueError, "target: got shape"),
            (lambda: fc.cross_entropy(logits, index, label_smoothing=1.5), ValueError, "label_smoothing: got 1.5"),
            (lambda: fc.cross_entropy(logits, index, ignore_index=1.0), TypeError, "ignore_index"),
            (lambda: fc.mse_loss(logits, logits[:2]), ValueError, "mse_loss: target: got shape"),
            (lambda: fc.mse_loss(logits, logits.astype(float)), TypeError, "pred is float32 but target is float64"),
            (lambda: fc.binary_cross_entropy_with_logits(logits, logits > 0), TypeError, "target: got dtype bool")):
        with pytest.raises(error, match=message):
            call()
