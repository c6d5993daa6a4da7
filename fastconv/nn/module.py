"""The base class of layers and models: finding parameters, state dictionaries, configurations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from . import arguments
from .parameter import VERSIONS, Parameter

if TYPE_CHECKING:
    from .program import Recorder, Value

__all__ = ["Module"]

Backward = Callable[..., Any]  # gives the gradient of the input, or None where nobody needs it
_Kind = TypeVar("_Kind")


class _Structure:
    """A number that is new after every change of an attribute of any module."""

    version = 0


_structure = _Structure()


def structure_version() -> int:
    return _structure.version


class LoadResult(NamedTuple):
    """Names that `Module.load_state_dict` with ``strict=False`` left alone."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class Module:
    """A function of one array with parameters, that can be trained.

    A module has no training mode. It has two entry points instead:

    ``y = module(x)``
        Inference. Changes nothing that another thread could see, so one model serves many threads at once.
    ``y, backward = module.forward(x)``
        Training. ``dx = backward(dy)`` adds into the gradient of each trainable parameter and returns the gradient
        of `x`; ``backward(dy, need_input=False)`` saves the work for `dx` and returns ``None``. What the backward
        pass needs lives in that closure, not in the module: forward passes may nest, and forgetting the closure
        frees the memory.

    A subclass implements these two. Parameters, buffers (arrays that are stored but have no gradient, listed by name
    in ``buffer_names``) and modules that it keeps as attributes are found by themselves; modules inside of lists are
    not: override `children` for these. Every constructor argument is kept in an attribute of the same name, which
    is what `config` and ``repr`` read.
    """

    buffer_names: tuple[str, ...] = ()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} defines no inference")

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Backward]:
        raise NotImplementedError(f"{type(self).__name__} can't be trained")

    def record(self, recorder: Recorder, x: Value, activation: str | None = None) -> Value:
        """Inference, recorded as steps of a program (`fastconv.nn.program`); other packages' layers are just called."""
        return recorder.ask(self, x, activation)

    def __setattr__(self, name: str, value: object) -> None:
        known = vars(self)  # programs hold what they have read, and have to be made anew
        if known.get(name, value) is not value:
            _structure.version = next(VERSIONS)
        object.__setattr__(self, name, value)

    # --- the tree ---

    def children(self) -> Iterator[tuple[str, Module]]:
        """``(name, module)`` of each module directly inside this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """``(dotted name, module)`` of this module (whose name is empty) and everything inside, outermost first."""
        yield prefix.removesuffix("."), self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """``(dotted name, parameter)``; a parameter that occurs twice is given once, under its first name."""
        seen = set()
        for name, parameter in self._named(Parameter):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> list[Parameter]:
        """Every parameter once, in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """``(dotted name, array)`` of each buffer."""
        for prefix, module in self.named_modules():
            for name in module.buffer_names:
                yield _join(prefix, name), getattr(module, name)

    def named_generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        """``(dotted name, generator)`` of each source of random numbers that forward passes draw from."""
        return self._named(np.random.Generator)

    def _named(self, kind: type[_Kind]) -> Iterator[tuple[str, _Kind]]:
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, kind):
                    yield _join(prefix, name), value

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def freeze(self, frozen: bool = True) -> Module:
        """Make all parameters inside untrainable (or trainable again); returns the module."""
        for parameter in self.parameters():
            parameter.trainable = not frozen
        return self

    def seed(self, rng: np.random.Generator) -> None:
        """Let layers that were built without an `rng` of their own draw from `rng`."""
        for _, child in self.children():
            child.seed(rng)

    # --- state ---

    def named_state(self) -> Iterator[tuple[str, np.ndarray]]:
        """``(name, array)`` of every parameter and buffer, without a copy: for reading at once, not for keeping.

        Names, order and layouts are PyTorch's, so that state dictionaries can be exchanged by name.
        """
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield _join(prefix, name), value.value
            for name in module.buffer_names:
                yield _join(prefix, name), getattr(module, name)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of every parameter and buffer by name."""
        return {name: np.array(value, order="C") for name, value in self.named_state()}

    def load_state_dict(self, state: Mapping[str, np.ndarray], strict: bool = True) -> LoadResult:
        """Take parameters and buffers from `state`; either all of them or, where something doesn't fit, none.

        Parameters
        ----------
        state : mapping of str to array_like
            As `state_dict` returns it, or PyTorch's ``state_dict()``. Values are copied and converted to the dtype
            that the module has.
        strict : bool
            Whether missing and unexpected names are errors. Shapes and dtypes have to fit in either case.

        Returns
        -------
        LoadResult
            The names that had no partner.

        Raises
        ------
        ValueError
            With everything that doesn't fit in one message.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: state: got {type(state).__name__}; expected names and their arrays")
        state = {name: np.asarray(value) for name, value in state.items()}
        own = dict(self.named_state())
        missing = tuple(name for name in own if name not in state)
        unexpected = tuple(name for name in state if name not in own)
        problems = [_misfit(name, state[name], own[name]) for name in own if name in state]
        if strict:
            problems += [f"{name} is missing" for name in missing] + [f"{name} is unexpected" for name in unexpected]
        problems = [problem for problem in problems if problem]
        if problems:
            raise ValueError(f"load_state_dict: {'; '.join(problems[:10])}{'; ...' * (len(problems) > 10)}")
        for prefix, module in self.named_modules():
            module._load_own(prefix, state)
        return LoadResult(missing, unexpected)

    def _load_own(self, prefix: str, state: Mapping[str, np.ndarray]) -> None:
        for name, value in list(vars(self).items()):
            stored = state.get(_join(prefix, name))
            if stored is None:
                continue
            if isinstance(value, Parameter):
                value.assign(stored)
            elif name in self.buffer_names:
                setattr(self, name, np.array(stored, dtype=value.dtype, order="C"))

    # --- description ---

    def config(self) -> dict[str, Any]:
        """What rebuilds the module without its weights: its class name and constructor arguments, fit for JSON."""
        config: dict[str, Any] = {"type": type(self).__name__}
        for name, value in self._arguments().items():
            if isinstance(value, Module):
                value = value.config()
            config[name] = str(value) if isinstance(value, np.dtype) else value
        return config

    @classmethod
    def from_config(cls, **config: Any) -> Module:
        """A new module from what `config` returned, without ``"type"`` and with inner modules already built."""
        return cls(**config)

    def _arguments(self) -> dict[str, Any]:
        """Constructor arguments by name, except `rng`."""
        names = inspect.signature(type(self)).parameters
        return {name: arguments.plain(getattr(self, name)) for name in names if name != "rng"}

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters
        shown = []
        for name, value in self._arguments().items():
            default = parameters[name].default
            if default is inspect.Parameter.empty:
                shown.append(f"{value!r}")
            elif not _same(value, default):
                shown.append(f"{name}={value}" if isinstance(value, np.dtype) else f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _misfit(name: str, stored: np.ndarray, own: np.ndarray) -> str:
    """What is wrong with `stored` as the new value of `own`, or an empty string."""
    if stored.shape != own.shape:
        return f"{name} has shape {stored.shape}, expected {own.shape}"
    if not np.can_cast(stored.dtype, own.dtype, "same_kind"):
        return f"{name} has dtype {stored.dtype}, expected one that fits {own.dtype}"
    return ""


def _same(value: Any, default: Any) -> bool:
    """Whether `value` is the default, also where one int has been spread over the axes."""
    if isinstance(value, np.dtype):
        return value == np.dtype(default)
    if isinstance(value, tuple) and not isinstance(default, tuple):
        return all(v == default for v in value)
    return value == default
