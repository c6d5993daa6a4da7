"""Optimizers and schedules against their closed forms, and what their states keep."""

import math
import tracemalloc

import numpy as np
import pytest

from fastconv import nn


def parameter_with(gradient, value=(1.0, -2.0)):
    parameter = nn.Parameter(np.array(value))
    parameter.grad_buffer()[...] = gradient
    return parameter


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_against_numpy(isa, threads, dtype):
    """Parameters of all sizes in one step, against the formulas in float64."""
    rng = np.random.default_rng(0)
    shapes = [(1,), (17,), (3, 5, 7), (40_000,), (16 * 1024,), (0,)]
    values, gradients = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
    for make in (lambda p: nn.SGD(p, 0.1, 0.9, 0.01), lambda p: nn.SGD(p, 0.1, 0.9, 0.01, nesterov=True),
                 lambda p: nn.SGD(p, 0.1), lambda p: nn.Adam(p, 0.1, weight_decay=0.01),
                 lambda p: nn.AdamW(p, 0.1, weight_decay=0.01)):
        parameters = [nn.Parameter(value.astype(dtype)) for value in values]
        optimizer = make(parameters)
        for _ in range(3):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.astype(dtype)
            optimizer.step()
        for parameter, value, gradient in zip(parameters, values, gradients, strict=True):
            expected = after_steps(optimizer, value, gradient, 3)
            np.testing.assert_allclose(parameter.value, expected, rtol=50 * np.finfo(dtype).eps, atol=1e-6)


def after_steps(optimizer, w, g, count):
    """The parameter after some steps with one gradient, as the papers have it."""
    mean, square = np.zeros_like(w), np.zeros_like(w)
    adam, decoupled = isinstance(optimizer, nn.Adam), isinstance(optimizer, nn.AdamW)
    for step in range(1, count + 1):
        decayed = g + (0 if decoupled else optimizer.weight_decay) * w
        if adam:
            mean = optimizer.beta1 * mean + (1 - optimizer.beta1) * decayed
            square = optimizer.beta2 * square + (1 - optimizer.beta2) * decayed**2
            corrected = mean / (1 - optimizer.beta1**step), square / (1 - optimizer.beta2**step)
            change = corrected[0] / (np.sqrt(corrected[1]) + optimizer.eps)
            w = w * (1 - optimizer.lr * optimizer.weight_decay if decoupled else 1)
        else:
            mean = optimizer.momentum * mean + decayed
            change = decayed + optimizer.momentum * mean if optimizer.nesterov else mean
        w = w - optimizer.lr * change
    return w


def test_step_of_a_parameter_with_gaps():
    """A value is kept as it was given, whatever its strides."""
    whole = np.arange(12.0).reshape(3, 4)
    parameter = nn.Parameter(whole[:, ::2])
    parameter.grad = np.ones((2, 3), np.float32).T
    nn.SGD([parameter], 1.0).step()
    np.testing.assert_array_equal(whole, [[-1, 1, 1, 3], [3, 5, 5, 7], [7, 9, 9, 11]])


def test_sgd():
    parameter = parameter_with([2.0, 4.0])
    nn.SGD([parameter], lr=0.5, weight_decay=0.1).step()
    np.testing.assert_allclose(parameter.value, [1 - 0.5 * 2.1, -2 - 0.5 * 3.8], rtol=1e-15)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_momentum_under_a_constant_gradient(nesterov):
    """After t steps the velocity is g (1 - m**t) / (1 - m)."""
    parameter = parameter_with([1.0, 3.0])
    optimizer = nn.SGD([parameter], lr=0.1, momentum=0.5, nesterov=nesterov)
    moved = 0.0
    for step in range(1, 6):
        optimizer.step()
        velocity = (1 - 0.5**step) / 0.5
        moved += 0.1 * (1 + 0.5 * velocity if nesterov else velocity)
    np.testing.assert_allclose(parameter.value, np.array([1.0, -2.0]) - moved * np.array([1.0, 3.0]), rtol=1e-14)


@pytest.mark.parametrize("kind", [nn.Adam, nn.AdamW])
def test_adam_under_a_constant_gradient(kind):
    """Both corrected means are constant then, so each step is lr * g / (|g| + eps); decay shrinks AdamW's weight."""
    gradient = np.array([1e-3, -5.0])
    parameter = parameter_with(gradient)
    optimizer = kind([parameter], lr=0.01, eps=1e-4, weight_decay=0.1 if kind is nn.AdamW else 0.0)
    expected = parameter.value.copy()
    for _ in range(5):
        optimizer.step()
        expected *= 1 - 0.01 * optimizer.weight_decay
        expected -= 0.01 * gradient / (np.abs(gradient) + 1e-4)
    np.testing.assert_allclose(parameter.value, expected, rtol=1e-12)


