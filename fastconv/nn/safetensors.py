"""The safetensors file format, read and written by hand.

A file is: the length of the header (8 bytes, little-endian), the header (JSON: for each name the dtype, the shape and
the range of bytes; under ``__metadata__`` strings by name), and the bytes of all arrays, row-major and little-endian,
one after the other without holes. Source: https://huggingface.co/docs/safetensors

Files are read as if an enemy had written them: every number of the header is compared with the size of the file
before memory is taken for anything but the header.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAX_HEADER = 100_000_000  # bytes; the limit of the format's own library
MAX_NDIM = 32
METADATA = "__metadata__"

_DTYPES = {
    "BOOL": np.dtype(bool), "U8": np.dtype("u1"), "I8": np.dtype("i1"), "U16": np.dtype("<u2"), "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"), "U32": np.dtype("<u4"), "I32": np.dtype("<i4"), "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"), "I64": np.dtype("<i8"), "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Entry(NamedTuple):
    """One array as the header describes it; `begin` and `end` count from the end of the header."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def write(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write `tensors` and `metadata`; the widest dtypes come first, so that every array is aligned."""
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in _NAMES:
            raise TypeError(f"safetensors: {name} has dtype {array.dtype}, which the format doesn't know")
        if name == METADATA:
            raise ValueError(f"safetensors: no array can be called {METADATA}")
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    begin = 0
    for name in order:
        array = arrays[name]
        header[name] = {"dtype": _NAMES[array.dtype.newbyteorder("<")], "shape": list(array.shape),
                        "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"safetensors: the header has {len(text)} bytes, at most {MAX_HEADER} are allowed")
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        array = arrays[name]
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)


def read(file: BinaryIO) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays, each with memory of its own, and the metadata.

    Raises
    ------
    ValueError
        The file isn't what the format asks for.
    """
    entries, metadata = read_header(file)
    return {entry.name: _read_array(file, entry) for entry in entries}, metadata


def read_header(file: BinaryIO) -> tuple[list[Entry], dict[str, str]]:
    """The checked header: arrays in the order of their bytes, and metadata. Leaves `file` at the first array."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ValueError(f"not a safetensors file: it has {size} bytes, expected at least 8")
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER, size - 8):
        raise ValueError(f"not a safetensors file, or a truncated one: header of {length} bytes in a file of {size}")
    header = parse_json(file.read(length), "the safetensors header")
    metadata = header.pop(METADATA, {})
    if not (isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())):
        raise ValueError(f"safetensors: {METADATA} isn't a table of strings")
    entries = sorted((_entry(name, fields) for name, fields in header.items()), key=lambda e: (e.begin, e.end))
    position = 0
    for entry in entries:
        if entry.begin != position:
            raise ValueError(f"safetensors: {entry.name!r:.80} begins at byte {entry.begin}, expected {position}: "
                             "ranges overlap or leave a hole")
        position = entry.end
    if position != size - 8 - length:
        raise ValueError(f"safetensors: the arrays need {position} bytes, the file has {size - 8 - length} for them")
    return entries, metadata


def parse_json(text: bytes, what: str) -> dict[str, Any]:
    """A JSON object from bytes; anything else, names given twice included, is a ValueError about `what`."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f"{what} is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{what} can't be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name is given twice")
    return table


def _entry(name: str, fields: Any) -> Entry:
    if not (isinstance(fields, dict) and fields.keys() == {"dtype", "shape", "data_offsets"}):
        raise ValueError(f"safetensors: {name!r:.80} needs dtype, shape and data_offsets, and nothing else")
    dtype = _DTYPES.get(fields["dtype"]) if isinstance(fields["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"safetensors: {name!r:.80} has the dtype {fields['dtype']!r:.80}, which isn't supported")
    shape, offsets = fields["shape"], fields["data_offsets"]
    if not (_sizes(shape) and len(shape) <= MAX_NDIM and math.prod(max(n, 1) for n in shape) < 2**60):
        raise ValueError(f"safetensors: {name!r:.80} has no valid shape")
    if not (_sizes(offsets) and len(offsets) == 2):
        raise ValueError(f"safetensors: {name!r:.80} has no valid data_offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"safetensors: {name!r:.80} has {end - begin} bytes, "
                         f"shape {shape} of {fields['dtype']} needs {math.prod(shape) * dtype.itemsize}")
    return Entry(name, dtype, tuple(shape), begin, end)


def _sizes(value: Any) -> bool:
    """Whether `value` is a list of ints that can be sizes of an array or a file."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _read_array(file: BinaryIO, entry: Entry) -> np.ndarray:
    data = np.empty(entry.end - entry.begin, np.uint8)
    if file.readinto(data.data) != data.size:  # type: ignore[attr-defined]  # of every buffered file
        raise ValueError(f"safetensors: the file ended inside {entry.name!r:.80}")
    if entry.dtype == bool:
        return (data != 0).reshape(entry.shape)
    array = data.view(entry.dtype).reshape(entry.shape)
    return array.astype(entry.dtype.newbyteorder("="), copy=False)
