"""What moved between two runs of the benchmark, and whether that is more than noise.

The interval of a row's median tells the noise within a run. What comes between two runs, another clock, other
neighbours, another layout of memory, the rivals tell whose version is the same in both: their code did not change, so
what they moved by is noise. A row has moved where its intervals lie further apart than 95 % of theirs do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..console import table
from .targets import full_name
from .timing import Interval

OURS = "fastconv"
NOISE_PERCENTILE = 95


@dataclass(frozen=True)
class Change:
    """One row in two runs, in seconds a call."""

    row: str
    old: Interval
    new: Interval

    @property
    def factor(self) -> float:
        """How many times as long it takes now."""
        return self.new.median / self.old.median

    @property
    def gap(self) -> float:
        """What the slower interval begins at over what the faster one ends at: at most 1 where the two overlap."""
        return max(self.new.low / self.old.high, self.old.low / self.new.high)


@dataclass(frozen=True)
class Comparison:
    """Two runs: the rows that both have, and the noise between the runs, as a gap."""

    changes: tuple[Change, ...]
    noise: float
    witnesses: int  # rows of rivals that the noise was learnt from
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]

    def moved(self, change: Change) -> bool:
        return change.gap > self.noise

    @property
    def slower(self) -> list[Change]:
        """The regressions, worst first."""
        found = [change for change in self.changes if self.moved(change) and change.factor > 1]
        return sorted(found, key=lambda change: -change.factor)

    @property
    def faster(self) -> list[Change]:
        found = [change for change in self.changes if self.moved(change) and change.factor < 1]
        return sorted(found, key=lambda change: change.factor)

    def noise_text(self) -> str:
        if not self.witnesses:
            return "no rival of the same version in both runs: noise between the runs is not known"
        return f"noise between the runs: {self.noise - 1:.1%} beyond the intervals, by {self.witnesses} rows of rivals"

    def text(self) -> str:
        lines = [f"{len(self.changes)} rows in both runs; {self.noise_text()}"]
        for title, changes in (("slower", self.slower), ("faster", self.faster)):
            lines.append(f"{title}: {len(changes)}")
            if changes:
                rows = [["row", "before", "now", "times as long"]]
                rows += [[c.row, *map(interval_text, (c.old, c.new)), f"{c.factor:.3g}"] for c in changes]
                lines.append(table(rows))
        for title, names in (("only in the old run", self.only_old), ("only in the new run", self.only_new)):
            if names:
                lines.append(f"{title}: {len(names)} rows")
        return "\n".join(lines)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Two runs as `Report.as_dict` gives them."""
    before, now = ({full_name(row): row["seconds"] for row in run["rows"]} for run in (old, new))
    both = [name for name in now if name in before]
    versions = new["versions"].items() & old["versions"].items()
    same = [rival for rival, _ in versions if rival != OURS]

    def changed(contenders):
        pairs = [(name, contender) for name in both for contender in contenders]
        return [_change(name, before[name][who], now[name][who]) for name, who in pairs
                if who in before[name] and who in now[name]]

    changes, witnesses = changed([OURS]), changed(same)
    noise = float(np.percentile([change.gap for change in witnesses], NOISE_PERCENTILE)) if witnesses else 1.0
    only_old = tuple(name for name in before if name not in now)
    only_new = tuple(name for name in now if name not in before)
    return Comparison(tuple(changes), max(1.0, noise), len(witnesses), only_old, only_new)


def _change(name: str, before: Mapping[str, float], now: Mapping[str, float]) -> Change:
    return Change(name, Interval(**before), Interval(**now))


def interval_text(seconds: Interval) -> str:
    unit, scale = ("ms", 1e3) if seconds.median >= 1e-3 else ("us", 1e6)
    return f"{seconds.median * scale:.3g} {unit} ({seconds.low * scale:.3g}-{seconds.high * scale:.3g})"
