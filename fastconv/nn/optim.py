"""Optimizers: SGD, Adam and AdamW, each as one compiled pass over all parameters, in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .. import checks
from .._kernels import _norm  # type: ignore[attr-defined]
from ..runtime import keeps_floating_point
from . import arguments
from .module import Module
from .parameter import Parameter

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """What optimizers share: their parameters, one state array per parameter and name, state dictionaries.

    Parameters
    ----------
    parameters : Module or iterable of Parameter
    lr : float
        Learning rate. The attribute may be changed between steps, which is what schedules do.

    Notes
    -----
    A step passes over parameters that are frozen or that no backward pass has reached yet.
    """

    hyperparameters: tuple[str, ...] = ("lr",)  # attributes that belong to the state, all of them numbers
    state_names: tuple[str, ...] = ()  # arrays of the parameter's shape, zero at first

    def __init__(self, parameters: Module | Iterable[Parameter], lr: float) -> None:
        self.parameters = parameters.parameters() if isinstance(parameters, Module) else list(parameters)
        if not all(isinstance(parameter, Parameter) for parameter in self.parameters):
            raise TypeError(f"{type(self).__name__}: parameters holds something else than Parameter objects")
        if len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            raise ValueError(f"{type(self).__name__}: a parameter is given twice")
        self.lr = arguments.number(self, "lr", lr, 0.0)
        self._steps = [0] * len(self.parameters)
        self._state: list[dict[str, np.ndarray]] = [{} for _ in self.parameters]

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for parameter in self.parameters:
            parameter.zero_grad()

    @keeps_floating_point
    def step(self) -> None:
        """Change every trainable parameter by its gradient."""
        updates, written = [], []
        for index, parameter in enumerate(self.parameters):
            gradient = parameter.grad if parameter.trainable else None
            if gradient is None:
                continue
            self._steps[index] += 1
            if not self._state[index]:
                self._state[index] = {name: np.zeros(parameter.shape, parameter.dtype) for name in self.state_names}
            array = parameter.begin_update()
            w, g = checks.contiguous(array), checks.contiguous(np.asarray(gradient, array.dtype))
            updates.append((w, g, *self._means(self._state[index]), *self._rates(self._steps[index])))
            written.append((parameter, array, w))
        self._update(updates)
        for parameter, array, w in written:
            if w is not array:
                array[...] = w
            parameter.end_update(array)

    def _means(self, state: dict[str, np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The running means of the gradient and of its square that the optimizer keeps."""
        arrays = (*state.values(), None, None)
        return arrays[0], arrays[1]

    def _rates(self, step: int) -> tuple[float, float, float]:
        """(rate, shrink, root) of a parameter's step, counted from 1, as csrc/fastconv.h describes them."""
        return self.lr, 1.0, 1.0

    def _update(self, updates: list[tuple[Any, ...]]) -> None:
        """Update parameters and means in place: (w, g, mean, square, rate, shrink, root) of each."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the hyperparameters by name and of each parameter's state as ``"<index>.<name>"``.

        The names of the arrays are PyTorch's (``momentum_buffer``, ``exp_avg``, ``exp_avg_sq``, ``step``).
        """
        state = {name: np.array(getattr(self, name), np.float64) for name in self.hyperparameters}
        for index, arrays in enumerate(self._state):
            if self._steps[index]:
                state[f"{index}.step"] = np.array(self._steps[index], np.int64)
                state |= {f"{index}.{name}": array.copy() for name, array in arrays.items()}
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` gave for an optimizer of the same kind over parameters of the same shapes.

        Raises
        ------
        ValueError
            A name is missing or unexpected, or a shape differs; nothing has changed then.
        """
        state = {name: np.asarray(value) for name, value in state.items()}
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(self.hyperparameters, ())
        for index, parameter in enumerate(self.parameters):
            if f"{index}.step" in state:
                expected[f"{index}.step"] = ()
                expected |= {f"{index}.{name}": parameter.shape for name in self.state_names}
        given = {name: value.shape for name, value in state.items()}
        wrong = sorted(name for name in given.keys() | expected.keys() if given.get(name) != expected.get(name))
        if wrong:
            raise ValueError(f"{type(self).__name__}.load_state_dict: missing, unexpected or of another shape: "
                             f"{', '.join(wrong[:10])}{', ...' * (len(wrong) > 10)}")
        for name in self.hyperparameters:
            setattr(self, name, float(state[name]))
        for index, parameter in enumerate(self.parameters):
            self._steps[index] = int(state.get(f"{index}.step", 0))
            names = self.state_names if self._steps[index] else ()
            self._state[index] = {name: np.array(state[f"{index}.{name}"], parameter.dtype, order="C")
                                  for name in names}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and L2 weight decay, in PyTorch's form.

    Parameters
    ----------
    parameters : Module or iterable of Parameter
    lr : float
    momentum : float
        ``v = momentum * v + g``, and the step is ``lr * v``.
    weight_decay : float
        ``g = g + weight_decay * w``.
    nesterov : bool
        The step is ``lr * (g + momentum * v)`` (Sutskever et al., 2013).
    """

    hyperparameters = ("lr", "momentum", "weight_decay")

    def __init__(self, parameters: Module | Iterable[Parameter], lr: float = 1e-3, momentum: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(parameters, lr)
        self.momentum = arguments.number(self, "momentum", momentum, 0.0)
        self.weight_decay = arguments.number(self, "weight_decay", weight_decay, 0.0)
        self.nesterov = arguments.flag(self, "nesterov", nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        self.state_names = ("momentum_buffer",) if self.momentum else ()

    def _update(self, updates: list[tuple[Any, ...]]) -> None:
        _norm.update(updates, False, self.weight_decay, self.momentum, 0.0, 0.0, self.nesterov)


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015), with weight decay as an L2 term of the loss, in PyTorch's form.

    Parameters
    ----------
    parameters : Module or iterable of Parameter
    lr : float
    betas : (float, float)
        Decay of the means of the gradient and of its square.
    eps : float
        Added to the root of the second mean after its bias correction.
    weight_decay : float
        ``g = g + weight_decay * w``.
    """

    hyperparameters = ("lr", "beta1", "beta2", "eps", "weight_decay")
    state_names = ("exp_avg", "exp_avg_sq")
    _decoupled = False

    def __init__(self, parameters: Module | Iterable[Parameter], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr)
        most = math.nextafter(1.0, 0.0)
        self.beta1, self.beta2 = (arguments.number(self, "betas", beta, 0.0, most) for beta in betas)
        self.eps = arguments.number(self, "eps", eps, 0.0)
        self.weight_decay = arguments.number(self, "weight_decay", weight_decay, 0.0)

    def _rates(self, step: int) -> tuple[float, float, float]:
        shrink = 1.0 - self.lr * self.weight_decay if self._decoupled else 1.0
        return self.lr / (1.0 - self.beta1**step), shrink, 1.0 / math.sqrt(1.0 - self.beta2**step)

    def _update(self, updates: list[tuple[Any, ...]]) -> None:
        decay = 0.0 if self._decoupled else self.weight_decay
        _norm.update(updates, True, decay, self.beta1, self.beta2, self.eps, False)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): ``w`` shrinks by ``lr * weight_decay * w``.

    Parameters
    ----------
    parameters : Module or iterable of Parameter
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float
    """

    _decoupled = True

    def __init__(self, parameters: Module | Iterable[Parameter], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)
