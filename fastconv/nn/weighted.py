"""What convolution and linear layers share: a weight, a bias, a ReLU that may be fused behind them."""

from __future__ import annotations

import numpy as np

from .. import activation as activations
from . import arguments, init
from .module import Backward, Module
from .parameter import PackCache, Parameter


class WeightedLayer(Module):
    """A linear map with `weight`, an optional `bias` and room for a fused ReLU behind it.

    The container `Sequential` hands a following ReLU to `infer` and `forward` as ``activation="relu"``: the same
    bits as a layer of its own, one pass over memory less, and in training the pre-activation isn't kept.
    Subclasses provide `_apply`, `_gradients` and, where the weight can be packed for inference, `_pack`.
    """

    weight: Parameter
    bias: Parameter | None

    def _initialise(self, shape: tuple[int, ...], outputs: int, fan_in: int, bias: bool, rng, dtype) -> None:
        rng = arguments.generator(rng)
        self.dtype = arguments.float_dtype(dtype)
        self._packed = PackCache()
        self.weight = Parameter(init.fan_in_uniform(shape, fan_in, rng, self.dtype))
        self.bias = None
        if arguments.flag(bias, "bias"):
            self.bias = Parameter(init.fan_in_uniform((outputs,), fan_in, rng, self.dtype))

    def _apply(self, x: np.ndarray, weight, activation: str | None) -> np.ndarray:
        """The layer's output with `weight`, plain or packed."""
        raise NotImplementedError

    def _gradients(self, dy: np.ndarray, x: np.ndarray, weight: np.ndarray, **how):
        """Run the backward function; `how` holds `need`, `out` and `accumulate`."""
        raise NotImplementedError

    def _pack(self, weight: np.ndarray):
        """The form of the weight that inference uses; it is made once for each version of the weight."""
        return weight

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.infer(x)

    def infer(self, x: np.ndarray, activation: str | None = None) -> np.ndarray:
        """Inference, with an activation fused into the store of the result."""
        return self._apply(x, self._packed.get(self.weight, self._pack), activation)

    def forward(self, x: np.ndarray, activation: str | None = None) -> tuple[np.ndarray, Backward]:
        version, weight = self.weight.version, self.weight.value
        y = self._apply(x, weight, activation)
        rectified = y if activation == "relu" else None

        def backward(dy: np.ndarray, need_input: bool = True) -> np.ndarray | None:
            if self.weight.version != version:
                raise RuntimeError(f"{self!r}: the weight has changed between forward and its backward")
            need_weight = self.weight.trainable
            need_bias = self.bias is not None and self.bias.trainable
            if not (need_input or need_weight or need_bias):
                return None
            if rectified is not None:
                dy = activations.relu_backward(dy, rectified)
            out = (None, self.weight.grad_buffer() if need_weight else None,
                   self.bias.grad_buffer() if need_bias else None)
            need = (need_input, need_weight, need_bias)
            return self._gradients(dy, x, weight, need=need, out=out, accumulate=True)[0]

        return y, backward

    def _bias_value(self) -> np.ndarray | None:
        return None if self.bias is None else self.bias.value

    def _arguments(self) -> dict:
        return {**super()._arguments(), "bias": self.bias is not None}
