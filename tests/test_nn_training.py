"""Training: it learns, it can be interrupted, it says what happens; and what a trained model is asked."""

import itertools

import numpy as np
import pytest

from fastconv import nn


def bars(n, seed, dtype=np.float32):
    """Noisy 8x8 images of a bar in one of three directions: horizontal, vertical, diagonal."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    x = rng.normal(scale=0.4, size=(n, 1, 8, 8))
    for image, direction in zip(x[:, 0], y, strict=True):
        place = rng.integers(1, 7)
        if direction == 0:
            image[place] += 1
        elif direction == 1:
            image[:, place] += 1
        else:
            image += np.eye(8, k=place - 4)
    return x.astype(dtype), y


def small_model(seed=0, *, dropout=0.25, head=()):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, rng=rng), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout), nn.Flatten(),
        nn.Linear(32, 3, rng=rng), *head)


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


# --- learning ---

def test_learns_bars():
    x, y = bars(384, 0)
    model = small_model()
    history = nn.fit(model, x, y, epochs=8, batch_size=32, optimizer=nn.Adam(model, 5e-3), rng=0,
                     validation=bars(128, 1))
    assert len(history) == 8
    assert history.val_accuracy[-1] >= 0.95
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert history.lr == [5e-3] * 8
    assert min(history.seconds) > 0
    test_x, test_y = bars(200, 2)
    assert nn.evaluate(model, test_x, test_y).accuracy >= 0.95
    assert np.mean(nn.predict(model, test_x) == test_y) == nn.evaluate(model, test_x, test_y).accuracy


def test_learns_a_line_with_mean_squared_error():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x @ [1.0, -2.0, 0.5] + 4
    model = nn.Sequential(nn.Linear(3, 1, dtype=np.float64, rng=0))
    history = nn.fit(model, x, y, loss=nn.MSELoss(), optimizer=nn.SGD(model, 0.1, momentum=0.5), epochs=20,
                     batch_size=20, rng=0)
    np.testing.assert_allclose(model[0].weight.value, [[1.0, -2.0, 0.5]], atol=1e-4)
    assert history.loss[-1] < 1e-6
    assert np.isnan(history.accuracy).all()
    assert np.isnan(history.val_loss).all()


def test_learns_two_classes_from_one_logit():
    x, y = bars(192, 0)
    x, y = x[y < 2], y[y < 2]
    outputs = []
    for head in ((), (nn.Sigmoid(),)):
        model = nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.ReLU(), nn.GlobalMaxPool(), nn.Flatten(),
                              nn.Linear(4, 1, rng=1), *head)
        loss = nn.BCEWithLogitsLoss()
        nn.fit(model, x, y, loss=loss, optimizer=nn.Adam(model, 0.03), epochs=12, batch_size=16, rng=0)
        assert nn.evaluate(model, x, y, loss=loss).accuracy > 0.9
        probabilities = nn.predict_proba(model, x)
        assert probabilities.shape == (len(x), 1)
        np.testing.assert_array_equal(nn.predict(model, x), probabilities[:, 0] > 0.5)
        outputs.append(probabilities)
    np.testing.assert_allclose(*outputs, rtol=1e-5)


@pytest.mark.parametrize("head", [nn.Softmax(), nn.LogSoftmax(), nn.Sequential(nn.Softmax(axis=-1))],
                         ids=["Softmax", "LogSoftmax", "nested"])
def test_final_softmax_is_part_of_the_loss(head):
    """Training, evaluation and probabilities are those of the model without it."""
    x, y = bars(48, 0)
    plain, headed = small_model(), small_model(head=(head,))
    histories = [nn.fit(model, x, y, epochs=2, batch_size=16, rng=0) for model in (plain, headed)]
    assert same_state(plain, headed)
    assert histories[0].loss == histories[1].loss
    assert nn.evaluate(plain, x, y) == nn.evaluate(headed, x, y)
    probabilities = nn.predict_proba(headed, x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(probabilities, nn.predict_proba(plain, x), rtol=1e-5)
    np.testing.assert_array_equal(nn.predict(headed, x), probabilities.argmax(axis=1))


def test_final_softmax_stays_where_the_loss_has_none():
    x, y = bars(8, 0)
    model = small_model(head=(nn.Softmax(),))
    loss = nn.MSELoss()
    one_hot = np.eye(3)[y]
    assert nn.evaluate(model, x, one_hot, loss=loss).loss == pytest.approx(loss(model(x), one_hot), rel=1e-5)


def test_softmax_over_another_axis_is_no_part_of_the_loss():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2, 4)).astype(np.float32), rng.integers(3, size=(5, 4))
    model = nn.Sequential(nn.Conv1d(2, 3, 1, rng=0), nn.Softmax(axis=2))
    assert nn.evaluate(model, x, y).loss == pytest.approx(nn.CrossEntropyLoss()(model(x), y), rel=1e-5)


def test_several_sigmoids_answer_each_on_its_own():
    model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Sigmoid())
    x = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    np.testing.assert_array_equal(nn.predict(model, x), model(x) > 0.5)


# --- the same bits ---

def test_seed_decides_everything():
    x, y = bars(40, 0)
    models = [small_model() for _ in range(3)]
    for model, seed in zip(models, (0, np.random.default_rng(0), 1), strict=True):
        nn.fit(model, x, y, epochs=2, batch_size=16, rng=seed)
    assert same_state(models[0], models[1])
    assert not same_state(models[0], models[2])


def test_layer_keeps_its_own_generator():
    layer = nn.Dropout(0.5, rng=3)
    model = nn.Sequential(nn.Flatten(), layer, nn.Linear(64, 3, rng=0))
    own = layer.rng
    x, y = bars(8, 0)
    nn.fit(model, x, y, epochs=1, rng=0)
    assert layer.rng is own


def shift(batch, rng):
    """A random shift of up to one pixel."""
    return np.roll(batch, tuple(rng.integers(-1, 2, size=2)), axis=(2, 3))


def unit(batch):
    return batch.astype(np.float32) / 255


SCHEDULES = [
    lambda optimizer: None, lambda optimizer: nn.StepLR(optimizer, 2, 0.5),
    lambda optimizer: nn.WarmupLR(optimizer, 3, then=nn.CosineLR(optimizer, 20), every="batch")]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("make_schedule", SCHEDULES)
@pytest.mark.parametrize("make_optimizer", [nn.AdamW, lambda model: nn.SGD(model, 0.05, 0.9, nesterov=True)])
def test_resumed_run_ends_with_the_same_bits(tmp_path, make_optimizer, make_schedule, suffix):
    x, y = bars(50, 0)
    x = (x * 50 + 100).clip(0, 255).astype(np.uint8)
    path = tmp_path / f"run{suffix}"

    def run(epochs, seed, **more):
        model = small_model()
        optimizer = make_optimizer(model)
        history = nn.fit(model, x, y, epochs=epochs, optimizer=optimizer, schedule=make_schedule(optimizer),
                         batch_size=16, rng=seed, transform=unit, augment=shift, validation=(x[:9], y[:9]), **more)
        return model, optimizer, history

    model, optimizer, history = run(5, 0)
    run(2, 0, checkpoint=path, resume=True)
    run(3, 7, checkpoint=path, resume=True)
    resumed, resumed_optimizer, resumed_history = run(5, 8, checkpoint=path, resume=True)
    assert same_state(model, resumed)
    assert same_state(optimizer, resumed_optimizer)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        assert getattr(history, name) == getattr(resumed_history, name), name
    assert len(resumed_history.seconds) == 5
    finished = run(5, 9, checkpoint=path, resume=True)
    assert same_state(finished[0], model)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox,
                                  np.random.SFC64])
def test_checkpoint_keeps_every_kind_of_generator(tmp_path, bits):
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Dropout(rng=np.random.Generator(bits(1))))
    optimizer, rng = nn.SGD(model), np.random.Generator(bits(2))
    rng.integers(10, size=3, dtype=np.uint32)
    path = tmp_path / "run.safetensors"
    nn.save_checkpoint(path, model, optimizer, rng=rng, position={"epoch": 3}, arrays={"a": np.arange(3)})
    expected = rng.random(5), model[1].rng.random(5)
    other = nn.Sequential(nn.Linear(2, 2, rng=5), nn.Dropout(rng=np.random.Generator(bits(3))))
    other_rng = np.random.Generator(bits(4))
    position, arrays = nn.load_checkpoint(path, other, nn.SGD(other), rng=other_rng)
    assert position == {"epoch": 3}
    np.testing.assert_array_equal(arrays["a"], np.arange(3))
    np.testing.assert_array_equal((other_rng.random(5), other[1].rng.random(5)), expected)
    assert same_state(model, other)


def test_checkpoint_of_something_else(tmp_path):
    path = tmp_path / "run.npz"
    x, y = bars(20, 0)

    def run(model=None, optimizer=nn.SGD, **more):
        model = small_model() if model is None else model
        arguments = {"epochs": 2, "batch_size": 10, "rng": 0, "checkpoint": path, "resume": True} | more
        nn.fit(model, x, y, optimizer=optimizer(model), **arguments)

    run(epochs=1)
    with pytest.raises(ValueError, match="optimizer was 'SGD', got 'Adam'"):
        run(optimizer=nn.Adam)
    with pytest.raises(ValueError, match="batch_size"):
        run(batch_size=5)
    with pytest.raises(ValueError, match="MT19937"):
        run(rng=np.random.Generator(np.random.MT19937(0)))
    with pytest.raises(ValueError, match="in other places"):
        run(small_model()[:7])
    with pytest.raises(ValueError, match="load_state_dict"):
        run(nn.Sequential(*small_model()[:7], nn.Dropout(), nn.Flatten(), nn.Linear(32, 4)))
    nn.save_model(path, small_model())
    with pytest.raises(ValueError, match="run.npz: not a checkpoint"):
        run()
    with pytest.raises(ValueError, match="resume needs"):
        run(checkpoint=None)


def test_checkpoint_every(tmp_path):
    path = tmp_path / "run.safetensors"
    x, y = bars(12, 0)
    written = []

    def look(epoch, history):
        written.append(path.stat().st_mtime_ns if path.exists() else None)

    nn.fit(small_model(), x, y, epochs=5, checkpoint=path, checkpoint_every=2, on_epoch=look)
    assert written[:2] == [None, None]
    assert written[2] == written[3] is not None
    assert path.stat().st_mtime_ns > written[4] > written[2]


# --- what happens in a run ---

def test_callback_sees_every_batch():
    x, y = bars(25, 0)
    seen = []
    history = nn.fit(small_model(), x, y, epochs=2, batch_size=10, rng=0, callback=seen.append)
    assert [(p.epoch, p.step) for p in seen] == list(itertools.product(range(2), (1, 2, 3)))
    assert {(p.epochs, p.steps, p.lr) for p in seen} == {(2, 3, 1e-3)}
    first = seen[:3]
    assert first[0].mean_loss == pytest.approx(first[0].loss)
    mean = np.average([p.loss for p in first], weights=[10, 10, 5])
    assert first[2].mean_loss == pytest.approx(mean)
    assert history.loss == [seen[2].mean_loss, seen[5].mean_loss]
    assert history.accuracy == [seen[2].accuracy, seen[5].accuracy]


@pytest.mark.parametrize(("every", "expected"), [("batch", [8, 4, 2, 1, 0.5, 0.25]), ("epoch", [8, 8, 8, 4, 4, 4])])
def test_schedule_is_stepped(every, expected):
    x, y = bars(6, 0)
    model = small_model()
    optimizer = nn.SGD(model, lr=8e-3)
    seen = []
    history = nn.fit(model, x, y, epochs=2, batch_size=2, optimizer=optimizer, callback=seen.append,
                     schedule=nn.ExponentialLR(optimizer, 0.5, every=every))
    assert [p.lr for p in seen] == pytest.approx([1e-3 * rate for rate in expected])
    assert history.lr == [seen[2].lr, seen[5].lr]


def test_on_epoch_stops():
    x, y = bars(10, 0)
    history = nn.fit(small_model(), x, y, epochs=9, on_epoch=lambda epoch, history: epoch == 2)
    assert len(history) == 3


def test_each_sample_once_an_epoch():
    x = np.arange(7, dtype=np.float64).reshape(7, 1)
    y = x.copy()
    batches = []

    def remember(batch):
        batches.append(batch[:, 0].astype(int).tolist())
        return batch

    def run(**more):
        batches.clear()
        model = nn.Linear(1, 1, dtype=np.float64, rng=0)
        nn.fit(model, x, y, loss=nn.MSELoss(), epochs=2, batch_size=3, rng=0, transform=remember, **more)
        half = len(batches) // 2
        return [list(itertools.chain(*part)) for part in (batches[:half], batches[half:])]

    first, second = run()
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert run(shuffle=False) == [list(range(7))] * 2
    assert run(shuffle=False, drop_last=True) == [list(range(6))] * 2


def test_augment_comes_first_and_owns_its_batch(tmp_path):
    images = np.arange(64, dtype=np.uint8).reshape(4, 1, 4, 4)
    np.save(tmp_path / "x.npy", images)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")

    def blank(batch, rng):
        assert batch.dtype == np.uint8
        assert isinstance(rng, np.random.Generator)
        batch[...] = 0
        return batch

    seen = []

    def convert(batch):
        seen.append(batch.copy())
        return batch.astype(np.float32)

    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, rng=0))
    nn.fit(model, x, [0, 1, 0, 1], epochs=1, batch_size=4, shuffle=False, augment=blank, transform=convert,
           validation=(x, [0, 1, 0, 1]))
    assert not seen[0].any()
    np.testing.assert_array_equal(seen[1], images)
    np.testing.assert_array_equal(x, images)


def test_frozen_front_stays():
    x, y = bars(20, 0)
    model = small_model()
    model[:7].freeze()
    frozen = {name: parameter.value.copy() for name, parameter in model.named_parameters() if not parameter.trainable}
    last = model[9].weight.value.copy()
    nn.fit(model, x, y, epochs=1, rng=0)
    assert len(frozen) == 6
    for name, parameter in model.named_parameters():
        if name in frozen:
            np.testing.assert_array_equal(parameter.value, frozen[name])
            assert parameter.grad is None
    assert not np.array_equal(model[9].weight.value, last)


@pytest.mark.parametrize(("arguments", "error", "text"), [
    ({"y": [0, 1]}, ValueError, r"fit: y: got targets of shape \(2,\) for 3 samples"),
    ({"epochs": -1}, ValueError, "fit: epochs: got -1"),
    ({"batch_size": 0}, ValueError, "fit: batch_size: got 0"),
    ({"epochs": 1.5}, TypeError, "fit: epochs: got 1.5"),
    ({"x": np.zeros((0, 2)), "y": []}, ValueError, "don't make one batch"),
    ({"drop_last": True}, ValueError, "3 samples don't make one batch"),
    ({"checkpoint_every": 0}, ValueError, "every: got 0"),
])
def test_bad_arguments(arguments, error, text):
    x, y = np.zeros((3, 2), np.float32), [0, 1, 0]
    with pytest.raises(error, match=text):
        nn.fit(nn.Linear(2, 2), **({"x": x, "y": y, "epochs": 1} | arguments))


# --- asking a model ---

def test_evaluate_weighs_batches_by_their_elements():
    x, y = bars(23, 0)
    model = small_model()
    whole = nn.evaluate(model, x, y, batch_size=100)
    parts = nn.evaluate(model, x, y, batch_size=5)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == whole.accuracy


@pytest.mark.parametrize("ignored", [-1, 2])
def test_ignored_targets_count_for_nothing(ignored):
    x, y = bars(23, 0)
    model = small_model()
    y[3:20] = ignored
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    parts = nn.evaluate(model, x, y, loss=loss, batch_size=5)
    assert parts.loss == pytest.approx(loss(model(x), y), rel=1e-5)
    kept = y != ignored
    assert parts.accuracy == np.mean(nn.predict(model, x)[kept] == y[kept])
    assert np.isfinite(nn.fit(model, x, y, loss=loss, epochs=2, batch_size=5, shuffle=False, rng=0).loss).all()


def test_accuracy_of_probabilities_as_targets():
    x, y = bars(9, 0)
    model = small_model()
    assert nn.evaluate(model, x, np.eye(3, dtype=np.float32)[y]).accuracy == nn.evaluate(model, x, y).accuracy


def test_predict_pixels():
    model = nn.Conv2d(1, 3, 3, padding=1, rng=0)
    x = bars(5, 0)[0]
    assert nn.predict(model, x, batch_size=2).shape == (5, 8, 8)
    probabilities = nn.predict_proba(model, x, batch_size=2)
    assert probabilities.shape == (5, 3, 8, 8)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_no_samples():
    model = small_model()
    x, y = bars(0, 0)
    assert nn.predict(model, x).shape == (0,)
    assert nn.predict_proba(model, x).shape == (0, 3)
    assert np.isnan(nn.evaluate(model, x, y)).all()


def test_confusion_matrix():
    expected = [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    matrix = nn.confusion_matrix([0, 1, 1, 0], [0, 1, 1, 1], 3)
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == np.int64
    assert nn.confusion_matrix([0, 2], np.array([1, 0], np.uint8)).shape == (3, 3)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        nn.confusion_matrix([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="2 true classes, 1 predicted"):
        nn.confusion_matrix([0, 1], [0])
    with pytest.raises(TypeError, match="float64"):
        nn.confusion_matrix([0.0], [1])
