"""A trained network made simpler for inference."""

from __future__ import annotations

import copy

import numpy as np

from .containers import Concat, Multiply, Residual, Sequential
from .conv import Conv, ConvTranspose
from .module import Module
from .norm import BatchNorm
from .parameter import Parameter

__all__ = ["fold_batch_norm"]


def fold_batch_norm(model: Module) -> Module:
    """A copy of a model for inference, in which batch normalisation right behind a convolution is part of it.

    Its running statistics, scale and shift go into the weight and bias of the convolution: a pass over memory less,
    and an activation that follows can be fused in turn. Results differ by rounding.

    Parameters
    ----------
    model : Module
        Looked through inside of `Sequential`, `Residual`, `Concat` and `Multiply`.

    Returns
    -------
    Module
        It shares nothing with `model`, and stays as it is when that is trained further.
    """
    if isinstance(model, Sequential):
        return Sequential(*_folded_chain(list(model)))
    if isinstance(model, Concat):
        return Concat(*map(fold_batch_norm, model))
    if isinstance(model, Multiply):
        return Multiply(*map(fold_batch_norm, model))
    if isinstance(model, Residual):
        return Residual(fold_batch_norm(model.body),
                        None if model.shortcut is None else fold_batch_norm(model.shortcut))
    return copy.deepcopy(model)


def _folded_chain(modules: list[Module]) -> list[Module]:
    folded: list[Module] = []
    for before, module in zip([None, *modules], modules):
        if isinstance(module, BatchNorm) and isinstance(before, (Conv, ConvTranspose)):
            layer = folded[-1]
            assert isinstance(layer, (Conv, ConvTranspose))
            _scale_result(layer, *module.inference_scale_and_shift())
        else:
            folded.append(fold_batch_norm(module))
    return folded


def _scale_result(layer: Conv | ConvTranspose, scale: np.ndarray, shift: np.ndarray) -> None:
    """Let the layer, which nobody else has, multiply each channel of its result by `scale` and add `shift`."""
    bias = 0.0 if layer.bias is None else layer.bias.value
    layer.bias = Parameter((bias * scale + shift).astype(layer.dtype))
    layer.weight.assign(layer.weight.value * layer.per_output(scale))
