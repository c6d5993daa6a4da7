"""What a type checker makes of the public functions: checked by mypy, in `test_types`; runs as well."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import fastconv as fc
from fastconv import nn

Array = npt.NDArray[Any]

x = np.ones((2, 3, 8, 8), np.float32)
w = np.ones((4, 3, 3, 3), np.float32)

y = assert_type(fc.conv2d(x, w, padding=1, activation="relu"), Array)
packed = assert_type(fc.pack_weight(w), fc.PackedWeight)
assert_type(fc.conv2d(x, packed, padding="same"), Array)
dx, dw, db = fc.conv2d_backward(y, x, w, padding=1, need=(True, True, False))
assert_type(db, Array | None)
assert_type(fc.max_pool2d(y, 2), Array)
assert_type(fc.max_pool2d(y, (2, 2), return_indices=True), tuple[Array, Array])
assert_type(fc.explain_conv(x.shape, w.shape).workspace, int)
assert_type(fc.cross_entropy(np.ones((2, 3)), np.array([0, 1])), float)
with fc.threads(1):
    assert_type(fc.softmax(y), Array)

model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2, rng=0))
history = assert_type(nn.fit(model, x, np.array([0, 1]), epochs=1, rng=0), nn.History)
assert_type(history.loss, list[float])
assert_type(nn.evaluate(model, x, np.array([0, 1])).accuracy, float)



def mistakes() -> None:
    """Never called: mypy says so if one of these is no error."""
    fc.conv2d(x, w, padding="around")  # type: ignore[arg-type]
    fc.set_num_threads("two")  # type: ignore[arg-type]
    nn.Conv2d(3, 4, "three")  # type: ignore[arg-type]
