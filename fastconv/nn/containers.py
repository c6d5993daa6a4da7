"""Modules made of modules: a chain, a sum, a product and a concatenation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import activation as activations
from .. import checks, dense
from .._kernels import _norm  # type: ignore[attr-defined]
from .layers import Hardswish, ReLU, ReLU6, Sigmoid, SiLU, Tanh
from .module import Backward, Module
from .norm import BatchNorm
from .pool import SelectPool
from .program import Programs, Recorder, Value
from .weighted import ACTIVATION_GRADIENTS, WeightedLayer

__all__ = ["Concat", "Multiply", "Residual", "Sequential"]

ACTIVATION_NAMES: dict[type[Any], str] = {
    ReLU: "relu", ReLU6: "relu6", Sigmoid: "sigmoid", Tanh: "tanh", SiLU: "silu", Hardswish: "hardswish",
}


class _Group(Module):
    """A module whose children are numbered, as PyTorch numbers them in state dictionaries."""

    def __init__(self, *modules: Module) -> None:
        for module in modules:
            _check_module(type(self).__name__, module)
        self._modules = tuple(modules)

    def children(self) -> Iterator[tuple[str, Module]]:
        for index, module in enumerate(self._modules):
            yield str(index), module

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)

    def __getitem__(self, index: int | slice) -> Any:
        """A module, or for a slice a container that shares the modules."""
        if isinstance(index, slice):
            return type(self)(*self._modules[index])
        return self._modules[index]

    def config(self) -> dict[str, Any]:
        return {"type": type(self).__name__, "modules": tuple(module.config() for module in self._modules)}

    @classmethod
    def from_config(cls, modules: Sequence[Module] = ()) -> _Group:  # type: ignore[override]
        return cls(*modules)

    def __repr__(self) -> str:
        lines = [f"  ({name}) " + repr(module).replace("\n", "\n  ") for name, module in self.children()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"]) if lines else f"{type(self).__name__}()"


class Sequential(_Group):
    """Modules one after the other.

    Parameters
    ----------
    *modules : Module
        None at all gives the identity.

    Notes
    -----
    An activation right behind a convolution or linear layer, and a `ReLU` behind batch normalisation or `Residual`, are
    fused into it: the same bits, one pass over memory less. In training only those are whose output tells their
    gradient. Where a max or min pooling follows a fused `ReLU`, its gradient is taken behind the pooling, where there
    are fewer elements: what is selected has passed the `ReLU`, or is zero, in both places.
    A backward pass without `need_input` stops at the first module that has something to train.

    Inference notes what it does with the first input of a layout, and repeats that for the next ones, with results
    between the layers in one block of memory that is kept. A changed parameter or attribute counts at once; layers from
    outside of this package are called anew each time.
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(*modules)
        self._programs = Programs()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._programs.run(self.record, x)

    def record(self, recorder: Recorder, x: Value, activation: str | None = None) -> Value:
        for module, fused in self._steps(False):
            x = recorder.follow(module, x, fused)
        return x

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        modules, backwards = [], []
        rectified = False
        steps = list(self._steps(True))
        for (module, activation), after in zip(steps, (*(module for module, _ in steps[1:]), None)):
            forward: Callable[..., tuple[np.ndarray, Backward]] = module.forward  # those that fuse take more than x
            behind = activation == "relu" and isinstance(module, WeightedLayer) and _works_as(after, SelectPool)
            if rectified:
                x, module_backward = forward(x, rectified=True)
            elif behind:
                x, module_backward = forward(x, activation, own_gradient=False)
            else:
                x, module_backward = forward(x) if activation is None else forward(x, activation)
            rectified = behind
            modules.append(module)
            backwards.append(module_backward)

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            first = 0 if need_input else _first_trainable(modules)
            for index in reversed(range(first, len(modules))):
                dy = backwards[index](dy, need_input=need_input or index > first)
            return dy if need_input else None

        return x, backward

    def _steps(self, training: bool) -> Iterator[tuple[Module, str | None]]:
        """``(module, activation to fuse into it)``, in order."""
        fused = False
        for module, after in zip(self._modules, (*self._modules[1:], None)):
            if fused:
                fused = False
                continue
            activation = ACTIVATION_NAMES.get(type(after))
            fused = activation is not None and _fuses(module, activation, training)
            yield module, activation if fused else None


