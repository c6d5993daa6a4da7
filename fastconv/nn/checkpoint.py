"""The state of a training run in one file: weights, optimizer, schedule, random numbers and position."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import serialize
from .module import Module
from .optim import Optimizer
from .safetensors import parse_json
from .schedules import Schedule

__all__ = ["load_checkpoint", "save_checkpoint"]

RUN = "fastconv.checkpoint"  # name of the run's description in the metadata

_RUN_GENERATOR = "run"  # key of the run's own generator; those of layers are called by their dotted names


def save_checkpoint(path: str | os.PathLike[str], model: Module, optimizer: Optimizer, *,
                    schedule: Schedule | None = None, rng: np.random.Generator | None = None,
                    position: Mapping[str, int] | None = None,
                    arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write everything that decides how training goes on.

    Parameters
    ----------
    path : path
        Ending in ``.safetensors`` or ``.npz``; replaced in one step when complete.
    model, optimizer, schedule
        Whose states are stored; the states of the generators of the model's layers (dropout) are, too.
    rng : numpy.random.Generator, optional
        The run's own generator.
    position : mapping of str to int, optional
        Where the run stands, for instance ``{"epoch": 3}``.
    arrays : mapping of str to array, optional
        Whatever else is to be kept, for instance the history.
    """
    parts = {"model": dict(model.named_state()), "optimizer": optimizer.state_dict(), "arrays": dict(arrays or {})}
    if schedule is not None:
        parts["schedule"] = schedule.state_dict()
    tensors = {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}
    description = {
        "optimizer": type(optimizer).__name__,
        "schedule": None if schedule is None else type(schedule).__name__,
        "position": dict(position or {}),
        "generators": {name: _generator_state(generator) for name, generator in _generators(model, rng).items()},
    }
    serialize.save(path, tensors, {RUN: json.dumps(description)})


def load_checkpoint(path: str | os.PathLike[str], model: Module, optimizer: Optimizer, *,
                    schedule: Schedule | None = None,
                    rng: np.random.Generator | None = None) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Put the state of a run back into objects that were made as they were made for it.

    Returns
    -------
    position, arrays
        As given to `save_checkpoint`.

    Raises
    ------
    ValueError
        The file is damaged or no checkpoint, or it belongs to another kind of model, optimizer, schedule or
        generator. The objects may then be partly changed.
    """
    tensors, metadata = serialize.read(path)
    with serialize.naming(path):
        if RUN not in metadata:
            raise ValueError("not a checkpoint of a training run")
        description = parse_json(metadata[RUN].encode(), "the description of the run")
        parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "schedule": {}, "arrays": {}}
        for name, array in tensors.items():
            part, _, rest = name.partition(".")
            if part not in parts:
                raise ValueError(f"{name!r:.80} belongs to no part of a checkpoint")
            parts[part][rest] = array
        _check_kind("optimizer", optimizer, description)
        _check_kind("schedule", schedule, description)
        _restore_generators(_generators(model, rng), description.get("generators"))
        model.load_state_dict(parts["model"])
        optimizer.load_state_dict(parts["optimizer"])
        if schedule is not None:
            schedule.load_state_dict(parts["schedule"])
        position = description.get("position")
        if not (isinstance(position, dict) and all(type(value) is int for value in position.values())):
            raise ValueError("the position of the run is not a table of integers")
    return position, parts["arrays"]


def _check_kind(part: str, given: object | None, description: dict[str, Any]) -> None:
    name = None if given is None else type(given).__name__
    if description.get(part) != name:
        raise ValueError(f"the run's {part} was {description.get(part)!r:.80}, got {name!r}")


def _generators(model: Module, rng: np.random.Generator | None) -> dict[str, np.random.Generator]:
    generators = dict(model.named_generators())
    if rng is not None:
        generators[_RUN_GENERATOR] = rng
    return generators


def _generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state of the bit generator as JSON can hold it."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return plain(generator.bit_generator.state)


def _restore_generators(generators: Mapping[str, np.random.Generator], states: Any) -> None:
    if not (isinstance(states, dict) and states.keys() == generators.keys()):
        raise ValueError("the run drew its random numbers in other places than this model does")
    for name, generator in generators.items():
        kind = generator.bit_generator.state["bit_generator"]
        if not isinstance(states[name], dict) or states[name].get("bit_generator") != kind:
            raise ValueError(f"the random numbers of {name} came from another kind of generator than {kind}")
        try:
            generator.bit_generator.state = states[name]
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"the state of the generator of {name} is damaged: {error}") from error
