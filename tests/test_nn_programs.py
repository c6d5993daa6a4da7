"""Chains in inference run programs: the same bits as layer after layer, whatever changes between calls."""
import copy
import functools
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.nn import program

ORDERS = fc.channels_first, fc.channels_last


def images(seed=0, n=2, c=6, size=13):
    return np.random.default_rng(seed).standard_normal((n, c, size, size), dtype=np.float32)


def network():
    rng = np.random.default_rng(1)
    inverted = nn.Sequential(nn.Conv2d(6, 18, 1, rng=rng), nn.ReLU6(), nn.Conv2d(18, 18, 3, padding=1, groups=18,
                             rng=rng), nn.ReLU6(), nn.Conv2d(18, 6, 1, rng=rng))
    down = nn.Sequential(nn.Conv2d(6, 10, 3, 2, 1, rng=rng), nn.SiLU(), nn.Conv2d(10, 10, 3, padding=1, rng=rng))
    fire = nn.Concat(nn.Sequential(nn.Conv2d(10, 8, 1, rng=rng), nn.ReLU()), nn.Sequential(),
                     nn.Conv2d(10, 5, 3, padding=1, rng=rng))
    return nn.Sequential(nn.Residual(inverted), nn.ReLU(), nn.Residual(down, nn.Conv2d(6, 10, 1, 2, rng=rng)),
                         nn.Dropout(0.5), fire, nn.MaxPool2d(2), nn.BatchNorm2d(23), nn.Residual(nn.Sequential()),
                         nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(92, 7, rng=rng), nn.Softmax())


def layer_by_layer(module, x):
    """Inference without any program: as the layers' own calls compute it."""
    if isinstance(module, nn.Sequential):
        for each in module:
            x = layer_by_layer(each, x)
        return x
    if isinstance(module, nn.Residual):
        return layer_by_layer(module.body, x) + (x if module.shortcut is None else layer_by_layer(module.shortcut, x))
    if isinstance(module, nn.Multiply):
        return functools.reduce(np.multiply, [layer_by_layer(each, x) for each in module])
    if isinstance(module, nn.Concat):
        return np.concatenate([layer_by_layer(each, x) for each in module], axis=1)
    return module(x)


@pytest.mark.parametrize("order", ORDERS)
def test_same_bits_as_layer_by_layer(order):
    model = network()
    for seed in (0, 1, 2):
        x = order(images(seed))
        assert np.array_equal(model(x), layer_by_layer(model, x))


def random_chain(rng, c, depth):
    """A chain of any layers that keeps planes as they are, and the channels of its result."""
    modules = []
    for _ in range(rng.integers(0, 4)):
        kind = rng.integers(0, 8 if depth else 4)
        if kind < 2:
            k = int(rng.choice([3, 16, 20]))
            modules.append(nn.Conv2d(c, k, int(rng.choice([1, 3])), padding="same", rng=rng))
            c = k
        elif kind == 2:
            modules.append(nn.Conv2d(c, c, 3, padding=1, groups=c, rng=rng))
        elif kind == 3:
            modules.append((nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Dropout, nn.LeakyReLU)[rng.integers(0, 5)]())
        elif kind == 4:
            body, k = random_chain(rng, c, depth - 1)
            modules.append(nn.Residual(body, nn.Conv2d(c, k, 1, rng=rng) if k != c or rng.integers(0, 2) else None))
            c = k
        elif kind == 5:
            branches, widths = zip(*(random_chain(rng, c, depth - 1) for _ in range(rng.integers(1, 4))))
            modules.append(nn.Concat(*branches))
            c = sum(widths)
        elif kind == 6:
            gate = nn.Sequential(nn.GlobalAvgPool(), nn.Conv2d(c, c, 1, rng=rng), nn.Sigmoid())
            modules.append(nn.Multiply(nn.Sequential(), gate))
        else:
            chain, c = random_chain(rng, c, depth - 1)
            modules.append(chain)
    return nn.Sequential(*modules), c


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed):
    model, _ = random_chain(np.random.default_rng(seed), 6, 3)
    for order in ORDERS:
        x = [order(images(i, n=1 + seed % 2, size=9)) for i in range(3)]
        results = [model(each) for each in x]
        for each, result in zip(x, results):
            expected = layer_by_layer(model, each)
            assert np.array_equal(result, expected)
            others = [other for other in results if other is not result]
            assert result is each or not any(np.shares_memory(result, other) for other in others)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("end", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11])
