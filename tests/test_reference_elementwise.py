"""The reference's activations, dense layers and losses against literals, PyTorch and central differences."""

import math

import numpy as np
import pytest
from reference_helpers import check_gradient, close, inner

from fastconv import reference as ref

NAN, INF = math.nan, math.inf
SAVED_OUTPUT = ("relu", "sigmoid", "tanh", "softmax", "log_softmax")
ACTIVATIONS = (*SAVED_OUTPUT, "relu6", "leaky_relu", "silu", "hardswish")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


# ---------------------------------------------------------------- activations


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_that_of_torch(torch, rng, name):
    x, dy = rng.standard_normal((2, 5, 3, 4)) * 4, rng.standard_normal((2, 5, 3, 4))
    tx = torch.tensor(x, requires_grad=True)
    options = {"dim": 1} if "softmax" in name else {}
    expected = getattr(torch.nn.functional, name)(tx, **options)
    expected.backward(torch.tensor(dy))
    y = getattr(ref, name)(x)
    close(y, expected.detach())
    close(getattr(ref, name + "_backward")(dy, y if name in SAVED_OUTPUT else x), tx.grad)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradient_by_central_differences(rng, name):
    x, dy = np.linspace(-7.05, 7.95, 12).reshape(2, 3, 2), rng.standard_normal((2, 3, 2))
    forward, backward = getattr(ref, name), getattr(ref, name + "_backward")
    saved = forward(x) if name in SAVED_OUTPUT else x
    check_gradient(lambda x: inner(forward(x), dy), x, backward(dy, saved))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_in_place_and_dtype(rng, name):
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    y = getattr(ref, name)(x)
    assert y.dtype == np.float32
    assert not np.shares_memory(x, y)
    same = x.copy()
    assert getattr(ref, name)(same, out=same) is same
    np.testing.assert_array_equal(same, y)
    backward = getattr(ref, name + "_backward")
    dy = x.copy()
    dx = backward(dy, y)
    assert dx.dtype == np.float32
    assert backward(dy, y, out=dy) is dy
    np.testing.assert_array_equal(dy, dx)
    assert getattr(ref, name)(x[:0]).shape == (0, 5, 3)


def test_relu_at_its_corners():
    y = ref.relu(np.array([NAN, -0.0, 0.0, -1.0, INF, -INF, 5e-324]))
    np.testing.assert_array_equal(y, [NAN, 0.0, 0.0, 0.0, INF, 0.0, 5e-324])
    assert not np.signbit(y[1:]).any()
    saved = np.array([-1.0, -0.0, 0.0, 2.0, INF])
    np.testing.assert_array_equal(ref.relu_backward(np.full(5, INF), saved), [0.0, 0.0, 0.0, INF, INF])


def test_kinks_and_saturation():
    assert ref.relu6_backward(np.ones(4), np.array([0.0, 1.0, 6.0, 7.0])).tolist() == [0, 1, 0, 0]
    assert ref.hardswish_backward(np.ones(4), np.array([-3.0, 0.0, 3.0, 4.0])).tolist() == [0, 0.5, 1, 1]
    assert ref.leaky_relu(np.array([-2.0, 3.0]), 0.5).tolist() == [-1, 3]
    assert ref.leaky_relu_backward(np.ones(3), np.array([-2.0, 0.0, 3.0]), 0.5).tolist() == [0.5, 0.5, 1]
    assert ref.sigmoid(np.array([-INF, -1e300, 0.0, 1e300, INF])).tolist() == [0, 0, 0.5, 1, 1]
    assert ref.sigmoid(np.array([-700.0]))[0] == pytest.approx(math.exp(-700))
    assert ref.softmax(np.array([[1000.0, 1000.0, -INF]])).tolist() == [[0.5, 0.5, 0.0]]
    assert ref.log_softmax(np.array([[1000.0, -1000.0]])).tolist() == [[0.0, -2000.0]]
    assert np.isnan(ref.relu6(np.array([NAN])))[0]


def test_softmax_along_any_axis(rng):
    x, dy = rng.standard_normal((2, 2, 3, 4, 5))
    for axis in (0, 2, -1):
        moved, dmoved = np.moveaxis(x, axis, 1), np.moveaxis(dy, axis, 1)
        for name in ("softmax", "log_softmax"):
            forward, backward = getattr(ref, name), getattr(ref, name + "_backward")
            close(np.moveaxis(forward(x, axis), axis, 1), forward(moved))
            close(np.moveaxis(backward(dy, x, axis), axis, 1), backward(dmoved, moved))


