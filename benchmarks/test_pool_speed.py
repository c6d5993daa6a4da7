from rows import each_row


@each_row("max_pool", "avg_pool")
def test_pool(time_row, case, op, order):
    time_row(case, op, order=order)