def test_results_keep_their_values_and_memory_order(end, order):
    model = network()[:end]
    x = [order(images(seed)) for seed in range(4)]
    results = [model(each) for each in x]
    for each, result in zip(x, results):
        expected = layer_by_layer(model, each)
        assert np.array_equal(result, expected)
        if result.ndim == 4:
            assert result.strides == expected.strides
    assert not any(np.shares_memory(a, b) for a, b in combinations(results, 2))


def test_an_empty_chain_gives_its_input():
    x = images()
    model = nn.Sequential()
    assert model(x) is x and model(x) is x


def test_assigned_parameters_count_at_once():
    model = nn.Sequential(nn.Conv2d(6, 4, 3, rng=0), nn.ReLU(), nn.Conv2d(4, 3, 1, rng=1))
    x = images()
    for parameter in model.parameters():
        model(x), model(x)
        parameter.assign(parameter.value + 0.25)
        assert np.array_equal(model(x), layer_by_layer(model, x))


def test_changed_attributes_count_at_once():
    model = nn.Sequential(nn.Residual(nn.Conv2d(6, 6, 3, padding=1, rng=0)), nn.Conv2d(6, 4, 3, rng=1))
    x = images()

    def change_weight():
        model[1].weight = nn.Conv2d(6, 4, 3, rng=5).weight

    def change_bias():
        model[1].bias = None

    def change_stride():
        model[1].stride = (2, 1)

    def change_body():
        model[0].body = nn.Conv2d(6, 6, 1, rng=7)

    for change in (change_weight, change_bias, change_stride, change_body):
        model(x), model(x)
        change()
        assert np.array_equal(model(x), layer_by_layer(model, x))
        assert np.array_equal(model(x), layer_by_layer(model, x))


def test_running_statistics_count_at_once():
    model = nn.Sequential(nn.Conv2d(6, 4, 3, rng=0), nn.BatchNorm2d(4), nn.ReLU())
    x = images()
    model(x), model(x)
    model.forward(x)
    assert np.array_equal(model(x), layer_by_layer(model, x))


