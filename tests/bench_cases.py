"""What tests of the benchmark share: small layers of every kind, rivals, rows as if measured."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.bench import machine, timing
from fastconv.bench.cases import ActivationCase, ConvCase, ConvTransposeCase, PoolCase
from fastconv.bench.contenders import Contender, ContenderUnavailable
from fastconv.bench.peers import PEERS
from fastconv.bench.problems import PARTS
from fastconv.bench.report import Report
from fastconv.bench.suite import Row

SOME = timing.Schedule(row_seconds=0.01, sample_seconds=1e-4, settle_seconds=1e-4)


# Small layers of every kind that the suite's rows have, and of some that it hasn't.
SMALL = (
    ConvCase("conv 1-D", "", (2, 3, 20), (4, 3, 5), stride=2, padding=2),
    ConvCase("conv 2-D", "", (2, 4, 9, 8), (6, 4, 3, 2), stride=(2, 1), padding=(1, 0)),
    ConvCase("conv 2-D dilated", "", (1, 4, 9, 9), (5, 4, 3, 3), padding=2, dilation=2, stride=2),
    ConvCase("conv 2-D grouped", "", (2, 6, 7, 7), (4, 3, 3, 3), padding=1, groups=2),
    ConvCase("conv 2-D depthwise", "", (2, 5, 7, 7), (5, 1, 3, 3), padding=1, groups=5),
    ConvCase("conv 3-D", "", (1, 2, 4, 5, 6), (3, 2, 3, 2, 3), padding=1),
    PoolCase("max 2-D overlapping", "", (2, 3, 9, 9), 3, 2, 1),
    PoolCase("max 1-D", "", (2, 3, 12), 4, 4),
    PoolCase("max 3-D", "", (1, 2, 4, 6, 6), (1, 2, 2), (1, 2, 2)),
    PoolCase("avg 2-D", "", (2, 3, 8, 8), 2, 2, family="avg_pool"),
    ActivationCase("relu 2-D", "", (2, 3, 5, 5)),
    ConvTransposeCase("transposed 1-D", "", (2, 4, 7), (4, 3, 5), stride=3, padding=1, output_padding=1),
    ConvTransposeCase("transposed 2-D", "", (2, 4, 5, 6), (4, 3, 4, 2), stride=2, padding=(1, 0)),
    ConvTransposeCase("transposed 2-D grouped", "", (1, 6, 5, 5), (6, 2, 3, 3), padding=2, dilation=2, groups=3),
    ConvTransposeCase("transposed 3-D", "", (1, 2, 3, 2, 4), (2, 3, 2, 2, 2), stride=2),
)


PROBLEMS = [(case, op) for case in SMALL for op in case.ops]


def over(problems):
    return pytest.mark.parametrize(("case", "op"), problems, ids=[f"{case.name} {op}" for case, op in problems])


over_problems = over(PROBLEMS)


over_single_results = over([(case, op) for case, op in PROBLEMS if op not in PARTS])


over_backwards = over([(case, op) for case, op in PROBLEMS if op in PARTS])


over_convs = pytest.mark.parametrize("case", [case for case in SMALL if case.family == "conv"], ids=lambda c: c.name)


class Known(Contender):
    """Hands out the results it was given."""

    def __init__(self, name, result):
        self.name, self.result = name, result

    def prepare(self, problem):
        return lambda: self.result


def started(name):
    """The peer, or a skip where what it needs is not installed."""
    contender = PEERS[name]()
    try:
        contender.start(1)
    except ContenderUnavailable as missing:
        pytest.skip(str(missing))
    return contender


def row_of(case, op, seconds, **more):
    """A row as if it had been measured, with the same time in every round."""
    samples = {name: np.full(8, value) for name, value in seconds.items()}
    errors = dict.fromkeys(seconds, 1e-7)
    facts = {"flops": case.flops, "nbytes": 1000, "seconds": samples, "errors": errors, "loops_seconds": 5.0}
    return Row(case, op, "float32", "channels_first", **facts | more)


def report_of(*rows, rivals=()):
    limits = machine.Machine("a CPU", "avx2", 2, 2, "a system", "3.12", {"float32": 1e9}, 1e9, 2e-7)
    return Report(limits, "2026-01-02T03:04:05+00:00", 0.0, {"fastconv": fc.__version__}, {}, tuple(rivals), rows)
