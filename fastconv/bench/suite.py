"""Runs the rows: build the problem, verify every contender, time them all in turn."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import loops
from .cases import Case
from .contenders import Contender, Fastconv
from .problems import Problem, make
from .timing import Interval, Schedule, interleave, median_interval, times_faster
from .verify import WrongResult, check

RowKey = tuple[Case, str, str, str]


@dataclass
class Row:
    """What was measured of one problem, without its arrays.

    Attributes
    ----------
    algorithm
        What our timed call used, by its own account; empty where there is no choice.
    seconds
        By contender, one entry a round; those whose result was right.
    cold_seconds
        The same with empty caches; an empty dict without `--cold`.
    errors
        By contender, max|e| / max|y| over the verified elements.
    wrong
        By contender, what is wrong with its result; such a contender isn't timed.
    loops_seconds
        Plain Python loops, timed on a cut-down layer and scaled.
    """

    case: Case
    op: str
    dtype: str
    order: str
    flops: int
    nbytes: int
    algorithm: str = ""
    seconds: dict[str, np.ndarray] = field(default_factory=dict)
    cold_seconds: dict[str, np.ndarray] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    loops_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.case.name} {self.op}"

    def time(self, contender: str = "fastconv", cold: bool = False) -> Interval:
        return median_interval((self.cold_seconds if cold else self.seconds)[contender])

    def rate(self, contender: str = "fastconv", cold: bool = False) -> Interval:
        """Bytes a second in memory-bound rows, FLOP/s in the others."""
        work = self.nbytes if self.case.memory_bound else self.flops
        low, median, high = self.time(contender, cold)
        return Interval(work / high, work / median, work / low)

    def times_faster(self, rival: Contender, cold: bool = False) -> Interval | None:
        """How many times faster we are, on the rival's terms; None where either has no time."""
        seconds = self.cold_seconds if cold else self.seconds
        if rival.name not in seconds or rival.rival_of not in seconds:
            return None
        return times_faster(seconds[rival.rival_of], seconds[rival.name])

    def times_faster_than_loops(self) -> float:
        return self.loops_seconds / self.time().median


def row_keys(cases: Iterable[Case], ops: Sequence[str], dtypes: Sequence[str], orders: Sequence[str]) -> list[RowKey]:
    """Every combination that exists, those of one dtype and order together."""
    cases = tuple(cases)
    return [
        (case, op, dtype, order)
        for dtype in dtypes
        for order in orders
        for case in cases
        for op in ops
        if op in case.ops
    ]


def run(
    keys: Iterable[RowKey],
    ours: Fastconv,
    contenders: Sequence[Contender],
    schedule: Schedule,
    flush: Callable[[], Any] | None = None,
) -> Iterator[Row]:
    """Yield row after row; a problem that `ours` has no call for (a named algorithm can't serve it) gives none.

    With `flush`, which empties the caches, contenders that take part in cold rounds are timed a second time, for a
    third of the time: a sample is one call there, and medians of few samples do for a column beside the main one.
    """
    cold_schedule = replace(schedule, row_seconds=schedule.row_seconds / 3)
    in_cold = {contender.name for contender in contenders if contender.in_cold_rounds}
    pauses = {contender.name: contender.pause_seconds for contender in contenders}
    for key in keys:
        problem = make(*key)
        row = Row(*key, flops=problem.flops, nbytes=problem.nbytes)
        calls = _verified_calls(problem, contenders, row)
        if ours.name not in calls and ours.name not in row.wrong:
            continue
        row.algorithm = ours.plan(problem)
        row.seconds = interleave(calls, schedule, pauses)
        if flush:
            cold_calls = {name: call for name, call in calls.items() if name in in_cold}
            row.cold_seconds = interleave(cold_calls, cold_schedule, pauses, flush)
        row.loops_seconds = loops.scaled_seconds(problem.case, problem.op)
        yield row


def _verified_calls(problem: Problem, contenders: Sequence[Contender], row: Row) -> dict:
    """The calls to be timed: those of the contenders that can do the problem and do it right."""
    calls = {}
    for contender in contenders:
        call = contender.prepare(problem)
        if call is None:
            continue
        try:
            row.errors[contender.name] = check(problem, contender.to_numpy(call()))
        except WrongResult as wrong:
            row.wrong[contender.name] = str(wrong)
        else:
            calls[contender.name] = call
    return calls
