"""Batch normalisation layers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from .. import dense
from ..runtime import keeps_floating_point
from . import arguments, init
from .module import Backward, Module
from .parameter import Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class BatchNorm(Module):
    """Normalise each channel: by its batch in training, by the running statistics in inference.

    Parameters
    ----------
    num_features : int
        Channels of the input.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new batch in the running statistics; ``None`` averages all batches alike.
    affine : bool
        Whether there is a trainable `weight` (scale) and `bias` (shift).
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : Parameter, ``(num_features,)``, or None
    running_mean, running_var : ndarray, ``(num_features,)``
        The variance is the unbiased one, as PyTorch's.
    num_batches_tracked : ndarray of int64, no axes

    Notes
    -----
    Ioffe and Szegedy, "Batch Normalization" (2015). A frozen layer still follows the statistics of what it is
    trained on; use inference, ``layer(x)``, to leave them alone.
    """

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    _ndims: tuple[int, ...]

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True, *,
                 dtype: DTypeLike = np.float32) -> None:
        self.num_features = arguments.positive_int(self, "num_features", num_features)
        self.eps = arguments.number(self, "eps", eps, 0.0)
        self.momentum = None if momentum is None else arguments.number(self, "momentum", momentum, 0.0, 1.0)
        self.affine = arguments.flag(self, "affine", affine)
        self.dtype = arguments.float_dtype(self, dtype)
        shape = (self.num_features,)
        self.weight = Parameter(init.full(shape, 1.0, self.dtype)) if self.affine else None
        self.bias = Parameter(init.full(shape, 0.0, self.dtype)) if self.affine else None
        self.running_mean = init.full(shape, 0.0, self.dtype)
        self.running_var = init.full(shape, 1.0, self.dtype)
        self.num_batches_tracked = init.full((), 0, np.int64)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.infer(x)

    def infer(self, x: np.ndarray, activation: Literal["relu"] | None = None) -> np.ndarray:
        """Inference, with an activation (relu) in the same pass."""
        self._check(x)
        gamma, beta = self._scale_and_shift()
        return dense.batch_norm(x, gamma, beta, self.running_mean, self.running_var, training=False, eps=self.eps,
                                activation=activation)[0]

    @keeps_floating_point
    def forward(self, x: np.ndarray, activation: Literal["relu"] | None = None) -> tuple[np.ndarray, Backward]:
        self._check(x)
        for name in self.buffer_names:
            if not getattr(self, name).flags.writeable:  # a worker process has mapped the array
                setattr(self, name, getattr(self, name).copy())
        self.num_batches_tracked[...] += 1
        momentum = 1.0 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        gamma, beta = self._scale_and_shift()
        y, saved = dense.batch_norm(x, gamma, beta, self.running_mean, self.running_var, training=True,
                                    momentum=momentum, eps=self.eps, activation=activation)

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            if not need_input and not any(p.trainable for p in self.parameters()):
                return None
            dx, dgamma, dbeta = dense.batch_norm_backward(dy, x, gamma, saved)
            for parameter, gradient in ((self.weight, dgamma), (self.bias, dbeta)):
                if parameter is not None and parameter.trainable:
                    if parameter.grad_is_zero:
                        parameter.overwritten_grad()[...] = gradient
                    else:
                        parameter.grad += gradient
            return dx if need_input else None

        return y, backward

    def inference_scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """What inference multiplies each channel by and then adds, in float64."""
        gamma, beta = self._scale_and_shift()
        scale = gamma / np.sqrt(self.running_var.astype(np.float64) + self.eps)
        return scale, beta - self.running_mean * scale

    def _scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        if self.weight is not None and self.bias is not None:
            return self.weight.value, self.bias.value
        return np.ones(self.num_features, self.dtype), np.zeros(self.num_features, self.dtype)

    def _check(self, x: np.ndarray) -> None:
        if x.ndim not in self._ndims:
            expected = " or ".join(map(str, self._ndims))
            raise ValueError(f"{type(self).__name__}: x has {x.ndim} axes, expected {expected}")


class BatchNorm1d(BatchNorm):
    __doc__ = BatchNorm.__doc__
    _ndims = (2, 3)


class BatchNorm2d(BatchNorm):
    __doc__ = BatchNorm.__doc__
    _ndims = (4,)


class BatchNorm3d(BatchNorm):
    __doc__ = BatchNorm.__doc__
    _ndims = (5,)
