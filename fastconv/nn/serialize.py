"""Files: arrays by name, and whole models, without pickle. Nothing that a file contains is ever executed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from ..files import replacing
from . import init, npz, registry, safetensors
from .module import Module

__all__ = ["load", "load_model", "read_metadata", "save", "save_model"]

ARCHITECTURE = "fastconv.architecture"  # name of the model's configuration in the metadata

_FORMATS = {".safetensors": safetensors, ".npz": npz}


def save(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray],
         metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name, for instance a ``state_dict()``.

    The file appears under its name when it is complete, in the place of an older one: a crash leaves the old file.

    Parameters
    ----------
    path : path
        Its ending, ``.safetensors`` or ``.npz``, chooses the format.
    tensors : mapping of str to array
        Bool, integer or floating-point arrays.
    metadata : mapping of str to str, optional

    Raises
    ------
    ValueError
        Another ending.
    TypeError
        A dtype that the format can't hold, or metadata that isn't text.
    """
    file_format = _format(path)
    metadata = dict(metadata or {})
    if not all(isinstance(item, str) for pair in metadata.items() for item in pair):
        raise TypeError("save: metadata holds something else than str")
    with replacing(path) as file:
        file_format.write(file, tensors, metadata)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of a ``.safetensors`` or an uncompressed ``.npz`` file.

    Raises
    ------
    ValueError
        Another ending, or a file that is truncated, damaged or malicious. No memory beyond the size of the file is
        taken before that is known.
    """
    return read(path)[0]


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata that `save` or `save_model` stored beside the arrays."""
    if _format(path) is safetensors:
        with open(path, "rb") as file, naming(path):
            return safetensors.read_header(file)[1]
    return read(path)[1]


def save_model(path: str | os.PathLike[str], model: Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model's weights together with its architecture.

    Parameters
    ----------
    path : path
        Ending in ``.safetensors`` or ``.npz``.
    model : Module
        Made of the package's layers, or of others that have been registered (`fastconv.nn.register`). A layer that
        is used in two places is stored, and rebuilt, as two.
    metadata : mapping of str to str, optional
        For instance the names of the classes; `read_metadata` returns it.
    """
    described = {**(metadata or {}), ARCHITECTURE: json.dumps(model.config())}
    save(path, dict(model.named_state()), described)


def load_model(path: str | os.PathLike[str]) -> Module:
    """Rebuild a model from a file that `save_model` wrote.

    Raises
    ------
    ValueError
        The file is damaged, has no architecture in it, names unknown layers, or holds arrays that don't fit them.
    """
    tensors, metadata = read(path)
    with naming(path):
        if ARCHITECTURE not in metadata:
            raise ValueError("no architecture is stored in it: it holds weights alone")
        config = safetensors.parse_json(metadata[ARCHITECTURE].encode(), "the architecture")
        with init.skeleton():
            model = registry.build(config)
        model.load_state_dict(tensors)
    return model


def _format(path: str | os.PathLike[str]) -> ModuleType:
    suffix = Path(path).suffix
    if suffix not in _FORMATS:
        raise ValueError(f"{os.fspath(path)}: the file's ending is {suffix!r}, expected {' or '.join(_FORMATS)}")
    return _FORMATS[suffix]


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a file."""
    file_format = _format(path)
    with open(path, "rb") as file, naming(path):
        return file_format.read(file)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the file's name in front of a ValueError about its contents."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
