"""Modules in other hands: pickles, copies, other processes, several threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from nn_models import batch, small_model, states_equal

from fastconv import nn

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
