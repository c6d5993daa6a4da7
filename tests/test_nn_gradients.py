"""Gradients of every layer, every loss and of a whole network against central differences in float64."""

import numpy as np
import pytest

from fastconv import nn

F8 = {"dtype": np.float64, "rng": 0}

# Each layer at least once, with an input shape; extents differ by axis so that a swap shows.
LAYERS = [
    (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1, **F8), (2, 3, 8)),
    (lambda: nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=((1, 0), (0, 2)), **F8), (2, 2, 5, 6)),
    (lambda: nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=2, bias=False, **F8), (1, 4, 6, 5)),
    (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect", **F8), (1, 2, 4, 5)),
    (lambda: nn.Conv3d(2, 3, (2, 3, 2), padding=1, **F8), (1, 2, 3, 4, 2)),
    (lambda: nn.ConvTranspose1d(3, 2, 3, stride=2, padding=1, output_padding=1, **F8), (2, 3, 4)),
    (lambda: nn.ConvTranspose2d(2, 4, (3, 2), stride=2, groups=2, bias=False, **F8), (1, 2, 3, 4)),
    (lambda: nn.ConvTranspose3d(2, 2, 2, stride=(1, 2, 1), dilation=(1, 1, 2), **F8), (1, 2, 2, 3, 2)),
    (lambda: nn.MaxPool1d(3, 2, padding=1), (2, 2, 7)),
    (lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), (1, 2, 6, 5)),
    (lambda: nn.MaxPool2d((17, 16), 2), (1, 1, 18, 20)),
    (lambda: nn.MaxPool3d(2), (1, 2, 2, 4, 4)),
    (lambda: nn.MinPool1d(2), (2, 2, 6)),
    (lambda: nn.MinPool2d((2, 3), dilation=(2, 1)), (1, 2, 5, 6)),
    (lambda: nn.MinPool3d(2, 1), (1, 1, 3, 3, 2)),
    (lambda: nn.AvgPool1d(2, 2, ceil_mode=True), (1, 2, 5)),
    (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 2, 5, 6)),
    (lambda: nn.AvgPool3d(2, divisor_override=3), (1, 2, 4, 2, 2)),
    (lambda: nn.SumPool1d(3, 1), (1, 2, 5)),
    (lambda: nn.SumPool2d(2, 1, padding=1), (1, 2, 3, 4)),
    (lambda: nn.SumPool3d((1, 2, 2)), (1, 1, 2, 4, 2)),
    (lambda: nn.GlobalMaxPool(), (2, 3, 3, 4)),
    (lambda: nn.GlobalMinPool(), (2, 3, 5)),
    (lambda: nn.GlobalAvgPool(), (2, 3, 3, 4)),
    (lambda: nn.GlobalSumPool(), (2, 3, 2, 2, 3)),
    (lambda: nn.AdaptiveAvgPool1d(3), (1, 2, 7)),
    (lambda: nn.AdaptiveAvgPool2d((2, 3)), (1, 2, 5, 7)),
    (lambda: nn.AdaptiveAvgPool3d(2), (1, 1, 3, 4, 2)),
    (lambda: nn.AdaptiveMaxPool1d(2), (1, 2, 5)),
    (lambda: nn.AdaptiveMaxPool2d((2, 3)), (1, 2, 5, 7)),
    (lambda: nn.AdaptiveMaxPool3d(2), (1, 1, 3, 4, 2)),
    (lambda: nn.ReLU(), (2, 3, 4)),
    (lambda: nn.ReLU6(), (2, 3, 4)),
    (lambda: nn.LeakyReLU(0.2), (2, 3, 4)),
    (lambda: nn.Sigmoid(), (2, 3, 4)),
    (lambda: nn.Tanh(), (2, 3, 4)),
    (lambda: nn.SiLU(), (2, 3, 4)),
    (lambda: nn.Hardswish(), (2, 3, 4)),
    (lambda: nn.Softmax(), (2, 3, 4)),
    (lambda: nn.LogSoftmax(axis=-1), (2, 3, 4)),
    (lambda: nn.Flatten(), (2, 3, 2, 2)),
    (lambda: nn.Linear(5, 4, **F8), (3, 5)),
    (lambda: nn.Linear(3, 2, bias=False, **F8), (2, 4, 3)),
    (lambda: nn.Dropout(0.4, rng=1), (3, 5)),
    (lambda: nn.BatchNorm1d(3, dtype=np.float64), (5, 3)),
    (lambda: nn.BatchNorm2d(2, dtype=np.float64), (3, 2, 2, 3)),
    (lambda: nn.BatchNorm3d(2, affine=False, dtype=np.float64), (2, 2, 2, 2, 3)),
    (lambda: nn.Sequential(nn.Conv1d(2, 3, 2, **F8), nn.ReLU(), nn.Linear(4, 2, **F8), nn.ReLU()), (2, 2, 5)),
    (lambda: nn.Residual(nn.Conv1d(2, 2, 3, padding=1, **F8)), (1, 2, 5)),
    (lambda: nn.Residual(nn.Conv1d(2, 3, 1, **F8), nn.Conv1d(2, 3, 1, **{**F8, "rng": 1})), (1, 2, 4)),
    (lambda: nn.Concat(nn.Sequential(), nn.Conv1d(2, 3, 1, **F8), nn.Tanh()), (2, 2, 4)),
    (lambda: nn.Multiply(nn.Sequential(), nn.Sequential(nn.GlobalAvgPool(), nn.Conv1d(2, 2, 1, **F8), nn.Sigmoid())),
     (2, 2, 4)),
    (lambda: nn.Multiply(nn.Tanh(), nn.Conv1d(2, 1, 1, **F8), nn.AdaptiveAvgPool1d((None,))), (2, 2, 4)),
]