# ---------------------------------------------------------------- dense layers


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
def test_linear(rng, lead):
    x, w, b = rng.standard_normal((*lead, 4)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    y = ref.linear(x, w, b)
    close(y, x @ w.T + b)
    dy = rng.standard_normal(y.shape)
    dx, dw, db = ref.linear_backward(dy, x, w)
    close(dx, dy @ w)
    close(dw, dy.reshape(-1, 5).T @ x.reshape(-1, 4) if x.size else np.zeros((5, 4)))
    close(db, dy.reshape(-1, 5).sum(axis=0) if x.size else np.zeros(5))
    outs = np.full_like(dx, NAN), np.ones_like(w), np.ones_like(b)
    got = ref.linear_backward(dy, x, w, out=outs, accumulate=True)
    assert [a is c for a, c in zip(got, outs)] == [True] * 3
    close(got[0], dx)
    close(got[1], dw + 1)
    close(got[2], db + 1)
    assert [g is None for g in ref.linear_backward(dy, x, w, need=(False, True, False))] == [True, False, True]


def test_flatten_follows_the_axes_not_the_memory(rng):
    x = rng.standard_normal((2, 4, 5, 3)).transpose(0, 3, 1, 2)
    y = ref.flatten(x)
    assert y.shape == (2, 60)
    np.testing.assert_array_equal(y[1, 20:40], x[1, 1].ravel())
    np.testing.assert_array_equal(ref.flatten_backward(y, x.shape), x)
    assert ref.flatten(x[:0]).shape == (0, 60)


def test_dropout_scales_what_it_keeps():
    x = np.ones((100, 3, 10), dtype=np.float32)
    y, mask = ref.dropout(x, 0.25, np.random.default_rng(3))
    assert mask.dtype == bool
    np.testing.assert_array_equal(y, np.where(mask, np.float32(4 / 3), 0))
    assert mask.mean() == pytest.approx(0.75, abs=0.03)
    np.testing.assert_array_equal(ref.dropout_backward(x, mask, 0.25), y)
    again, _ = ref.dropout(x, 0.25, np.random.default_rng(3))
    np.testing.assert_array_equal(again, y)
    assert not ref.dropout(x, 1.0, np.random.default_rng(3))[0].any()
    np.testing.assert_array_equal(ref.dropout(x, 0.0, np.random.default_rng(3))[0], x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm_is_that_of_torch(torch, rng, shape, training):
    x, dy = rng.standard_normal(shape) * 2 + 1, rng.standard_normal(shape)
    gamma, beta, mean = rng.standard_normal((3, 3))
    var = rng.random(3) + 0.5
    tx, tg, tb = (torch.tensor(a, requires_grad=True) for a in (x, gamma, beta))
    tmean, tvar = torch.tensor(mean), torch.tensor(var)
    expected = torch.nn.functional.batch_norm(tx, tmean, tvar, tg, tb, training, momentum=0.3, eps=1e-3)
    expected.backward(torch.tensor(dy))
    y, saved = ref.batch_norm(x, gamma, beta, mean, var, training=training, momentum=0.3, eps=1e-3)
    close(y, expected.detach())
    close(mean, tmean)
    close(var, tvar)
    for got, tensor in zip(ref.batch_norm_backward(dy, x, gamma, saved), (tx, tg, tb)):
        close(got, tensor.grad)


def test_batch_norm_by_hand():
    x = np.array([[1.0, 10.0], [3.0, 10.0]])
    mean, var = np.zeros(2), np.ones(2)
    y, saved = ref.batch_norm(x, np.ones(2), np.zeros(2), mean, var, training=True, eps=0.0625)
    batch_mean, inv_std, training = saved
    close(batch_mean, [2.0, 10.0])
    close(inv_std, [1.0625**-0.5, 4.0])
    assert training is True
    close(y, [[-(1.0625**-0.5), 0.0], [1.0625**-0.5, 0.0]])
    close(mean, [0.2, 1.0])
    close(var, [1.1, 0.9])
    with pytest.raises(ValueError, match="more than one"):
        ref.batch_norm(x[:1], np.ones(2), np.zeros(2), mean, var, training=True)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_gradient_by_central_differences(rng, training):
    x, dy, gamma, beta = rng.standard_normal((3, 2, 2)), rng.standard_normal((3, 2, 2)), np.array([1.5, -2]), np.ones(2)

    def loss(x, gamma, beta):
        return inner(ref.batch_norm(x, gamma, beta, np.ones(2), np.ones(2), training=training)[0], dy)

    _, saved = ref.batch_norm(x, gamma, beta, np.ones(2), np.ones(2), training=training)
    dx, dgamma, dbeta = ref.batch_norm_backward(dy, x, gamma, saved)
    check_gradient(lambda x: loss(x, gamma, beta), x, dx)
    check_gradient(lambda gamma: loss(x, gamma, beta), gamma, dgamma)
    check_gradient(lambda beta: loss(x, gamma, beta), beta, dbeta)


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("spatial", [(), (3,), (2, 3)])
def test_cross_entropy_is_that_of_torch(torch, rng, spatial, smoothing):
    logits = rng.standard_normal((4, 5, *spatial)) * 3
    labels = rng.integers(0, 5, (4, *spatial))
    ignoring = np.where(rng.random(labels.shape) < 0.4, -100, labels)
    ignoring.flat[0] = 2
    probabilities = ref.softmax(rng.standard_normal(logits.shape))
    first = int(labels.flat[0])
    for target, ignore_index in ((labels, None), (ignoring, -100), (labels, first), (probabilities, None)):
        tx = torch.tensor(logits, requires_grad=True)
        options = {} if ignore_index is None else {"ignore_index": ignore_index}
        expected = torch.nn.functional.cross_entropy(tx, torch.tensor(target), label_smoothing=smoothing, **options)
        expected.backward()
        loss = ref.cross_entropy(logits, target, ignore_index=ignore_index, label_smoothing=smoothing)
        assert isinstance(loss, float)
        assert loss == pytest.approx(expected.item(), rel=1e-12)
        gradient = ref.cross_entropy_backward(logits, target, ignore_index=ignore_index, label_smoothing=smoothing)
        close(gradient, tx.grad)


def test_cross_entropy_by_hand():
    logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]]))
    assert ref.cross_entropy(logits, [1, 0]) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    close(ref.cross_entropy_backward(logits, [1, 0]), [[0.125, -0.125], [-0.25, 0.25]])
    close(ref.cross_entropy_backward(logits, np.array([1, 9], dtype=np.uint8), ignore_index=9), [[0.25, -0.25], [0, 0]])
    for wrong in (2, -1):
        with pytest.raises(ValueError, match=f"{wrong} is out of range for 2"):
            ref.cross_entropy(logits, [1, wrong])
    assert math.isnan(ref.cross_entropy(logits, [7, 7], ignore_index=7))
    assert not ref.cross_entropy_backward(logits, [7, 7], ignore_index=7).any()
    assert ref.cross_entropy(np.array([[0.0, -INF], [NAN, 1.0]]), [0, 5], ignore_index=5) == 0.0
    assert ref.cross_entropy_backward(logits.astype(np.float32), [1, 0]).dtype == np.float32


@pytest.mark.parametrize("shape", [(4,), (3, 2, 2)])
@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "mse_loss"])
def test_other_losses_by_central_differences(rng, name, shape):
    x, t = rng.standard_normal(shape) * 3, rng.random(shape)
    loss, backward = getattr(ref, name), getattr(ref, name + "_backward")
    assert isinstance(loss(x, t), float)
    check_gradient(lambda x: loss(x, t), x, backward(x, t))
    assert backward(x.astype(np.float32), t.astype(np.float32)).dtype == np.float32


def test_other_losses_by_hand():
    assert ref.mse_loss([1.0, 2.0], [0.0, 4.0]) == 2.5
    assert ref.mse_loss_backward([1.0, 2.0], [0.0, 4.0]).tolist() == [1, -2]
    assert ref.binary_cross_entropy_with_logits([0.0, 0.0], [0.0, 1.0]) == pytest.approx(math.log(2))
    assert ref.binary_cross_entropy_with_logits([1000.0, -1000.0], [0.0, 1.0]) == 1000
    assert ref.binary_cross_entropy_with_logits_backward([1000.0, -1000.0], [0.0, 1.0]).tolist() == [0.5, -0.5]
