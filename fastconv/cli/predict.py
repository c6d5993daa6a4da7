"""`fastconv predict`: a trained model's answers."""

import json
from pathlib import Path

from .options import add_command, add_threads, count_from, threads_of


def add(commands):
    parser = add_command(
        commands, "predict", run, "tell what is in pictures",
        "fastconv predict fashion.safetensors shoe.png shirt.jpg",
        "\nPictures are resized to what the model was trained on, and turned grey if it was trained on grey ones.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="file that `fastconv train` has saved")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="one picture or more")
    parser.add_argument("--top", type=count_from(1), default=3, metavar="N", help="classes to name (default: 3)")
    parser.add_argument("--invert", action="store_true", help="swap dark and bright: for dark ink on white paper where "
                        "the model knows white on black, as MNIST's do")
    parser.add_argument("--json", action="store_true", help="print JSON, with all digits of the probabilities")
    add_threads(parser)


def run(options):
    import numpy as np

    from ..classifier import ASKED_AT_ONCE, Classifier
    from ..console import Progress
    from ..data import read_image

    classifier = Classifier.load(options.model)
    channels, *size = classifier.image_shape
    answers = []
    with threads_of(options), Progress(len(options.images), "predicting") as bar:
        for start in range(0, len(options.images), ASKED_AT_ONCE):
            paths = options.images[start:start + ASKED_AT_ONCE]
            images = np.stack([read_image(path, tuple(size), channels) for path in paths])
            probabilities = classifier.probabilities(255 - images if options.invert else images)
            for path, row in zip(paths, probabilities.tolist(), strict=True):
                answers.append({"image": str(path), "classes": _best(classifier.classes, row, options.top)})
            bar.show(len(answers))
    if options.json:
        print(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            print(f"{answer['image']}: " + ", ".join(f"{c['name']} {c['probability']:.1%}" for c in answer["classes"]))
    return 0


def _best(classes, probabilities, count):
    order = sorted(range(len(classes)), key=lambda k: -probabilities[k])[:count]
    return [{"name": classes[k], "probability": probabilities[k]} for k in order]
