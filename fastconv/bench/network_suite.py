"""Runs whole networks: all contenders from the same weights, verified, then timed in turn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .contenders import Contender, VectorisedNumPy
from .network_peers import our_calls, peer_calls
from .networks import INFERENCE, NetworkCase
from .timing import Interval, Schedule, interleave, median_intervals, times_faster

OURS = "fastconv"
LOSSES = 3
"""Steps whose losses verify training: the second loss depends on the gradients of the first."""

TOLERANCE = {True: 1e-4, False: 5e-4}
"""Of outputs (relative to the largest), and of losses, where rounding grows from step to step; by `op == INFERENCE`."""


@dataclass
class NetworkRow:
    """What was found out about one network; contenders are called by their name and memory order.

    Attributes
    ----------
    errors
        The largest relative deviation from the plain network of this package.
    """

    case: NetworkCase
    seconds: dict[str, np.ndarray] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.case.name

    def best(self, contender: str) -> str | None:
        """A contender in the memory order that serves it best, None where it took no part."""
        orders = [name for name in self.seconds if name.partition(",")[0] == contender]
        return min(orders, key=lambda name: np.median(self.seconds[name]), default=None)

    def times_faster(self, contender: str) -> Interval | None:
        """How many times faster we are, both in their best memory order."""
        ours, theirs = self.best(OURS), self.best(contender)
        return times_faster(self.seconds[ours], self.seconds[theirs]) if ours and theirs else None

    def as_dict(self, rivals: Sequence[str]) -> dict[str, Any]:
        ratios = {name: self.times_faster(name) for name in rivals}
        return {
            "name": self.case.name,
            "network": self.case.network,
            "op": self.case.op,
            "batch": self.case.batch,
            "samples": self.case.samples,
            "source": self.case.source,
            "target": self.case.target,
            "seconds": median_intervals(self.seconds),
            "times_faster_than": {name: ratio._asdict() for name, ratio in ratios.items() if ratio},
            "errors": self.errors,
            "wrong": self.wrong,
        }


def run_networks(
    cases: Iterable[NetworkCase], contenders: Sequence[Contender], schedule: Schedule
) -> Iterator[NetworkRow]:
    """Yield row after row; `contenders` have been started, and those that know no networks are left out."""
    peers = [peer for peer in contenders if not isinstance(peer, VectorisedNumPy)]
    for case in cases:
        calls = {f"{OURS}, {order}": call for order, call in our_calls(case).items()}
        pauses = {}
        for peer in peers:
            for order, call in peer_calls(peer, case).items():
                calls[f"{peer.name}, {order}"] = call
                pauses[f"{peer.name}, {order}"] = peer.pause_seconds
        row = NetworkRow(case)
        expected = _expected(case)
        right = {name: call for name, call in calls.items() if _is_right(name, call, expected, row)}
        row.seconds = interleave(right, schedule, pauses)
        yield row


def _expected(case: NetworkCase) -> np.ndarray:
    """Outputs of the plain network in inference, or its first losses in training."""
    if case.op == INFERENCE:
        return case.model()(case.data()[0])
    return _losses(next(iter(our_calls(case).values())))


def _losses(call) -> np.ndarray:
    return np.array([call() for _ in range(LOSSES)])


def _is_right(name: str, call, expected: np.ndarray, row: NetworkRow) -> bool:
    inference = row.case.op == INFERENCE
    got = np.asarray(call() if inference else _losses(call))
    if got.shape != expected.shape or not np.isfinite(got).all():
        row.wrong[name] = f"got shape {got.shape}, expected {expected.shape} and finite values"
        return False
    row.errors[name] = float(np.abs(got - expected).max() / np.abs(expected).max())
    if row.errors[name] > TOLERANCE[inference]:
        row.wrong[name] = f"off by {row.errors[name]:.1e} of the largest value"
    return name not in row.wrong
