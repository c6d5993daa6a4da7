from collections.abc import Sequence

from numpy.typing import ArrayLike

from ._types import (
    Activation,
    Algorithm,
    Array,
    FloatType,
    Gradients,
    MemoryOrder,
    Operation,
    Padding,
    PaddingMode,
    Pairs,
    PerAxis,
    Shape,
)
from .packed import PackedWeight as PackedWeight
from .planning import ConvPlan as ConvPlan

__all__ = [
    "ConvPlan", "PackedWeight", "conv1d", "conv1d_backward", "conv1d_backward_input", "conv1d_backward_weight",
    "conv2d", "conv2d_backward", "conv2d_backward_input", "conv2d_backward_weight", "conv3d", "conv3d_backward",
    "conv3d_backward_input", "conv3d_backward_weight", "conv_algorithms", "conv_transpose1d",
    "conv_transpose1d_backward", "conv_transpose2d", "conv_transpose2d_backward", "conv_transpose3d",
    "conv_transpose3d_backward", "explain_conv", "pack_weight",
]

def conv1d(
    x: ArrayLike, w: ArrayLike | PackedWeight, b: ArrayLike | None = None, stride: PerAxis = 1,
    padding: Padding = 0, dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None, algorithm: Algorithm = "auto", out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def conv1d_backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1,
    groups: int = 1, *, padding_mode: PaddingMode = "zeros", need: Sequence[bool] = (True, True, True),
    algorithm: Algorithm = "auto", out: Sequence[Array | None] = (None, None, None), accumulate: bool = False,
    num_threads: int | None = None
) -> Gradients: ...

def conv1d_backward_input(
    dy: ArrayLike, w: ArrayLike, input_shape: Shape, stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros", algorithm: Algorithm = "auto",
    out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def conv1d_backward_weight(
    dy: ArrayLike, x: ArrayLike, weight_shape: Shape, stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros", algorithm: Algorithm = "auto",
    out: Array | None = None, accumulate: bool = False, num_threads: int | None = None
) -> Array: ...

def conv2d(
    x: ArrayLike, w: ArrayLike | PackedWeight, b: ArrayLike | None = None, stride: PerAxis = 1,
    padding: Padding = 0, dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None, algorithm: Algorithm = "auto", out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def conv2d_backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1,
    groups: int = 1, *, padding_mode: PaddingMode = "zeros", need: Sequence[bool] = (True, True, True),
    algorithm: Algorithm = "auto", out: Sequence[Array | None] = (None, None, None), accumulate: bool = False,
    num_threads: int | None = None
) -> Gradients: ...

def conv2d_backward_input(
    dy: ArrayLike, w: ArrayLike, input_shape: Shape, stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros", algorithm: Algorithm = "auto",
    out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def conv2d_backward_weight(
    dy: ArrayLike, x: ArrayLike, weight_shape: Shape, stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros", algorithm: Algorithm = "auto",
    out: Array | None = None, accumulate: bool = False, num_threads: int | None = None
) -> Array: ...

def conv3d(
    x: ArrayLike, w: ArrayLike | PackedWeight, b: ArrayLike | None = None, stride: PerAxis = 1,
    padding: Padding = 0, dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros",
    activation: Activation | None = None, algorithm: Algorithm = "auto", out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def conv3d_backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1,
    groups: int = 1, *, padding_mode: PaddingMode = "zeros", need: Sequence[bool] = (True, True, True),
    algorithm: Algorithm = "auto", out: Sequence[Array | None] = (None, None, None), accumulate: bool = False,
    num_threads: int | None = None
) -> Gradients: ...

def conv3d_backward_input(
    dy: ArrayLike, w: ArrayLike, input_shape: Shape, stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros", algorithm: Algorithm = "auto",
    out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def conv3d_backward_weight(
    dy: ArrayLike, x: ArrayLike, weight_shape: Shape, stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1, groups: int = 1, *, padding_mode: PaddingMode = "zeros", algorithm: Algorithm = "auto",
    out: Array | None = None, accumulate: bool = False, num_threads: int | None = None
) -> Array: ...

def conv_algorithms(
    x_shape: Shape, w_shape: Shape, *, op: Operation = "forward", stride: PerAxis = 1, padding: Padding = 0,
    dilation: PerAxis = 1, groups: int = 1, padding_mode: PaddingMode = "zeros"
) -> tuple[str, ...]: ...

def conv_transpose1d(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: PerAxis = 1, padding: Pairs = 0,
    output_padding: PerAxis = 0, groups: int = 1, dilation: PerAxis = 1, *, activation: Activation | None = None,
    algorithm: Algorithm = "auto", out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def conv_transpose1d_backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, stride: PerAxis = 1, padding: Pairs = 0,
    output_padding: PerAxis = 0, groups: int = 1, dilation: PerAxis = 1, *,
    need: Sequence[bool] = (True, True, True), algorithm: Algorithm = "auto",
    out: Sequence[Array | None] = (None, None, None), accumulate: bool = False, num_threads: int | None = None
) -> Gradients: ...

def conv_transpose2d(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: PerAxis = 1, padding: Pairs = 0,
    output_padding: PerAxis = 0, groups: int = 1, dilation: PerAxis = 1, *, activation: Activation | None = None,
    algorithm: Algorithm = "auto", out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def conv_transpose2d_backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, stride: PerAxis = 1, padding: Pairs = 0,
    output_padding: PerAxis = 0, groups: int = 1, dilation: PerAxis = 1, *,
    need: Sequence[bool] = (True, True, True), algorithm: Algorithm = "auto",
    out: Sequence[Array | None] = (None, None, None), accumulate: bool = False, num_threads: int | None = None
) -> Gradients: ...

def conv_transpose3d(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, stride: PerAxis = 1, padding: Pairs = 0,
    output_padding: PerAxis = 0, groups: int = 1, dilation: PerAxis = 1, *, activation: Activation | None = None,
    algorithm: Algorithm = "auto", out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def conv_transpose3d_backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, stride: PerAxis = 1, padding: Pairs = 0,
    output_padding: PerAxis = 0, groups: int = 1, dilation: PerAxis = 1, *,
    need: Sequence[bool] = (True, True, True), algorithm: Algorithm = "auto",
    out: Sequence[Array | None] = (None, None, None), accumulate: bool = False, num_threads: int | None = None
) -> Gradients: ...

def explain_conv(
    x_shape: Shape, w_shape: Shape, *, op: Operation = "forward", dtype: FloatType = "float32",
    memory_order: MemoryOrder = "channels_first", num_threads: int | None = None, algorithm: Algorithm = "auto",
    stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1, groups: int = 1,
    padding_mode: PaddingMode = "zeros"
) -> ConvPlan: ...

def pack_weight(
    w: ArrayLike, *, stride: PerAxis = 1, dilation: PerAxis = 1, groups: int = 1, input_shape: Shape | None = None,
    algorithm: Algorithm = "auto"
) -> PackedWeight: ...
