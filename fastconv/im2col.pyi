from numpy.typing import ArrayLike

from ._types import Array, Padding, PerAxis, Shape

__all__ = [
    "col2im", "im2col",
]

def col2im(
    cols: ArrayLike, input_shape: Shape, kernel_size: PerAxis, stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1
) -> Array: ...

def im2col(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1
) -> Array: ...
