"""`fastconv train`: from a folder of images to a saved model."""

import json
import time
from pathlib import Path

from .options import add_command, add_threads, check_writable, count_from, fraction, names, positive, size, threads_of

MOST_KEPT = 256 << 20  # bytes of images that are read once and kept in memory
READ_AT_ONCE = 16


def add(commands):
    parser = add_command(
        commands, "train", run, "train a network on your images",
        "fastconv train /usr/share/datasets/fashion-mnist --out fashion.safetensors",
        """
DATA is a folder: either with the four IDX files of MNIST or one of its relatives, gzipped or not, or with one
sub-folder of pictures for each class (or with train/ and test/ that hold such sub-folders). Without a test part, a
sixth of the pictures is held out for the test. Data that take more than 256 MiB are read batch by batch, so they may be
larger than the memory. Ctrl-C keeps the last finished epoch: go on with --resume.""",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of IDX files, or of one sub-folder a class")
    parser.add_argument("--out", type=Path, default=Path("model.safetensors"), metavar="FILE",
                        help="where to save the model (default: model.safetensors)")
    parser.add_argument("--model", default="small", metavar="NAME", help="small (default), lenet, or a .json file with "
                        "the layers as nn.Module.config() gives them")
    parser.add_argument("--epochs", type=count_from(1), default=10, metavar="E",
                        help="passes over the data (default: 10)")
    parser.add_argument("--batch-size", type=count_from(1), default=128, metavar="B",
                        help="images a step (default: 128)")
    parser.add_argument("--lr", type=positive, default=1e-3, metavar="R", help="learning rate of Adam (default: 1e-3)")
    parser.add_argument("--seed", type=count_from(0), default=0, metavar="N",
                        help="seed of all random numbers (default: 0)")
    parser.add_argument("--validation", type=fraction, default=0.0, metavar="SHARE",
                        help="part of the training images to watch instead of learning from, e.g. 0.1 (default: none)")
    parser.add_argument("--shift", type=positive, default=0.0, metavar="PIXELS",
                        help="move training images at random by up to so many pixels (default: not at all)")
    parser.add_argument("--flip", action="store_true", help="mirror training images at random")
    parser.add_argument("--size", type=size, metavar="HxW", help="resize pictures to this, e.g. 32x32 (default: their "
                        "own size if it is the same for all and at most 64x64, else 32x32)")
    parser.add_argument("--classes", type=names, metavar="A,B,...", help="names for the classes of IDX files")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="save a picture of one test image on its way")
    parser.add_argument("--resume", action="store_true", help="go on from the last finished epoch of an earlier run")
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else to stdout")
    add_threads(parser)


def run(options):
    import numpy as np

    from ..classifier import Classifier

    checkpoint = _train_files(options)
    say = _silent if options.json else print
    dataset = _load_dataset(options)
    rng = np.random.default_rng(options.seed)
    network = _build_network(options.model, dataset, rng)
    classifier = Classifier(network, dataset.classes, dataset.image_shape, _normalisation(dataset.x_train))
    weights = sum(parameter.size for parameter in network.parameters())
    say(f"{len(dataset.x_train):,} training and {len(dataset.x_test):,} test images of {classifier.size_text}, "
        f"{len(dataset.classes)} classes; network of {weights:,} weights", flush=True)
    with threads_of(options):
        try:
            history = _fit(classifier, dataset, options, rng, checkpoint)
            if options.resume and len(history) > options.epochs:
                say(f"{checkpoint} has {len(history)} epochs already: --epochs counts those, too")
        except KeyboardInterrupt:
            kept = [f"go on from {checkpoint} with --resume"] if checkpoint.is_file() else []
            raise KeyboardInterrupt(*kept) from None
        classifier.save(options.out)
        say(f"saved {options.out} ({checkpoint} is for --resume)")
        test = _test(classifier, dataset, say)
        if options.picture:
            _draw(classifier, dataset, options.picture, say)
    if options.json:
        print(json.dumps(_result(options, checkpoint, weights, dataset, history, test), indent=2))
    return 0


def _silent(*_, **__):
    """Prints nothing."""


def _result(options, checkpoint, weights, dataset, history, test):
    """What a script may want to know; numbers that there are not (NaN) are null."""
    epochs = {each: values.tolist() for each, values in history.as_arrays().items()}
    return {
        "model": str(options.out),
        "checkpoint": str(checkpoint),
        "weights": weights,
        "classes": list(dataset.classes),
        "images": {"training": len(dataset.x_train), "test": len(dataset.x_test)},
        "epochs": {each: [None if v != v else v for v in values] for each, values in epochs.items()},
        "test": test,
    }


