"""Filters on photographs: well-known kernels, and `fastconv.filter_image`, which applies one of them or many at once.

Kernels are float64 arrays of two axes, to be laid over the image as they are printed: "convolution" is
cross-correlation here, as everywhere in the package.
"""
import numpy as np

from . import checks, filtering
from .runtime import keeps_floating_point

__all__ = ["filter_image"]

ALPHA = ("keep", "filter")


@keeps_floating_point
def filter_image(image, kernel, *, padding_mode="reflect", offset=0.0, dtype=None, alpha="keep", out=None,
                 num_threads=None):
    """An image filtered by a kernel, or by each kernel of a bank.

    Parameters
    ----------
    image : array of uint8, float32 or float64, (H, W) or (H, W, C)
        Grey, grey with alpha (C = 2), RGB or RGBA. Rows of pixels without gaps are read as they are, any other strides
        through one copy.
    kernel : array of numbers (R, S), or a bank: (kernels, R, S) or a sequence of such arrays of any sizes
        Result (i, j) is made of the pixels whose tap (R // 2, S // 2) lies on (i, j). Kernels that are an outer product
        of a column and a row are applied as two passes where that is less work; taps of weight 0 are left out, so that
        what they lie on doesn't matter, not even a NaN.
    padding_mode : {"reflect", "zeros", "replicate", "edge", "circular", "wrap", "symmetric"}
        What lies around the image, in NumPy's meaning of the words.
    offset : float
        Added to every result, before it is rounded: 128 makes negative results visible in uint8.
    dtype : dtype, optional
        Of the result. Default: the image's. For uint8 images also float32, which neither rounds nor saturates.
    alpha : {"keep", "filter"}
        The last of two or four channels is opacity: "keep" copies it, so that shapes stay as they are while their
        colours are filtered; "filter" treats it like a colour. Colours are taken as they are: where they count by
        their opacity, multiply them by it before.
    out : array, optional
        Takes the result; of its shape and dtype, any strides, without an element of the image or the kernel.
    num_threads : int, optional

    Returns
    -------
    array
        Of the image's shape; of a bank one for each kernel, (kernels, H, W) or (kernels, H, W, C). uint8 results are
        rounded to nearest, ties to even, and saturated at 0 and 255. They are computed in float32, from float64 images
        in float64.

    Raises
    ------
    TypeError, ValueError
        An array of another dtype or shape, an unknown option; the message names it.

    Examples
    --------
    >>> edges = fc.filter_image(photo, fc.filters.sobel(axis=1), offset=128)
    >>> bank = fc.filter_image(grey, fc.filters.gabor_bank(size=15), dtype="float32")  # (16, H, W)
    """
    fn = "filter_image"
    checks.some_threads(fn, num_threads)
    given = checks.array(fn, "image", image)
    image = checks.photo(fn, "image", given)
    kernels, is_bank = checks.kernel_bank(fn, "kernel", kernel)
    mode = checks.choice(fn, "padding_mode", padding_mode, checks.PADDING_MODES)
    offset = checks.number(fn, "offset", offset)
    dtype = checks.photo_result(fn, "dtype", image.dtype if dtype is None else dtype, image.dtype)
    checks.choice(fn, "alpha", alpha, dict.fromkeys(ALPHA))
    shape = (len(kernels), *image.shape) if is_bank else image.shape
    if out is not None:
        checks.output(fn, "out", out, shape, dtype,
                      {"image": given, "kernel": kernel if isinstance(kernel, np.ndarray) else None})

    direct = out is not None and checks.is_contiguous(out)
    y = out if direct else checks.new(shape, dtype)
    pixels = image if image.ndim == 3 else image[..., None]
    filtering.run(pixels, kernels, y.reshape(len(kernels), *pixels.shape), mode, offset, num_threads)
    if alpha == "keep" and pixels.shape[2] in (2, 4):
        y[..., -1] = image[..., -1]
    if out is None or direct:
        return y
    out[...] = y
    return out


@keeps_floating_point
def gradient_magnitude(image, operator=None, **options):
    """The steepness of each pixel's surroundings: the root of the squared results of a kernel and its transpose.

    Parameters
    ----------
    image : array
        As in :func:`fastconv.filter_image`. Its options are taken too, except `offset`, `out` and `alpha`: opacity is
        kept.
    operator : function of an axis, optional
        `sobel` (default), `scharr` or `prewitt`.

    Returns
    -------
    array
        Like the image; uint8 is rounded and saturated.

    Raises
    ------
    TypeError, ValueError
        As in :func:`fastconv.filter_image`.
    """
    operator = operator or sobel
    image = np.asarray(image)
    wanted = np.dtype(options.pop("dtype", None) or image.dtype)
    floats = np.float32 if image.dtype == np.uint8 else image.dtype
    across, down = filter_image(image, [operator(1), operator(0)], dtype=floats, **options)
    across *= across
    down *= down
    across += down
    steepness = np.sqrt(across, out=across)
    if wanted == np.uint8:
        steepness = np.minimum(np.rint(steepness, out=steepness), 255, out=steepness).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] in (2, 4):
        steepness[..., -1] = image[..., -1]
    return steepness


