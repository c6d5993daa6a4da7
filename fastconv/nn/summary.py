"""A model as a table of plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from .containers import Concat, Multiply, Residual, Sequential
from .conv import ConvTranspose
from .layers import Linear
from .module import Module
from .weighted import WeightedLayer

__all__ = ["summary"]


def summary(model: Module, input_shape: Sequence[int], dtype: DTypeLike = np.float32) -> str:
    """A line for each layer with its name, type, result, number of parameters, operations and memory.

    Parameters
    ----------
    model : Module
    input_shape : sequence of int
        With the batch axis: ``(1, 3, 224, 224)``. One inference on zeros of this shape gives the shapes.
    dtype : float32 or float64
        The one of the model.

    Returns
    -------
    str
        The table, to be printed. `MFLOP` are millions of multiplications and additions, padding counted, of
        convolutions, transposed convolutions and dense layers in one inference; the backward pass takes twice as many
        again. The other layers take next to none. `KiB` is the memory of the layer's result: training keeps most of
        these from the forward pass to the backward pass, inference two or three at a time.
    """
    rows = [("name", "layer", "output", "parameters", "MFLOP", "KiB")]
    flops = results = 0

    def visit(name: str, module: Module, x: np.ndarray) -> np.ndarray:
        nonlocal flops, results

        def inside(child: str, inner: Module, value: np.ndarray) -> np.ndarray:
            return visit(f"{name}.{child}" if name else child, inner, value)

        if type(module) is Sequential:
            for child, inner in module.children():
                x = inside(child, inner, x)
            return x
        place = len(rows)
        if type(module) is Residual:
            branches = [inside(child, inner, x) for child, inner in module.children()]
            y = branches[0] + (x if module.shortcut is None else branches[1])
        elif type(module) is Concat:
            y = np.concatenate([inside(child, inner, x) for child, inner in module.children()], axis=1)
        elif type(module) is Multiply:
            y = module._product([inside(child, inner, x) for child, inner in module.children()])
        else:
            y = module(x)
        own, work = "", 0
        if len(rows) == place:
            own, work = f"{sum(parameter.size for parameter in module.parameters()):,}", _flops(module, x, y)
        flops, results = flops + work, results + y.nbytes
        rows.insert(place, (name, type(module).__name__, str(y.shape), own, f"{work / 1e6:,.3f}" if work else "",
                            f"{y.nbytes / 1024:,.1f}"))
        return y

    visit("", model, np.zeros(tuple(input_shape), dtype))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths[:3])),
                        *(cell.rjust(width) for cell, width in zip(row[3:], widths[3:]))]) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    parameters = model.parameters()
    total = sum(parameter.size for parameter in parameters)
    trainable = sum(parameter.size for parameter in parameters if parameter.trainable)
    held = sum(parameter.value.nbytes for parameter in parameters)
    lines += [lines[1], f"{total:,} parameters, {trainable:,} of them trainable, {held / 1024:,.1f} KiB",
              f"{flops / 1e6:,.3f} MFLOP an inference, results of {results / 1024:,.1f} KiB"]
    return "\n".join(lines)


def _flops(layer: Module, x: np.ndarray, y: np.ndarray) -> int:
    """Multiplications and additions: every weight meets every position of the result, or of a transposed input."""
    if not isinstance(layer, WeightedLayer):
        return 0
    if isinstance(layer, Linear):
        positions = math.prod(x.shape[:-1])
    else:
        shape = x.shape if isinstance(layer, ConvTranspose) else y.shape
        positions = shape[0] * math.prod(shape[2:])
    return 2 * layer.weight.size * positions
