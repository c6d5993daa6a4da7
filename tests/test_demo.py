"""The digit demo: how well it learns, that it repeats, and what its report and picture show."""

import dataclasses
import struct

import numpy as np
import pytest

import fastconv
from fastconv import demo, nn, picture
from fastconv.console import confusion_report


@pytest.fixture(scope="module")
def dataset():
    return demo.digits_dataset()


@pytest.fixture(scope="module")
def classifiers(dataset):
    with fastconv.threads(1):
        return [demo.train(dataset, seed=seed) for seed in range(5)]


def test_held_out_third_is_apart_from_the_training_part(dataset):
    assert len(dataset.x_test) == 599 and len(dataset.x_train) == 1198
    trained = {image.tobytes() for image in dataset.x_train}
    assert not any(image.tobytes() in trained for image in dataset.x_test)


def test_mean_test_accuracy_over_five_seeds(dataset, classifiers):
    right = [classifier.probabilities(dataset.x_test).argmax(1) == dataset.y_test for classifier in classifiers]
    accuracies = np.mean(right, axis=1)
    print("test accuracy:", *(f"{accuracy:.2%}" for accuracy in accuracies))
    assert accuracies.mean() >= 0.98


def test_training_repeats_and_never_looks_at_the_test_part(dataset):
    blind = dataclasses.replace(dataset, x_test=dataset.x_test[:1] * 0, y_test=dataset.y_test[:1] * 0)
    weights = []
    for data, seed, count in ((dataset, 3, 1), (blind, 3, 2), (dataset, 4, 1)):
        with fastconv.threads(count):
            weights.append(demo.train(data, seed=seed, epochs=1).network.state_dict())
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any(np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_kernel_speeds_cover_the_main_kernels():
    with fastconv.threads(1):
        rows = demo.kernel_speeds()
    assert [name.split()[0] for name, _, _ in rows] == [*["conv"] * 4, "max", "max", "ReLU", "ReLU"]
    assert all(0 < ours < 1 and 0 < naive < 1 for _, ours, naive in rows)


def test_confusion_report_shows_every_count():
    text = confusion_report([[5, 1], [0, 7]], ["cat", "dog"])
    assert text.splitlines()[1:] == ["       cat  dog", "  cat    5    1", "  dog    .    7"]
    text = confusion_report([[5, 1], [0, 7]], ["T-shirt/top", "Ankle boot"])
    assert text.splitlines()[1:] == ["                 0  1", "  0 T-shirt/top  5  1", "  1 Ankle boot   .  7"]


def test_confusion_report_of_many_classes_names_the_commonest_mistakes():
    matrix = np.eye(30, dtype=int) * 9
    matrix[3, 4], matrix[7, 1] = 2, 5
    lines = confusion_report(matrix, [f"class{k}" for k in range(30)]).splitlines()
    assert [line.split() for line in lines[2:]] == [["class7", "class1", "5"], ["class3", "class4", "2"]]


# ------------------------------------------------------------------------------------------------------------ picture


def test_trace_ends_in_the_probabilities(dataset, classifiers):
    classifier, image = classifiers[0], dataset.x_test[0]
    steps = classifier.trace(image)
    assert [type(layer) for layer, _ in steps] == [type(layer) for layer in classifier.network]
    np.testing.assert_allclose(steps[-1][1], classifier.probabilities(image[None])[0], rtol=1e-5, atol=1e-7)


def test_picture_shows_filters_and_maps_of_every_step(dataset, classifiers):
    steps = classifiers[0].trace(dataset.x_test[demo.SHOWN_DIGIT])
    rows = picture.map_rows(steps)
    assert [row.heading.split("\n")[0] for row in rows] == [
        "learned filters", "convolution 1", "ReLU", "max pooling", "convolution 2", "ReLU", "max pooling"
    ]
    filters, conv, relu, pool = rows[:4]
    shown = [int(name.split()[1]) for name in filters.names]
    weight = classifiers[0].network[0].weight.value
    for k, drawn, map_, rectified, pooled in zip(
        shown, filters.maps, conv.maps, relu.maps, pool.maps, strict=True
    ):
        assert np.array_equal(drawn, weight[k, 0]) and np.array_equal(map_, steps[0][1][k])
        assert np.array_equal(rectified, np.maximum(map_, 0))
        assert np.array_equal(pooled, rectified.reshape(4, 2, 4, 2).max((1, 3)))
    assert "32 maps of 8x8, 8 shown" in conv.heading and "each 2x2 pixels" in pool.text
    assert [row.goes_on for row in rows] == [True, True, True, False, True, True, False]


def test_picture_is_a_png(tmp_path, dataset, classifiers):
    image_module = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    classifiers[0].draw(tmp_path / "digit.png", dataset.x_test[0], int(dataset.y_test[0]))
    content = (tmp_path / "digit.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and width > 1000 and height > 1000
    # Input and filter rows are coloured in, the chart has the blue bar of the truth.
    pixels = np.asarray(image_module.open(tmp_path / "digit.png").convert("RGB"))
    truth = (pixels == (0x05, 0x69, 0xA8)).all(2)
    assert truth[-height // 6 :].sum() > 100 and not truth[: height // 2].any()


def test_picture_of_colour_images_and_few_filters(tmp_path):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    layers = nn.MaxPool2d(2), nn.Conv2d(3, 5, 3, rng=rng), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2, rng=rng)
    x, steps = rng.random((1, 3, 12, 12), dtype=np.float32), []
    image = x[0]
    for layer in layers:
        x = layer(x)
        steps.append((layer, x[0]))
    rows = picture.map_rows(steps)
    assert [len(row.maps) for row in rows] == [5, 5, 5] and rows[0].maps[0].shape == (3, 3, 3)
    assert "Weights for red, green and blue" in rows[0].text
    picture.draw_network(tmp_path / "x.png", image, steps, np.array([0.25, 0.75]), ["a", "a very long class name"])
    assert (tmp_path / "x.png").stat().st_size > 10_000
