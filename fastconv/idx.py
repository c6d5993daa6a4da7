"""IDX files, the format of MNIST and its relatives: arrays with a few bytes of header, plain or gzipped.

Nothing here trusts a file: a header is checked against the data that really follow it before memory is taken for what
it promises.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "FILE FORMATS".
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike

from .files import replacing

__all__ = ["read_idx", "write_idx"]

# The third byte of an IDX file names the dtype; several-byte numbers are big-endian.
DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_AXES = 16
GZIP_MAGIC = b"\x1f\x8b"
# Deflate codes at most 258 bytes in 2 bits, so no honest gzip file unpacks to more than this many times its size.
DEFLATE_MAX_RATIO = 1032
READ_BLOCK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file.

    Parameters
    ----------
    path : str or path-like
        Plain or gzipped; which of the two is told by the content, not by the name.

    Returns
    -------
    numpy.ndarray
        Writeable, C-contiguous, native byte order, one of uint8, int8, int16, int32, float32, float64.

    Raises
    ------
    ValueError
        Wrong magic number, or more or less data than the header declares. Memory use is bounded by the data that are
        there (and, in a gzipped file, by what the header declares), never by the declared size alone.
    OSError
        The file can't be opened or read.
    """
    path = Path(path)
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        limit = os.fstat(file.fileno()).st_size * (DEFLATE_MAX_RATIO if packed else 1)
        try:
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read_idx_stream(unpacked, limit, path)
            return _read_idx_stream(file, limit, path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from error


def _read_idx_stream(stream: IO[bytes] | gzip.GzipFile, limit: int, path: Path) -> np.ndarray:
    """The array in `stream`, which can't hold more than `limit` bytes."""
    dtype, shape = read_idx_header(stream, limit, path)
    declared = math.prod(shape) * dtype.itemsize
    promise = _promise(path, shape, dtype)

    content = bytearray()
    while len(content) < declared:
        block = stream.read(min(READ_BLOCK, declared - len(content)))
        if not block:
            raise ValueError(f"{promise}, but only {len(content)} follow: the file is truncated")
        content += block
    if stream.read(1):
        raise ValueError(f"{promise}, but more data follow")
    array = np.frombuffer(content, dtype).reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def read_idx_header(stream: IO[bytes] | gzip.GzipFile, limit: int,
                    path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """`(dtype, shape)` of the array that follows in `stream`, which can't hold more than `limit` bytes."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"{path}: not an IDX file: it ends after {len(magic)} bytes")
    if magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= MAX_AXES:
        raise ValueError(
            f"{path}: not an IDX file: magic number 0x{magic.hex()}, expected 0x0000TTNN with a type TT of "
            f"{', '.join(f'{code:02x}' for code in DTYPES)} and 1 to {MAX_AXES} axes NN"
        )
    dtype, axes = DTYPES[magic[2]], magic[3]
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise ValueError(f"{path}: truncated IDX file: the header ends before its {axes} sizes")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, 4 * axes, 4))
    if math.prod(size or 1 for size in shape) * dtype.itemsize >= 1 << 63:
        raise ValueError(f"{path}: the header declares {shape} {dtype.name}, more than the file can hold")
    if math.prod(shape) * dtype.itemsize > limit:
        raise ValueError(f"{_promise(path, shape, dtype)}, more than the file can hold (at most {limit})")
    return dtype, shape


def _promise(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{path}: the header declares {shape} {dtype.name}, {math.prod(shape) * dtype.itemsize} bytes"


def write_idx(path: str | os.PathLike[str], array: ArrayLike) -> None:
    """Write an array as an IDX file, gzipped if the name ends in ``.gz`` (the same bytes every time).

    Raises `TypeError` for a dtype that the format doesn't have, `ValueError` for a shape that it can't hold.
    """
    array = np.asarray(array)
    codes = {dtype.newbyteorder("="): code for code, dtype in DTYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(f"write_idx: IDX has no {array.dtype.name}; it has {', '.join(d.name for d in codes)}")
    if not 1 <= array.ndim <= MAX_AXES or max(array.shape) >= 1 << 32:
        raise ValueError(f"write_idx: IDX holds 1 to {MAX_AXES} axes of less than 2^32, not {array.shape}")
    content = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content += array.astype(DTYPES[code], copy=False).tobytes()
    with replacing(path) as file:
        file.write(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)
