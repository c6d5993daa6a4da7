"""Images in, arrays out: IDX files, the bundled digits, folders of pictures, normalisation and augmentation.

Images are `uint8` arrays of shape `(N, C, H, W)` until `Normalisation` makes them `float32`; labels are `int64`
class numbers of shape `(N,)`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .idx import read_idx, write_idx

__all__ = [
    "Dataset",
    "Normalisation",
    "load_digits",
    "load_idx_folder",
    "load_image_folder",
    "random_crop",
    "random_flip",
    "random_shift",
    "read_idx",
    "read_image",
    "split_indices",
    "write_idx",
]

MAX_CLASSES = 1 << 16
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"))
IDX_PREFIXES = {"train": ("train",), "test": ("t10k", "test")}


@dataclass(frozen=True)
class Dataset:
    """Labelled images in two parts, `uint8` `(N, C, H, W)` and `int64` `(N,)` each, and the name of every class."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple

    @property
    def image_shape(self):
        """`(C, H, W)`."""
        return self.x_train.shape[1:]


# ----------------------------------------------------------------------------------------------------------- datasets


def load_digits():
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
    folder = Path(__file__).with_name("digits")
    images, labels = read_idx(folder / "images-idx3-ubyte.gz"), read_idx(folder / "labels-idx1-ubyte.gz")
    return images, labels.astype(np.int64)


def load_idx_folder(path):
    """Load a folder with the four files of MNIST, Fashion-MNIST, KMNIST, ...

    Parameters
    ----------
    path : str or path-like
        Holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k` (or `test`), each plain or
        with `.gz`, with `-` or `.` before `idx`.

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
    folder = Path(path)
    x_train, y_train = _read_idx_pair(folder, "train")
    x_test, y_test = _read_idx_pair(folder, "test")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"{folder}: training images are {x_train.shape[2:]} pixels but test images {x_test.shape[2:]}"
        )
    classes = tuple(str(label) for label in range(1 + int(max(y_train.max(), y_test.max()))))
    return Dataset(x_train, y_train, x_test, y_test, classes)


def _read_idx_pair(folder, part):
    images_path, labels_path = _find_idx(folder, part, "images", 3), _find_idx(folder, part, "labels", 1)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"{images_path}: expected uint8 (N, H, W) images, found {images.dtype} {images.shape}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{labels_path}: expected a row of class numbers, found {labels.dtype} {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < MAX_CLASSES:
        raise ValueError(f"{labels_path}: class numbers {labels.min()} to {labels.max()}, need 0 to {MAX_CLASSES - 1}")
    if len(images) != len(labels) or not images.size:
        raise ValueError(f"{images_path}: {len(images)} images of {images.shape[1:]} pixels, {len(labels)} labels")
    return images[:, None], labels.astype(np.int64)


def _find_idx(folder, part, what, axes):
    for prefix in IDX_PREFIXES[part]:
        for name in (f"{prefix}-{what}-idx{axes}-ubyte", f"{prefix}-{what}.idx{axes}-ubyte"):
            for candidate in (folder / name, folder / f"{name}.gz"):
                if candidate.is_file():
                    return candidate
    raise FileNotFoundError(f"{folder}: no {IDX_PREFIXES[part][0]}-{what}-idx{axes}-ubyte[.gz] in it")


def load_image_folder(path, *, size=None, channels=None, test_fraction=1 / 6):
    """Load a folder of pictures with one sub-folder a class; needs Pillow.

    Parameters
    ----------
    path : str or path-like
        `path/<class>/<picture>`, or `path/train/<class>/...` and `path/test/<class>/...`. Hidden files and files that
        are no pictures by their suffix are passed over.
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
    loaded = [_load_pictures(part, size, channels) for part in files]
    if len(loaded) == 1:
        images, labels = loaded[0]
        test, train = split_indices(len(images), test_fraction)
        loaded = [(images[train], labels[train]), (images[test], labels[test])]
    (x_train, y_train), (x_test, y_test) = loaded
    if not len(x_train) or not len(x_test):
        raise ValueError(f"{folder}: {len(x_train)} training and {len(x_test)} test pictures are too few")
    return Dataset(x_train, y_train, x_test, y_test, tuple(names))


def _pictures(folder):
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def _labelled_pictures(folder, names):
    return [(file, label) for label, name in enumerate(names) for file in _pictures(folder / name)]


def _is_class(entry):
    return entry.is_dir() and not entry.name.startswith(".") and bool(_pictures(entry))


def _load_pictures(files, size, channels):
    images = np.empty((len(files), channels, *size), np.uint8)
    for image, (file, _) in zip(images, files, strict=True):
        image[...] = read_image(file, size, channels)
    return images, np.array([label for _, label in files], np.int64)


