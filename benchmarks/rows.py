"""Rows of `fastconv.bench.shapes` as pytest parameters."""

import pytest

from fastconv.bench.problems import ORDERS
from fastconv.bench.shapes import SUITE


def each_row(*families):
    """Run a test for every layer of the families, every op that it has and both memory orders."""
    pairs = [(case, op) for case in SUITE if case.family in families for op in case.ops]
    over_rows = pytest.mark.parametrize(("case", "op"), pairs, ids=[f"{case.name} {op}" for case, op in pairs])
    over_orders = pytest.mark.parametrize("order", ORDERS)
    return lambda test: over_rows(over_orders(test))