class Alternating(nn.Module):
    """Its result's shape and memory order change from call to call, and it keeps what it gets."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append(x)
        part = x[:, :, :9] if len(self.seen) % 2 else x
        return fc.channels_last(part) if len(self.seen) % 3 else fc.channels_first(part)


def test_other_peoples_layers_are_asked_every_time():
    foreign = Alternating()
    first, last = nn.Conv2d(6, 4, 3, padding=1, rng=0), nn.Conv2d(4, 5, 3, rng=1)
    model = nn.Sequential(first, nn.ReLU(), foreign, last)
    seen = []
    for i in range(1, 7):
        x = images(i)
        seen.append(np.maximum(first(x), 0))
        expected = last(seen[-1][:, :, :9] if i % 2 else seen[-1])
        assert np.allclose(model(x), expected, atol=1e-5)
    assert len(foreign.seen) == 6
    assert all(np.array_equal(*pair) for pair in zip(foreign.seen, seen))


def test_a_subclass_of_a_layer_is_other_peoples():
    class Doubled(nn.Conv2d):
        def infer(self, x, activation=None):
            return 2 * super().infer(x, activation)

    layer = Doubled(6, 4, 3, rng=0)
    model = nn.Sequential(layer, nn.ReLU())
    x = images()
    for _ in range(3):
        assert np.array_equal(model(x), 2 * nn.Conv2d.infer(layer, x, "relu"))


def test_inputs_that_are_no_arrays_or_have_gaps():
    model = nn.Sequential(nn.Conv2d(6, 4, 3, rng=0), nn.ReLU())
    x = images(size=16)
    for given in (x[:, :, ::2, ::-1], x.swapaxes(2, 3), x[:1, :, :5].tolist()):
        expected = model(np.array(given, np.float32))
        for _ in range(3):
            got = model(np.asarray(given, np.float32) if isinstance(given, list) else given)
            assert np.allclose(got, expected, atol=1e-6)


def test_wrong_inputs_are_refused_by_name():
    model = network()
    model(images())
    with pytest.raises(ValueError, match="conv2d"):
        model(images(c=5))
    with pytest.raises(ValueError, match="float64"):
        model(images().astype(np.float64))


def test_one_model_serves_many_threads():
    model = network()
    x = [ORDERS[seed % 2](images(seed)) for seed in range(64)]
    expected = [layer_by_layer(model, each) for each in x]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert all(map(np.array_equal, pool.map(model, x), expected))


def test_same_bits_on_any_number_of_threads():
    model, x = network(), fc.channels_last(images(size=40))
    results = []
    for count in (1, 2, 3, 7):
        with fc.threads(count):
            results += [model(x), model(x)]
    assert all(np.array_equal(results[0], each) for each in results)


def test_an_algorithm_in_context_has_its_own_program():
    model = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, rng=0))
    x = images(c=32, size=28)
    automatic = model(x)
    with fc.algorithm("direct"):
        for _ in range(2):
            assert np.array_equal(model(x), model[0](x))
    assert np.array_equal(model(x), automatic)


def test_copies_and_pickles_run_their_own():
    model, x = network(), images()
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other(x), expected)
        other.parameters()[0].assign(0 * other.parameters()[0].value)
        assert not np.array_equal(other(x), expected)
    assert np.array_equal(model(x), expected)


def test_few_programs_are_kept():
    model = nn.Sequential(nn.Conv2d(6, 4, 3, rng=0))
    for n in range(1, 3 * program.PROGRAMS_KEPT):
        assert model(images(n=n, size=5)).shape[0] == n
    assert len(model._programs._kept) == program.PROGRAMS_KEPT


class Widened(nn.Conv2d):
    """A part of another dtype."""

    def __call__(self, x):
        return super().__call__(x).astype(np.float64)


def test_parts_of_several_dtypes():
    x = images()
    for widened in (Widened(6, 3, 1, rng=0), nn.Sequential(Widened(6, 3, 1, rng=0))):
        model = nn.Sequential(nn.Concat(nn.Conv2d(6, 4, 1, rng=1), widened))
        for _ in range(3):
            assert model(x).dtype == np.float64
            assert np.array_equal(model(x), layer_by_layer(model, x))


def test_large_results_have_no_program(monkeypatch):
    monkeypatch.setattr(program, "BLOCK_BYTES", 1000)
    model, x = network(), images()
    for _ in range(3):
        assert np.array_equal(model(x), layer_by_layer(model, x))
    assert not model._programs._kept


def test_blocks_are_kept_until_memory_is_released():
    model, x = network(), images()
    expected = [model(x) for _ in range(3)][-1]
    kept = next(iter(model._programs._kept.values()))
    assert kept._idle
    fc.release_memory()
    assert not kept._idle
    assert np.array_equal(model(x), expected)


def test_places_that_are_needed_at_once_are_apart():
    rng = np.random.default_rng(0)
    for _ in range(200):
        places = {}
        for number in range(int(rng.integers(1, 12))):
            born = int(rng.integers(0, 12))
            places[number] = program.Place((int(rng.integers(1, 500)),), (4,), np.dtype(np.float32), born,
                                           born + int(rng.integers(0, 6)))
        done = [place for _, place in program.packed(places)]
        for a, b in combinations(done, 2):
            at_once = a.born <= b.dies and b.born <= a.dies
            assert not at_once or a.end <= b.offset or b.end <= a.offset


def test_a_chain_needs_two_places_at_a_time():
    places = {i: program.Place((100,), (4,), np.dtype(np.float32), i, i + 1) for i in range(9)}
    assert max(place.end for _, place in program.packed(places)) == 2 * 448
