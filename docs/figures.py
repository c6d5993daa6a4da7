"""The figures of the documentation, drawn by the library itself when the site is built."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import image
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure

import fastconv as fc
from fastconv import demo, nn

DIVERGING = matplotlib.colors.LinearSegmentedColormap.from_list("sign", ["#054e8c", "#ffffff", "#b35806"])
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
FILTERS = 6
TEXT = 11  # points: figures are at most 6.6 inches wide, so that this can be read on a phone


def show(axes, values, title="", *, grey=False, numbers=None, limit=None):
    """One map as a picture; `numbers` is a format for numbers in the pixels."""
    limit = limit or float(np.abs(values).max()) or 1.0
    scale = {"cmap": "gray", "vmin": 0} if grey else {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}
    axes.imshow(values, interpolation="nearest", **scale)
    bare(axes, title)
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            bright = value > values.max() / 2 if grey else abs(value) < 0.55 * limit
            text = format(value, numbers).replace("-", "\N{MINUS SIGN}") if value else "0"
            axes.text(column, row, text, ha="center", va="center", fontsize=TEXT, color="black" if bright else "white")


def bare(axes, title):
    axes.set_title(title, fontsize=TEXT)
    axes.set_xticks([])
    axes.set_yticks([])


def panels(rows, columns, *, width, height):
    """A figure with `rows` x `columns` axes of that size in inches, row by row."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def digit_as_numbers(digit):
    figure, (left, right) = panels(1, 2, width=3.2, height=3.3)
    show(left, digit, "what we see", grey=True)
    show(right, digit.astype(int), "what the computer has", grey=True, numbers="d")
    return figure


def edges(digit):
    x = digit[None, None].astype(np.float32)
    kernels = {"left to right": SOBEL, "top to bottom": SOBEL.T}
    figure, axes = panels(2, 3, width=2.1, height=2.3)
    for line, (name, kernel) in zip(axes.reshape(2, 3), kernels.items()):
        show(line[0], digit, "image", grey=True)
        show(line[1], kernel, f"kernel: {name}", numbers="+.0f")
        show(line[2], fc.conv2d(x, kernel[None, None], padding=1)[0, 0], "result")
    return figure


def filters():
    """A photograph that matplotlib carries (Grace Hopper, U.S. Navy, public domain) under filters."""
    photo = image.imread(get_sample_data("grace_hopper.jpg", asfileobj=False))[:440, 40:480]
    stripes = fc.filters.gabor(15, np.pi / 4, 6.0)
    pictures = {
        "photograph": photo, "sobel": fc.filters.gradient_magnitude(photo),
        "gaussian": fc.filter_image(photo, fc.filters.gaussian(5)),
        "sharpen": fc.filter_image(photo, fc.filters.sharpen(2)),
        "emboss": fc.filter_image(photo, fc.filters.emboss()),
        "gabor": fc.filter_image(photo, stripes / np.abs(stripes).sum() * 4, offset=128),
    }
    figure, axes = panels(2, 3, width=2.1, height=2.3)
    for one, (name, pixels) in zip(axes, pictures.items()):
        one.imshow(pixels)
        bare(one, name)
    return figure


def sizes(digit):
    x, w = digit[None, None].astype(np.float32), SOBEL[None, None]
    figure, axes = panels(2, 2, width=2.6, height=2.9)
    for one, (padding, stride) in zip(axes, [(0, 1), (1, 1), (2, 1), (1, 2)]):
        y = fc.conv2d(x, w, padding=padding, stride=stride)[0, 0]
        show(one, y, f"padding {padding}, stride {stride}: {y.shape[0]}\N{MULTIPLICATION SIGN}{y.shape[1]}")
    return figure


