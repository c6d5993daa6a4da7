"""What each layer makes of one sample, with everything that is needed to do its arithmetic again by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np

from .. import activation, checks, losses, nn
from ..data import Normalisation
from ..nn import conv as conv_layers
from ..nn import norm, pool
from ..nn.inference import split_head
from .taps import Taps, adaptive_taps, correlation_taps, pool_taps, transposed_taps

__all__ = ["Step", "trace"]

# The functions of one number, as people write them.
POINTWISE = {
    "ReLU": "max(x, 0)",
    "ReLU6": "min(max(x, 0), 6)",
    "LeakyReLU": "x where positive, else x times a small slope",
    "Sigmoid": "1 / (1 + exp(\N{MINUS SIGN}x))",
    "Tanh": "tanh(x)",
    "SiLU": "x / (1 + exp(\N{MINUS SIGN}x))",
    "Hardswish": "x times min(max(x + 3, 0), 6) / 6",
}
POOL_WORDS = {"max": "max", "min": "min", "avg": "average", "sum": "sum"}
NUMBERED = ("conv", "linear", "sum", "join")  # people speak of the second convolution
POOLS = {"Max": "max", "Min": "min", "Avg": "avg", "Sum": "sum"}

_Branch: TypeAlias = tuple[np.ndarray, int, list[Any]]  # its result, the step that made it, and how `Step` tells of it


@dataclass
class Step:
    """One layer at work.

    Attributes
    ----------
    kind : str
        "pixels", "affine", "conv", "pool", "pointwise", "flatten", "linear", "softmax", "sum" (of the branches of a
        `Residual`), "join" (of those of a `Concat`), "same" (it passes on what it gets) or "opaque" (its arithmetic
        isn't shown).
    name : str
    values : array, (C, H, W) or (features,)
        What comes out, by the package's kernels.
    sources : tuple of int
        The steps whose values this one is made of: none for the first, one for each branch of a sum or join.
    details : dict
        What the arithmetic needs besides the values of the step before: weights as arrays, everything else fit for
        JSON. ``taps`` are two lists (rows, columns) of a list for each output position with the input position under
        each tap: -1 on padding, -2 where the tap counts for nothing. ``branches`` of a sum or join are a name, the
        first step and the end each: what lies between is that branch's, in order.
    """

    kind: str
    name: str
    values: np.ndarray
    sources: tuple[int, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def trace(model: nn.Module, x: np.ndarray, *, pixels: np.ndarray | None = None,
          normalisation: Normalisation | None = None, probabilities: bool = False) -> list[Step]:
    """Follow one sample through a network.

    Parameters
    ----------
    model : nn.Module
        Its layers are steps, those in the branches of a `Residual` or `Concat`, too: one branch after the other, then
        their sum or join. A module of any other kind is one step.
    x : array, (1, C, *spatial) or (1, features)
        One sample as the network takes it, with at most two spatial axes.
    pixels : array, (C, H, W), optional
        The image before `normalisation`: two steps in front of the network's.
    normalisation : Normalisation, optional
    probabilities : bool
        Whether a network that ends in logits is asked for a class: then softmax is the last step.

    Returns
    -------
    list of Step

    Raises
    ------
    ValueError
        `x` is not one sample, or has three spatial axes.
    """
    x = np.asarray(x)
    if x.ndim not in (2, 3, 4) or len(x) != 1:
        raise ValueError(f"trace: x: got shape {x.shape}; expected one sample (1, C, H, W), (1, C, L) or (1, features)")
    way = _Way(x)
    if pixels is not None:
        way.add("pixels", "image", np.asarray(pixels)[None])
    if pixels is not None and normalisation is not None:
        factor = [1 / std for std in normalisation.std]
        about = {"mean": list(normalisation.mean), "factor": factor, "shift": [0.0] * len(factor)}
        way.add("affine", "normalised", x, about)
    else:
        way.add("pixels", "input", x)

    body, head = split_head(model)
    asked = probabilities and head is None or isinstance(head, nn.Softmax)
    way.follow(body if asked else model)
    y = way.y
    if asked and y.ndim == 2:
        every = [losses.cross_entropy(y, np.array([k])) for k in range(y.shape[1])]
        way.add("softmax", "softmax", activation.softmax(y), {"losses": every})
    elif asked and head is not None:
        way.add("opaque", type(head).__name__, head(y))
    return way.steps


class _Way:
    """A sample on its way: `y` is where it stands, made by the step `at`."""

    def __init__(self, x: np.ndarray) -> None:
        self.steps: list[Step] = []
        self.y, self.at = x, -1
        self._count: Counter[str] = Counter()

    def add(self, kind: str, name: str, y: np.ndarray, details: dict[str, Any] | None = None,
            sources: tuple[int, ...] | None = None) -> None:
        """A step that makes `y` of what there is, or of several steps."""
        if sources is None:
            sources = (self.at,) if self.steps else ()
        if kind in NUMBERED:
            self._count[name] += 1
            name = f"{name} {self._count[name]}"
        self.steps.append(Step(kind, name, _planes(y), sources, details or {}))
        self.y, self.at = y, len(self.steps) - 1

    def follow(self, layer: nn.Module) -> None:
        """Through the steps of a module."""
        if type(layer) is nn.Sequential:
            for inner in layer:
                self.follow(inner)
        elif type(layer) is nn.Residual:
            parts = self._branches({"body": layer.body, "shortcut": layer.shortcut or nn.Sequential()})
            body, shortcut = (y for y, _, _ in parts)
            self._meet("sum", "sum", layer._sum(body, shortcut, None), parts)
        elif type(layer) is nn.Concat:
            parts = self._branches({f"branch {number}": module for number, module in enumerate(layer, 1)})
            self._meet("join", "concatenation", layer._join([y for y, _, _ in parts]), parts)
        else:
            before = self.y
            y = layer(before)
            kind, details = _describe(layer, before, y)
            self.add(kind, _name(layer, kind), y, details)

    def _branches(self, modules: dict[str, nn.Module]) -> list[_Branch]:
        """What each of the modules makes of the sample; the way stands where it stood."""
        start, parts = (self.y, self.at), []
        for name, module in modules.items():
            self.y, self.at = start
            first = len(self.steps)
            self.follow(module)
            parts.append((self.y, self.at, [name, first, len(self.steps)]))
        return parts

    def _meet(self, kind: str, name: str, y: np.ndarray, parts: list[_Branch]) -> None:
        """The step where branches end."""
        self.add(kind, name, y, {"branches": [place for _, _, place in parts]}, tuple(at for _, at, _ in parts))


def _planes(y: np.ndarray) -> np.ndarray:
    """A result without the batch axis: (features,), or (C, H, W) with H = 1 for signals."""
    if y.ndim == 3:
        return y[0][:, None, :]
    if y.ndim > 4:
        raise ValueError(f"trace: a layer gives shape {y.shape}; results with three spatial axes can't be drawn")
    return y[0]


def _name(layer: nn.Module, kind: str) -> str:
    names = {"conv": "convolution", "pool": "pooling", "linear": "dense", "flatten": "flatten", "affine": "batch norm",
             "same": "dropout"}
    if kind == "pool":
        names["pool"] = f"{POOL_WORDS[_pool_operation(layer)]} pooling"
    if isinstance(layer, conv_layers.ConvTranspose):
        names["conv"] = "transposed convolution"
    return names.get(kind, type(layer).__name__)


# ------------------------------------------------------------------------------------------------- kinds of layers


@singledispatch
def _describe(layer: nn.Module, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    """(kind, details) of a layer that turned `x` into `y`."""
    formula = POINTWISE.get(type(layer).__name__)
    return ("opaque", {}) if formula is None else ("pointwise", {"formula": formula})


def _conv_details(layer: Any, weight: np.ndarray, geometry: checks.ConvGeometry,
                  taps: Callable[[int], Taps]) -> dict[str, Any]:
    """`weight` is (K, C // groups, *kernel) with one or two kernel axes; they become two."""
    weight = weight.reshape(*weight.shape[:2], *geometry.kernel[1:])
    bias = np.zeros(len(weight), weight.dtype) if layer.bias is None else layer.bias.value
    return {"weight": weight, "bias": bias, "groups": layer.groups, "taps": [taps(axis) for axis in (1, 2)],
            "stride": list(geometry.stride[1:]), "kernel": list(geometry.kernel[1:]),
            "padding": [[geometry.before[axis], geometry.after[axis]] for axis in (1, 2)]}


@_describe.register
def _(layer: conv_layers.Conv, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    weight = layer.weight.value
    g = checks.conv_geometry("trace", layer.ndim, x.shape, weight.shape, layer.stride, layer.padding, layer.dilation,
                             layer.groups, layer.padding_mode)
    return "conv", _conv_details(layer, weight, g, lambda axis: correlation_taps(g, axis))


@_describe.register
def _(layer: conv_layers.ConvTranspose, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    weight = layer.weight.value
    g = checks.conv_transpose_geometry("trace", layer.ndim, x.shape, weight.shape, layer.stride, layer.padding,
                                       layer.output_padding, layer.dilation, layer.groups)
    # (C, K // groups, ...) as (K, C // groups, ...): the sum of one result is then read like a convolution's.
    split = weight.reshape(layer.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    turned = split.reshape(-1, *split.shape[2:])
    details = _conv_details(layer, turned, g, lambda axis: transposed_taps(g, axis))
    return "conv", {**details, "transposed": True}


def _pool_operation(layer: nn.Module) -> str:
    return next(word for prefix, word in POOLS.items() if prefix in type(layer).__name__)


@_describe.register
def _(layer: pool._WindowPool, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    windows = checks.pool_windows("trace", layer.ndim, x.shape[2:], *layer._window()[:-1], int(layer.ceil_mode))
    details: dict[str, Any] = {
        "operation": _pool_operation(layer), "taps": [pool_taps(windows.axes[axis]) for axis in (1, 2)],
        "kernel": [axis[2] for axis in windows.axes[1:]], "stride": [axis[3] for axis in windows.axes[1:]],
    }
    if isinstance(layer, pool._AvgPool):
        details = {**details, "counts_padding": layer.count_include_pad, "divisor": layer.divisor_override}
    return "pool", details


@_describe.register
def _(layer: pool._PlanePool, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    windows = checks.adaptive_windows("trace", x.ndim - 2, x.shape[2:], y.shape[2:])
    taps = [adaptive_taps(*windows.axes[axis][:2]) for axis in (1, 2)]
    return "pool", {"operation": _pool_operation(layer), "taps": taps, "kernel": [len(axis[0]) for axis in taps],
                    "counts_padding": False, "divisor": None}


@_describe.register
def _(layer: norm.BatchNorm, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    factor, beta = layer.inference_scale_and_shift()[0], layer._scale_and_shift()[1]
    return "affine", {"mean": layer.running_mean.tolist(), "factor": factor.tolist(), "shift": beta.tolist()}


@_describe.register
def _(layer: nn.Linear, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    if x.ndim != 2:
        return "opaque", {}
    bias = np.zeros(layer.out_features, layer.dtype) if layer.bias is None else layer.bias.value
    return "linear", {"weight": layer.weight.value, "bias": bias}


@_describe.register
def _(layer: nn.Flatten, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    return "flatten", {}


@_describe.register
def _(layer: nn.Dropout, x: np.ndarray, y: np.ndarray) -> tuple[str, dict[str, Any]]:
    return "same", {"p": layer.p}
