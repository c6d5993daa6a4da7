"""Naive filters on images: the padded image, shifted by each tap, weighted and added up in float64."""

import numpy as np

from ._common import result

__all__ = ["filter_image"]

NUMPY_MODES = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}


def filter_image(
    image, kernel, *, padding_mode="reflect", offset=0.0, dtype=None, alpha="keep", out=None, num_threads=None
):
    """An image (h, w) or (h, w, c) filtered by a kernel (r, s), or by each of a bank.

    Tap (r // 2, s // 2) lies on the pixel of the result. uint8 is rounded, ties to even, and saturated.
    """
    image = np.asarray(image)
    dtype = np.dtype(image.dtype if dtype is None else dtype)
    is_bank = not isinstance(kernel, np.ndarray) and np.ndim(kernel[0]) == 2 or np.ndim(kernel) == 3
    filtered = [_filter(image, np.asarray(each), padding_mode) + offset for each in (kernel if is_bank else [kernel])]
    if dtype == np.uint8:
        filtered = [np.clip(np.rint(each), 0, 255) for each in filtered]
    if alpha == "keep" and image.ndim == 3 and image.shape[2] in (2, 4):
        for each in filtered:
            each[..., -1] = image[..., -1]
    return result(np.stack(filtered) if is_bank else filtered[0], dtype, out)


def _filter(image, kernel, padding_mode):
    (r, s), (h, w) = kernel.shape, image.shape[:2]
    around = [(r // 2, (r - 1) // 2), (s // 2, (s - 1) // 2), *[(0, 0)] * (image.ndim - 2)]
    padded = np.pad(image.astype(np.float64), around, mode=NUMPY_MODES.get(padding_mode, padding_mode))
    total = np.zeros(image.shape)
    for i, j in zip(*kernel.nonzero()):
        total += float(kernel[i, j]) * padded[i:i + h, j:j + w]
    return total