def learned(network, x):
    """The first layer's filters, what they find, and what ReLU and pooling leave of it."""
    first, relu, pool = network[:3]
    maps = [first(x), relu(first(x)), pool(relu(first(x)))]
    strongest = np.argsort(-maps[1][0].mean(axis=(1, 2)))[:FILTERS]
    figure, axes = panels(4, FILTERS, width=1.1, height=1.1)
    rows = {"filter": first.weight.value[strongest, 0], "feature map": maps[0][0, strongest],
            "ReLU": maps[1][0, strongest], "max pooling": maps[2][0, strongest]}
    for line, (name, values) in zip(axes.reshape(4, FILTERS), rows.items()):
        for one, value in zip(line, values):
            show(one, value, limit=float(np.abs(values).max()))
        line[0].set_ylabel(name, fontsize=TEXT)
    return figure


def pooling():
    x = np.array([[1, 3, -2, 0], [5, 2, 4, 1], [-1, 0, 2, 2], [3, -4, 1, 6]], np.float32)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplot_mosaic("aabc;aade")
    show(axes["a"], x, "4\N{MULTIPLICATION SIGN}4", numbers="+.0f")
    functions = {"max": fc.max_pool2d, "average": fc.avg_pool2d, "sum": fc.sum_pool2d, "min": fc.min_pool2d}
    for one, (name, function) in zip((axes[each] for each in "bcde"), functions.items()):
        show(one, function(x[None, None], 2)[0, 0], name, numbers="+.3g", limit=12 if name == "sum" else 6)
    return figure


def activations():
    x = np.linspace(-4, 4, 401)
    figure, axes = panels(1, 3, width=2.1, height=2.1)
    functions = {"ReLU": fc.relu, "sigmoid": fc.sigmoid, "tanh": fc.tanh}
    for one, (name, function) in zip(axes, functions.items()):
        one.plot(x, function(x), color="#0569a8")
        one.set_title(name, fontsize=TEXT)
        one.set_xticks([-4, 0, 4])
        one.grid(alpha=0.25)
        one.spines[["top", "right"]].set_visible(False)
    return figure


def errors():
    """Two measures of one mistake: the probability that the right class of ten gets."""
    share = np.linspace(0.001, 0.999, 400)
    logits = np.zeros((len(share), 10))
    logits[:, 0] = np.log(9 * share / (1 - share))
    target = np.zeros(1, np.int64)
    entropy = [fc.cross_entropy(row[None], target) for row in logits]
    squares = [fc.mse_loss(fc.softmax(row[None]), np.eye(10)[:1]) for row in logits]
    figure, (axes,) = panels(1, 1, width=5, height=3)
    axes.plot(share, entropy, color="#0569a8", label="cross-entropy")
    axes.plot(share, squares, color="#c65f00", linestyle="--", label="mean squared error")
    axes.set_xlabel("probability given to the right class")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_all(folder):
    """Draw every figure into `folder`, and the interactive page of one digit beside them."""
    folder = Path(folder)
    (folder / "page").mkdir(parents=True, exist_ok=True)
    dataset = demo.digits_dataset()
    digit = dataset.x_test[demo.SHOWN_DIGIT, 0]
    with fc.threads(1):
        classifier = demo.train(dataset, epochs=12)
        rng = np.random.default_rng(0)
        model = demo.build_network(rng)
        x, y = classifier.normalisation(dataset.x_train), dataset.y_train
        history = nn.fit(model, x[:1000], y[:1000], epochs=12, optimizer=nn.Adam(model, 2e-3), batch_size=64, rng=rng,
                         validation=(x[1000:], y[1000:]))
    training = nn.plot_training(history)
    training.set_size_inches(6.6, 3)
    figures = {
        "image": digit_as_numbers(digit), "edges": edges(digit), "sizes": sizes(digit), "pooling": pooling(),
        "activations": activations(), "filters": filters(), "errors": errors(), "training": training,
        "learned": learned(classifier.network, classifier.normalisation(digit[None, None])),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)
    hardest = demo.hardest(classifier, dataset)
    classifier.explain(folder / "page" / "explained-digit.html", dataset.x_test[hardest], int(dataset.y_test[hardest]))
