from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._types import PaddingMode

__all__ = ["filter_image"]

Axis = Literal[0, 1]

def filter_image(
    image: ArrayLike, kernel: ArrayLike | Sequence[ArrayLike], *, padding_mode: PaddingMode = "reflect",
    offset: float = 0.0, dtype: DTypeLike | None = None, alpha: Literal["keep", "filter"] = "keep",
    out: NDArray[Any] | None = None, num_threads: int | None = None
) -> NDArray[Any]: ...

def gradient_magnitude(
    image: ArrayLike, operator: Callable[[Axis], NDArray[np.float64]] | None = None, **options: Any
) -> NDArray[Any]: ...

def sobel(axis: Axis, size: int = 3) -> NDArray[np.float64]: ...

def scharr(axis: Axis) -> NDArray[np.float64]: ...

def prewitt(axis: Axis) -> NDArray[np.float64]: ...

def laplacian(diagonals: bool = False) -> NDArray[np.float64]: ...

def gaussian(sigma: float, size: int | None = None) -> NDArray[np.float64]: ...

def box(size: int) -> NDArray[np.float64]: ...

def sharpen(amount: float = 1.0) -> NDArray[np.float64]: ...

def emboss() -> NDArray[np.float64]: ...

def gabor(
    size: int, angle: float, wavelength: float, sigma: float | None = None, aspect: float = 0.5, phase: float = 0.0
) -> NDArray[np.float64]: ...

def gabor_bank(
    size: int = 15, angles: int = 8, wavelengths: Sequence[float] = (4.0, 8.0)
) -> NDArray[np.float64]: ...