def _common_form(files, size, channels):
    """Size and channels for all of `files`, from what their headers say where the caller left it open."""
    if size is None or channels is None:
        shapes, modes = set(), set()
        for file in files:
            with _open_picture(file) as picture:
                shapes.add((picture.height, picture.width))
                modes.add(picture.mode)
        if size is None:
            size = shapes.pop() if len(shapes) == 1 else (32, 32)
            size = size if max(size) <= 64 else (32, 32)
        if channels is None:
            channels = 1 if all(mode in ("1", "L", "LA", "F") or mode.startswith("I") for mode in modes) else 3
    return size, channels


def _open_picture(path):
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("reading pictures needs Pillow: pip install 'fastconv[demo]'") from error
    try:
        return Image.open(path)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a picture that Pillow can read ({error})") from error


def read_image(path, size, channels):
    """Read a picture as `uint8` `(channels, *size)`; needs Pillow.

    It is turned upright by its EXIF note, transparent parts become white, 16-bit greys are scaled to 8, and then it is
    converted to grey (`channels` 1) or RGB (3) and resized to `size` `(height, width)`.
    """
    with _open_picture(path) as picture:
        try:
            pixels = _pixels(picture, size, {1: "L", 3: "RGB"}[channels])
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: damaged or truncated picture ({error})") from error
    return pixels.reshape(*size, channels).transpose(2, 0, 1)


def _pixels(picture, size, mode):
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    picture = picture.convert(mode)
    width_height = size[::-1]
    return np.asarray(picture if picture.size == width_height else picture.resize(width_height, Image.BILINEAR))


def split_indices(n, fraction, seed=1998):
    """Two arrays of indices, the first of `round(n * fraction)`, by a permutation that depends on `n` and `seed` alone.

    `RandomState`'s stream is frozen by NumPy, so the split is the same under every version of it.
    """
    order = np.random.RandomState(seed).permutation(n)
    first = round(n * fraction)
    return order[:first], order[first:]


# ------------------------------------------------------------------------------------- normalisation and augmentation


@dataclass(frozen=True)
class Normalisation:
    """`(pixel - mean) / std` with one mean and one standard deviation for each channel, in units of the raw pixel."""

    mean: tuple
    std: tuple

    @classmethod
    def fit(cls, images):
        """Measured on `images` `(N, C, H, W)`; a channel that never changes keeps its scale."""
        axes = (0, *range(2, images.ndim))
        std = images.std(axes, dtype=np.float64)
        return cls(
            tuple(images.mean(axes, dtype=np.float64).tolist()), tuple(np.where(std > 0, std, 1.0).tolist())
        )

    def __call__(self, images):
        """`images` `(N, C, H, W)` as `float32`."""
        shape = (1, -1, *(1,) * (images.ndim - 2))
        mean = np.array(self.mean, np.float32).reshape(shape)
        scale = np.array(1 / np.array(self.std), np.float32).reshape(shape)
        return (images - mean) * scale


def random_crop(x, rng, size):
    """A random `size` window of each image: `(N, C, H, W)` to `(N, C, *size)`."""
    n, _, h, w = x.shape
    if not (0 < size[0] <= h and 0 < size[1] <= w):
        raise ValueError(f"random_crop: no {size[0]}x{size[1]} window in {h}x{w} images")
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    rows, columns = rng.integers(0, h - size[0] + 1, n), rng.integers(0, w - size[1] + 1, n)
    return windows[np.arange(n), :, rows, columns]


def random_flip(x, rng, p=0.5):
    """Each image `(N, C, H, W)` mirrored left to right with probability `p`."""
    mirrored = rng.random(len(x)) < p
    return np.where(mirrored[:, None, None, None], x[..., ::-1], x)


def random_shift(x, rng, reach, fill=0):
    """Each image moved by a random distance along both axes, by linear interpolation between pixels.

    Parameters
    ----------
    x : array (N, C, H, W)
    rng : numpy.random.Generator
    reach : float
        The distance is uniform in `[-reach, reach]` pixels.
    fill : float
        What comes in at the edges.

    Returns
    -------
    array (N, C, H, W)
        `float32`, or `float64` if `x` is that.
    """
    n, _, h, w = x.shape
    dtype = np.result_type(x.dtype, np.float32) if x.dtype.kind == "f" else np.float32
    edge = math.ceil(reach)
    around = ((0, 0), (0, 0), (edge, edge + 1), (edge, edge + 1))
    padded = np.pad(x.astype(dtype, copy=False), around, constant_values=fill)
    # A window one pixel too large at the whole-pixel part of the distance; the fraction blends its neighbours.
    whole, part = np.divmod(edge + rng.uniform(-reach, reach, (2, n)), 1)
    rows, columns = whole.astype(np.intp)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h + 1, w + 1), axis=(2, 3))
    moved = windows[np.arange(n), :, rows, columns]
    down, right = part.astype(dtype).reshape(2, n, 1, 1, 1)
    moved = moved[:, :, :-1] * (1 - down) + moved[:, :, 1:] * down
    return moved[..., :-1] * (1 - right) + moved[..., 1:] * right
