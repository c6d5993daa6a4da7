"""Samples that stay in their files until they are asked for, so that memory holds a batch rather than the data."""

from __future__ import annotations

import errno
import gzip
import math
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..idx import DEFLATE_MAX_RATIO, GZIP_MAGIC, READ_BLOCK, read_idx_header
from ..npy import read_header
from .pictures import read_image

__all__ = ["StoredArray", "StoredImages", "Subset", "open_idx", "open_npz"]

FilePath: TypeAlias = str | os.PathLike[str]
Order: TypeAlias = Literal["C", "F"]

ZIP_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of what is between it and the data


class _Indexed:
    """What stands in an array's place: `shape`, `len`, and indexing of the first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{type(self).__name__} is in its file; an array of it is a copy")
        return np.asarray(self[:], dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} {self.dtype}>"


class StoredArray(_Indexed):
    """An array in a file. Indexing reads, and gives an array in memory that may be written to.

    Nothing else is kept in memory, whatever the file's size. The file may be deleted or replaced by another meanwhile.

    Parameters
    ----------
    file : binary file
        May be closed afterwards.
    dtype : dtype
        In the file; the samples' is the same in this machine's byte order.
    shape : tuple of int
    offset : int
        In bytes, of the first sample in the file; the others follow without gaps.
    """

    def __init__(self, file: IO[bytes] | _Descriptor, dtype: np.dtype, shape: Sequence[int], offset: int) -> None:
        self._file, self._stored, self._offset = _Descriptor(file), dtype, offset
        self.shape, self.dtype = tuple(shape), dtype.newbyteorder("=")

    def with_channel_axis(self) -> StoredArray:
        """`(N, H, W)` as `(N, 1, H, W)`."""
        return StoredArray(self._file, self._stored, (len(self), 1, *self.shape[1:]), self._offset)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = _rows(self.shape[0], index) if self.shape else np.zeros((), np.intp)
        part = np.empty((rows.size, *self.shape[1:]), self._stored)
        sample = math.prod(self.shape[1:]) * self._stored.itemsize
        content = part.reshape(-1).view(np.uint8).data
        flat = rows.ravel()
        ends = [*(np.flatnonzero(np.diff(flat) != 1) + 1).tolist(), len(flat)]
        for first, end in zip([0, *ends], ends):  # neighbours in the file are read at once
            if first < end:
                self._file.read(content[first * sample:end * sample], self._offset + int(flat[first]) * sample)
        return part.astype(self.dtype, copy=False).reshape(*rows.shape, *self.shape[1:])


def _rows(count: int, index: Any) -> np.ndarray:
    """The numbers, of `count` samples, that a slice, an index, or an array of indices or bools chooses."""
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    rows = np.asarray(index)
    if rows.dtype == bool and rows.shape == (count,):
        return np.flatnonzero(rows)
    if rows.dtype.kind not in "iu" and rows.size:
        raise IndexError(f"got {rows.dtype} {rows.shape}; expected a slice, integers, or {count} bools")
    rows = np.where(rows < 0, rows + count, rows).astype(np.intp)
    if rows.size and not 0 <= rows.min() <= rows.max() < count:
        raise IndexError(f"got {index}; expected {-count} to {count - 1}")
    return rows


class _Descriptor:
    """A file's descriptor of its own, closed when nobody has it any more."""

    name: Any  # as messages call it

    def __init__(self, file: IO[bytes] | _Descriptor) -> None:
        self.name, self._number = file.name, os.dup(file.fileno())

    def fileno(self) -> int:
        return self._number

    def read(self, content: memoryview, offset: int) -> None:
        """Fill a memoryview with what is at `offset`."""
        while content:
            count = os.preadv(self._number, [content], offset)
            if not count:
                raise ValueError(f"{self.name}: has become shorter since it was opened")
            content, offset = content[count:], offset + count

    def __del__(self) -> None:
        os.close(self._number)


class StoredImages(_Indexed):
    """Pictures in files, `uint8` `(N, channels, *size)`, each decoded when it is asked for; needs Pillow."""

    dtype = np.dtype(np.uint8)

    def __init__(self, files: Sequence[FilePath], size: tuple[int, int], channels: int) -> None:
        self.files = np.empty(len(files), object)
        self.files[:] = files
        self.shape = (len(files), channels, *size)

    def __getitem__(self, index: Any) -> np.ndarray:
        chosen = self.files[index]
        channels, *sides = self.shape[1:]
        size = sides[0], sides[1]
        if not isinstance(chosen, np.ndarray):
            return np.ascontiguousarray(read_image(chosen, size, channels))
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for image, file in zip(images, chosen, strict=True):
            image[...] = read_image(file, size, channels)
        return images