def training_output(module, x):
    """The training output with the generators of dropout layers set back, so that masks repeat."""
    for _, generator in module.named_generators():
        generator.bit_generator.state = np.random.PCG64(5).state
    return module.forward(x)


def central_differences(function, array, positions, step=1e-5):
    """Derivatives of `function()` with respect to the elements of `array` at flat `positions`."""
    flat = array.reshape(-1)
    assert np.shares_memory(flat, array)
    slopes = []
    for position in positions:
        middle = flat[position]
        flat[position] = middle + step
        above = function()
        flat[position] = middle - step
        below = function()
        flat[position] = middle
        slopes.append((above - below) / (2 * step))
    return np.array(slopes)


def check_gradients(module, x, scalar, dx, most=60):
    """Compare `dx` and the gradients of the parameters with the slopes of `scalar()`."""
    rng = np.random.default_rng(1)

    def positions(size):
        return np.arange(size) if size <= most else rng.choice(size, most, replace=False)

    chosen = positions(x.size)
    np.testing.assert_allclose(dx.reshape(-1)[chosen], central_differences(scalar, x, chosen), rtol=1e-6, atol=1e-8)
    for name, parameter in module.named_parameters():
        chosen = positions(parameter.size)
        with parameter.updating() as value:
            slopes = central_differences(scalar, value, chosen)
        np.testing.assert_allclose(parameter.grad.reshape(-1)[chosen], slopes, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[type(make()).__name__ + str(s) for make, s in LAYERS])
def test_layer(make, shape):
    module = make()
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) * 2
    y, backward = training_output(module, x)
    dy = rng.normal(size=y.shape)
    dx = backward(dy)
    assert dx.shape == x.shape
    check_gradients(module, x, lambda: float((training_output(module, x)[0] * dy).sum()), dx)


def test_every_layer_is_covered():
    exported = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)
                and issubclass(getattr(nn, name), nn.Module)} - {"Module"}
    assert exported == {type(make()).__name__ for make, _ in LAYERS}


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=[type(make()).__name__ + str(s) for make, s in LAYERS])
def test_backward_without_input_gradient(make, shape):
    """The parameters get the same bits, nothing is returned; a second backward adds."""
    x = np.random.default_rng(0).normal(size=shape)
    full, lean = make(), make()
    y, backward = training_output(full, x)
    backward(np.ones_like(y))
    y, backward = training_output(lean, x)
    assert backward(np.ones_like(y), need_input=False) is None
    for one, other in zip(full.parameters(), lean.parameters(), strict=True):
        np.testing.assert_array_equal(one.grad, other.grad)
    backward(np.ones_like(y), need_input=False)
    for one, other in zip(full.parameters(), lean.parameters(), strict=True):
        np.testing.assert_allclose(2 * one.grad, other.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("make", "shape"), [entry for entry in LAYERS if entry[0]().parameters()],
                         ids=lambda value: str(value) if isinstance(value, tuple) else None)