def test_adam_counts_weight_decay_as_gradient():
    plain, decayed = parameter_with([1.0 + 0.5, 2.0 - 1.0]), parameter_with([1.0, 2.0])
    nn.Adam([plain], eps=0.1).step()
    nn.Adam([decayed], eps=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(decayed.value, plain.value, rtol=1e-14)


OPTIMIZERS = [
    lambda parameters: nn.SGD(parameters, 0.1), lambda parameters: nn.SGD(parameters, 0.1, 0.9, 1e-2, True),
    lambda parameters: nn.Adam(parameters, weight_decay=0.1), lambda parameters: nn.AdamW(parameters)]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_frozen_and_untouched_parameters_stay(make):
    frozen, untouched, trained = parameter_with([1.0, 1.0]), nn.Parameter(np.ones(2)), parameter_with([1.0, 1.0])
    frozen.trainable = False
    versions = frozen.version, untouched.version, trained.version
    gradient = trained.grad.copy()
    optimizer = make([frozen, untouched, trained])
    optimizer.step()
    assert (frozen.version, untouched.version) == versions[:2]
    assert trained.version > versions[2]
    assert not (trained.value == [1.0, -2.0]).any()
    np.testing.assert_array_equal(trained.grad, gradient)
    optimizer.zero_grad()
    assert not trained.grad.any()


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_state_goes_on_with_the_same_bits(make):
    gradients = np.random.default_rng(0).normal(size=(8, 3, 4)).astype(np.float32)

    def train(parameter, optimizer, gradients):
        for gradient in gradients:
            parameter.grad_buffer()[...] = gradient
            optimizer.step()

    first = nn.Parameter(np.ones((3, 4), np.float32))
    optimizer = make([first])
    train(first, optimizer, gradients[:5])
    second = nn.Parameter(first.value.copy())
    resumed = make([second])
    resumed.lr = 99.0
    resumed.load_state_dict(optimizer.state_dict())
    train(first, optimizer, gradients[5:])
    train(second, resumed, gradients[5:])
    np.testing.assert_array_equal(first.value, second.value)


def test_state_dict_names_and_mismatches():
    optimizer = nn.Adam([parameter_with([1.0, 1.0]), nn.Parameter(np.ones(3))])
    optimizer.step()
    state = optimizer.state_dict()
    assert list(state) == ["lr", "beta1", "beta2", "eps", "weight_decay", "0.step", "0.exp_avg", "0.exp_avg_sq"]
    with pytest.raises(ValueError, match="0.exp_avg"):
        nn.Adam([nn.Parameter(np.ones(3))]).load_state_dict(state)
    with pytest.raises(ValueError, match="beta1, beta2, eps"):
        nn.SGD([parameter_with([1.0, 1.0])]).load_state_dict(state)
    with pytest.raises(ValueError, match="momentum_buffer"):
        other = nn.SGD([parameter_with([1.0, 1.0])], momentum=0.9)
        other.step()
        nn.SGD([parameter_with([1.0, 1.0])]).load_state_dict(other.state_dict())


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_step_takes_no_memory(make):
    parameter = nn.Parameter(np.zeros(100_000))
    parameter.grad_buffer()[...] = 1.0
    optimizer = make([parameter])
    optimizer.step()
    tracemalloc.start()
    optimizer.step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda p: nn.SGD([p, p]), ValueError, "given twice"),
    (lambda p: nn.SGD([p.value]), TypeError, "Parameter objects"),
    (lambda p: nn.SGD([p], lr=-1), ValueError, "lr: got -1"),
    (lambda p: nn.SGD([p], nesterov=True), ValueError, "needs a momentum"),
    (lambda p: nn.Adam([p], betas=(0.9, 1.0)), ValueError, "betas: got 1.0"),
    (lambda p: nn.Adam([p], eps="x"), TypeError, "eps: got 'x'"),
])
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make(nn.Parameter(np.zeros(2)))


# --- schedules ---

SCHEDULES = [
    (lambda o: nn.StepLR(o, 3, 0.5), lambda t: 0.5 ** (t // 3)),
    (lambda o: nn.MultiStepLR(o, [4, 2]), lambda t: 0.1 ** ((t >= 2) + (t >= 4))),
    (lambda o: nn.ExponentialLR(o, 0.9), lambda t: 0.9**t),
    (lambda o: nn.CosineLR(o, 6, 0.02), lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * min(t, 6) / 6)) / 2),
    (lambda o: nn.WarmupLR(o, 4, 0.2), lambda t: min(0.2 + 0.2 * t, 1.0)),
    (lambda o: nn.WarmupLR(o, 2, 0.0, then=nn.StepLR(o, 2, 0.5)), lambda t: t / 2 if t < 2 else 0.5 ** ((t - 2) // 2)),
]


@pytest.mark.parametrize(("make", "factor"), SCHEDULES)
def test_schedule(make, factor):
    optimizer = nn.SGD([parameter_with(0.0)], lr=0.2)
    schedule = make(optimizer)
    for count in range(9):
        assert optimizer.lr == pytest.approx(0.2 * factor(count), rel=1e-12)
        if count == 5:
            state = schedule.state_dict()
        schedule.step()

    other = make(nn.SGD([parameter_with(0.0)], lr=7.0))
    other.load_state_dict(state)
    for count in range(5, 9):
        assert other.optimizer.lr == pytest.approx(0.2 * factor(count), rel=1e-12)
        other.step()


def test_schedule_arguments():
    optimizer = nn.SGD([parameter_with(0.0)])
    with pytest.raises(ValueError, match="every is 'step'"):
        nn.StepLR(optimizer, 1, every="step")
    with pytest.raises(ValueError, match="another optimizer"):
        nn.WarmupLR(optimizer, 1, then=nn.StepLR(nn.SGD([parameter_with(0.0)]), 1))
    with pytest.raises(ValueError, match="expected base_lr and count"):
        nn.StepLR(optimizer, 1).load_state_dict({"count": np.array(1)})
