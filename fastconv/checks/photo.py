"""Rules of filters: images of interleaved channels, and kernels."""
import numpy as np

from .arrays import FLOATS, array, contiguous, some_dtype

PHOTOS = (np.dtype(np.uint8), *FLOATS)
MOST_PHOTO_CHANNELS = 4


def photo(fn, name, value):
    """An image (H, W) or (H, W, C) of uint8 or floats, contiguous and aligned, through one copy if need be."""
    value = array(fn, name, value)
    if value.dtype not in PHOTOS:
        raise TypeError(f"{fn}: {name}: got dtype {value.dtype}; expected uint8, float32 or float64")
    if value.ndim not in (2, 3):
        raise ValueError(f"{fn}: {name}: got {value.ndim} axes, shape {value.shape}; expected (H, W) or (H, W, C)")
    if value.ndim == 3 and not 1 <= value.shape[2] <= MOST_PHOTO_CHANNELS:
        raise ValueError(f"{fn}: {name}: got {value.shape[2]} channels, shape {value.shape}; expected 1 to "
                         f"{MOST_PHOTO_CHANNELS} on the last axis: grey, grey and alpha, RGB, RGBA")
    if not value.size:
        raise ValueError(f"{fn}: {name}: got shape {value.shape}; expected at least one pixel")
    return contiguous(value)


def photo_result(fn, name, dtype, image_dtype):
    """The dtype of a filtered image: the image's own, or float32 for uint8."""
    dtype = some_dtype(fn, name, dtype)
    allowed = {image_dtype} | ({np.dtype(np.float32)} if image_dtype == np.uint8 else set())
    if dtype not in allowed:
        known = " or ".join(sorted(map(str, allowed)))
        raise TypeError(f"{fn}: {name}: got {dtype} for an image of {image_dtype}; expected {known}")
    return dtype


def kernel_bank(fn, name, value):
    """(list of float64 kernels of two axes, whether a bank was given)."""
    if isinstance(value, (list, tuple)) and value and all(array(fn, name, each).ndim == 2 for each in value):
        kernels, is_bank = list(value), True
    else:
        value = array(fn, name, value)
        if value.ndim not in (2, 3):
            raise ValueError(f"{fn}: {name}: got {value.ndim} axes, shape {value.shape}; expected a kernel (R, S) or "
                             "a bank of them")
        kernels, is_bank = list(value) if value.ndim == 3 else [value], value.ndim == 3
    if not kernels:
        raise ValueError(f"{fn}: {name}: got a bank without kernels")
    return [_kernel(fn, name, kernel) for kernel in kernels], is_bank


def _kernel(fn, name, value):
    value = array(fn, name, value)
    if value.dtype.kind not in "iuf":
        raise TypeError(f"{fn}: {name}: got dtype {value.dtype}; expected real numbers")
    value = value.astype(np.float64)
    if not value.size:
        raise ValueError(f"{fn}: {name}: got shape {value.shape}; expected at least one tap")
    if not np.isfinite(value).all():
        raise ValueError(f"{fn}: {name}: got a weight that is not finite")
    return value