# ------------------------------------------------------------------------------------------------------------- kernels


def sobel(axis, size=3):
    """The derivative along an axis, 0 down or 1 to the right, smoothed across it; whole numbers, not normalised.

    `size` is odd: the derivative and the smoothing are the binomial ones of that size (OpenCV's, scipy's at 3).
    """
    _check_size("sobel", size, 3)
    smooth, slope = np.ones(1), np.array([-1.0, 1.0])
    for _ in range(size - 1):
        smooth = np.convolve(smooth, (1, 1))
    for _ in range(size - 2):
        slope = np.convolve(slope, (1, 1))
    return _along("sobel", axis, smooth, slope)


def scharr(axis):
    """Like `sobel(axis)`, with weights 3 10 3 across, which depend least on the direction of an edge."""
    return _along("scharr", axis, (3, 10, 3), (-1, 0, 1))


def prewitt(axis):
    """Like `sobel(axis)`, with equal weights across."""
    return _along("prewitt", axis, (1, 1, 1), (-1, 0, 1))


def laplacian(diagonals=False):
    """The sum of the second derivatives from the four neighbours, or from all eight."""
    corner = 1.0 if diagonals else 0.0
    return np.array([[corner, 1, corner], [1, -4 - 4 * corner, 1], [corner, 1, corner]])


def gaussian(sigma, size=None):
    """A bell of standard deviation `sigma` pixels, whose weights sum to 1.

    `size` is odd; by default it reaches 3 sigma to each side.
    """
    sigma = _positive("gaussian", "sigma", sigma)
    size = 2 * max(1, round(3 * sigma)) + 1 if size is None else size
    _check_size("gaussian", size, 1)
    bell = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    bell /= bell.sum()
    return np.outer(bell, bell)


def box(size):
    """The mean of `size` x `size` pixels."""
    size = checks.integer("box", "size", size, 1)
    return np.full((size, size), 1 / size**2)


def sharpen(amount=1.0):
    """The image less `amount` times its Laplacian; 1 is the usual kernel of 5 and -1."""
    amount = checks.number("sharpen", "amount", amount)
    return np.array([[0, 0, 0], [0, 1.0, 0], [0, 0, 0]]) - amount * laplacian()


def emboss():
    """Light from the upper left; flat parts keep their brightness."""
    return np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])


def gabor(size, angle, wavelength, sigma=None, aspect=0.5, phase=0.0):
    """A wave under a bell: answers to stripes.

    Parameters
    ----------
    size : int
        Side of the kernel in pixels, odd.
    angle : float
        Of the direction in which the wave runs, in radians from the x axis (to the right) towards the y axis (down).
    wavelength : float
        In pixels.
    sigma : float, optional
        Of the bell along the wave, in pixels; default: 0.56 of the wavelength, a bandwidth of one octave.
    aspect : float
        The bell's width along the wave over that across it.
    phase : float
        0: even, pi / 2: odd.

    Returns
    -------
    array (size, size)
        Not normalised; an even one is freed of its mean, so that it is blind to brightness.
    """
    _check_size("gabor", size, 1)
    for name, value in (("wavelength", wavelength), ("aspect", aspect)):
        _positive("gabor", name, value)
    sigma = _positive("gabor", "sigma", 0.56 * wavelength if sigma is None else sigma)
    y, x = np.mgrid[:size, :size] - size // 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bell = np.exp(-0.5 * (along**2 + (aspect * across) ** 2) / sigma**2)
    wave = np.cos(2 * np.pi * along / wavelength + phase)
    return bell * wave - bell * ((bell * wave).sum() / bell.sum())


def gabor_bank(size=15, angles=8, wavelengths=(4.0, 8.0)):
    """Even Gabor kernels of `angles` directions in half a turn for each wavelength: (kernels, size, size)."""
    angles = checks.integer("gabor_bank", "angles", angles, 1)
    return np.array([gabor(size, np.pi * i / angles, length) for length in wavelengths for i in range(angles)])


def _along(fn, axis, across, along):
    """An outer product; `along` runs along the axis."""
    axis = checks.integer(fn, "axis", axis, 0)
    if axis > 1:
        raise ValueError(f"{fn}: axis: got {axis}; expected 0 (down) or 1 (to the right)")
    column, row = (across, along) if axis == 1 else (along, across)
    return np.outer(column, row).astype(np.float64)


def _check_size(fn, size, least):
    if checks.integer(fn, "size", size, least) % 2 == 0:
        raise ValueError(f"{fn}: size: got {size}; expected an odd number")


def _positive(fn, name, value):
    if not 0 < checks.number(fn, name, value) < np.inf:
        raise ValueError(f"{fn}: {name}: got {value}; expected a positive number")
    return float(value)
