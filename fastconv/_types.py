"""Names for what the signatures take and give, for type checkers."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
"""What comes out. Which dtype, is the caller's choice."""

Gradients: TypeAlias = tuple[Array | None, Array | None, Array | None]
"""dx, dw and db, where needed."""

PerAxis: TypeAlias = int | Sequence[int]
AdaptiveSize: TypeAlias = int | Sequence[int | None]
Pairs: TypeAlias = PerAxis | Sequence[tuple[int, int]]
Padding: TypeAlias = Pairs | Literal["valid", "same", "same_lower"]
PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "edge", "circular", "wrap", "symmetric"]
Activation: TypeAlias = Literal["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish"]
Algorithm: TypeAlias = Literal["auto", "direct", "folded", "exchanged", "winograd2", "winograd4", "winograd1d", "fft"]
Operation: TypeAlias = Literal["forward", "backward_input", "backward_weight"]
MemoryOrder: TypeAlias = Literal["channels_first", "channels_last"]
Shape: TypeAlias = Sequence[int]
FloatType: TypeAlias = type[np.float32] | type[np.float64] | np.dtype[Any] | Literal["float32", "float64"]
