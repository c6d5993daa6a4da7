"""The training loop."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from . import arguments
from .checkpoint import load_checkpoint, save_checkpoint
from .inference import Evaluation, Tally, check_data, evaluate, without_absorbed
from .losses import CrossEntropyLoss, Loss
from .module import Module
from .optim import Adam, Optimizer
from .schedules import Schedule

__all__ = ["History", "Progress", "fit"]


@dataclass
class History:
    """What happened in each epoch; NaN where there is no such number.

    `loss` and `accuracy` are those of the training batches as the model met them, with dropout and while it changed;
    `val_loss` and `val_accuracy` come from the validation data after the epoch; `lr` is the learning rate of the
    epoch's last step; `seconds` covers training without validation.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.loss)

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Each list as a float64 array, by name."""
        return {each.name: np.array(getattr(self, each.name), np.float64) for each in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> History:
        """The history whose `as_arrays` gave `arrays`."""
        return cls(**{each.name: arrays[each.name].tolist() for each in fields(cls)})


class Progress(NamedTuple):
    """Where a training run stands after a batch: what `fit` tells its callback.

    Attributes
    ----------
    epoch, epochs : int
        The epoch that runs, from 0, of how many.
    step, steps : int
        Batches done in this epoch, from 1, of how many.
    loss : float
        Of this batch.
    mean_loss, accuracy : float
        Of the epoch so far; the accuracy is NaN if the loss knows none.
    lr : float
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    mean_loss: float
    accuracy: float
    lr: float


def fit(model: Module, x: Any, y: Any, *, epochs: int, loss: Loss | None = None, optimizer: Optimizer | None = None,
        batch_size: int = 128, rng: np.random.Generator | int | None = None, validation: tuple[Any, ...] | None = None,
        schedule: Schedule | None = None, shuffle: bool = True, drop_last: bool = False,
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        callback: Callable[[Progress], object] | None = None,
        on_epoch: Callable[[int, History], object] | None = None,
        checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: int = 1, resume: bool = False) -> History:
    """Train a model.

    Parameters
    ----------
    model : Module
        A final `Softmax` or `LogSoftmax` (with a cross entropy) or `Sigmoid` (with its binary form) is part of the
        loss already: training then goes up to the layer before it.
    x : array with the samples along its first axis
        Anything that takes an array of indices: an array of any dtype, a memory map.
    y : array_like
        Targets, one for each sample, as `loss` takes them.
    epochs : int
        Passes over the data, in total: those before a `resume` count.
    loss : Loss, optional
        `CrossEntropyLoss` if not given.
    optimizer : Optimizer, optional
        Over the model's parameters; ``Adam(model, 1e-3)`` if not given.
    batch_size : int
    rng : numpy.random.Generator, int or None
        Orders the samples, and serves `augment` and the dropout layers that were built without an own `rng`. With
        a seed, and a model that was built with one, two runs end with the same bits.
    validation : (x, y), optional
        Evaluated after each epoch.
    schedule : Schedule, optional
        Of the learning rate; stepped here, after each batch or epoch as it says.
    shuffle : bool
        Whether each epoch has an order of its own.
    drop_last : bool
        Whether samples that don't fill a batch are left out of the epoch.
    transform : function of a batch, optional
        Makes of samples, as they are stored, what the model takes: for instance float32 of uint8. Used in validation
        as well.
    augment : function of a batch and a Generator, optional
        Changes training samples at random, before `transform`. It gets a batch of its own, and may write into it.
    callback : function of a Progress, optional
        Called after each batch.
    on_epoch : function of the epoch's number and the History, optional
        Called after each epoch; training ends if it returns True.
    checkpoint : path, optional
        File (``.safetensors`` or ``.npz``) for the state of the run, replaced after every `checkpoint_every` epochs
        and after the last.
    resume : bool
        Go on from `checkpoint` if that file exists; the other arguments have to be those of the first run. The end
        has the same bits as that of a run without a break.

    Returns
    -------
    History
    """
    x, y = check_data("fit", x, y)
    epochs = arguments.integer("fit", "epochs", epochs, 0)
    batch_size = arguments.positive_int("fit", "batch_size", batch_size)
    checkpoint_every = arguments.positive_int("fit", "checkpoint_every", checkpoint_every)
    if len(x) < (batch_size if drop_last else 1):
        raise ValueError(f"fit: {len(x)} samples don't make one batch")
    if resume and checkpoint is None:
        raise ValueError("fit: resume needs the path of a checkpoint")
    loss = CrossEntropyLoss() if loss is None else loss
    optimizer = Adam(model) if optimizer is None else optimizer
    rng = arguments.generator("fit", rng)
    model.seed(rng)
    run = _Run(model, x, y, loss, optimizer, batch_size, rng, schedule, shuffle, drop_last, transform, augment)
    history = History()
    if resume and checkpoint is not None and os.path.exists(checkpoint):
        history = run.restore(checkpoint)

    for epoch in range(len(history), epochs):
        start = time.perf_counter()
        trained = run.epoch(epoch, epochs, callback)
        seconds = time.perf_counter() - start
        validated = Evaluation(math.nan, math.nan)
        if validation is not None:
            validated = evaluate(model, *validation, loss=loss, batch_size=batch_size, transform=transform)
        for name, value in (("loss", trained.loss), ("accuracy", trained.accuracy), ("val_loss", validated.loss),
                            ("val_accuracy", validated.accuracy), ("lr", run.last_lr), ("seconds", seconds)):
            getattr(history, name).append(value)
        stop = on_epoch is not None and on_epoch(epoch, history) is True
        last = stop or epoch == epochs - 1
        if checkpoint is not None and (last or (epoch + 1) % checkpoint_every == 0):
            run.store(checkpoint, history)
        if stop:
            break
    return history


