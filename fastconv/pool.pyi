from typing import Literal, overload

from numpy.typing import ArrayLike

from ._types import AdaptiveSize, Array, Pairs, PerAxis, Shape

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool1d_backward", "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d", "adaptive_avg_pool3d_backward", "adaptive_max_pool1d", "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d", "adaptive_max_pool2d_backward", "adaptive_max_pool3d", "adaptive_max_pool3d_backward",
    "avg_pool1d", "avg_pool1d_backward", "avg_pool2d", "avg_pool2d_backward", "avg_pool3d", "avg_pool3d_backward",
    "global_avg_pool", "global_avg_pool_backward", "global_max_pool", "global_max_pool_backward", "global_min_pool",
    "global_min_pool_backward", "global_sum_pool", "global_sum_pool_backward", "max_pool1d", "max_pool1d_backward",
    "max_pool2d", "max_pool2d_backward", "max_pool3d", "max_pool3d_backward", "max_unpool1d",
    "max_unpool1d_backward", "max_unpool2d", "max_unpool2d_backward", "max_unpool3d", "max_unpool3d_backward",
    "min_pool1d", "min_pool1d_backward", "min_pool2d", "min_pool2d_backward", "min_pool3d", "min_pool3d_backward",
    "sum_pool1d", "sum_pool1d_backward", "sum_pool2d", "sum_pool2d_backward", "sum_pool3d", "sum_pool3d_backward",
]

def adaptive_avg_pool1d(
    x: ArrayLike, output_size: AdaptiveSize, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def adaptive_avg_pool1d_backward(
    dy: ArrayLike, input_shape: Shape, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def adaptive_avg_pool2d(
    x: ArrayLike, output_size: AdaptiveSize, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def adaptive_avg_pool2d_backward(
    dy: ArrayLike, input_shape: Shape, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def adaptive_avg_pool3d(
    x: ArrayLike, output_size: AdaptiveSize, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def adaptive_avg_pool3d_backward(
    dy: ArrayLike, input_shape: Shape, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

@overload
def adaptive_max_pool1d(
    x: ArrayLike, output_size: AdaptiveSize, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def adaptive_max_pool1d(
    x: ArrayLike, output_size: AdaptiveSize, *, return_indices: Literal[True], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def adaptive_max_pool1d_backward(
    dy: ArrayLike, x: ArrayLike, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def adaptive_max_pool2d(
    x: ArrayLike, output_size: AdaptiveSize, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def adaptive_max_pool2d(
    x: ArrayLike, output_size: AdaptiveSize, *, return_indices: Literal[True], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def adaptive_max_pool2d_backward(
    dy: ArrayLike, x: ArrayLike, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def adaptive_max_pool3d(
    x: ArrayLike, output_size: AdaptiveSize, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def adaptive_max_pool3d(
    x: ArrayLike, output_size: AdaptiveSize, *, return_indices: Literal[True], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def adaptive_max_pool3d_backward(
    dy: ArrayLike, x: ArrayLike, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def avg_pool1d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, count_include_pad: bool = True, divisor_override: int | None = None,
    out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def avg_pool1d_backward(
    dy: ArrayLike, input_shape: Shape, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, count_include_pad: bool = True,
    divisor_override: int | None = None, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def avg_pool2d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, count_include_pad: bool = True, divisor_override: int | None = None,
    out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def avg_pool2d_backward(
    dy: ArrayLike, input_shape: Shape, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, count_include_pad: bool = True,
    divisor_override: int | None = None, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def avg_pool3d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, count_include_pad: bool = True, divisor_override: int | None = None,
    out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def avg_pool3d_backward(
    dy: ArrayLike, input_shape: Shape, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, count_include_pad: bool = True,
    divisor_override: int | None = None, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def global_avg_pool(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def global_avg_pool_backward(
    dy: ArrayLike, input_shape: Shape, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def global_max_pool(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def global_max_pool_backward(
    dy: ArrayLike, x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def global_min_pool(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def global_min_pool_backward(
    dy: ArrayLike, x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def global_sum_pool(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def global_sum_pool_backward(
    dy: ArrayLike, input_shape: Shape, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

@overload
def max_pool1d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def max_pool1d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "window"], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def max_pool1d_backward(
    dy: ArrayLike, x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def max_pool2d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def max_pool2d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "window"], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def max_pool2d_backward(
    dy: ArrayLike, x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def max_pool3d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def max_pool3d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "window"], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def max_pool3d_backward(
    dy: ArrayLike, x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def max_unpool1d(
    x: ArrayLike, indices: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    output_size: PerAxis | None = None, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def max_unpool1d_backward(
    dy: ArrayLike, indices: ArrayLike, input_shape: Shape, *, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def max_unpool2d(
    x: ArrayLike, indices: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    output_size: PerAxis | None = None, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def max_unpool2d_backward(
    dy: ArrayLike, indices: ArrayLike, input_shape: Shape, *, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def max_unpool3d(
    x: ArrayLike, indices: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    output_size: PerAxis | None = None, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def max_unpool3d_backward(
    dy: ArrayLike, indices: ArrayLike, input_shape: Shape, *, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def min_pool1d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def min_pool1d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "window"], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def min_pool1d_backward(
    dy: ArrayLike, x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def min_pool2d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def min_pool2d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "window"], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def min_pool2d_backward(
    dy: ArrayLike, x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def min_pool3d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[False] = False, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

@overload
def min_pool3d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, return_indices: Literal[True, "window"], out: Array | None = None,
    num_threads: int | None = None
) -> tuple[Array, Array]: ...

def min_pool3d_backward(
    dy: ArrayLike, x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, indices: ArrayLike | None = None, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def sum_pool1d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def sum_pool1d_backward(
    dy: ArrayLike, input_shape: Shape, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def sum_pool2d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def sum_pool2d_backward(
    dy: ArrayLike, input_shape: Shape, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def sum_pool3d(
    x: ArrayLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0, dilation: PerAxis = 1,
    ceil_mode: bool = False, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def sum_pool3d_backward(
    dy: ArrayLike, input_shape: Shape, kernel_size: PerAxis, stride: PerAxis | None = None, padding: Pairs = 0,
    dilation: PerAxis = 1, ceil_mode: bool = False, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...
