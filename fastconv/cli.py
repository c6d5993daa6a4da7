"""The `fastconv` command: demo, train, predict, info, bench.

Whatever is wrong with a user's input ends in one line on stderr and exit code 2; Ctrl-C in exit code 130.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path

__all__ = ["main"]

# What bad input raises: from the file system, from checks of content and arguments, for lack of a library or memory.
USER_ERRORS = (OSError, ValueError, ImportError, MemoryError)


def main(argv=None):
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["bench"]:  # its options are its own
            from .bench import main as bench

            return bench(argv[1:])
        options = _parser().parse_args(argv)
        code = options.run(options)
        sys.stdout.flush()  # a reader who has gone is noticed here rather than at exit
        return code
    except KeyboardInterrupt:
        print("fastconv: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain about stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except USER_ERRORS as error:
        print(f"fastconv: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


# ------------------------------------------------------------------------------------------------------------ options


class _Parser(argparse.ArgumentParser):
    """Errors in one line; descriptions and examples keep their line breaks."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def _parser():
    from . import __version__

    parser = _Parser(
        prog="fastconv",
        description="Convolutional networks for NumPy arrays: try them, train them, ask them, time them.",
        epilog="example:\n  fastconv demo",
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_train(commands)
    _add_predict(commands)
    info = _add(commands, "info", _info, "print version, compiler, instruction sets and threads", "fastconv info")
    info.set_defaults(threads=None)
    _add(commands, "bench", None, "time the kernels against NumPy", "fastconv bench --help")
    return parser


def _add(commands, name, run, summary, example, details=""):
    """A sub-command, whose help is its summary, details and an example."""
    description = f"{summary[0].upper()}{summary[1:]}.\n{details}"
    parser = commands.add_parser(name, help=summary, description=description, epilog=f"example:\n  {example}")
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands):
    parser = _add(
        commands, "demo", _demo, "learn to read handwritten digits in seconds and show how",
        "fastconv demo --out digit.png",
        "\nThe 1,797 real digits ship with the package. Prints accuracy, confusion matrix and speed, saves a picture.",
    )
    parser.add_argument("--seed", type=_count(0), default=0, metavar="N", help="of all random numbers (default: 0)")
    parser.add_argument("--epochs", type=_count(1), metavar="E", help="passes over the digits")
    parser.add_argument("--out", type=Path, default=Path("digit.png"), metavar="PNG", help="default: digit.png")
    # The kernels of so small a network take some 20 us each: less than a second thread needs to wake up on a busy CPU.
    _add_threads(parser, 1, "default: 1, for the network is small")


def _add_train(commands):
    parser = _add(
        commands, "train", _train, "train a network on your images",
        "fastconv train /usr/share/datasets/fashion-mnist --out fashion.safetensors",
        """
DATA is a folder: either with the four IDX files of MNIST or one of its relatives, gzipped or not, or with one
sub-folder of pictures for each class (or with train/ and test/ that hold such sub-folders). Without a test part, a
sixth of the pictures is held out for the test.""",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with IDX files or with a sub-folder a class")
    parser.add_argument("--out", type=Path, default=Path("model.safetensors"), metavar="FILE",
                        help="where to save the model (default: model.safetensors)")
    parser.add_argument("--model", default="small", metavar="NAME", help="small (default), lenet, or a .json file with "
                        "the layers as nn.Module.config() gives them")
    parser.add_argument("--epochs", type=_count(1), default=10, metavar="E", help="passes over the data (default: 10)")
    parser.add_argument("--batch-size", type=_count(1), default=128, metavar="B", help="default: 128")
    parser.add_argument("--lr", type=_positive, default=1e-3, metavar="R", help="learning rate of Adam (default: 1e-3)")
    parser.add_argument("--seed", type=_count(0), default=0, metavar="N", help="of all random numbers (default: 0)")
    parser.add_argument("--validation", type=_fraction, default=0.0, metavar="SHARE",
                        help="part of the training images to watch instead of learning from, e.g. 0.1 (default: none)")
    parser.add_argument("--shift", type=_positive, default=0.0, metavar="PIXELS",
                        help="move training images at random by up to so many pixels (default: not at all)")
    parser.add_argument("--flip", action="store_true", help="mirror training images at random")
    parser.add_argument("--size", type=_size, metavar="HxW", help="resize pictures to this, e.g. 32x32 (default: their "
                        "own size if it is the same for all and at most 64x64, else 32x32)")
    parser.add_argument("--classes", type=_names, metavar="A,B,...", help="names for the classes of IDX files")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="save a picture of one test image on its way")
    parser.add_argument("--resume", action="store_true", help="go on from the last finished epoch of an earlier run")
    _add_threads(parser)


