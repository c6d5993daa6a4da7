"""Picture files, by Pillow."""

import numpy as np

__all__ = ["read_image"]

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"))


def open_picture(path):
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
    with open_picture(path) as picture:
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