def _train_files(options):
    """Complain before the training rather than after it; the path of the checkpoint."""
    suffixes = (".safetensors", ".npz")
    if options.out.suffix not in suffixes:
        raise ValueError(f"--out {options.out}: the name has to end in {' or '.join(suffixes)}")
    checkpoint = options.out.with_suffix(f".checkpoint{options.out.suffix}")
    if options.resume and not checkpoint.is_file():
        raise ValueError(f"--resume: there is no {checkpoint} to go on from")
    for path in filter(None, (options.out, options.picture)):
        check_writable(path)
    return checkpoint


def _load_dataset(options):
    from dataclasses import replace

    from ..data import open_idx_folder, open_image_folder

    if not options.data.is_dir():
        raise ValueError(f"{options.data}: no such folder")
    if not any("-ubyte" in entry.name for entry in options.data.iterdir()):
        if options.classes:
            raise ValueError("--classes is for IDX files; folders of pictures name their classes")
        return _kept(open_image_folder(options.data, size=options.size))
    if options.size:
        raise ValueError("--size is for folders of pictures; images in IDX files keep theirs")
    dataset = _kept(open_idx_folder(options.data))
    if options.classes is None:
        return dataset
    if len(options.classes) != len(dataset.classes):
        raise ValueError(f"--classes gives {len(options.classes)} names, the data have {len(dataset.classes)} classes")
    return replace(dataset, classes=options.classes)


def _kept(dataset):
    """The dataset with its images in memory, if they take little of it; else they are read anew for each batch."""
    from dataclasses import replace

    import numpy as np

    from ..console import Progress

    parts = (dataset.x_train, dataset.x_test)
    if sum(part.size for part in parts) > MOST_KEPT:
        return dataset
    with Progress(sum(map(len, parts)), "reading images") as bar:

        def read(images):
            pixels = np.empty(images.shape, images.dtype)
            for start in range(0, len(pixels), READ_AT_ONCE):
                part = slice(start, start + READ_AT_ONCE)
                pixels[part] = images[part]
                bar.show(bar.done + len(pixels[part]))
            return pixels

        x_train, x_test = map(read, parts)
    return replace(dataset, x_train=x_train, x_test=x_test)


def _normalisation(images):
    """Measured on the training images."""
    from ..console import Progress
    from ..data import Normalisation

    with Progress(len(images), "measuring images") as bar:
        return Normalisation.fit(images, bar.show)


def _build_network(name, dataset, rng):
    from ..classifier import NETWORKS, network_from_json

    if name in NETWORKS:
        return NETWORKS[name](dataset.image_shape, len(dataset.classes), rng)
    if not name.endswith(".json"):
        raise ValueError(f"--model {name}: neither {', '.join(NETWORKS)} nor a .json file")
    return network_from_json(name, rng)


def _fit(classifier, dataset, options, rng, checkpoint):
    from .. import nn
    from ..data import Subset, split_indices

    x, y = dataset.x_train, dataset.y_train
    watched, learned = split_indices(len(x), options.validation)
    validation = (Subset(x, watched), y[watched]) if len(watched) else None
    x, y = (Subset(x, learned), y[learned]) if len(watched) else (x, y)
    return classifier.fit(
        x, y, epochs=options.epochs, batch_size=options.batch_size, optimizer=nn.Adam(classifier.network, options.lr),
        rng=rng, validation=validation, augment=_augmentation(options), checkpoint=checkpoint, resume=options.resume,
        on_epoch=None if options.json else lambda history: _epoch_line(history, options.epochs),
    )


def _augmentation(options):
    from ..data import random_flip, random_shift

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


def _test(classifier, dataset, say):
    """The accuracy on the test images, told and returned."""
    from .. import nn
    from ..console import confusion_report

    begin = time.perf_counter()
    answers = classifier.answers(dataset.x_test, label="testing")
    seconds = time.perf_counter() - begin
    right = int((answers == dataset.y_test).sum())
    say(f"test accuracy: {right / len(answers):.2%} ({right:,} of {len(answers):,} images, {seconds:.1f} s)\n")
    say(confusion_report(nn.confusion_matrix(dataset.y_test, answers, len(dataset.classes)), dataset.classes))
    return {"accuracy": right / len(answers), "right": right, "images": len(answers), "seconds": seconds}


def _draw(classifier, dataset, path, say):
    try:
        classifier.draw(path, dataset.x_test[0], int(dataset.y_test[0]))
    except ImportError as missing:
        say(f"no picture: {missing}")
    else:
        say(f"\nsaved {path}: the first test image on its way through the network")
