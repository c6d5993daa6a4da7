"""A trainable array: its value, its gradient and the version that tells a cache when to look again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["Parameter"]

# One counter for the whole process: `next` is atomic, so two parameters, or two writers of one parameter, never share
# a version, and a cache filled for one value can't be mistaken for another's.
VERSIONS = itertools.count(1)


class Parameter:
    """An array that layers read and optimizers change.

    Parameters
    ----------
    value : ndarray
        Initial value. It is kept as it is, not copied: the caller hands it over.
    trainable : bool
        ``False`` freezes the parameter: backward passes leave out its gradient and optimizers pass it by.

    Attributes
    ----------
    grad : ndarray or None
        The gradient that backward passes add into; ``None`` until the first of them. May be set.
    trainable : bool
        May be changed at any time.

    Notes
    -----
    A value changes in two ways only. `assign` puts a new array in the place of the old one, in one step, so that an
    inference in another thread sees either the old or the new value. `updating` hands out the array itself for an
    in-place change, as an optimizer step makes it; no inference may run meanwhile. Both draw a new `version`.

    A copy or a pickle holds the value and the `trainable` flag, not the gradient.
    """

    __slots__ = ("_array", "_grad", "_grad_is_zero", "_readonly", "_version", "trainable")
    _grad: np.ndarray | None
    _grad_is_zero: bool  # whatever its memory holds: it is filled when somebody reads it, or overwritten

    def __init__(self, value: np.ndarray, trainable: bool = True) -> None:
        self.grad = None
        self.trainable = trainable
        self._set(value)

    def _set(self, array: np.ndarray) -> None:
        """Publish `array`, the version last: who reads the version first never files an old value under a new one."""
        readonly = array.view()
        readonly.flags.writeable = False
        self._array = array
        self._readonly = readonly
        self._version = next(VERSIONS)

    @property
    def value(self) -> np.ndarray:
        """The current value, as a read-only view. Read `version` before it when the two have to belong together."""
        return self._readonly

    @property
    def version(self) -> int:
        """A number that is new, and unique in the process, after every change of the value."""
        return self._version

    @property
    def shape(self) -> tuple[int, ...]:
        return self._readonly.shape

    @property
    def dtype(self) -> np.dtype:
        return self._readonly.dtype

    @property
    def size(self) -> int:
        return self._readonly.size

    @property
    def grad(self) -> np.ndarray | None:
        if self._grad_is_zero and self._grad is not None:
            self._grad.fill(0)
            self._grad_is_zero = False
        return self._grad

    @grad.setter
    def grad(self, gradient: np.ndarray | None) -> None:
        self._grad = gradient
        self._grad_is_zero = False

    def assign(self, value: Any) -> None:
        """Replace the value by a copy of `value`.

        Parameters
        ----------
        value : array_like
            Same shape; converted to the parameter's dtype.

        Raises
        ------
        ValueError
            The shape differs.
        TypeError
            The dtype can't be converted (complex, object, text).
        """
        value = np.asarray(value)
        if value.shape != self.shape:
            raise ValueError(f"Parameter.assign: value has shape {value.shape}, expected {self.shape}")
        if not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise TypeError(f"Parameter.assign: value has dtype {value.dtype}, expected one that fits {self.dtype}")
        self._set(np.array(value, dtype=self.dtype, order="C"))

    @contextmanager
    def updating(self) -> Iterator[np.ndarray]:
        """The writeable array, for the length of a ``with`` block that changes it in place.

        An array that can't be written (a worker process may have mapped it read-only) is copied first.
        """
        array = self.begin_update()
        try:
            yield array
        finally:
            self.end_update(array)

    def begin_update(self) -> np.ndarray:
        """The array that `updating` hands out; `end_update` has to follow."""
        return self._array if self._array.flags.writeable else self._array.copy()

    def end_update(self, array: np.ndarray) -> None:
        """Publish what `begin_update` gave, after the change."""
        self._set(array)

    @property
    def grad_is_zero(self) -> bool:
        """Whether no backward pass has added to the gradient since `zero_grad`, or ever."""
        return self._grad is None or self._grad_is_zero

    def grad_buffer(self) -> np.ndarray:
        """`grad`, made of zeros where there is none yet: what a backward pass adds into."""
        gradient = self.grad
        if gradient is None:
            self.grad = gradient = np.zeros(self.shape, self.dtype)
        return gradient

    def overwritten_grad(self) -> np.ndarray:
        """The array of `grad` for a caller that overwrites all of it, whatever it holds."""
        if self._grad is None:
            self._grad = np.empty(self.shape, self.dtype)
        self._grad_is_zero = False
        return self._grad

    def zero_grad(self) -> None:
        """Set the gradient to zero; its memory is kept for the next backward pass, which overwrites it."""
        self._grad_is_zero = self._grad is not None

    def __getstate__(self) -> tuple[np.ndarray, bool]:
        return self._array, self.trainable

    def __setstate__(self, state: tuple[np.ndarray, bool]) -> None:
        array, trainable = state
        Parameter.__init__(self, array, trainable)

    def __repr__(self) -> str:
        frozen = "" if self.trainable else ", trainable=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{frozen})"


class PackCache:
    """One immutable (version, packed form) pair of a parameter, made on first use.

    The pair is replaced in one assignment, so threads that meet a new version at once may each pack, and all get
    the right form. Copies and pickles start empty.
    """

    __slots__ = ("_entry",)

    def __init__(self) -> None:
        self._entry: tuple[int, object] | None = None

    def get(self, parameter: Parameter, pack: Callable[[np.ndarray], Any]) -> Any:
        """``pack(parameter.value)``, or what it gave last time if the value hasn't changed since."""
        version = parameter.version
        entry = self._entry
        if entry is None or entry[0] != version:
            entry = (version, pack(parameter.value))
            self._entry = entry
        return entry[1]

    def __reduce__(self) -> tuple[type[PackCache], tuple[()]]:
        return PackCache, ()
