from rows import each_row


@each_row("relu")
def test_activation(time_row, case, op, order):
    time_row(case, op, order=order)