def test_frozen_parameters_get_no_gradient(make, shape):
    module, frozen = make(), make().freeze()
    x = np.random.default_rng(0).normal(size=shape)
    y, backward = module.forward(x)
    _, frozen_backward = frozen.forward(x)
    np.testing.assert_array_equal(frozen_backward(np.ones_like(y)), backward(np.ones_like(y)))
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert frozen_backward(np.ones_like(y), need_input=False) is None


class _NoBackward(nn.Module):
    """An identity whose backward pass must not run."""

    def forward(self, x):
        def backward(dy, need_input=True):
            raise AssertionError("this gradient isn't needed")

        return x, backward


def test_backward_stops_at_the_first_thing_to_train():
    x = np.ones((2, 1, 6))
    front = nn.Conv1d(1, 2, 3, **F8).freeze()
    model = nn.Sequential(_NoBackward(), front, nn.Flatten(), nn.Linear(8, 2, **F8))
    y, backward = model.forward(x)
    assert backward(np.ones_like(y), need_input=False) is None
    assert model[3].weight.grad is not None
    model[3].freeze()
    y, backward = model.forward(x)
    assert backward(np.ones_like(y), need_input=False) is None


LOSSES = [
    (nn.CrossEntropyLoss(), (5, 4), np.array([0, 3, 1, 1, 2])),
    (nn.CrossEntropyLoss(ignore_index=1, label_smoothing=0.1), (5, 4), np.array([0, 3, 1, 1, 2], np.uint8)),
    (nn.CrossEntropyLoss(), (2, 3, 2, 2), np.arange(8).reshape(2, 2, 2) % 3),
    (nn.CrossEntropyLoss(), (3, 2), np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])),
    (nn.BCEWithLogitsLoss(), (4, 1), np.array([True, False, True, True])),
    (nn.BCEWithLogitsLoss(), (2, 3), np.array([[0, 1, 1], [0.5, 0, 1]])),
    (nn.MSELoss(), (4, 1), np.array([1.0, 2.0, 3.0, 4.0])),
    (nn.MSELoss(), (2, 3), np.arange(6).reshape(2, 3)),
]


@pytest.mark.parametrize(("loss", "shape", "target"), LOSSES)
def test_loss(loss, shape, target):
    pred = np.random.default_rng(2).normal(size=shape)
    value, backward = loss.forward(pred, target)
    assert isinstance(value, float)
    assert value == loss(pred, target)
    slopes = central_differences(lambda: loss(pred, target), pred, np.arange(pred.size))
    np.testing.assert_allclose(backward().ravel(), slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss()], ids=lambda loss: type(loss).__name__)
def test_loss_never_broadcasts(loss):
    with pytest.raises(ValueError, match=r"\(3,\).*\(4, 1\)"):
        loss(np.zeros((4, 1)), np.zeros(3))


def small_network(dtype=np.float64):
    rng = np.random.default_rng(11)
    options = {"dtype": dtype, "rng": rng}
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False, **options), nn.BatchNorm2d(4, dtype=dtype), nn.SiLU(),
        nn.Residual(nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, **options), nn.ReLU(),
                                  nn.Conv2d(6, 6, 3, padding=1, groups=3, **options)),
                    nn.Conv2d(4, 6, 1, stride=2, **options)),
        nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Concat(nn.Conv2d(6, 2, 1, **options), nn.AvgPool2d(3, 1, 1), nn.Sequential()),
        nn.Dropout(0.2, rng=rng), nn.Flatten(), nn.Linear(14 * 6, 8, **options), nn.ReLU(), nn.Linear(8, 3, **options))


def test_whole_network():
    model, loss = small_network(), nn.CrossEntropyLoss()
    x = np.random.default_rng(3).normal(size=(4, 2, 6, 8))
    target = np.array([0, 2, 1, 2])
    outputs, backward = training_output(model, x)
    dx = backward(loss.forward(outputs, target)[1]())
    check_gradients(model, x, lambda: loss(training_output(model, x)[0], target), dx, most=25)


def test_float32_network_follows_float64():
    x = np.random.default_rng(3).normal(size=(4, 2, 6, 8))
    gradients = []
    for dtype in (np.float32, np.float64):
        model = small_network(dtype)
        outputs, backward = training_output(model, x.astype(dtype))
        dx = backward(nn.CrossEntropyLoss().forward(outputs, np.array([0, 2, 1, 2]))[1]())
        gradients.append([dx, *(parameter.grad for parameter in model.parameters())])
    for single, double in zip(*gradients, strict=True):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, rtol=0, atol=2e-5 * max(1.0, np.abs(double).max()))
