"""An image classifier: a network and what it has to know about images, trained, asked and kept in one file."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import nn
from .console import Progress
from .data import Normalisation

__all__ = ["NETWORKS", "Classifier", "lenet", "network_from_json", "small"]

METADATA_KEY = "fastconv.classifier"
MAX_IMAGE_SIDE = 4096
ASKED_AT_ONCE = 256


class Classifier:
    """A network with its classes, image shape and normalisation.

    Parameters
    ----------
    network : nn.Module
        From `(N, C, H, W)` to `(N, len(classes))`, ending in logits or in `nn.Softmax`.
    classes : sequence of str
    image_shape : (int, int, int)
        `(C, H, W)`.
    normalisation : Normalisation

    Raises
    ------
    ValueError
        The network doesn't take such images, or gives another number of classes.
    """

    def __init__(self, network: nn.Module, classes: Sequence[str], image_shape: Sequence[int],
                 normalisation: Normalisation) -> None:
        self.network = network
        self.classes = tuple(classes)
        self.image_shape = tuple(image_shape)
        self.normalisation = normalisation
        blank = np.zeros((0, *self.image_shape), np.uint8)  # shapes alone, whatever the size
        try:
            shape = network(normalisation(blank)).shape
        except (ValueError, TypeError, MemoryError) as error:
            raise ValueError(f"the network doesn't fit images of {self.size_text}: {error}") from error
        if shape != (0, len(self.classes)):
            raise ValueError(f"the network makes {shape[1:]} of an image, need ({len(self.classes)},), one a class")

    @property
    def size_text(self) -> str:
        """The image shape as people write it."""
        c, h, w = self.image_shape
        return f"{h}x{w} pixels, {'grey' if c == 1 else 'RGB' if c == 3 else f'{c} channels'}"

    def fit(self, x: Any, y: np.ndarray, *, epochs: int, batch_size: int, label: str = "training",
            on_epoch: Callable[[nn.History], str] | None = None, **options: Any) -> nn.History:
        """Train on raw images `(N, C, H, W)` and class numbers `(N,)` with a progress bar.

        `on_epoch(history)` may return a line to be printed. Further options are those of `fastconv.nn.fit`, whose
        `History` is returned.
        """
        steps = math.ceil(len(x) / batch_size)
        with Progress(epochs * steps, label) as bar:

            def after_batch(progress: nn.Progress) -> None:
                note = f"loss {progress.mean_loss:.3f}, {progress.accuracy:.1%} right"
                bar.show(progress.epoch * steps + progress.step, note)

            def after_epoch(_: int, history: nn.History) -> None:
                if on_epoch is not None:
                    bar.write(on_epoch(history))

            return nn.fit(
                self.network, x, y, epochs=epochs, batch_size=batch_size, transform=self.normalisation,
                callback=after_batch, on_epoch=after_epoch, **options,
            )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of raw images `(N, C, H, W)`: `(N, len(classes))`."""
        if images.shape[1:] != self.image_shape:
            raise ValueError(f"the network takes images {self.image_shape}, not {images.shape[1:]}")
        return nn.predict_proba(self.network, images, transform=self.normalisation)

    def answers(self, images: Any, label: str = "asking") -> np.ndarray:
        """The class number of each raw image, `(N,)`, with a progress bar."""
        found = np.empty(len(images), np.int64)
        with Progress(len(images), label) as bar:
            for start in range(0, len(images), ASKED_AT_ONCE):
                part = slice(start, start + ASKED_AT_ONCE)
                found[part] = self.probabilities(np.asarray(images[part])).argmax(axis=1)
                bar.show(min(part.stop, len(images)))
        return found

    def trace(self, image: np.ndarray) -> list[tuple[nn.Module, np.ndarray]]:
        """What each layer makes of one raw image `(C, H, W)`: list of (layer, output without the batch axis)."""
        x = self.normalisation(image[None])
        steps = []
        for layer in self.network if isinstance(self.network, nn.Sequential) else [self.network]:
            x = layer(x)
            steps.append((layer, x[0]))
        return steps

    def draw(self, path: str | os.PathLike[str], image: np.ndarray, truth: int | None = None) -> None:
        """Save a PNG that shows the raw `image` `(C, H, W)` going through the network; needs matplotlib."""
        from .picture import draw_network

        draw_network(path, image, self.trace(image), self.probabilities(image[None])[0], self.classes, truth=truth)

    def explain(self, path: str | os.PathLike[str], image: np.ndarray, truth: int | None = None) -> None:
        """Write an HTML page on which every number between the raw `image` `(C, H, W)` and the answer can be seen."""
        from .explain import trace, write_page

        steps = trace(self.network, self.normalisation(image[None]), pixels=image, normalisation=self.normalisation,
                      probabilities=True)
        write_page(path, steps, classes=self.classes, label=truth)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.safetensors`` (or ``.npz``) file with weights, architecture and everything else."""
        about = {
            "classes": self.classes,
            "image_shape": self.image_shape,
            "mean": self.normalisation.mean,
            "std": self.normalisation.std,
        }
        nn.save_model(path, self.network, {METADATA_KEY: json.dumps(about)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """The classifier in a file that `save` wrote; `ValueError` if it holds anything else."""
        text = nn.read_metadata(path).get(METADATA_KEY)
        if text is None:
            raise ValueError(f"{path}: no image classifier: the classes and the image size are not in it")
        try:
            about = _checked_description(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise ValueError(f"{path}: damaged description of the classifier ({error})") from error
        network = nn.load_model(path)
        try:
            return cls(network, *about)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _checked_description(about: Any) -> tuple[list[str], tuple[int, ...], Normalisation]:
    """`(classes, image_shape, normalisation)` of what a file says, or an error that says why not."""
    classes, (channels, *sides) = about["classes"], about["image_shape"]
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        raise ValueError("classes are not a list of names")
    if channels not in (1, 3) or len(sides) != 2 or not all(type(n) is int and 0 < n <= MAX_IMAGE_SIDE for n in sides):
        raise ValueError(f"image shape {about['image_shape']}")
    mean, std = (tuple(float(value) for value in about[key]) for key in ("mean", "std"))
    if len(mean) != channels or len(std) != channels or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise ValueError("normalisation is not one mean and one positive deviation a channel")
    return classes, (channels, *sides), Normalisation(mean, std)


# ----------------------------------------------------------------------------------------------------------- networks


def small(image_shape: Sequence[int], classes: int, rng: np.random.Generator) -> nn.Sequential:
    """Two 3x3 convolutions of 32 and 64 filters, each with ReLU and 2x2 max pooling, and a dense layer of 128."""
    channels, features = image_shape[0], 64 * _pooled_twice(image_shape)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(features, 128, rng=rng), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(128, classes, rng=rng), nn.Softmax(),
    )


def lenet(image_shape: Sequence[int], classes: int, rng: np.random.Generator) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling, padded so that a 28x28 image takes the paper's sizes."""
    channels, h, w = image_shape
    features = 16 * _pooled_twice((channels, h - 4 * 2, w - 4 * 2))
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(features, 120, rng=rng), nn.ReLU(),
        nn.Linear(120, 84, rng=rng), nn.ReLU(), nn.Linear(84, classes, rng=rng), nn.Softmax(),
    )


