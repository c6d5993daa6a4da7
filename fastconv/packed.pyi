from typing import Any, NoReturn

import numpy as np

from ._types import Array

class PackedWeight:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    groups: int
    isa: str
    algorithm: str
    def __init__(
        self, data: Array, transformed: bool, plain: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any],
        groups: int, isa: str, algorithm: str
    ) -> None: ...
    def __setattr__(self, name: str, value: object) -> NoReturn: ...
    def __deepcopy__(self, memo: Any) -> PackedWeight: ...
    @property
    def ndim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def with_pixel_axis(self) -> PackedWeight: ...
    def operands_for(self, algorithm: str) -> tuple[Array | None, Array | None, bool]: ...

def pack(
    w: Any, stride: Any, dilation: Any, groups: Any, input_shape: Any, algorithm: Any
) -> PackedWeight: ...
def check_packed(
    fn: str, w: Any, groups: Any, x: Array, rank: int, algorithm: Any
) -> Any: ...
