"""Picture files, by Pillow."""

from __future__ import annotations

import contextlib
import mmap
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from ..files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["read_image", "read_photo", "write_photo"]

MISSING = "reading pictures needs Pillow: pip install 'fastconv[demo]'"
MAX_PIXELS = 1 << 26
# What may be opened, whatever the file calls itself: Pillow would run Ghostscript on some others.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"))


def open_picture(path: str | os.PathLike[str]) -> Picture:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(MISSING) from error
    with _decoding(path):
        with open(path, "rb") as file:  # of a mapping no more is read than there is, whatever lengths the file declares
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            picture = Image.open(cast("IO[bytes]", content), formats=FORMATS)
        except UnidentifiedImageError:
            picture = None
    if picture is None:
        raise ValueError(f"{path}: not a picture that Pillow can read as one of {', '.join(FORMATS)}")
    if picture.width * picture.height > MAX_PIXELS:
        picture.close()
        raise ValueError(f"{path}: {picture.width}x{picture.height} pixels, expected at most {MAX_PIXELS}")
    return picture


@contextlib.contextmanager
def _decoding(path: str | os.PathLike[str]) -> Iterator[None]:
    """Decoders of damaged files warn, and raise whatever they stumble on: a ValueError that names the file instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:  # of the file system
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{path}: damaged or truncated picture ({reason})") from error


def read_image(path: str | os.PathLike[str], size: tuple[int, int], channels: int) -> np.ndarray:
    """Read a picture as `uint8` `(channels, *size)`; needs Pillow.

    It is turned upright by its EXIF note, transparent parts become white, 16-bit greys are scaled to 8, and then it is
    converted to grey (`channels` 1) or RGB (3) and resized to `size` `(height, width)`.
    """
    with open_picture(path) as picture, _decoding(path):
        pixels = _pixels(picture, size, {1: "L", 3: "RGB"}[channels])
    return pixels.reshape(*size, channels).transpose(2, 0, 1)


def read_photo(path: str | os.PathLike[str], *, grey: bool = False) -> np.ndarray:
    """Read a picture as it is: `uint8` `(H, W)`, `(H, W, 2)`, `(H, W, 3)` or `(H, W, 4)`; needs Pillow.

    Grey, grey with opacity, RGB or RGBA, whatever the file has; `grey` leaves brightness (and opacity). It is turned
    upright by its EXIF note; 16-bit greys are scaled to 8; palettes and other colour spaces become RGB or RGBA.
    """
    with open_picture(path) as picture, _decoding(path):
        picture = _upright(picture)
        alpha = "A" if picture.has_transparency_data else ""
        plain = grey or picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I")
        if plain and alpha and picture.mode != "LA":
            picture = picture.convert("RGBA")  # Pillow makes LA of that alone
        return np.asarray(picture.convert(("L" if plain else "RGB") + alpha))


def write_photo(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Save `uint8` pixels as `read_photo` gives them, in the format that the name's ending tells; needs Pillow.

    Raises `ValueError` for an ending that Pillow doesn't know, or a format that can't hold such pixels. An interrupted
    or failed save leaves what was there before.
    """
    kind = format_of(path)
    from PIL import Image

    with replacing(path) as file:
        try:
            Image.fromarray(pixels).save(file, kind)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        except OSError as error:
            if error.errno is None:  # Pillow's way to say that the format can't hold them
                raise ValueError(f"{path}: {error}") from error
            raise


def format_of(path: str | os.PathLike[str]) -> str:
    """Pillow's name for the format that a picture's name ends in."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(MISSING) from error
    ending = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(ending)
    if kind not in Image.SAVE:
        raise ValueError(f"{path}: Pillow can't write pictures with the ending {ending!r}; .png and .jpg are common")
    return kind


def _upright(picture: Picture) -> Picture:
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture


def _pixels(picture: Picture, size: tuple[int, int], mode: str) -> np.ndarray:
    from PIL import Image

    picture = _upright(picture)
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    picture = picture.convert(mode)
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture)