class Subset(_Indexed):
    """Some samples of an array, a memory map or any of the others here, in an order of its own; nothing is copied.

    Parameters
    ----------
    samples
        Indexed by slices and arrays of indices along its first axis.
    indices : array_like of int
    """

    def __init__(self, samples: Any, indices: ArrayLike) -> None:
        self.samples, self.indices = samples, np.asarray(indices)
        if self.indices.ndim != 1 or self.indices.dtype.kind not in "iu":
            got = f"{self.indices.dtype} {self.indices.shape}"
            raise ValueError(f"Subset: indices: got {got}; expected a row of integers")
        self.shape, self.dtype = (len(self.indices), *samples.shape[1:]), samples.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.samples[self.indices[index]])


# ---------------------------------------------------------------------------------------------------------------- IDX


def open_idx(path: FilePath) -> StoredArray:
    """Open one IDX file without reading it.

    Parameters
    ----------
    path : str or path-like
        Gzipped: it is unpacked once, piece by piece, into a temporary file that goes with the result.

    Returns
    -------
    StoredArray

    Raises
    ------
    ValueError
        As for `read_idx`.
    """
    path = Path(path)
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        if not packed:
            dtype, shape = read_idx_header(file, size, path)
            return _stored(file, dtype, shape, file.tell(), size - file.tell(), path)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                dtype, shape = read_idx_header(stream, size * DEFLATE_MAX_RATIO, path)
                return _unpacked(stream, dtype, shape, path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from error


def _stored(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...], offset: int, rest: int, path: FilePath,
            order: Order = "C") -> StoredArray:
    """The array at `offset` in a file that has `rest` more bytes from there on."""
    wanted = math.prod(shape) * dtype.itemsize
    if rest != wanted:
        raise ValueError(f"{path}: the header declares {shape} {dtype.name}, {wanted} bytes, but {rest} follow")
    if order == "C" or not wanted:
        return StoredArray(file, dtype, shape, offset)
    with tempfile.TemporaryFile(prefix="fastconv") as rewritten:
        np.ascontiguousarray(np.memmap(file, dtype, "r", offset, shape, order)).tofile(rewritten)
        return StoredArray(rewritten, dtype, shape, 0)


def _unpacked(stream: IO[bytes] | gzip.GzipFile, dtype: np.dtype, shape: tuple[int, ...], path: FilePath,
              order: Order = "C") -> StoredArray:
    """The array that a stream of unpacked bytes goes on with, in a temporary file."""
    wanted, written = math.prod(shape) * dtype.itemsize, 0
    with tempfile.TemporaryFile(prefix="fastconv") as file:
        while written <= wanted and (block := stream.read(READ_BLOCK)):
            file.write(block)
            written += len(block)
        file.flush()
        return _stored(file, dtype, shape, 0, written, path, order)


# ---------------------------------------------------------------------------------------------------------------- npz


def open_npz(path: FilePath) -> dict[str, StoredArray]:
    """Open the arrays of an ``.npz`` file without reading them.

    Parameters
    ----------
    path : str or path-like
        From `numpy.savez`, whose arrays are read where they are (their checksums are not looked at), or from
        `numpy.savez_compressed`, whose arrays are unpacked once, piece by piece, into temporary files. Arrays in
        Fortran's order are rewritten into such files, for which they have to fit the memory once.

    Returns
    -------
    dict of str to StoredArray

    Raises
    ------
    ValueError
        The file is damaged, or holds something else than plain arrays: nothing is ever unpickled.
    """
    path = Path(path)
    arrays = {}
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                arrays[member.filename.removesuffix(".npy")] = _open_member(file, archive, member, path)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError, struct.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not a readable .npz file ({reason})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the beginning of the file
            raise
        raise ValueError(f"{path}: not a readable .npz file ({error})") from error
    return arrays


def _open_member(file: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> StoredArray:
    name = f"{path}: {member.filename!r:.80}"
    if member.file_size > max(member.compress_size, 1) * DEFLATE_MAX_RATIO:
        raise ValueError(f"{name} claims {member.file_size} bytes, more than {member.compress_size} can hold")
    with archive.open(member) as stream:
        try:
            dtype, shape, order = read_header(stream)
        except ValueError as error:
            raise ValueError(f"{name} has {error}") from error
        if member.compress_type != zipfile.ZIP_STORED:
            return _unpacked(stream, dtype, shape, name, order)
        header = stream.tell()
    file.seek(member.header_offset)
    signature, of_name, of_extra = ZIP_LOCAL_HEADER.unpack(file.read(ZIP_LOCAL_HEADER.size))
    if signature != b"PK\3\4":
        raise ValueError(f"{name} has no header in the archive")
    offset = member.header_offset + ZIP_LOCAL_HEADER.size + of_name + of_extra + header
    if offset + member.file_size - header > os.fstat(file.fileno()).st_size:
        raise ValueError(f"{name} is cut off")
    return _stored(file, dtype, shape, offset, member.file_size - header, name, order)
