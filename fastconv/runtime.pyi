from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar

from _typeshed import SupportsWrite

__all__ = [
    "algorithm", "get_num_threads", "release_memory", "set_num_threads", "set_result_cache", "show_config",
    "threads",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

def algorithm(name: Literal["auto", "direct"]) -> AbstractContextManager[None]: ...

def get_num_threads() -> int: ...

def release_memory() -> None: ...

def set_num_threads(n: int) -> None: ...

def set_result_cache(size: int) -> int: ...

def show_config(file: SupportsWrite[str] | None = None) -> None: ...

def threads(n: int) -> AbstractContextManager[None]: ...

def keeps_floating_point(function: _Function) -> _Function: ...
