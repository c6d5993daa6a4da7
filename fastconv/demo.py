"""`fastconv demo`: learn to read handwritten digits in seconds, and show how well, how fast and how."""

import os
import time

import numpy as np

from . import get_num_threads, nn
from .classifier import Classifier
from .console import Progress, confusion_report, table
from .data import Dataset, Normalisation, load_digits, random_shift, split_indices

__all__ = ["EPOCHS", "digits_dataset", "hardest", "kernel_speeds", "run", "train"]

# Chosen by five-fold cross-validation within the training part; the test part took no part in it.
EPOCHS = 50
BATCH_SIZE = 64
LEARNING_RATE = 0.006
SHIFT = 0.7  # pixels; a whole pixel is too much where a digit fills 8x8
FILTERS = (32, 64)
BUSY_LOAD = 0.75  # processes that want to run per core, a minute's average: above, times of threads mean little
SHOWN_DIGIT = 13  # of the test part, in the picture


def digits_dataset():
    """The bundled digits, a third of them held out for the test by a permutation that never changes."""
    images, labels = load_digits()
    test, train = split_indices(len(images), 1 / 3)
    images = images[:, None]
    return Dataset(images[train], labels[train], images[test], labels[test], tuple("0123456789"))


def build_network(rng):
    """From `(N, 1, 8, 8)` to ten probabilities."""
    first, second = FILTERS
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(second * 2 * 2, 10, rng=rng), nn.Softmax(),
    )


def train(dataset, *, seed=0, epochs=EPOCHS):
    """A `Classifier` trained on the training part of `dataset`; the same seed gives the same bits."""
    rng = np.random.default_rng(seed)
    network = build_network(rng)
    classifier = Classifier(network, dataset.classes, dataset.image_shape, Normalisation.fit(dataset.x_train))
    optimizer = nn.Adam(network, LEARNING_RATE)
    steps = -(-len(dataset.x_train) // BATCH_SIZE)
    classifier.fit(
        dataset.x_train, dataset.y_train, epochs=epochs, batch_size=BATCH_SIZE, rng=rng, optimizer=optimizer,
        schedule=nn.CosineLR(optimizer, epochs * steps, every="batch"),
        augment=lambda x, rng: random_shift(x, rng, SHIFT),
    )
    return classifier


def hardest(classifier, dataset):
    """Index of the test image that `classifier` reads right and is least sure of."""
    probabilities = classifier.probabilities(dataset.x_test)
    right = probabilities.argmax(axis=1) == dataset.y_test
    return int(np.where(right, probabilities.max(axis=1), 2).argmin())


def kernel_speeds():
    """Measure the kernels at the network's own shapes, in turns with whole-array NumPy.

    Returns
    -------
    list of (name, seconds of fastconv, seconds of NumPy)
        The best of some rounds in which the two take turns. NumPy computes convolutions by `sliding_window_view` and
        `tensordot`.
    """
    from .bench import contenders, problems, timing

    ours, naive = contenders.Fastconv(), contenders.VectorisedNumPy()
    for contender in (ours, naive):
        contender.start(get_num_threads())
    rows, keys = [], [(case, op) for case in _layer_cases() for op in case.ops]
    with Progress(len(keys), "timing") as bar:
        for case, op in keys:
            problem = problems.make(case, op)
            calls = {"ours": ours.prepare(problem), "naive": naive.prepare(problem)}
            seconds = timing.interleave(calls, timing.QUICK)
            rows.append((problem.name, float(seconds["ours"].min()), float(seconds["naive"].min())))
            bar.advance(problem.name)
    return rows


def _layer_cases():
    """The layers that do the work, at the network's shapes and batch size, as rows for the benchmark's machinery."""
    from .bench.cases import ActivationCase, ConvCase, PoolCase

    (first, second), n, source = FILTERS, BATCH_SIZE, "the digit demo"
    return (
        ConvCase(f"conv 3x3, {first} to {second}", source, (n, first, 4, 4), (second, first, 3, 3), padding=1),
        PoolCase("max pool 2x2", source, (n, first, 8, 8), 2, 2),
        ActivationCase("ReLU", source, (n, first, 8, 8)),
    )


def _speed_report(rows):
    directions = {
        "forward": "forward",
        "dx": "gradient of the input",
        "dw": "gradient of the weights",
        "backward": "all gradients",
    }
    lines = [["kernel", "fastconv", "NumPy", "times faster"]]
    for name, ours, naive in rows:
        layer, op = name.rsplit(" ", 1)
        times = [f"{seconds * 1e6:.0f} us" for seconds in (ours, naive)]
        lines.append([f"{layer}: {directions[op]}", *times, f"{naive / ours:.1f}"])
    threads, load = get_num_threads(), os.getloadavg()[0]
    heading = (
        f"speed at these shapes, batch {BATCH_SIZE}, {threads} thread{'s' * (threads > 1)}, against whole-array NumPy "
        "(sliding_window_view and tensordot)"
    )
    if load > BUSY_LOAD * os.cpu_count():
        heading += f"\nother programs keep the machine busy (load {load:.1f}): don't rely on these figures"
    return f"{heading}\n{table(lines)}"


def run(*, seed=0, epochs=EPOCHS, picture="digit.png"):
    """The whole demo, printed to stdout."""
    dataset = digits_dataset()
    trained, tested = len(dataset.x_train), len(dataset.x_test)
    print(f"{trained + tested:,} handwritten digits of 8x8 pixels: {trained:,} to learn from, {tested} held out")
    begin = time.perf_counter()
    classifier = train(dataset, seed=seed, epochs=epochs)
    print(f"trained for {epochs} epochs in {time.perf_counter() - begin:.1f} s")

    answers = classifier.probabilities(dataset.x_test).argmax(axis=1)
    right = int(np.count_nonzero(answers == dataset.y_test))
    print(f"test accuracy: {right / tested:.2%} ({right} of the {tested} held-out digits)\n")
    print(confusion_report(nn.confusion_matrix(dataset.y_test, answers, 10), dataset.classes))
    print(f"\n{_speed_report(kernel_speeds())}\n")
    try:
        classifier.draw(picture, dataset.x_test[SHOWN_DIGIT], int(dataset.y_test[SHOWN_DIGIT]))
    except ImportError as missing:
        print(f"no picture: {missing}")
    else:
        print(f"saved {picture}: one of the held-out digits on its way through the network")
