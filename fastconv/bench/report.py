"""The findings as tables of text and as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ..console import table
from .contenders import Contender, FastconvGivenOut, FastconvPacked, VectorisedNumPy
from .machine import Machine
from .suite import Row
from .timing import Interval, median_interval

GIGA = 1e9
TITLES = {"numpy": "NumPy"}

LEGEND = """\
GFLOP/s    operations of the direct algorithm, padding taps counted, whatever algorithm ran; medians of interleaved
           rounds; results are fresh arrays, but for the columns 'out=' and 'packed' (weights packed before the clock
           starts, and out=)
95 %       the interval of that median, by order statistics
of peak    of the FMA peak above; more than 100 % is possible where an algorithm saves multiplications
GB/s       operands read once and result written once; 'of copy' compares with the copy bandwidth above, which rows
           that fit in a cache can exceed
x NumPy    times faster than vectorised NumPy (convolution by sliding_window_view and tensordot)
x peer     times faster than that library, with the 95 % interval of the ratios within rounds; lost: all of it below 1;
           ONNX Runtime and OpenVINO, which have seen the weights beforehand, are compared with 'packed'
x loops~   times faster than plain Python loops, timed on a cut-down layer and scaled by the number of operations
error      largest of the verified elements, relative to the largest value; beside ours that of each peer"""


@dataclass(frozen=True)
class Report:
    """One run: what it ran on, against whom, and its rows."""

    machine: Machine
    disturbance: float | None  # CPUs' worth of time that other work took meanwhile
    versions: dict[str, str]
    settings: dict[str, Any]
    rivals: tuple[Contender, ...]
    rows: tuple[Row, ...]

    def text(self) -> str:
        """Header, one table per dtype, memory order and kind of row, summary and legend."""
        parts = [self._header()]
        for (dtype, order), group in groupby(self.rows, lambda row: (row.dtype, row.order)):
            rows = list(group)
            for memory_bound in (False, True):
                chosen = [row for row in rows if row.case.memory_bound == memory_bound]
                if chosen:
                    bound = "memory-bound rows" if memory_bound else "convolutions"
                    parts.append(f"{bound}, {dtype}, {order.replace('_', '-')}\n{table(self._lines(chosen))}")
        wrong = [f"WRONG, not timed: {name}: {why}" for row in self.rows for name, why in row.wrong.items()]
        return "\n\n".join([*parts, *wrong, self._summary_text(), LEGEND])

    def write_json(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n")

    def as_dict(self) -> dict[str, Any]:
        """Everything, in seconds, FLOP/s and bytes a second."""
        return {
            "machine": asdict(self.machine),
            "cpus_taken_by_others": self.disturbance,
            "versions": self.versions,
            "settings": self.settings,
            "rows": [self._row_dict(row) for row in self.rows],
            "summary": self.summary(),
        }

    def summary(self) -> dict[str, Any]:
        """Geometric means and worst rows, against every rival and against the machine."""
        rows = [row for row in self.rows if "fastconv" in row.seconds]
        result: dict[str, Any] = {"rows": len(self.rows), "wrong": sum(bool(row.wrong) for row in self.rows)}
        for rival in self.rivals:
            found = [(row, row.times_faster(rival)) for row in rows if row.times_faster(rival)]
            if found:
                result[f"times_faster_than_{rival.name}"] = self._ratio_summary(found)
        for name, memory_bound in (("share_of_fma_peak", False), ("share_of_copy_bandwidth", True)):
            shares = {_full_name(row): self.share(row) for row in rows if row.case.memory_bound == memory_bound}
            if shares:
                worst = min(shares, key=shares.get)
                result[name] = {"geomean": _geomean(shares.values()), "worst": shares[worst], "worst_row": worst}
        return result

    def share(self, row: Row, contender: str = "fastconv") -> float:
        """Of what the machine can do: of its copy bandwidth in memory-bound rows, of its FMA peak in the others."""
        limit = self.machine.copy_bandwidth if row.case.memory_bound else self.machine.fma_peak[row.dtype]
        return row.rate(contender).median / limit

    @staticmethod
    def _ratio_summary(found: Sequence[tuple[Row, Interval]]) -> dict[str, Any]:
        row, worst = min(found, key=lambda item: item[1].median)
        ops = dict.fromkeys(row.op for row, _ in found)
        by_op = {op: _geomean(ratio.median for row, ratio in found if row.op == op) for op in ops}
        return {
            "rows": len(found),
            "geomean": _geomean(ratio.median for _, ratio in found),
            "geomean_by_op": by_op,
            "percentile_5": float(np.percentile([ratio.median for _, ratio in found], 5)),
            "worst": worst._asdict(),
            "worst_row": _full_name(row),
            "lost": [_full_name(row) for row, ratio in found if ratio.high < 1],
        }

    def _header(self) -> str:
        machine = self.machine
        peaks = ", ".join(f"{peak / GIGA:.0f} GFLOP/s in {dtype}" for dtype, peak in machine.fma_peak.items())
        ping_pong = f"{machine.ping_pong * 1e9:.0f} ns" if machine.ping_pong else "-"
        lines = [
            f"{machine.cpu}, {machine.cores} CPUs, threads: {machine.threads}, ISA {machine.isa}, {machine.system}",
            f"measured now: FMA peak {peaks}; copy {machine.copy_bandwidth / GIGA:.1f} GB/s read plus written; "
            f"cache line between two cores {ping_pong}",
            "; ".join(f"{name} {version}" for name, version in self.versions.items()),
        ]
        return "\n".join(lines)

    def _lines(self, rows: Sequence[Row]) -> list[list[str]]:
        """The cells of one table, heading first."""
        given = ["out=", "packed"] if self._has_packed else ["out="]
        unit, limit = ("GB/s", "of copy") if rows[0].case.memory_bound else ("GFLOP/s", "of peak")
        against = [f"x {TITLES.get(rival.name, rival.name)}" for rival in self.rivals]
        errors = ["error", *(f"error {TITLES.get(peer.name, peer.name)}" for peer in self._peers)]
        return [
            ["row", unit, "95 %", *given, limit, *against, "x loops~", *errors, "algorithm"],
            *(self._cells(row) for row in rows),
        ]

    @property
    def _peers(self) -> tuple[Contender, ...]:
        return tuple(rival for rival in self.rivals if rival.name != VectorisedNumPy.name)

    @property
    def _has_packed(self) -> bool:
        return any(FastconvPacked.name in row.seconds for row in self.rows)

    def _cells(self, row: Row) -> list[str]:
        if "fastconv" not in row.seconds:
            return [row.name, "WRONG", *[""] * (len(self.rivals) + len(self._peers) + 6 + self._has_packed)]
        given = [FastconvGivenOut.name, FastconvPacked.name] if self._has_packed else [FastconvGivenOut.name]
        low, rate, high = (end / GIGA for end in row.rate())
        return [
            row.name,
            f"{rate:.1f}",
            f"{low:.1f}-{high:.1f}",
            *(f"{row.rate(name).median / GIGA:.1f}" if name in row.seconds else "-" for name in given),
            f"{self.share(row):.0%}",
            *(_ratio_text(row.times_faster(rival), rival) for rival in self.rivals),
            f"{row.times_faster_than_loops():.2g}~".replace("e+0", "e"),
            *(_error_text(row.errors.get(name)) for name in ("fastconv", *(peer.name for peer in self._peers))),
            row.algorithm or "-",
        ]

    def _row_dict(self, row: Row) -> dict[str, Any]:
        timed = "fastconv" in row.seconds
        ratios = {rival.name: row.times_faster(rival) for rival in self.rivals}
        return {
            "name": row.case.name,
            "op": row.op,
            "dtype": row.dtype,
            "order": row.order,
            "family": row.case.family,
            "source": row.case.source,
            "flops": row.flops,
            "bytes": row.nbytes,
            "algorithm": row.algorithm,
            "seconds": {name: median_interval(samples)._asdict() for name, samples in row.seconds.items()},
            "rounds": len(row.seconds["fastconv"]) if timed else 0,
            "rate": row.rate()._asdict() if timed else None,
            "unit": "bytes/s" if row.case.memory_bound else "FLOP/s",
            "share_of_limit": self.share(row) if timed else None,
            "times_faster_than": {name: ratio._asdict() for name, ratio in ratios.items() if ratio},
            "loops_seconds_scaled": row.loops_seconds,
            "errors": row.errors,
            "wrong": row.wrong,
        }

    def _summary_text(self) -> str:
        summary = self.summary()
        lines = [f"{summary['rows']} rows, {summary['wrong']} with a wrong result"]
        for rival in self.rivals:
            if ratio := summary.get(f"times_faster_than_{rival.name}"):
                ops = ", ".join(f"{op} {value:.3g}" for op, value in ratio["geomean_by_op"].items())
                lines.append(
                    f"x {TITLES.get(rival.name, rival.name)}: geomean {ratio['geomean']:.3g} ({ops}); "
                    f"5th percentile {ratio['percentile_5']:.3g}; worst "
                    f"{_interval_text(Interval(**ratio['worst']))} in {ratio['worst_row']}; "
                    f"{len(ratio['lost'])} of {ratio['rows']} rows lost"
                )
        for key, title in (("share_of_fma_peak", "share of FMA peak"), ("share_of_copy_bandwidth", "share of copy")):
            if share := summary.get(key):
                lines.append(
                    f"{title}: geomean {share['geomean']:.1%}; worst {share['worst']:.1%} in {share['worst_row']}"
                )
        return "\n".join(lines)


def _ratio_text(ratio: Interval | None, rival: Contender) -> str:
    """The headline against NumPy is a round number; against a peer the interval decides who has won."""
    if ratio is None:
        return "-"
    return f"{ratio.median:.3g}" if rival.name == VectorisedNumPy.name else _interval_text(ratio)


def _error_text(error: float | None) -> str:
    return "-" if error is None else f"{error:.0e}"


def _interval_text(ratio: Interval) -> str:
    return f"{ratio.median:.3g} ({ratio.low:.3g}-{ratio.high:.3g})"


def _full_name(row: Row) -> str:
    return f"{row.name}, {row.dtype}, {row.order}"


def _geomean(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))
