"""`fastconv explain`: a page that shows how a network comes to its answer."""

from pathlib import Path

from .options import add_command, add_threads, check_writable, threads_of


def add(commands):
    parser = add_command(
        commands, "explain", run, "write a page that shows every number between an image and the answer",
        "fastconv explain fashion.safetensors shoe.png --label sneaker --html page.html",
        """
The page needs nothing but a browser. Point at a pixel of any layer to see the numbers and weights that it is made of.
Without MODEL and IMAGE, a network first learns the bundled digits, which takes a few seconds, and then reads the one
that it is least sure of among those it has never seen.""",
    )
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="file that `fastconv train` has saved")
    parser.add_argument("image", type=Path, nargs="?", metavar="IMAGE", help="a picture for it")
    parser.add_argument("--html", type=Path, default=Path("page.html"), metavar="FILE",
                        help="where to save the page (default: page.html)")
    parser.add_argument("--label", metavar="CLASS", help="the right answer, so that the page can show the loss")
    parser.add_argument("--invert", action="store_true", help="swap dark and bright, as `fastconv predict` does")
    add_threads(parser, 1, "default: 1")


def run(options):
    if (options.model is None) != (options.image is None):
        raise ValueError("explain: MODEL and IMAGE go together: give both, or neither for the bundled digits")
    check_writable(options.html)
    with threads_of(options):
        classifier, image, label = _digit() if options.model is None else _picture(options)
        classifier.explain(options.html, image, _class_number(classifier, options.label, label))
    print(f"saved {options.html}: open it in a browser")
    return 0


def _digit():
    from ..demo import digits_dataset, hardest, train

    dataset = digits_dataset()
    classifier = train(dataset)
    index = hardest(classifier, dataset)
    return classifier, dataset.x_test[index], int(dataset.y_test[index])


def _picture(options):
    from ..classifier import Classifier
    from ..data import read_image

    classifier = Classifier.load(options.model)
    channels, *size = classifier.image_shape
    image = read_image(options.image, tuple(size), channels)
    return classifier, 255 - image if options.invert else image, None


def _class_number(classifier, name, default):
    if name is None:
        return default
    if name not in classifier.classes:
        raise ValueError(f"--label {name}: no class of this model, which knows {', '.join(classifier.classes)}")
    return classifier.classes.index(name)
