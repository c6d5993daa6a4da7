"""PyTorch as a second oracle: names and layouts of state dictionaries, training steps, optimizers, schedules."""

import numpy as np
import pytest

from fastconv import nn

torch = pytest.importorskip("torch")


def pair():
    """The same network twice, with weights of its own each."""
    ours = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, stride=2, groups=2, bias=False, rng=1), nn.Hardswish(),
        nn.ConvTranspose2d(8, 3, (2, 3), stride=2, padding=1, output_padding=(1, 0), rng=2), nn.LeakyReLU(),
        nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(),
        nn.Linear(6, 5, rng=3))
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 8, 3, stride=2, groups=2, bias=False), torch.nn.Hardswish(),
        torch.nn.ConvTranspose2d(8, 3, (2, 3), stride=2, padding=1, output_padding=(1, 0)), torch.nn.LeakyReLU(),
        torch.nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), torch.nn.AdaptiveAvgPool2d((2, 1)),
        torch.nn.Flatten(), torch.nn.Linear(6, 5))
    return ours, theirs


def assert_same_state(ours, theirs, **tolerance):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name].numpy(), err_msg=name, **tolerance)


def test_state_dict_from_torch():
    ours, theirs = pair()
    ours.load_state_dict(theirs.state_dict())
    assert_same_state(ours, theirs, rtol=0)
    x = np.random.default_rng(0).normal(size=(3, 2, 14, 11)).astype(np.float32)
    expected = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)


def test_state_dict_to_torch():
    ours, theirs = pair()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    assert_same_state(ours, theirs, rtol=0)


def test_training_follows_torch():
    """Three steps of SGD: outputs, loss, weights and running statistics."""
    ours, theirs = pair()
    ours.load_state_dict(theirs.state_dict())
    optimizer = nn.SGD(ours, lr=0.05, momentum=0.9, weight_decay=1e-3)
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    rng = np.random.default_rng(0)
    loss, their_loss = nn.CrossEntropyLoss(label_smoothing=0.1), torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(3):
        x = rng.normal(size=(6, 2, 14, 11)).astype(np.float32)
        target = rng.integers(5, size=6)
        optimizer.zero_grad()
        outputs, backward = ours.forward(x)
        value, loss_backward = loss.forward(outputs, target)
        backward(loss_backward(), need_input=False)
        optimizer.step()
        their_optimizer.zero_grad()
        their_value = their_loss(theirs(torch.from_numpy(x)), torch.from_numpy(target))
        their_value.backward()
        their_optimizer.step()
        assert value == pytest.approx(their_value.item(), rel=1e-4)
    assert_same_state(ours, theirs, rtol=1e-3, atol=1e-4)


OPTIMIZERS = [
    ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}), ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}), ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2})]


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-11), (np.float32, 1e-4)])
@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
def test_optimizer_trajectory(kind, options, dtype, rtol):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 5)).astype(dtype)
    ours, theirs = nn.Parameter(start.copy()), torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = getattr(nn, kind)([ours], **options)
    their_optimizer = getattr(torch.optim, kind)([theirs], **options)
    for _ in range(30):
        gradient = rng.normal(size=start.shape).astype(dtype)
        ours.grad_buffer()[...] = gradient
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
        their_optimizer.step()
        np.testing.assert_allclose(ours.value, theirs.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("make", "their_make"), [
    (lambda o: nn.StepLR(o, 3, 0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
    (lambda o: nn.MultiStepLR(o, [2, 5]), lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5])),
    (lambda o: nn.ExponentialLR(o, 0.8), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8)),
    (lambda o: nn.CosineLR(o, 8, 0.01), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8, 0.01)),
    (lambda o: nn.WarmupLR(o, 5, 0.25), lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.25, total_iters=5)),
])
def test_schedule(make, their_make):
    optimizer = nn.SGD([nn.Parameter(np.zeros(1))], lr=0.3)
    their_optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule, their_schedule = make(optimizer), their_make(their_optimizer)
    for _ in range(8):
        assert optimizer.lr == pytest.approx(their_optimizer.param_groups[0]["lr"], rel=1e-9)
        schedule.step()
        their_optimizer.step()
        their_schedule.step()
