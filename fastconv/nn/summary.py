"""A model as a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .containers import Concat, Residual, Sequential
from .module import Module

__all__ = ["summary"]


def summary(model: Module, input_shape: Sequence[int], dtype=np.float32) -> str:
    """A line for each layer with its name, type, result and number of parameters.

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
        The table, to be printed.
    """
    rows = [("name", "layer", "output", "parameters")]

    def visit(name: str, module: Module, x: np.ndarray) -> np.ndarray:
        def inside(child: str, inner: Module, value: np.ndarray) -> np.ndarray:
            return visit(f"{name}.{child}" if name else child, inner, value)

        if type(module) is Sequential:
            for child, inner in module.children():
                x = inside(child, inner, x)
            return x
        place = len(rows)
        if type(module) is Residual:
            y = sum(inside(child, inner, x) for child, inner in module.children())
            y = y if module.shortcut is not None else y + x
        elif type(module) is Concat:
            y = np.concatenate([inside(child, inner, x) for child, inner in module.children()], axis=1)
        else:
            y = module(x)
        own = "" if len(rows) > place else f"{sum(parameter.size for parameter in module.parameters()):,}"
        rows.insert(place, (name, type(module).__name__, str(y.shape), own))
        return y

    visit("", model, np.zeros(tuple(input_shape), dtype))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{name:{widths[0]}}  {layer:{widths[1]}}  {shape:{widths[2]}}  {count:>{widths[3]}}"
             for name, layer, shape, count in rows]
    lines.insert(1, "-" * len(lines[0]))
    parameters = model.parameters()
    total = sum(parameter.size for parameter in parameters)
    trainable = sum(parameter.size for parameter in parameters if parameter.trainable)
    lines += [lines[1], f"{total:,} parameters, {trainable:,} of them trainable"]
    return "\n".join(lines)