@dataclass
class _Run:
    """A training run: what stays the same from epoch to epoch."""

    model: Module
    x: np.ndarray
    y: np.ndarray
    loss: Loss
    optimizer: Optimizer
    batch_size: int
    rng: np.random.Generator
    schedule: Schedule | None
    shuffle: bool
    drop_last: bool
    transform: Callable[..., Any] | None
    augment: Callable[..., Any] | None
    last_lr: float = math.nan

    def epoch(self, epoch: int, epochs: int, callback: Callable[[Progress], object] | None) -> Evaluation:
        """One pass over the data."""
        trained = without_absorbed(self.model, self.loss)
        order = self.rng.permutation(len(self.x)) if self.shuffle else np.arange(len(self.x))
        batches = self._batches(order)
        tally = Tally(self.loss)
        for step, chosen in enumerate(batches, 1):
            value = self._learn(trained, chosen, tally)
            self._step_schedule("batch")
            if callback is not None:
                callback(Progress(epoch, epochs, step, len(batches), value, *tally.result(), self.last_lr))
        self._step_schedule("epoch")
        return tally.result()

    def _learn(self, trained: Module, chosen: np.ndarray, tally: Tally) -> float:
        """Take one step of the optimizer; returns the loss. What the layers kept for it is freed at the end."""
        target = self.y[chosen]
        self.optimizer.zero_grad()
        outputs, backward = trained.forward(self._samples(chosen))
        value, loss_backward = self.loss.forward(outputs, target)
        backward(loss_backward(), need_input=False)
        self.last_lr = self.optimizer.lr
        self.optimizer.step()
        tally.add(value, outputs, target)
        return value

    def _batches(self, order: np.ndarray) -> list[np.ndarray]:
        """`order` cut into batches."""
        end = len(order) - len(order) % self.batch_size if self.drop_last else len(order)
        return [order[start:start + self.batch_size] for start in range(0, end, self.batch_size)]

    def _samples(self, chosen: np.ndarray) -> np.ndarray:
        """The samples with the indices `chosen`, as the model takes them."""
        batch = np.asarray(self.x[chosen])
        if self.augment is not None:
            batch = self.augment(batch, self.rng)
        return batch if self.transform is None else self.transform(batch)

    def _step_schedule(self, unit: str) -> None:
        if self.schedule is not None and self.schedule.every == unit:
            self.schedule.step()

    def _position(self, epoch: int) -> dict[str, int]:
        return {"epoch": epoch, "samples": len(self.x), "batch_size": self.batch_size, "shuffle": int(self.shuffle),
                "drop_last": int(self.drop_last)}

    def store(self, path: str | os.PathLike[str], history: History) -> None:
        """Write a checkpoint."""
        save_checkpoint(path, self.model, self.optimizer, schedule=self.schedule, rng=self.rng,
                        position=self._position(len(history)), arrays=history.as_arrays())

    def restore(self, path: str | os.PathLike[str]) -> History:
        """Go back to where a checkpoint was written."""
        position, arrays = load_checkpoint(path, self.model, self.optimizer, schedule=self.schedule, rng=self.rng)
        names = {each.name for each in fields(History)}
        lengths = {name: array.shape for name, array in arrays.items()}
        if lengths != dict.fromkeys(names, (position.get("epoch"),)):
            raise ValueError(f"{os.fspath(path)}: the history doesn't fit the number of epochs")
        if position != self._position(position["epoch"]):
            raise ValueError(f"{os.fspath(path)}: the run had {position}, got {self._position(position['epoch'])}")
        return History.from_arrays(arrays)
