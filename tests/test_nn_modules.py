"""Modules as objects: names, state dictionaries, parameters, configurations, summaries."""

import json

import numpy as np
import pytest
from nn_models import batch, small_model, states_equal

from fastconv import nn
from fastconv.nn import registry

# --- names and state ---

def test_names():
    model = small_model()
    assert list(model.state_dict()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
        "4.body.0.weight", "4.body.0.bias", "5.0.weight", "8.weight", "8.bias"]
    assert [name for name, _ in model.named_buffers()] == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert [name for name, _ in model.named_generators()] == ["7.rng"]
    assert dict(model.named_modules())["4.body.1"] is model[4].body[1]


def test_shared_parameter_is_listed_once():
    layer = nn.Linear(2, 2, rng=0)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    x = np.ones((1, 2), np.float32)
    y, backward = model.forward(x)
    backward(np.ones_like(y))
    inner = np.tanh(layer(x))
    from_last = np.repeat(inner, 2, axis=0)
    from_first = ((1 - inner**2) * layer.weight.value.sum(axis=0)).T * x
    np.testing.assert_allclose(layer.weight.grad, from_last + from_first, rtol=1e-5)


def test_state_dict_is_a_copy():
    model = small_model()
    state = model.state_dict()
    state["0.weight"][...] = 7
    assert not (model[0].weight.value == 7).any()


def test_load_state_dict():
    model, other = small_model(0), small_model(1)
    result = other.load_state_dict(model.state_dict())
    assert result == ((), ())
    states_equal(model.state_dict(), other.state_dict())
    np.testing.assert_array_equal(model(batch()), other(batch()))


def test_load_state_dict_is_all_or_nothing():
    model = small_model()
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    state["8.weight"] = np.zeros((3, 5))
    state["8.bias"] = np.zeros(3, complex)
    del state["0.bias"]
    state["9.weight"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"8.weight has shape \(3, 5\), expected \(3, 54\)") as caught:
        model.load_state_dict(state)
    for problem in ("8.bias has dtype complex128", "0.bias is missing", "9.weight is unexpected"):
        assert problem in str(caught.value)
    states_equal(model.state_dict(), before)


def test_load_state_dict_not_strict():
    model = small_model()
    result = model.load_state_dict({"0.bias": np.ones(4), "x": np.ones(2)}, strict=False)
    assert result.unexpected == ("x",)
    assert "8.weight" in result.missing
    assert "0.bias" not in result.missing
    np.testing.assert_array_equal(model[0].bias.value, np.ones(4))
    with pytest.raises(ValueError, match="0.bias has shape"):
        model.load_state_dict({"0.bias": np.ones(5)}, strict=False)
    with pytest.raises(TypeError, match="load_state_dict: state: got list"):
        model.load_state_dict([np.ones(4)])


# --- parameters ---