def _add_predict(commands):
    parser = _add(
        commands, "predict", _predict, "say what is on pictures",
        "fastconv predict fashion.safetensors shoe.png shirt.jpg",
        "\nPictures are resized to the size that the model was trained on, and made grey if it was trained on greys.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="file that `fastconv train` has saved")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--top", type=_count(1), default=3, metavar="N", help="classes to name (default: 3)")
    parser.add_argument("--invert", action="store_true", help="swap dark and bright: for dark ink on white paper where "
                        "the model knows white on black, as MNIST's do")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_threads(parser)


def _add_threads(parser, default=None, note="default: all cores this process may use"):
    parser.add_argument("--threads", type=_count(1), default=default, metavar="T", help=note)


def _count(least):
    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
        return int(text)

    return parse


def _positive(text):
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


def _fraction(text):
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1")


def _size(text):
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) <= 4096 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 32x32")
    return int(sides[0]), int(sides[1])


def _names(text):
    return tuple(name.strip() for name in text.split(","))


def _threads(options):
    from . import threads

    return threads(options.threads) if options.threads else contextlib.nullcontext()


# ----------------------------------------------------------------------------------------------------------- commands


def _info(_):
    from . import show_config

    show_config()
    return 0


def _demo(options):
    from . import demo

    _check_writable(options.out)
    with _threads(options):
        demo.run(seed=options.seed, epochs=options.epochs or demo.EPOCHS, picture=options.out)
    return 0


def _train(options):
    import numpy as np

    from .classifier import Classifier
    from .data import Normalisation

    checkpoint = _train_files(options)
    dataset = _load_dataset(options)
    rng = np.random.default_rng(options.seed)
    network = _build_network(options.model, dataset, rng)
    classifier = Classifier(network, dataset.classes, dataset.image_shape, Normalisation.fit(dataset.x_train))
    weights = sum(parameter.size for parameter in network.parameters())
    print(f"{len(dataset.x_train):,} training and {len(dataset.x_test):,} test images of {classifier.size_text}, "
          f"{len(dataset.classes)} classes; network of {weights:,} weights", flush=True)
    with _threads(options):
        _fit(classifier, dataset, options, rng, checkpoint)
        classifier.save(options.out)
        print(f"saved {options.out} ({checkpoint} is for --resume)")
        _report_test(classifier, dataset)
        if options.picture:
            _draw(classifier, dataset, options.picture)
    return 0


def _train_files(options):
    """Complain before the training rather than after it; the path of the checkpoint."""
    suffixes = (".safetensors", ".npz")
    if options.out.suffix not in suffixes:
        raise ValueError(f"--out {options.out}: the name has to end in {' or '.join(suffixes)}")
    checkpoint = options.out.with_suffix(f".checkpoint{options.out.suffix}")
    if options.resume and not checkpoint.is_file():
        raise ValueError(f"--resume: there is no {checkpoint} to go on from")
    for path in filter(None, (options.out, options.picture)):
        _check_writable(path)
    return checkpoint


def _check_writable(path):
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: can't be written there")


