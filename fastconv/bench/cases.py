"""A *case*: one layer of a network at one batch size, a row of the benchmark before dtype and memory order.

It knows its shapes and what it costs, and nothing about arrays or who computes it: `problems.make` adds those.
"""

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window; output `o` and tap `t` meet at input `o * stride + t * dilation - padding`."""

    size: int
    taps: int
    stride: int
    padding: int
    dilation: int

    @property
    def reach(self) -> int:
        """Input positions from the first tap to the last, both included."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def out(self) -> int:
        return (self.size + 2 * self.padding - self.reach) // self.stride + 1


@dataclass(frozen=True)
class ConvCase:
    """A convolution layer. Geometry is an int, or a tuple with one per spatial axis."""

    name: str
    source: str
    x_shape: tuple[int, ...]  # n c *spatial
    w_shape: tuple[int, ...]  # k c/groups *kernel
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1

    family: ClassVar[str] = "conv"
    ops: ClassVar[tuple[str, ...]] = ("forward", "dx", "dw", "backward")
    memory_bound: ClassVar[bool] = False

    @property
    def axes(self) -> tuple[Axis, ...]:
        return window_axes(self.x_shape[2:], self.w_shape[2:], self.stride, self.padding, self.dilation)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.x_shape[0], self.w_shape[0], *(axis.out for axis in self.axes))

    @property
    def flops(self) -> int:
        """Of the direct algorithm, padding taps counted, multiply and add apart; the same for forward, dx and dw."""
        return 2 * math.prod(self.y_shape) * math.prod(self.w_shape[1:])


@dataclass(frozen=True)
class ConvTransposeCase:
    """A transposed convolution layer: the input gradient of the convolution that it mirrors, as a layer of its own."""

    name: str
    source: str
    x_shape: tuple[int, ...]  # n c *spatial
    w_shape: tuple[int, ...]  # c k/groups *kernel
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1

    family: ClassVar[str] = "conv_transpose"
    ops: ClassVar[tuple[str, ...]] = ("forward", "backward")
    memory_bound: ClassVar[bool] = False

    @property
    def y_shape(self) -> tuple[int, ...]:
        near = window_axes(self.x_shape[2:], self.w_shape[2:], self.stride, self.padding, self.dilation)
        extra = per_axis(self.output_padding, len(near))
        out = ((a.size - 1) * a.stride - 2 * a.padding + a.reach + more for a, more in zip(near, extra, strict=True))
        return (self.x_shape[0], self.w_shape[1] * self.groups, *out)

    @property
    def mirror(self) -> ConvCase:
        """The convolution from y to x: its dx is this layer's forward, and the other way round; dw is the same."""
        return ConvCase(
            self.name, self.source, self.y_shape, self.w_shape, self.stride, self.padding, self.dilation, self.groups
        )

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.mirror.axes

    @property
    def flops(self) -> int:
        return self.mirror.flops


@dataclass(frozen=True)
class PoolCase:
    """A max or average pooling layer; the variant "indices" asks for the places of the maxima, too."""

    name: str
    source: str
    x_shape: tuple[int, ...]  # n c *spatial
    kernel: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: int | tuple[int, ...] = 0
    family: str = "max_pool"
    variant: str = ""

    memory_bound: ClassVar[bool] = True

    @property
    def ops(self) -> tuple[str, ...]:
        return ("forward",) if self.variant else ("forward", "dx")

    @property
    def axes(self) -> tuple[Axis, ...]:
        spatial = self.x_shape[2:]
        return window_axes(spatial, per_axis(self.kernel, len(spatial)), self.stride, self.padding, 1)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (*self.x_shape[:2], *(axis.out for axis in self.axes))

    @property
    def flops(self) -> int:
        """One comparison or addition a tap."""
        return math.prod(self.y_shape) * math.prod(axis.taps for axis in self.axes)


@dataclass(frozen=True)
class ActivationCase:
    """An elementwise layer; the variant "out" has everybody write into an array that is there."""

    name: str
    source: str
    x_shape: tuple[int, ...]  # n c *spatial
    family: str = "relu"
    variant: str = ""

    memory_bound: ClassVar[bool] = True

    @property
    def ops(self) -> tuple[str, ...]:
        return ("forward",) if self.variant else ("forward", "dx")

    @property
    def y_shape(self) -> tuple[int, ...]:
        return self.x_shape

    @property
    def flops(self) -> int:
        return math.prod(self.x_shape)


Case = ConvCase | ConvTransposeCase | PoolCase | ActivationCase


def per_axis(value: int | tuple[int, ...], naxes: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * naxes


def window_axes(sizes, kernel, stride, padding, dilation) -> tuple[Axis, ...]:
    spread = (per_axis(value, len(sizes)) for value in (stride, padding, dilation))
    return tuple(Axis(*row) for row in zip(sizes, kernel, *spread, strict=True))
