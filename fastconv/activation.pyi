from numpy.typing import ArrayLike

from ._types import Array

__all__ = [
    "hardswish", "hardswish_backward", "leaky_relu", "leaky_relu_backward", "log_softmax", "log_softmax_backward",
    "relu", "relu6", "relu6_backward", "relu_backward", "sigmoid", "sigmoid_backward", "silu", "silu_backward",
    "softmax", "softmax_backward", "tanh", "tanh_backward",
]

def hardswish(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def hardswish_backward(
    dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def leaky_relu(
    x: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def leaky_relu_backward(
    dy: ArrayLike, saved: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None,
    num_threads: int | None = None
) -> Array: ...

def log_softmax(
    x: ArrayLike, axis: int = 1, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def log_softmax_backward(
    dy: ArrayLike, saved: ArrayLike, axis: int = 1, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def relu(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def relu6(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def relu6_backward(
    dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def relu_backward(
    dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def sigmoid(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def sigmoid_backward(
    dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def silu(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def silu_backward(
    dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def softmax(x: ArrayLike, axis: int = 1, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def softmax_backward(
    dy: ArrayLike, saved: ArrayLike, axis: int = 1, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...

def tanh(x: ArrayLike, *, out: Array | None = None, num_threads: int | None = None) -> Array: ...

def tanh_backward(
    dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None, num_threads: int | None = None
) -> Array: ...