def _load_dataset(options):
    from dataclasses import replace

    from .data import load_idx_folder, load_image_folder

    if not options.data.is_dir():
        raise ValueError(f"{options.data}: no such folder")
    if not any("-ubyte" in entry.name for entry in options.data.iterdir()):
        if options.classes:
            raise ValueError("--classes is for IDX files; folders of pictures name their classes")
        return load_image_folder(options.data, size=options.size)
    if options.size:
        raise ValueError("--size is for folders of pictures; images in IDX files keep theirs")
    dataset = load_idx_folder(options.data)
    if options.classes is None:
        return dataset
    if len(options.classes) != len(dataset.classes):
        raise ValueError(f"--classes gives {len(options.classes)} names, the data have {len(dataset.classes)} classes")
    return replace(dataset, classes=options.classes)


def _build_network(name, dataset, rng):
    from .classifier import NETWORKS, network_from_json

    if name in NETWORKS:
        return NETWORKS[name](dataset.image_shape, len(dataset.classes), rng)
    if not name.endswith(".json"):
        raise ValueError(f"--model {name}: neither {', '.join(NETWORKS)} nor a .json file")
    return network_from_json(name, rng)


def _fit(classifier, dataset, options, rng, checkpoint):
    from . import nn
    from .data import split_indices

    watched, learned = split_indices(len(dataset.x_train), options.validation)
    validation = (dataset.x_train[watched], dataset.y_train[watched]) if len(watched) else None
    x, y = (dataset.x_train[learned], dataset.y_train[learned]) if len(watched) else (dataset.x_train, dataset.y_train)
    classifier.fit(
        x, y, epochs=options.epochs, batch_size=options.batch_size, optimizer=nn.Adam(classifier.network, options.lr),
        rng=rng, validation=validation, augment=_augmentation(options), checkpoint=checkpoint, resume=options.resume,
        on_epoch=lambda history: _epoch_line(history, options.epochs),
    )


def _augmentation(options):
    from .data import random_flip, random_shift

    def augment(x, rng):
        x = random_flip(x, rng) if options.flip else x
        return random_shift(x, rng, options.shift) if options.shift else x

    return augment if options.flip or options.shift else None


def _epoch_line(history, epochs):
    line = (f"epoch {len(history):>{len(str(epochs))}}/{epochs}  loss {history.loss[-1]:.4f}  "
            f"accuracy {history.accuracy[-1]:.2%}  {history.seconds[-1]:.1f} s")
    if history.val_loss[-1] == history.val_loss[-1]:
        line += f"  validation: loss {history.val_loss[-1]:.4f}  accuracy {history.val_accuracy[-1]:.2%}"
    return line


def _report_test(classifier, dataset):
    from . import nn
    from .console import confusion_report

    begin = time.perf_counter()
    answers = classifier.probabilities(dataset.x_test).argmax(axis=1)
    seconds = time.perf_counter() - begin
    right = int((answers == dataset.y_test).sum())
    print(f"test accuracy: {right / len(answers):.2%} ({right:,} of {len(answers):,} images, {seconds:.1f} s)\n")
    print(confusion_report(nn.confusion_matrix(dataset.y_test, answers, len(dataset.classes)), dataset.classes))


def _draw(classifier, dataset, path):
    try:
        classifier.draw(path, dataset.x_test[0], int(dataset.y_test[0]))
    except ImportError as missing:
        print(f"no picture: {missing}")
    else:
        print(f"\nsaved {path}: the first test image on its way through the network")


def _predict(options):
    import numpy as np

    from .classifier import Classifier
    from .data import read_image

    classifier = Classifier.load(options.model)
    channels, *size = classifier.image_shape
    images = np.stack([read_image(path, tuple(size), channels) for path in options.images])
    with _threads(options):
        probabilities = classifier.probabilities(255 - images if options.invert else images)
    answers = [
        {"image": str(path), "classes": _best(classifier.classes, row, options.top)}
        for path, row in zip(options.images, probabilities.tolist(), strict=True)
    ]
    if options.json:
        print(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            print(f"{answer['image']}: " + ", ".join(f"{c['name']} {c['probability']:.1%}" for c in answer["classes"]))
    return 0


def _best(classes, probabilities, count):
    order = sorted(range(len(classes)), key=lambda k: -probabilities[k])[:count]
    return [{"name": classes[k], "probability": probabilities[k]} for k in order]