def test_parameter_value_is_read_only():
    parameter = nn.Parameter(np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        parameter.value[0] = 1
    with pytest.raises(AttributeError):
        parameter.value = np.ones(3)


def test_assign():
    parameter = nn.Parameter(np.zeros((2, 3), np.float32))
    held, version = parameter.value, parameter.version
    parameter.assign([[1, 2, 3], [4, 5, 6]])
    assert parameter.version > version
    assert parameter.dtype == np.float32
    assert parameter.value[1, 2] == 6
    assert not held.any()
    with pytest.raises(ValueError, match=r"\(3,\), expected \(2, 3\)"):
        parameter.assign(np.zeros(3))
    with pytest.raises(TypeError, match="complex"):
        parameter.assign(np.zeros((2, 3), complex))


def test_updating_copies_what_is_read_only():
    array = np.zeros(3)
    array.flags.writeable = False
    parameter = nn.Parameter(array)
    version = parameter.version
    with parameter.updating() as value:
        value += 1
    np.testing.assert_array_equal(parameter.value, np.ones(3))
    assert parameter.version > version
    assert not array.any()


def test_gradient_is_zero_after_zero_grad_and_then_sums():
    layer = nn.Linear(3, 2, rng=0)
    x, dy = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    assert layer.weight.grad is None
    for _ in range(2):
        layer.forward(x)[1](dy)
        np.testing.assert_array_equal(layer.weight.grad, np.full((2, 3), 4))
        layer.forward(x)[1](dy)
        np.testing.assert_array_equal(layer.weight.grad, np.full((2, 3), 8))
        layer.zero_grad()
    layer.bias.grad[...] = 1  # one gradient there, the other not
    layer.forward(x)[1](dy)
    np.testing.assert_array_equal(layer.bias.grad, [5, 5])
    np.testing.assert_array_equal(layer.weight.grad, np.full((2, 3), 4))
    layer.zero_grad()
    assert not layer.weight.grad.any()


def test_backward_after_a_change_of_weights_is_refused():
    layer = nn.Conv1d(1, 1, 1, rng=0)
    y, backward = layer.forward(np.ones((1, 1, 3), np.float32))
    layer.weight.assign(np.ones((1, 1, 1)))
    with pytest.raises(RuntimeError, match="changed between forward and its backward"):
        backward(y)


@pytest.mark.parametrize(("layer", "fan_in"), [
    (nn.Conv2d(6, 40, 3, groups=2, rng=0), 27), (nn.Linear(50, 40, rng=0), 50),
    (nn.ConvTranspose1d(40, 6, 5, groups=2, rng=0), 15)])
def test_initial_weights(layer, fan_in):
    """Uniform on +-1/sqrt(fan_in): the bounds are kept and almost reached, and the variance is bound**2 / 3."""
    bound = fan_in**-0.5
    weight, bias = layer.weight.value, layer.bias.value
    assert 0.95 * bound < np.abs(weight).max() <= bound * (1 + 1e-6)
    assert np.abs(bias).max() <= bound * (1 + 1e-6)
    assert weight.var() == pytest.approx(bound**2 / 3, rel=0.15)


def test_seed_decides_initial_weights_in_both_dtypes():
    single, double = nn.Linear(9, 5, rng=3), nn.Linear(9, 5, dtype=np.float64, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(single.weight.value, double.weight.value.astype(np.float32))
    assert not np.array_equal(single.weight.value, nn.Linear(9, 5, rng=4).weight.value)


# --- constructor arguments and configurations ---

@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: nn.Conv2d(0, 1, 3), ValueError, "in_channels: got 0"),
    (lambda: nn.Conv2d(1.0, 1, 3), TypeError, "in_channels: got 1.0"),
    (lambda: nn.Conv2d(4, 6, 3, groups=3), ValueError, "groups: got 3"),
    (lambda: nn.Conv2d(1, 1, (3, 3, 3)), ValueError, "kernel_size: got 3 values"),
    (lambda: nn.Conv2d(1, 1, 3, stride=0), ValueError, "stride: got 0"),
    (lambda: nn.Conv2d(1, 1, 3, bias=1), TypeError, "bias: got 1"),
    (lambda: nn.Conv2d(1, 1, 3, dtype=np.int32), TypeError, "dtype: got .*int32"),
    (lambda: nn.Linear(True, 1), TypeError, "in_features: got True"),
    (lambda: nn.Dropout(1.5), ValueError, "p: got 1.5"),
    (lambda: nn.Dropout(float("nan")), ValueError, "p: got nan"),
    (lambda: nn.LeakyReLU("1"), TypeError, "negative_slope"),
    (lambda: nn.Sequential(nn.ReLU), TypeError, "expected a Module"),
    (lambda: nn.Residual(3), TypeError, "expected a Module"),
    (lambda: nn.Concat(), ValueError, "at least one"),
    (lambda: nn.Multiply(), ValueError, "at least one"),
    (lambda: nn.AdaptiveAvgPool2d(None), TypeError, "output_size"),
    (lambda: nn.AdaptiveAvgPool2d((None, 0)), ValueError, "output_size: got"),
    (lambda: nn.AdaptiveMaxPool2d((2, None, 2)), ValueError, "output_size: got 3 values"),
    (lambda: nn.Linear(1, 1, rng="0"), TypeError, "rng: got str"),
])
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_mismatched_shapes_in_containers():
    x = np.zeros((1, 2, 4), np.float32)
    with pytest.raises(ValueError, match="Residual"):
        nn.Residual(nn.MaxPool1d(2))(x)
    with pytest.raises(ValueError, match="Concat"):
        nn.Concat(nn.MaxPool1d(2), nn.ReLU())(x)
    for other in (nn.MaxPool1d(2), nn.Flatten()):
        with pytest.raises(ValueError, match="Multiply"):
            nn.Multiply(nn.ReLU(), other)(x)
    with pytest.raises(ValueError, match="BatchNorm2d: x has 3 axes, expected 4"):
        nn.BatchNorm2d(2)(x)


MODULES = [
    small_model(), nn.Conv1d(2, 4, 3, 2, ((1, 2),), 2, 2, False, "circular", dtype=np.float64),
    nn.Conv3d(1, 1, np.int64(2), padding="same"),
    nn.ConvTranspose2d(2, 2, (2, 3), 2, output_padding=(1, 0), bias=False),
    nn.MaxPool2d(3, 2, (1, 0), ceil_mode=True), nn.AvgPool1d(2, divisor_override=3), nn.SumPool3d(2, dilation=2),
    nn.GlobalAvgPool(), nn.AdaptiveMaxPool2d((2, 3)), nn.AdaptiveAvgPool1d(4), nn.LeakyReLU(0.3), nn.Softmax(2),
    nn.LogSoftmax(), nn.Dropout(0.1), nn.BatchNorm1d(3, 1e-3, None, False), nn.Residual(nn.ReLU(), nn.Tanh()),
    nn.Concat(nn.ReLU()), nn.Multiply(nn.ReLU(), nn.Tanh()), nn.AdaptiveMaxPool3d((2, None, 1)),
    nn.AdaptiveAvgPool1d((None,))]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_config_rebuilds_the_module(module):
    config = module.config()
    rebuilt = nn.build(json.loads(json.dumps(config)))
    assert type(rebuilt) is type(module)
    assert rebuilt.config() == config
    assert repr(rebuilt) == repr(module)
    shapes = {name: array.shape for name, array in module.state_dict().items()}
    assert {name: array.shape for name, array in rebuilt.state_dict().items()} == shapes


