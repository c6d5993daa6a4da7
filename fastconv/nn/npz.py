"""State dictionaries as ``.npz`` files, without pickle, and with every size checked before memory is taken.

The file is the zip archive of ``.npy`` members that `numpy.savez` writes and `numpy.load` reads, uncompressed; the
metadata is a member of bytes that holds JSON.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from ..npy import read_header
from .safetensors import MAX_HEADER, METADATA, parse_json


def write(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write `tensors` and `metadata`; the same contents give the same bytes."""
    members = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    for name, array in members.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"npz: {name} has dtype {array.dtype}, expected bool, integer or floating point")
        if name == METADATA:
            raise ValueError(f"npz: no array can be called {METADATA}")
    if metadata:
        members[METADATA] = np.frombuffer(json.dumps(dict(metadata)).encode(), np.uint8)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            member = zipfile.ZipInfo(name + ".npy")  # with the fixed date of 1980
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def read(file: BinaryIO) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata.

    Raises
    ------
    ValueError
        The file isn't an uncompressed ``.npz`` of plain arrays.
    """
    tensors = {}
    metadata = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in _members(archive, os.fstat(file.fileno()).st_size):
                name = member.filename.removesuffix(".npy")
                array = _read_array(name, archive.read(member))
                if name == METADATA:
                    metadata = _metadata(array)
                else:
                    tensors[name] = array
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, KeyError) as error:
        raise ValueError(f"npz: not a readable archive: {' '.join(str(error).split()):.200}") from error
    return tensors, metadata


def _members(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """The members of an archive of `size` bytes, after a look at what they claim."""
    members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"npz: {member.filename!r:.80} is compressed; write the file with numpy.savez")
    if sum(member.file_size for member in members) > size:
        raise ValueError(f"npz: the members claim more bytes than the {size} of the file")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("npz: a name is given twice")
    return members


def _read_array(name: str, data: bytes) -> np.ndarray:
    """The array in the ``.npy`` bytes `data`."""
    stream = io.BytesIO(data)
    try:
        dtype, shape, order = read_header(stream)
    except ValueError as error:
        raise ValueError(f"npz: {name!r:.80} has {error}") from error
    begin, needed = stream.tell(), math.prod(shape) * dtype.itemsize
    if needed != len(data) - begin:
        raise ValueError(f"npz: {name!r:.80} has {len(data) - begin} bytes, "
                         f"which isn't what shape {shape} of {dtype} needs")
    array = np.frombuffer(data, np.uint8 if dtype.kind == "b" else dtype, offset=begin).reshape(shape, order=order)
    return array.copy() != 0 if dtype.kind == "b" else np.array(array, dtype.newbyteorder("="), order="C")


def _metadata(array: np.ndarray) -> dict[str, str]:
    if array.dtype != np.uint8 or array.size > MAX_HEADER:
        raise ValueError(f"npz: {METADATA} isn't made of bytes")
    metadata = parse_json(array.tobytes(), "the npz metadata")
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"npz: {METADATA} isn't a table of strings")
    return metadata
