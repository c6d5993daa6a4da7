"""Modules as objects: names, state dictionaries, configurations, copies, caches, threads."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastconv import activation, conv, nn
from fastconv.nn import registry


def small_model(seed=0):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, rng=rng), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, rng=rng), nn.ReLU())),
        nn.Concat(nn.Conv2d(4, 2, 1, bias=False, rng=rng), nn.Sequential()),
        nn.Flatten(), nn.Dropout(0.5, rng=rng), nn.Linear(6 * 9, 3, rng=rng))


def batch(n=5, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 1, 6, 6)).astype(np.float32)


def states_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


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
    with pytest.raises(ValueError, match="BatchNorm2d: x has 3 axes, expected 4"):
        nn.BatchNorm2d(2)(x)


MODULES = [
    small_model(), nn.Conv1d(2, 4, 3, 2, ((1, 2),), 2, 2, False, "circular", dtype=np.float64),
    nn.Conv3d(1, 1, np.int64(2), padding="same"),
    nn.ConvTranspose2d(2, 2, (2, 3), 2, output_padding=(1, 0), bias=False),
    nn.MaxPool2d(3, 2, (1, 0), ceil_mode=True), nn.AvgPool1d(2, divisor_override=3), nn.SumPool3d(2, dilation=2),
    nn.GlobalAvgPool(), nn.AdaptiveMaxPool2d((2, 3)), nn.AdaptiveAvgPool1d(4), nn.LeakyReLU(0.3), nn.Softmax(2),
    nn.LogSoftmax(), nn.Dropout(0.1), nn.BatchNorm1d(3, 1e-3, None, False), nn.Residual(nn.ReLU(), nn.Tanh()),
    nn.Concat(nn.ReLU())]


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


# --- inference ---

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


# --- copies ---

def copies_of(model):
    yield "pickle", pickle.loads(pickle.dumps(model))
    yield "deepcopy", copy.deepcopy(model)


def test_copies():
    model = small_model()
    x = batch()
    expected = model(x)
    y, backward = model.forward(x)
    backward(np.ones_like(y))
    expected, state = model(x), model.state_dict()
    for how, other in copies_of(model):
        states_equal(other.state_dict(), state)
        np.testing.assert_array_equal(other(x), expected, err_msg=how)
        assert all(parameter.grad is None for parameter in other.parameters())
        other[0].weight.assign(np.zeros(other[0].weight.shape))
        with other[8].bias.updating() as bias:
            bias += 1
        other.forward(x)
        states_equal(model.state_dict(), state)
        assert other[7].rng is not model[7].rng


def test_packed_weights_stay_out_of_pickles(packings):
    model = small_model()
    before = len(pickle.dumps(model))
    model(batch())
    assert packings
    assert len(pickle.dumps(model)) == before


def test_shared_parameter_stays_shared_in_copies():
    layer = nn.Linear(2, 2, rng=0)
    for how, other in copies_of(nn.Sequential(layer, layer)):
        assert other[0] is other[1], how


def test_joblib():
    joblib = pytest.importorskip("joblib")
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 400, rng=0), nn.BatchNorm1d(400))
    x = batch()
    run = joblib.Parallel(n_jobs=2, max_nbytes=1000)
    for (y, weight_change), expected in zip(run(joblib.delayed(predict_and_train)(model, x) for _ in range(2)),
                                            [model(x)] * 2, strict=True):
        np.testing.assert_array_equal(y, expected)
        assert weight_change > 0


def predict_and_train(model, x):
    """What a worker does with a model whose arrays may be mapped read-only."""
    y = model(x)
    before = model[1].weight.value.copy()
    outputs, backward = model.forward(x)
    backward(np.arange(outputs.size, dtype=outputs.dtype).reshape(outputs.shape))
    nn.SGD(model, lr=0.1).step()
    return y, float(np.abs(model[1].weight.value - before).max())


# --- threads ---

def test_threads_share_a_model():
    model = small_model()
    inputs = [batch(4, seed) for seed in range(12)]
    expected = [model(x) for x in inputs]
    model = copy.deepcopy(model)  # nothing packed yet: the threads race for that, too
    with ThreadPoolExecutor(6) as pool:
        for result, y in zip(pool.map(model, inputs * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(result, y)


def test_threads_see_old_or_new_weights():
    layer = nn.Conv1d(2, 3, 3, bias=False, rng=0)
    x = np.random.default_rng(0).normal(size=(2, 2, 16)).astype(np.float32)
    weights = [layer.weight.value.copy(), -2 * layer.weight.value]
    allowed = []
    for weight in weights:
        layer.weight.assign(weight)
        allowed.append(layer(x).tobytes())

    def infer(_):
        return layer(x).tobytes()

    with ThreadPoolExecutor(4) as pool:
        results = pool.map(infer, range(200))
        for turn in range(100):
            layer.weight.assign(weights[turn % 2])
        assert set(results) <= set(allowed)
    assert layer(x).tobytes() == allowed[1]
