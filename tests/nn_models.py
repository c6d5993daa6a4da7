"""A small model with layers of every kind, and what its tests share."""

import numpy as np

from fastconv import nn


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
