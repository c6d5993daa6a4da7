from numpy.typing import ArrayLike

from ._types import Array

__all__ = [
    "channels_first", "channels_last",
]

def channels_first(x: ArrayLike) -> Array: ...

def channels_last(x: ArrayLike) -> Array: ...
