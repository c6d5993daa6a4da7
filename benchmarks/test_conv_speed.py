import pytest
from rows import each_row


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_row("conv", "conv_transpose")
def test_conv(time_row, case, op, order, dtype):
    time_row(case, op, dtype, order)