class Residual(Module):
    """``body(x) + shortcut(x)``, or ``body(x) + x`` without a shortcut.

    Parameters
    ----------
    body : Module
    shortcut : Module or None
        Brings `x` to the shape of the body's result where they differ.
    """

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        self.body = _check_module("Residual", body)
        self.shortcut = None if shortcut is None else _check_module("Residual", shortcut)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.infer(x)

    def infer(self, x: np.ndarray, activation: str | None = None) -> np.ndarray:
        """Inference, with an activation (relu) in the same pass as the sum."""
        return self._sum(self.body(x), x if self.shortcut is None else self.shortcut(x), activation)

    def record(self, recorder: Recorder, x: Value, activation: str | None = None) -> Value:
        y = recorder.follow(self.body, x)
        skipped = x if self.shortcut is None else recorder.follow(self.shortcut, x)
        total = self._sum(y.array, skipped.array, activation)
        if not y.array.strides == skipped.array.strides == total.strides:
            return recorder.call(functools.partial(self._sum, activation=activation), y, skipped)
        relu = activation is not None
        return recorder.kernel(lambda a, b, out: _norm.add(a, b, relu, out, None), total, y, skipped)

    def forward(self, x: np.ndarray, activation: str | None = None) -> tuple[np.ndarray, Backward]:
        y, body_backward = self.body.forward(x)
        skipped, shortcut_backward = (x, _identity_backward) if self.shortcut is None else self.shortcut.forward(x)
        total = self._sum(y, skipped, activation)
        output = total if activation is not None else None

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            if output is not None:
                dy = activations.relu_backward(dy, output)
            dx = body_backward(dy, need_input=need_input)
            dskipped = shortcut_backward(dy, need_input=need_input)
            return dense.add(dx, dskipped) if need_input else None

        return total, backward

    @staticmethod
    def _sum(y: np.ndarray, skipped: np.ndarray, activation: str | None) -> np.ndarray:
        if y.shape != skipped.shape:
            raise ValueError(f"Residual: the body gives {y.shape}, the shortcut {skipped.shape}; expected the same")
        return dense.add(y, skipped, relu=activation is not None)


class _Branches(_Group):
    """Modules for the same input, at least one."""

    def __init__(self, *modules: Module) -> None:
        if not modules:
            raise ValueError(f"{type(self).__name__}: expected at least one module")
        super().__init__(*modules)

    def _through(self, x: np.ndarray) -> tuple[Sequence[np.ndarray], Callable[..., np.ndarray | None]]:
        """The results, and the input's gradient of theirs."""
        parts, backwards = zip(*(module.forward(x) for module in self), strict=True)

        def backward(dparts: Sequence[np.ndarray], need_input: bool) -> np.ndarray | None:
            gradients = [branch(dpart, need_input=need_input) for branch, dpart in zip(backwards, dparts, strict=True)]
            return sum(gradients[1:], start=gradients[0]) if need_input else None

        return parts, backward