def test_build_draws_seeds():
    config = small_model().config()
    models = [nn.build(config, rng=seed) for seed in (0, np.random.default_rng(0), 1)]
    states_equal(models[0].state_dict(), models[1].state_dict())
    assert models[0][7].rng.random() == models[1][7].rng.random()
    assert not np.array_equal(models[0][0].weight.value, models[2][0].weight.value)
    assert not np.array_equal(models[0][0].bias.value, models[0][4].body[0].bias.value)


def test_repr():
    assert repr(nn.Conv2d(1, 8, 3, padding=1, dtype=np.float64)) == "Conv2d(1, 8, (3, 3), padding=1, dtype=float64)"
    assert repr(nn.Sequential(nn.ReLU())) == "Sequential(\n  (0) ReLU()\n)"


class Scale(nn.Module):
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor

    def forward(self, x):
        return self(x), lambda dy, need_input=True: dy * self.factor if need_input else None


def test_register(monkeypatch):
    monkeypatch.setattr(registry, "_LAYERS", dict(registry._LAYERS))
    config = nn.Sequential(Scale(3)).config()
    with pytest.raises(ValueError, match="'Scale' is no layer"):
        nn.build(config)
    nn.register(Scale)
    assert nn.build(config)[0].factor == 3
    with pytest.raises(ValueError, match="another layer"):
        nn.register(type("Scale", (nn.Module,), {}))
    with pytest.raises(TypeError, match="subclass of Module"):
        nn.register(int)


def test_slice_shares_the_layers():
    model = small_model()
    assert model[:2][0] is model[0]
    assert len(model[:-1]) == len(model) - 1
    assert list(model[6:]) == [model[6], model[7], model[8]]


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
def test_adaptive_size_of_the_input(pool):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype(np.float32)
    dy = np.ones((2, 3, 5, 2), np.float32)
    (y, backward), (expected, expected_backward) = (pool(size).forward(x) for size in ((None, 2), (5, 2)))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(backward(dy), expected_backward(dy))


@pytest.mark.parametrize("order", ["C", "channels last"])
def test_multiply_spreads_one_number_a_channel(order):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype(np.float32)
    if order != "C":
        x = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    gate = nn.Sequential(nn.GlobalAvgPool(), nn.Conv2d(3, 3, 1, rng=0), nn.Sigmoid())
    model = nn.Multiply(nn.Sequential(), gate)
    expected = x * gate(x)
    assert model(x).strides == x.strides
    np.testing.assert_array_equal(model(x), expected)
    np.testing.assert_array_equal(model.forward(x)[0], expected)


def test_summary():
    table = nn.summary(small_model(), (1, 1, 6, 6))
    lines = [line.split() for line in table.splitlines()]
    assert ["0", "Conv2d", "(1,", "4,", "6,", "6)", "40", "0.003", "0.6"] in lines
    assert ["4", "Residual", "(1,", "4,", "3,", "3)", "0.1"] in lines
    assert ["4.body.0", "Conv2d", "(1,", "4,", "3,", "3)", "148", "0.003", "0.1"] in lines
    assert ["5", "Concat", "(1,", "6,", "3,", "3)", "0.2"] in lines
    parameters, totals = table.splitlines()[-2:]
    assert parameters == "369 parameters, 369 of them trainable, 1.4 KiB"
    assert totals.startswith("0.0") and "MFLOP an inference" in totals


@pytest.mark.parametrize("layer, shape, expected", [
    (nn.Conv2d(4, 6, (3, 5), groups=2, rng=0), (2, 4, 9, 10), 2 * 6 * 2 * 15 * 2 * 7 * 6),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, rng=0), (1, 4, 10), 2 * 4 * 6 * 3 * 10),
    (nn.Linear(7, 5, rng=0), (3, 2, 7), 2 * 7 * 5 * 6)])
def test_summary_counts_every_multiplication_and_addition(layer, shape, expected):
    row = nn.summary(layer, shape).splitlines()[2].split()
    assert float(row[-2]) == round(expected / 1e6, 3)


# --- the picture of a training run ---

def test_plot_training(tmp_path):
    pytest.importorskip("matplotlib")
    nan = float("nan")
    history = nn.History([2.0, 1.0], [0.5, 0.75], [2.5, 1.5], [0.25, 0.5], [0.1, 0.1], [1.0, 1.0])
    figure = nn.plot_training(history, tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    drawn = [[line.get_ydata().tolist() for line in axes.lines] for axes in figure.axes]
    assert drawn == [[[2.0, 1.0], [2.5, 1.5]], [[0.5, 0.75], [0.25, 0.5]]]
    alone = nn.plot_training(nn.History([2.0], [nan], [nan], [nan], [0.1], [1.0]))
    assert [len(axes.lines) for axes in alone.axes] == [1]
    with pytest.raises(ValueError, match="no epoch"):
        nn.plot_training(nn.History())
