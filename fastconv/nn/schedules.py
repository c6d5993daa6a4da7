"""Learning-rate schedules: the rate as a function of the number of epochs or batches done."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import arguments
from .optim import Optimizer

__all__ = ["CosineLR", "ExponentialLR", "MultiStepLR", "Schedule", "StepLR", "WarmupLR"]


class Schedule:
    """Sets the learning rate of an optimizer; `rate` is a subclass's formula.

    Parameters
    ----------
    optimizer : Optimizer
        Its rate at this moment is the `base_lr` of the formula; it gets ``rate(0)`` at once.
    every : ``"epoch"`` or ``"batch"``
        When `fastconv.nn.fit` calls `step`; the unit of all counts.
    """

    def __init__(self, optimizer: Optimizer, *, every: str = "epoch") -> None:
        if every not in ("epoch", "batch"):
            raise ValueError(f"every is {every!r}, expected 'epoch' or 'batch'")
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.every = every
        self.count = 0

    def rate(self, count: int) -> float:
        """The learning rate after `count` steps of the schedule."""
        raise NotImplementedError

    def step(self) -> None:
        """Count one epoch or batch and set the optimizer's rate."""
        self.count += 1
        self._apply()

    def _apply(self) -> None:
        self.optimizer.lr = self.rate(self.count)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The count and the base rate, as arrays without axes."""
        return {"count": np.array(self.count, np.int64), "base_lr": np.array(self.base_lr, np.float64)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue where `state_dict` was taken, with the optimizer's rate set accordingly."""
        if set(state) != {"count", "base_lr"}:
            raise ValueError(f"{type(self).__name__}.load_state_dict: got {sorted(state)}, expected base_lr and count")
        self.count, self.base_lr = int(state["count"]), float(state["base_lr"])
        self._apply()


class StepLR(Schedule):
    """``base_lr * gamma ** (count // step_size)``."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, *, every: str = "epoch") -> None:
        super().__init__(optimizer, every=every)
        self.step_size = arguments.positive_int(self, "step_size", step_size)
        self.gamma = arguments.number(self, "gamma", gamma, 0.0)
        self._apply()

    def rate(self, count: int) -> float:
        return self.base_lr * self.gamma ** (count // self.step_size)


class MultiStepLR(Schedule):
    """``base_lr * gamma ** (number of milestones reached)``."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, *,
                 every: str = "epoch") -> None:
        super().__init__(optimizer, every=every)
        self.milestones = sorted(arguments.integer(self, "milestones", milestone) for milestone in milestones)
        self.gamma = arguments.number(self, "gamma", gamma, 0.0)
        self._apply()

    def rate(self, count: int) -> float:
        return self.base_lr * self.gamma ** bisect_right(self.milestones, count)


class ExponentialLR(Schedule):
    """``base_lr * gamma ** count``."""

    def __init__(self, optimizer: Optimizer, gamma: float, *, every: str = "epoch") -> None:
        super().__init__(optimizer, every=every)
        self.gamma = arguments.number(self, "gamma", gamma, 0.0)
        self._apply()

    def rate(self, count: int) -> float:
        return self.base_lr * self.gamma**count


class CosineLR(Schedule):
    """Half a cosine from `base_lr` to `min_lr` in `total` steps, then `min_lr` (Loshchilov and Hutter, 2017)."""

    def __init__(self, optimizer: Optimizer, total: int, min_lr: float = 0.0, *, every: str = "epoch") -> None:
        super().__init__(optimizer, every=every)
        self.total = arguments.positive_int(self, "total", total)
        self.min_lr = arguments.number(self, "min_lr", min_lr, 0.0)
        self._apply()

    def rate(self, count: int) -> float:
        share = min(count / self.total, 1.0)
        return self.min_lr + (self.base_lr - self.min_lr) * (1.0 + math.cos(math.pi * share)) / 2.0


class WarmupLR(Schedule):
    """A straight line from ``start * base_lr`` to `base_lr` in `steps` steps, then another schedule.

    Parameters
    ----------
    optimizer : Optimizer
    steps : int
    start : float
        Share of the base rate to begin with.
    then : Schedule or None
        Of the same optimizer; counts from the end of the warm-up, in this schedule's unit. ``None`` stays at
        `base_lr`. It is driven from here and not to be stepped itself.
    every : ``"epoch"`` or ``"batch"``
    """

    def __init__(self, optimizer: Optimizer, steps: int, start: float = 0.1, then: Schedule | None = None, *,
                 every: str = "batch") -> None:
        super().__init__(optimizer, every=every)
        if then is not None:
            if then.optimizer is not optimizer:
                raise ValueError("WarmupLR: then belongs to another optimizer")
            self.base_lr = then.base_lr
        self.steps = arguments.positive_int(self, "steps", steps)
        self.start = arguments.number(self, "start", start, 0.0)
        self.then = then
        self._apply()

    def rate(self, count: int) -> float:
        if count < self.steps:
            return self.base_lr * (self.start + (1.0 - self.start) * count / self.steps)
        return self.base_lr if self.then is None else self.then.rate(count - self.steps)

    def load_state_dict(self, state: Any) -> None:
        if self.then is not None:
            self.then.base_lr = float(state["base_lr"])
        super().load_state_dict(state)
