"""Normalisation, and random changes that leave an image what it is; every random number comes from the caller's rng."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Normalisation", "random_crop", "random_flip", "random_shift"]

FIT_ELEMENTS = 1 << 22  # in memory at a time, as float64


@dataclass(frozen=True)
class Normalisation:
    """`(pixel - mean) / std` with one mean and one standard deviation for each channel, in units of the raw pixel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, images: Any, on_part: Callable[[int], object] | None = None) -> Normalisation:
        """Measured on `images` `(N, C, H, W)`, some at a time; a channel that never changes keeps its scale.

        `on_part(done)` is called with the number of images that have been measured, after each part.
        """
        step = max(1, FIT_ELEMENTS // max(1, math.prod(images.shape[1:])))
        count = 0
        mean = squares = np.zeros(())
        for start in range(0, len(images), step):
            part = np.asarray(images[start:start + step])
            axes = (0, *range(2, part.ndim))
            size = part.size // part.shape[1]
            centre, spread = part.mean(axes, dtype=np.float64), part.var(axes, dtype=np.float64)
            apart = centre - mean
            squares = squares + spread * size + apart**2 * (count * size / (count + size))
            mean, count = mean + apart * (size / (count + size)), count + size
            if on_part is not None:
                on_part(start + len(part))
        std = np.sqrt(squares / count)
        return cls(tuple(map(float, mean)), tuple(map(float, np.where(std > 0, std, 1.0))))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """`images` `(N, C, H, W)` as `float32`."""
        shape = (1, -1, *(1,) * (images.ndim - 2))
        mean = np.array(self.mean, np.float32).reshape(shape)
        scale = np.array(1 / np.array(self.std), np.float32).reshape(shape)
        return (images - mean) * scale


def random_crop(x: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A random `size` window of each image: `(N, C, H, W)` to `(N, C, *size)`."""
    n, _, h, w = x.shape
    if not (0 < size[0] <= h and 0 < size[1] <= w):
        raise ValueError(f"random_crop: no {size[0]}x{size[1]} window in {h}x{w} images")
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    rows, columns = rng.integers(0, h - size[0] + 1, n), rng.integers(0, w - size[1] + 1, n)
    return windows[np.arange(n), :, rows, columns]


def random_flip(x: np.ndarray, rng: np.random.Generator, p: float = 0.5) -> np.ndarray:
    """Each image `(N, C, H, W)` mirrored left to right with probability `p`."""
    mirrored = rng.random(len(x)) < p
    return np.where(mirrored[:, None, None, None], x[..., ::-1], x)


def random_shift(x: np.ndarray, rng: np.random.Generator, reach: float, fill: float = 0) -> np.ndarray:
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
    shifted: np.ndarray = moved[..., :-1] * (1 - right) + moved[..., 1:] * right
    return shifted
