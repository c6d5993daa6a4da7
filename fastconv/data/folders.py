"""Whole datasets, in memory or read as they are used: the bundled digits, IDX folders, folders of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..idx import read_idx
from .lazy import FilePath, StoredArray, StoredImages, open_idx
from .pictures import IMAGE_SUFFIXES, open_picture

__all__ = [
    "Dataset",
    "load_digits",
    "load_idx_folder",
    "load_image_folder",
    "open_idx_folder",
    "open_image_folder",
    "split_indices",
]

MAX_CLASSES = 1 << 16
IDX_PREFIXES = {"train": ("train",), "test": ("t10k", "test")}


@dataclass(frozen=True)
class Dataset:
    """Labelled images in two parts, `uint8` `(N, C, H, W)` and `int64` `(N,)` each, and the name of every class.

    Images are arrays, or what stands in their place: memory maps, or the parts of a dataset that was opened.
    """

    x_train: Any
    y_train: np.ndarray
    x_test: Any
    y_test: np.ndarray
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(C, H, W)`."""
        return tuple(self.x_train.shape[1:])


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 handwritten digits that ship with the package.

    Returns
    -------
    images : uint8 array (1797, 8, 8)
        Pixels from 0 (paper) to 16 (ink).
    labels : int64 array (1797,)

    Notes
    -----
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
    doi:10.24432/C50P49, CC BY 4.0; the test part of the set. See `digits/README.md`.
    """
    folder = Path(__file__).parents[1] / "digits"
    images, labels = read_idx(folder / "images-idx3-ubyte.gz"), read_idx(folder / "labels-idx1-ubyte.gz")
    return images, labels.astype(np.int64)


def load_idx_folder(path: FilePath) -> Dataset:
    """Load a folder with the four files of MNIST, Fashion-MNIST, KMNIST, ...

    Parameters
    ----------
    path : str or path-like
        Holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k` (or `test`), each plain or
        with ``.gz``, with ``-`` or ``.`` before ``idx``.

    Returns
    -------
    Dataset
        Images `(N, 1, H, W)`; the classes are named by their numbers.

    Raises
    ------
    FileNotFoundError
        A file is missing; the message names it.
    ValueError
        A file is damaged, or images and labels don't fit together.
    """
    return _in_memory(open_idx_folder(path))


def open_idx_folder(path: FilePath) -> Dataset:
    """As `load_idx_folder`, but images stay in their files: `x_train` and `x_test` are read when they are indexed."""
    folder = Path(path)
    x_train, y_train = _open_idx_pair(folder, "train")
    x_test, y_test = _open_idx_pair(folder, "test")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{folder}: training images are {x_train.shape[2:]} pixels but test images {x_test.shape[2:]}"
        )
    classes = tuple(str(label) for label in range(1 + int(max(y_train.max(), y_test.max()))))
    return Dataset(x_train, y_train, x_test, y_test, classes)


def _in_memory(dataset: Dataset) -> Dataset:
    return replace(dataset, x_train=dataset.x_train[:], x_test=dataset.x_test[:])


def _open_idx_pair(folder: Path, part: str) -> tuple[StoredArray, np.ndarray]:
    images_path, labels_path = _find_idx(folder, part, "images", 3), _find_idx(folder, part, "labels", 1)
    images, labels = open_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"{images_path}: expected uint8 (N, H, W) images, found {images.dtype} {images.shape}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{labels_path}: expected a row of class numbers, found {labels.dtype} {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < MAX_CLASSES:
        raise ValueError(f"{labels_path}: class numbers {labels.min()} to {labels.max()}, need 0 to {MAX_CLASSES - 1}")
    if len(images) != len(labels) or not images.size:
        raise ValueError(f"{images_path}: {len(images)} images of {images.shape[1:]} pixels, {len(labels)} labels")
    return images.with_channel_axis(), labels.astype(np.int64)


def _find_idx(folder: Path, part: str, what: str, axes: int) -> Path:
    for prefix in IDX_PREFIXES[part]:
        for name in (f"{prefix}-{what}-idx{axes}-ubyte", f"{prefix}-{what}.idx{axes}-ubyte"):
            for candidate in (folder / name, folder / f"{name}.gz"):
                if candidate.is_file():
                    return candidate
    raise FileNotFoundError(f"{folder}: no {IDX_PREFIXES[part][0]}-{what}-idx{axes}-ubyte[.gz] in it")


def load_image_folder(path: FilePath, *, size: tuple[int, int] | None = None, channels: int | None = None,
                      test_fraction: float = 1 / 6) -> Dataset:
    """Load a folder of pictures with one sub-folder a class; needs Pillow.

    Parameters
    ----------
    path : str or path-like
        ``path/<class>/<picture>``, or ``path/train/<class>/...`` and ``path/test/<class>/...``. Hidden files are passed
        over, and so are files whose suffix isn't that of a picture.
    size : (int, int), optional
        Height and width that every picture is resized to. Default: their own size if they all share one of at most
        64x64, else 32x32.
    channels : {1, 3}, optional
        Grey or RGB. Default: grey unless a picture has colours.
    test_fraction : float
        Held out for the test, by a fixed permutation, where there is no `test` folder.

    Returns
    -------
    Dataset
        The classes are the sorted names of the sub-folders.

    Raises
    ------
    ImportError
        Pillow isn't installed.
    ValueError
        Fewer than two classes, no pictures, or one that can't be read.
    """
    return _in_memory(open_image_folder(path, size=size, channels=channels, test_fraction=test_fraction))


def open_image_folder(path: FilePath, *, size: tuple[int, int] | None = None, channels: int | None = None,
                      test_fraction: float = 1 / 6) -> Dataset:
    """As `load_image_folder`, but pictures stay in their files: each is decoded when `x_train` or `x_test` is indexed
    there. A damaged one is found out only then.
    """
    folder = Path(path)
    parts = ("train", "test") if (folder / "train").is_dir() and (folder / "test").is_dir() else ("",)
    names = sorted({entry.name for part in parts for entry in (folder / part).iterdir() if _is_class(entry)})
    if len(names) < 2:
        raise ValueError(
            f"{folder}: found {len(names)} sub-folders with pictures, need at least two, one a class"
            " (or the IDX files of MNIST and its relatives)"
        )
    files = [_labelled_pictures(folder / part, names) for part in parts]
    size, channels = _common_form([file for part in files for file, _ in part], size, channels)
    if len(files) == 1:
        test, train = split_indices(len(files[0]), test_fraction)
        files = [[files[0][i] for i in chosen] for chosen in (train, test)]
    images = [StoredImages([file for file, _ in part], size, channels) for part in files]
    labels = [np.array([label for _, label in part], np.int64) for part in files]
    (x_train, x_test), (y_train, y_test) = images, labels
    if not len(x_train) or not len(x_test):
        raise ValueError(f"{folder}: {len(x_train)} training and {len(x_test)} test pictures are too few")
    return Dataset(x_train, y_train, x_test, y_test, tuple(names))


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def _labelled_pictures(folder: Path, names: Sequence[str]) -> list[tuple[Path, int]]:
    return [(file, label) for label, name in enumerate(names) for file in _pictures(folder / name)]


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".") and bool(_pictures(entry))


def _common_form(files: Sequence[Path], size: tuple[int, int] | None,
                 channels: int | None) -> tuple[tuple[int, int], int]:
    """Size and channels for all of `files`, from what their headers say where the caller left it open."""
    if size is None or channels is None:
        shapes, modes = set(), set()
        for file in files:
            with open_picture(file) as picture:
                shapes.add((picture.height, picture.width))
                modes.add(picture.mode)
        if size is None:
            size = shapes.pop() if len(shapes) == 1 else (32, 32)
            size = size if max(size) <= 64 else (32, 32)
        if channels is None:
            channels = 1 if all(mode in ("1", "L", "LA", "F") or mode.startswith("I") for mode in modes) else 3
    return size, channels


def split_indices(n: int, fraction: float, seed: int = 1998) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of indices, the first of `round(n * fraction)`, by a permutation that depends on `n` and `seed` alone.

    `RandomState`'s stream is frozen by NumPy, so the split is the same under every version of it.
    """
    order = np.random.RandomState(seed).permutation(n)
    first = round(n * fraction)
    return order[:first], order[first:]