class Concat(_Branches):
    """The results of several modules for the same input, joined along the channels (axis 1).

    Parameters
    ----------
    *modules : Module
        At least one. ``Sequential()`` passes the input itself on.
    """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._join([module(x) for module in self])

    def record(self, recorder: Recorder, x: Value, activation: str | None = None) -> Value:
        first = recorder.count
        parts = [recorder.follow(module, x) for module in self]
        arrays = [part.array for part in parts]
        layouts = {(checks.memory_order(array), array.dtype) for array in arrays}
        if len(layouts) > 1 or x.array.ndim < 3:
            return recorder.call(lambda *arrays: self._join(arrays), *parts)
        return recorder.join(parts, self._join(arrays, *layouts.pop()), first)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        parts, back = self._through(x)
        ends = np.cumsum([part.shape[1] for part in parts[:-1]])

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            return back(np.split(dy, ends, axis=1), need_input)

        return self._join(parts), backward

    @staticmethod
    def _join(parts: Sequence[np.ndarray], order: str | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """The parts side by side; with an order and a dtype that all have, in its canonical strides."""
        shapes = {part.shape[:1] + part.shape[2:] for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"Concat: the modules give {[part.shape for part in parts]}, expected shapes that differ "
                             "in axis 1 alone")
        if order is None:
            return np.concatenate(parts, axis=1)
        n, _, *spatial = parts[0].shape
        joined = checks.empty((n, sum(part.shape[1] for part in parts), *spatial), dtype, order)
        return np.concatenate(parts, axis=1, out=joined)


class Multiply(_Branches):
    """The product of the results of several modules for the same input, element by element.

    A result may have extent 1 where others have more, as one number for each channel has: it counts for all of them.
    ``Multiply(Sequential(), gate)`` weighs the input by what `gate` makes of it (squeeze and excitation, Hu et al.
    2018).

    Parameters
    ----------
    *modules : Module
        At least one. ``Sequential()`` passes the input itself on.
    """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._product([module(x) for module in self])

    def record(self, recorder: Recorder, x: Value, activation: str | None = None) -> Value:
        parts = [recorder.follow(module, x) for module in self]
        return recorder.call(lambda *arrays: self._product(arrays), *parts)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        parts, back = self._through(x)

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            dparts = [_sum_to(part.shape, self._product([dy, *parts[:index], *parts[index + 1:]]))
                      for index, part in enumerate(parts)]
            return back(dparts, need_input)

        return self._product(parts), backward

    @staticmethod
    def _product(parts: Sequence[np.ndarray]) -> np.ndarray:
        shapes = [part.shape for part in parts]
        extents = [set(axis) - {1} for axis in zip(*shapes)]
        if len(set(map(len, shapes))) > 1 or any(len(axis) > 1 for axis in extents):
            raise ValueError(f"Multiply: the modules give {shapes}, expected shapes that differ in extents of 1 alone")
        return functools.reduce(np.multiply, parts)


def _sum_to(shape: tuple[int, ...], gradient: np.ndarray) -> np.ndarray:
    """The gradient of a part of this shape: summed over the axes in which that was spread."""
    axes = tuple(axis for axis, extent in enumerate(shape) if extent < gradient.shape[axis])
    return gradient.sum(axis=axes, keepdims=True) if axes else gradient


def _fuses(module: Module, activation: str, training: bool) -> bool:
    """Whether the module can apply the activation to its result."""
    if isinstance(module, WeightedLayer):
        return not training or activation in ACTIVATION_GRADIENTS
    return activation == "relu" and (_works_as(module, BatchNorm) or _works_as(module, Residual))


def _works_as(module: Module | None, kind: type[Module]) -> bool:
    """Whether the module is of this kind, and no subclass has changed what that does."""
    return isinstance(module, kind) and all(getattr(type(module), name) is getattr(kind, name)
                                            for name in ("__call__", "forward"))


def _check_module(container: str, module: Any) -> Module:
    if not isinstance(module, Module):
        raise TypeError(f"{container}: {module!r} is a {type(module).__name__}, expected a Module")
    return module


def _identity_backward(dy: np.ndarray, need_input: bool = True) -> Any:
    return dy if need_input else None


def _first_trainable(modules: list[Module]) -> int:
    """Index of the first module with a trainable parameter, or their number where there is none."""
    for index, module in enumerate(modules):
        if any(parameter.trainable for parameter in module.parameters()):
            return index
    return len(modules)
