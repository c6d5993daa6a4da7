"""Modules in inference: fused activations, folded batch norm, packed weights."""

import pickle

import numpy as np
import pytest
from nn_models import batch, small_model, states_equal

from fastconv import activation, conv, nn


@pytest.mark.parametrize("layer", [
    nn.Conv1d(2, 3, 3, rng=0), nn.ConvTranspose1d(2, 3, 3, rng=0), nn.Linear(8, 3, bias=False, rng=0)])
def test_fused_relu_has_the_same_bits(layer):
    x = np.random.default_rng(0).normal(size=(2, 2, 8)).astype(np.float32)
    x[0, 0, 0] = np.nan
    model = nn.Sequential(layer, nn.ReLU(), nn.ReLU())
    plain = activation.relu(layer(x))
    assert np.isnan(plain).any()
    assert (plain == 0).any()
    y, backward = model.forward(x)
    for result in (model(x), y):
        assert result.tobytes() == plain.tobytes()
    dx = backward(np.ones_like(y))
    unfused, unfused_backward = nn.Sequential(nn.Sequential(layer), nn.ReLU()).forward(x)
    assert unfused.tobytes() == plain.tobytes()
    np.testing.assert_array_equal(dx, unfused_backward(np.ones_like(y)))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.Hardswish])
@pytest.mark.parametrize("layer", [
    lambda: nn.Conv2d(4, 5, 3, padding=1, rng=0), lambda: nn.BatchNorm2d(4), lambda: nn.Linear(6, 7, rng=0),
    lambda: nn.Residual(nn.Conv2d(4, 4, 1, rng=0)), lambda: nn.ConvTranspose2d(4, 3, 2, stride=2, rng=0)])
def test_fused_activation_has_the_same_bits(activation, layer):
    """In inference and in training, where those are left alone whose output doesn't tell their gradient."""
    x = 4 * np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    fused, plain = (nn.Sequential(*modules) for modules in
                    ((layer(), activation()), (nn.Sequential(layer()), activation())))
    assert fused(x).tobytes() == plain(x).tobytes()
    (y, backward), (expected, plain_backward) = fused.forward(x), plain.forward(x)
    assert y.tobytes() == expected.tobytes()
    dy = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    np.testing.assert_allclose(backward(dy), plain_backward(dy), rtol=1e-6, atol=1e-6)
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(one.grad, other.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 1, padding=1), nn.MinPool2d(2),
                                  nn.MaxPool2d((17, 17), 1, padding=8)])
@pytest.mark.parametrize("bias", [0.0, -5.0])
def test_gradient_of_relu_behind_a_pooling(pool, bias):
    """The same bits as in front of it, also where whole windows are cut off, and for NaN."""
    x = np.random.default_rng(0).normal(size=(2, 3, 18, 20)).astype(np.float32)
    layers = [nn.Conv2d(3, 4, 3, padding=1, rng=0) for _ in range(2)]
    for layer in layers:
        layer.bias.assign([bias, 0, 0, np.nan])
    fused, plain = nn.Sequential(layers[0], nn.ReLU(), pool), nn.Sequential(nn.Sequential(layers[1]), nn.ReLU(), pool)
    (y, backward), (expected, plain_backward) = fused.forward(x), plain.forward(x)
    assert y.tobytes() == expected.tobytes()
    dy = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    assert backward(dy).tobytes() == plain_backward(dy).tobytes()
    for one, other in zip(*(layer.parameters() for layer in layers), strict=True):
        assert one.grad.tobytes() == other.grad.tobytes()