def _pooled_twice(image_shape: Sequence[int]) -> int:
    """Pixels that are left of an image after two 2x2 poolings."""
    _, h, w = image_shape
    if min(h, w) < 4:
        raise ValueError("images are too small for this network: choose a larger size")
    return (h // 2 // 2) * (w // 2 // 2)


#: The networks that ``fastconv train --model`` knows by name, as functions of ``(image_shape, classes, rng)``.
NETWORKS = {"small": small, "lenet": lenet}


def network_from_json(path: str | os.PathLike[str], rng: np.random.Generator) -> nn.Module:
    """Build the network that a JSON file describes in the form of `Module.config`, weights drawn from `rng`."""
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        return nn.build(_with_seeds(config, rng))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not the description of a network ({error})") from error


def _with_seeds(config: Any, rng: np.random.Generator) -> Any:
    """`config` with a seed from `rng` for each layer that draws random numbers."""
    if isinstance(config, list):
        return [_with_seeds(item, rng) for item in config]
    if not isinstance(config, dict):
        return config
    seeded = {key: _with_seeds(value, rng) for key, value in config.items()}
    layer: Any = getattr(nn, str(config.get("type")), None)
    with contextlib.suppress(TypeError, ValueError):
        if "rng" in inspect.signature(layer).parameters:
            seeded.setdefault("rng", int(rng.integers(1 << 32)))
    return seeded
