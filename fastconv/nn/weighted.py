"""What convolution and linear layers share: a weight, a bias, an activation that may be fused behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import activation as activations
from .._types import Gradients
from . import arguments, init
from .module import Backward, Module
from .parameter import PackCache, Parameter

ACTIVATION_GRADIENTS = {
    "relu": activations.relu_backward, "relu6": activations.relu6_backward,
    "sigmoid": activations.sigmoid_backward, "tanh": activations.tanh_backward,
}
"""Of the activations whose output alone tells their gradient: between 0 and 6, relu6's is its input."""


class WeightedLayer(Module):
    """A linear map with `weight`, an optional `bias` and room for a fused activation behind it.

    The container `Sequential` hands a following activation to `infer` and `forward` by its name: the same bits as a
    layer of its own, one pass over memory less, and in training the pre-activation isn't kept.
    Subclasses provide `_apply`, `_gradients` and, where the weight can be packed for inference, `_pack`.
    """

    weight: Parameter
    bias: Parameter | None

    def _initialise(self, shape: tuple[int, ...], outputs: int, fan_in: int, bias: bool,
                    rng: np.random.Generator | int | None, dtype: DTypeLike) -> None:
        rng = arguments.generator(self, rng)
        self.dtype = arguments.float_dtype(self, dtype)
        self._packed = PackCache()
        self.weight = Parameter(init.fan_in_uniform(shape, fan_in, rng, self.dtype))
        self.bias = None
        if arguments.flag(self, "bias", bias):
            self.bias = Parameter(init.fan_in_uniform((outputs,), fan_in, rng, self.dtype))

    def _apply(self, x: np.ndarray, weight: Any, activation: str | None) -> np.ndarray:
        """The layer's output with `weight`, plain or packed."""
        raise NotImplementedError

    def _gradients(self, dy: np.ndarray, x: np.ndarray, weight: np.ndarray, **how: Any) -> Gradients:
        """Run the backward function; `how` holds `need`, `out` and `accumulate`."""
        raise NotImplementedError

    def _pack(self, weight: np.ndarray) -> Any:
        """The form of the weight that inference uses; it is made once for each version of the weight."""
        return weight

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.infer(x)

    def infer(self, x: np.ndarray, activation: str | None = None) -> np.ndarray:
        """Inference, with an activation fused into the store of the result."""
        return self._apply(x, self._packed.get(self.weight, self._pack), activation)

    def forward(self, x: np.ndarray, activation: str | None = None,
                own_gradient: bool = True) -> tuple[np.ndarray, Backward]:
        """Training; without `own_gradient`, the activation's gradient is taken by the next layer already."""
        version, weight = self.weight.version, self.weight.value
        y = self._apply(x, weight, activation)
        output = y if activation is not None and own_gradient else None

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            if self.weight.version != version:
                raise RuntimeError(f"{self!r}: the weight has changed between forward and its backward")
            trained = [p if p is not None and p.trainable else None for p in (self.weight, self.bias)]
            if not (need_input or any(trained)):
                return None
            if output is not None and activation is not None:
                dy = ACTIVATION_GRADIENTS[activation](dy, output)
            accumulate = not all(p is None or p.grad_is_zero for p in trained)
            buffer = Parameter.grad_buffer if accumulate else Parameter.overwritten_grad
            out = (None, *(None if p is None else buffer(p) for p in trained))
            need = (need_input, *(p is not None for p in trained))
            return self._gradients(dy, x, weight, need=need, out=out, accumulate=accumulate)[0]

        return y, backward

    def _bias_value(self) -> np.ndarray | None:
        return None if self.bias is None else self.bias.value

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "bias": self.bias is not None}
