"""From a layer's name and constructor arguments to the layer: what a model file may ask for, and nothing else."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from . import arguments, containers, conv, layers, norm, pool
from .module import Module

__all__ = ["build", "register"]

MAX_DEPTH = 64  # of modules inside of modules

_LAYERS: dict[str, type[Module]] = {
    name: getattr(family, name) for family in (containers, conv, layers, norm, pool) for name in family.__all__
}


def register(cls: type[Module]) -> type[Module]:
    """Let `build` and `load_model` make layers of `cls`, under its name; also usable as a decorator.

    Raises
    ------
    TypeError
        `cls` isn't a subclass of Module.
    ValueError
        Another class has the name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Module)):
        raise TypeError(f"register: got {cls!r}, expected a subclass of Module")
    if _LAYERS.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(f"register: another layer is called {cls.__name__!r}")
    return cls


def build(config: dict[str, Any], rng: np.random.Generator | int | None = None) -> Module:
    """The module that `config`, as returned by `Module.config`, describes, with fresh weights.

    Only registered layers are built, from numbers, strings, lists and further layers.

    Parameters
    ----------
    config : dict
    rng : numpy.random.Generator, int or None
        Draws a seed for each layer that takes one, in order: of its initial weights, or of its dropout masks.

    Raises
    ------
    ValueError
        An unknown layer, or arguments that it doesn't take.
    """
    return _build(config, None if rng is None else arguments.generator("build", rng), 0)


def _build(config: Any, rng: np.random.Generator | None, depth: int) -> Module:
    if depth > MAX_DEPTH:
        raise ValueError(f"build: modules are nested more than {MAX_DEPTH} deep")
    name = config.get("type") if isinstance(config, dict) else None
    cls = _LAYERS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"build: {str(name)[:80]!r} is no layer that is known here")
    given = {key: _argument(value, rng, depth) for key, value in config.items() if key != "type"}
    if rng is not None and "rng" in inspect.signature(cls).parameters:
        given.setdefault("rng", int(rng.integers(2**63)))
    try:
        return cls.from_config(**given)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"build: {name}: {error}") from error


def _argument(value: Any, rng: np.random.Generator | None, depth: int) -> Any:
    if isinstance(value, dict):
        return _build(value, rng, depth + 1)
    if isinstance(value, (list, tuple)):
        if depth > MAX_DEPTH:
            raise ValueError(f"build: arguments are nested more than {MAX_DEPTH} deep")
        return tuple(_argument(item, rng, depth + 1) for item in value)
    return value
