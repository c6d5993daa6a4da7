"""State dictionaries as ``.npz`` files, without pickle, and with every size checked before memory is taken.

The file is the zip archive of ``.npy`` members that `numpy.savez` writes and `numpy.load` reads, uncompressed; the
metadata is a member of bytes that holds JSON.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from .safetensors import MAX_HEADER, MAX_NDIM, METADATA, parse_json

MAX_NPY_HEADER = 10_000  # bytes; as NumPy's
_PLAIN_DTYPE = re.compile(r"\|b1|[<>|=]?(?:[iu][1248]|f[248])")


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
    fields, begin = _npy_header(name, data)
    text, shape, fortran = fields["descr"], fields["shape"], fields["fortran_order"]
    if not (isinstance(text, str) and _PLAIN_DTYPE.fullmatch(text)):
        raise ValueError(f"npz: {name!r:.80} has the dtype {text!r:.80}, expected bool, integer or floating point")
    if not (isinstance(shape, tuple) and len(shape) <= MAX_NDIM and isinstance(fortran, bool)
            and all(type(extent) is int and 0 <= extent < 2**63 for extent in shape)
            and math.prod(max(n, 1) for n in shape) < 2**60):
        raise ValueError(f"npz: {name!r:.80} has no valid shape")
    dtype, rest = np.dtype(text), len(data) - begin
    if math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(f"npz: {name!r:.80} has {rest} bytes, which isn't what shape {shape} of {dtype} needs")
    array = np.frombuffer(data, np.uint8 if dtype.kind == "b" else dtype, offset=begin)
    array = array.reshape(shape, order="F" if fortran else "C")
    return array.copy() != 0 if dtype.kind == "b" else np.array(array, dtype.newbyteorder("="), order="C")


def _npy_header(name: str, data: bytes) -> tuple[dict, int]:
    """(the three fields that describe an array, where its elements begin).

    The header is a Python literal: a dict of a string, a bool and a tuple of ints.
    """
    wide = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(data[:8])
    begin = 8 + wide + int.from_bytes(data[8:8 + wide], "little") if wide else 0
    if wide is None or not 8 + wide < begin <= min(len(data), MAX_NPY_HEADER):
        raise ValueError(f"npz: {name!r:.80} has no readable header")
    try:
        fields = ast.literal_eval(data[8 + wide:begin].decode("latin1").strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"npz: {name!r:.80} has no readable header: {type(error).__name__}") from error
    if not (isinstance(fields, dict) and fields.keys() == {"descr", "fortran_order", "shape"}):
        raise ValueError(f"npz: {name!r:.80} has a header without descr, fortran_order and shape")
    return fields, begin


def _metadata(array: np.ndarray) -> dict[str, str]:
    if array.dtype != np.uint8 or array.size > MAX_HEADER:
        raise ValueError(f"npz: {METADATA} isn't made of bytes")
    metadata = parse_json(array.tobytes(), "the npz metadata")
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"npz: {METADATA} isn't a table of strings")
    return metadata