def random_statistics(model, seed=0):
    """The model, with statistics, scales and shifts as after a training."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith(("running_mean", "bias")):
            value[...] = rng.normal(size=value.shape)
        elif name.endswith("running_var") or value.ndim == 1:
            value[...] = rng.uniform(0.5, 2, value.shape)
    model.load_state_dict(state)
    return model


def test_fold_batch_norm():
    """Convolutions of every kind take it up, at any depth; a batch norm elsewhere stays; the model is left alone."""
    model = random_statistics(nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1, rng=0), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False, rng=1), nn.BatchNorm2d(8))),
        nn.ReLU(),
        nn.Residual(nn.Conv2d(8, 6, 1, rng=5),
                    nn.Sequential(nn.Conv2d(8, 6, 1, rng=2), nn.BatchNorm2d(6, affine=False))),
        nn.Concat(nn.Sequential(nn.ConvTranspose2d(6, 4, 2, groups=2, bias=False, rng=3), nn.BatchNorm2d(4)),
                  nn.ConvTranspose2d(6, 4, 2, rng=4)),
        nn.Multiply(nn.Sequential(nn.Conv2d(8, 8, 1, rng=6), nn.BatchNorm2d(8)), nn.Sigmoid()),
        nn.BatchNorm2d(8)))
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 6)).astype(np.float32)
    before, expected = model.state_dict(), model(x)
    folded = nn.fold_batch_norm(model)
    np.testing.assert_allclose(folded(x), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    kinds = [type(module).__name__ for _, module in folded.named_modules()]
    assert kinds.count("BatchNorm2d") == 2
    states_equal(before, model.state_dict())
    for parameter in folded.parameters():
        parameter.assign(np.zeros(parameter.shape))
    assert model(x).tobytes() == expected.tobytes()


def test_subclass_of_relu_is_not_fused_away():
    class Shifted(nn.ReLU):
        def __call__(self, x):
            return super().__call__(x) + 1

    assert (nn.Sequential(nn.Linear(2, 3, rng=0), Shifted())(np.ones((4, 2), np.float32)) >= 1).all()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.MaxPool2d])
def test_subclass_with_a_forward_of_its_own_gets_no_more_than_x(kind):
    class Plain(kind):
        def forward(self, x):
            return super().forward(x)

    model = nn.Sequential(nn.Conv2d(2, 4, 1, rng=0), nn.ReLU(), Plain(4 if kind is nn.BatchNorm2d else 2), nn.ReLU())
    y, backward = model.forward(np.ones((2, 2, 4, 4), np.float32))
    assert backward(np.ones_like(y)).shape == (2, 2, 4, 4)


def test_inference_uses_running_statistics_and_no_dropout():
    model = small_model()
    x = batch()
    first = model(x)
    np.testing.assert_array_equal(first, model(x))
    state = model.state_dict()
    model.forward(x)
    assert int(model.state_dict()["1.num_batches_tracked"]) == 1
    assert not np.array_equal(model.state_dict()["1.running_mean"], state["1.running_mean"])
    assert not np.array_equal(first, model(x))


def test_cumulative_average_of_batch_statistics():
    layer = nn.BatchNorm1d(2, momentum=None)
    x = np.random.default_rng(0).normal(size=(3, 10, 2)).astype(np.float32)
    for each in x:
        layer.forward(each)
    np.testing.assert_allclose(layer.running_mean, x.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, x.var(axis=1, ddof=1).mean(axis=0), rtol=1e-5)


@pytest.fixture
def packings(monkeypatch):
    """The weights that have been packed so far."""
    packed = []
    pack_weight = conv.pack_weight

    def counted(w, **geometry):
        packed.append((w, geometry))
        return pack_weight(w, **geometry)

    monkeypatch.setattr(conv, "pack_weight", counted)
    return packed


def test_weight_is_packed_once_per_version(packings):
    layer = nn.Conv2d(2, 4, 3, stride=2, dilation=1, groups=2, rng=0)
    x = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    y, backward = layer.forward(x)
    assert not packings
    np.testing.assert_allclose(layer(x), y, rtol=1e-5, atol=1e-6)
    layer(x)
    assert len(packings) == 1
    assert packings[0][1] == {"stride": (2, 2), "dilation": (1, 1), "groups": 2}
    backward(np.ones_like(y))
    nn.SGD(layer, lr=0.1).step()
    after_step = layer(x)
    assert len(packings) == 2
    np.testing.assert_allclose(after_step, layer.forward(x)[0], rtol=1e-5, atol=1e-6)
    layer.weight.assign(np.zeros(layer.weight.shape))
    np.testing.assert_array_equal(layer(x)[0, :, 0, 0], layer.bias.value)
    assert len(packings) == 3


def test_linear_weight_is_packed_once(packings):
    layer = nn.Linear(5, 4, rng=0)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(layer(x), x @ layer.weight.value.T + layer.bias.value, rtol=1e-5, atol=1e-6)
    layer(x)
    assert len(packings) == 1


def test_packed_weights_stay_out_of_pickles(packings):
    model = small_model()
    before = len(pickle.dumps(model))
    model(batch())
    assert packings
    assert len(pickle.dumps(model)) == before
