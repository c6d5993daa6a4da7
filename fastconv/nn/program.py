"""Chains of layers in inference, recorded once for inputs of one layout and replayed from then on.

Looking up a prepared call, checking its operands and allocating its result takes as long as a small layer itself; a
`Program` has done all that. Results between its layers lie in one block of memory, each in a place that is no longer
needed by another, so that the block stays in cache from layer to layer, and from call to call.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import checks, runtime
from .._kernels import _runtime
from . import module as modules
from .module import Module
from .parameter import Parameter

__all__ = ["Programs", "Recorder", "Value"]

PROGRAMS_KEPT = 8  # at most, of one chain, each for inputs of one layout
BLOCK_BYTES = 32 * 1024 * 1024  # at most, of a program: it keeps its block, and a larger one wouldn't stay in cache
BYTES = np.dtype(np.uint8)
LINE = 64  # bytes; places begin at multiples of it

Step = Callable[[list[Any]], object]  # reads and writes results by their numbers


class Value(NamedTuple):
    """A result while a program is recorded. Number 0 is the input.

    `owner` is the number of the result in whose place it may lie, None where that is no place of the program.
    """

    array: np.ndarray
    number: int
    owner: int | None = None


class Place(NamedTuple):
    """Where a result lies in the block of memory, and from which step to which it is needed, both included."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    born: int
    dies: int
    offset: int = 0

    @property
    def end(self) -> int:
        return self.offset + -(-math.prod(self.shape) * self.dtype.itemsize // LINE) * LINE


class Part(NamedTuple):
    """A result that lies in another one, as its channels [begin, end)."""

    whole: int
    begin: int
    end: int


class Recorder:
    """Runs a chain, and records it step by step.

    Attributes
    ----------
    lasting : bool
        Whether the same steps will do for the next input of the same layout: unknown, so False, for layers that are not
        this package's.
    """

    def __init__(self, x: Any) -> None:
        self.lasting = type(x) is np.ndarray
        self.structure = modules.structure_version()
        self.versions: dict[Parameter, int] = {}
        self.steps: list[Step] = []
        self.count = 1
        self.places: dict[int, Place] = {}
        self.parts: dict[int, Part] = {}
        self._strided: set[int] = set()

    def follow(self, module: Module, x: Value, activation: str | None = None) -> Value:
        """What `module` makes of `x`, with an activation fused into it."""
        if type(x.array) is np.ndarray and type(module).__module__.startswith(f"{__package__}."):
            return module.record(self, x, activation)
        self.lasting = False
        return self.ask(module, x, activation)

    def ask(self, module: Module, x: Value, activation: str | None) -> Value:
        """What the module's own inference makes of `x`."""
        if activation is None:
            return self.call(module, x)
        fusing: Any = module  # those that an activation is fused into have an `infer` that takes it
        return self.call(functools.partial(fusing.infer, activation=activation), x)

    def depends_on(self, *parameters: Parameter | None) -> None:
        """Kernels hold the values of these parameters, which are read after this."""
        for parameter in parameters:
            if parameter is not None:
                self.versions.setdefault(parameter, parameter.version)

    def call(self, function: Callable[..., np.ndarray], *sources: Value) -> Value:
        """``function(*arrays)``: a new array, or a view of the first one."""
        numbers, number = [source.number for source in sources], self.count

        def step(values: list[Any]) -> None:
            values[number] = function(*[values[i] for i in numbers])

        return self._noted(step, sources, function(*(source.array for source in sources)), sources[0].owner)

    def kernel(self, run: Callable[..., object], array: np.ndarray, *sources: Value, strided: bool = False) -> Value:
        """``run(*arrays, result)`` fills the result, as it has filled `array`.

        `strided`: the result may as well be some channels of a larger one.
        """
        numbers = [*(source.number for source in sources), self.count]
        if strided:
            self._strided.add(self.count)
        self._place(array, len(self.steps))
        return self._noted(lambda values: run(*[values[i] for i in numbers]), sources, array, self.count)

    def join(self, parts: list[Value], array: np.ndarray, first: int) -> Value:
        """The channels of all parts, as they have been copied to `array`.

        Kernels write theirs where they belong: those of parts from number `first` on, which nobody else reads.
        """
        whole, begin, born, copied = self.count, 0, len(self.steps), []
        for part in parts:
            end = begin + part.array.shape[1]
            place = self.places.get(part.number)
            alone = place is not None and place.dies == place.born
            if alone and part.number in self._strided and part.number >= first:
                self.parts[part.number] = Part(whole, begin, end)
                born = min(born, self.places.pop(part.number).born)
            else:
                copied.append((part.number, slice(begin, end)))
            begin = end

        def step(values: list[Any]) -> None:
            for number, channels in copied:
                values[whole][:, channels] = values[number]

        self._place(array, born)
        sources = [part for part in parts if part.number not in self.parts]
        return self._noted(step, sources, array, whole)

    def _place(self, array: np.ndarray, born: int) -> None:
        self.places[self.count] = Place(array.shape, array.strides, array.dtype, born, len(self.steps))

    def _noted(self, step: Step, sources: Sequence[Value], array: np.ndarray, owner: int | None) -> Value:
        for source in sources:
            if source.owner is not None:
                self.places[source.owner] = self.places[source.owner]._replace(dies=len(self.steps))
        self.steps.append(step)
        self.count += 1
        return Value(array, self.count - 1, owner)


class Program:
    """The steps of a chain for inputs of one layout."""

    def __init__(self, recorder: Recorder, result: Value) -> None:
        self._structure = recorder.structure
        self._parameters, self._versions = list(recorder.versions), list(recorder.versions.values())
        self._steps, self._count, self._result = recorder.steps, recorder.count, result.number
        places, self._parts = recorder.places, list(recorder.parts.items())
        self._returned = None if result.owner is None else (result.owner, places.pop(result.owner))
        self._places = packed(places)
        self.block_bytes = max((place.end for _, place in self._places), default=0)
        self._idle: list[list[Any]] = []
        _programs.add(self)

    def is_current(self) -> bool:
        """Whether no parameter, and no attribute of a module, has changed since."""
        return (self._structure == modules.structure_version()
                and [parameter.version for parameter in self._parameters] == self._versions)

    def run(self, x: np.ndarray) -> np.ndarray:
        try:
            room = self._idle.pop()
        except IndexError:  # the first call, or another thread has it
            room = self._laid_out()
        values = room.copy()
        values[0] = x
        if self._returned is not None:
            number, place = self._returned
            last = len(place.shape) > 2 and place.strides[1] == place.dtype.itemsize
            values[number] = checks.new(place.shape, place.dtype, last)
            self._divide(values, {number})
        for step in self._steps:
            step(values)
        if not self._idle:
            self._idle.append(room)
        return values[self._result]

    def _laid_out(self) -> list[Any]:
        """The results in a block of memory, by number; None where a step puts one."""
        room: list[Any] = [None] * self._count
        block = checks.new((self.block_bytes,), BYTES)
        for number, (shape, strides, dtype, _, _, offset) in self._places:
            room[number] = np.ndarray(shape, dtype, block, offset, strides)
        self._divide(room, dict(self._places))
        return room

    def _divide(self, values: list[Any], wholes: Container[int]) -> None:
        """Put the parts of `wholes` where they are."""
        for number, (whole, begin, end) in self._parts:
            if whole in wholes:
                values[number] = values[whole][:, begin:end]

    def release(self) -> None:
        self._idle.clear()


_programs: weakref.WeakSet[Program] = weakref.WeakSet()


@runtime.on_release
def release_blocks() -> None:
    for program in list(_programs):
        program.release()


def packed(places: dict[int, Place]) -> list[tuple[int, Place]]:
    """The places with offsets: the largest first, each in the first gap among those that are needed meanwhile."""
    done: list[tuple[int, Place]] = []
    for number, place in sorted(places.items(), key=lambda item: -item[1].end):
        size, offset = place.end, 0
        for _, other in sorted(done, key=lambda item: item[1].offset):
            if other.born <= place.dies and place.born <= other.dies and other.end > offset:
                if other.offset >= offset + size:
                    break
                offset = other.end
        done.append((number, place._replace(offset=offset)))
    return done


class Programs:
    """The programs of a chain. Copies and pickles start empty."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Program] = {}

    def run(self, record: Callable[[Recorder, Value], Value], x: np.ndarray) -> np.ndarray:
        """What `record` computes from `x`: by the program that it recorded for such an input, while that holds."""
        key = None
        if type(x) is np.ndarray:
            key = (x.shape, x.strides, x.dtype, x.flags.aligned, runtime.default_algorithm(), _runtime.isa_in_use())
            program = self._kept.get(key)
            if program is not None and program.is_current():
                return program.run(x)
        recorder = Recorder(x)
        result = record(recorder, Value(x, 0))
        if recorder.lasting and key is not None:
            self._keep(key, Program(recorder, result))
        return result.array

    def _keep(self, key: tuple[Any, ...], program: Program) -> None:
        if program.block_bytes > BLOCK_BYTES:
            return
        while len(self._kept) >= PROGRAMS_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[key] = program

    def __reduce__(self) -> tuple[type[Programs], tuple[()]]:
        return Programs, ()
