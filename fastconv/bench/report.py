"""The findings as tables of text and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby, product
from typing import Any

import numpy as np

from ..console import table
from .contenders import Contender, FastconvGivenOut, FastconvPacked, VectorisedNumPy
from .machine import Machine
from .network_suite import OURS, NetworkRow
from .suite import Row
from .targets import SHORT, TERMS, class_of, comparisons, double_shares, geomean, summaries
from .timing import Interval, median_intervals

GIGA = 1e9
TITLES = {"numpy": "NumPy"}

LEGEND = """\
GFLOP/s    operations of the direct algorithm, padding taps counted, whatever algorithm ran; medians of interleaved
           rounds; results are fresh arrays, but for the columns 'out=' and 'packed' (weights packed before the clock
           starts, and out=)
95 %       the interval of that median, by order statistics
cold       the same with empty caches: before each call on the clock, every thread has read more memory than they hold
of peak    of the FMA peak above; more than 100 % is possible where an algorithm saves multiplications
GB/s       operands read once and result written once; 'of copy' compares with the copy bandwidth above, which rows
           that fit in a cache can exceed
x NumPy    times faster than vectorised NumPy (convolution by sliding_window_view and tensordot)
backward   dx, dw and db in one call, twice the operations of forward
x peer     times faster than that library, with the 95 % interval of the ratios within rounds; lost: all of it below 1;
           ONNX Runtime and OpenVINO, which have seen the weights beforehand, are compared with 'packed'
x loops~   times faster than plain Python loops, timed on a cut-down layer and scaled by the number of operations
error      largest of the verified elements, relative to the largest value; beside ours that of each peer"""


@dataclass(frozen=True)
class Report:
    """One run: what it ran on, against whom, and its rows."""

    machine: Machine
    date: str  # of its beginning, ISO 8601
    disturbance: float | None  # CPUs' worth of time that other work took meanwhile
    versions: dict[str, str]
    settings: dict[str, Any]
    rivals: tuple[Contender, ...]
    rows: tuple[Row, ...]
    networks: tuple[NetworkRow, ...] = ()

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
        if self.networks:
            parts.append(f"whole networks, each contender in its best memory order\n{table(self._network_lines())}")
        found = (*self.rows, *self.networks)
        wrong = [f"WRONG, not timed: {name}: {why}" for row in found for name, why in row.wrong.items()]
        if not self.rows:
            return "\n\n".join([*parts, *wrong])
        return "\n\n".join([*parts, *wrong, *self._class_texts(), self._summary_text(), LEGEND])

    def as_dict(self) -> dict[str, Any]:
        """Everything, in seconds, FLOP/s and bytes a second."""
        return {
            "machine": asdict(self.machine),
            "date": self.date,
            "cpus_taken_by_others": self.disturbance,
            "versions": self.versions,
            "settings": self.settings,
            "rows": [self._row_dict(row) for row in self.rows],
            "networks": [row.as_dict([rival.name for rival in self.rivals]) for row in self.networks],
            "summary": self.summary(),
        }

    def summary(self) -> dict[str, Any]:
        """Geometric means and worst rows, against every rival and against the machine."""
        rows = [row for row in self.rows if "fastconv" in row.seconds]
        result: dict[str, Any] = {"rows": len(self.rows), "wrong": sum(bool(row.wrong) for row in self.rows)}
        for rival in self.rivals:
            for suffix, cold in (("", False), ("_cold", True)):
                ratios = [(row, row.times_faster(rival, cold)) for row in rows]
                if found := [(row, ratio) for row, ratio in ratios if ratio]:
                    result[f"times_faster_than_{rival.name}{suffix}"] = self._ratio_summary(found)
        for name, memory_bound in (("share_of_fma_peak", False), ("share_of_copy_bandwidth", True)):
            shares = {_full_name(row): self.share(row) for row in rows if row.case.memory_bound == memory_bound}
            if shares:
                worst = min(shares, key=shares.get)
                result[name] = {"geomean": geomean(shares.values()), "worst": shares[worst], "worst_row": worst}
        return result

    def share(self, row: Row, contender: str = "fastconv") -> float:
        """Of what the machine can do: of its copy bandwidth in memory-bound rows, of its FMA peak in the others."""
        limit = self.machine.copy_bandwidth if row.case.memory_bound else self.machine.fma_peak[row.dtype]
        return row.rate(contender).median / limit

    @staticmethod
    def _ratio_summary(found: Sequence[tuple[Row, Interval]]) -> dict[str, Any]:
        row, worst = min(found, key=lambda item: item[1].median)
        ops = dict.fromkeys(row.op for row, _ in found)
        by_op = {op: geomean(ratio.median for row, ratio in found if row.op == op) for op in ops}
        return {
            "rows": len(found),
            "geomean": geomean(ratio.median for _, ratio in found),
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
            f"{machine.cpu}, {machine.cores} CPUs, threads: {machine.threads}, ISA {machine.isa}, {machine.system}, "
            f"Python {machine.python}, {self.date}",
            f"measured now: FMA peak {peaks}; copy {machine.copy_bandwidth / GIGA:.1f} GB/s read plus written; "
            f"cache line between two cores {ping_pong}",
            "; ".join(f"{name} {version}" for name, version in self.versions.items()),
        ]
        return "\n".join(lines)

    def _lines(self, rows: Sequence[Row]) -> list[list[str]]:
        """The cells of one table, heading first."""
        columns = self._columns(rows[0].case.memory_bound)
        lines = [[heading for heading, _ in columns]]
        for row in rows:
            if "fastconv" in row.seconds:
                lines.append([cell(row) for _, cell in columns])
            else:
                lines.append([row.name, "WRONG", *[""] * (len(columns) - 2)])
        return lines

    def _network_lines(self) -> list[list[str]]:
        peers = [rival.name for rival in self.rivals if any(row.best(rival.name) for row in self.networks)]
        lines = [["network", "ms", "order", *(f"{peer} ms" for peer in peers), *(f"x {peer}" for peer in peers),
                  "target", "error"]]
        for row in self.networks:
            best, ratios = row.best(OURS), [row.times_faster(peer) for peer in peers]
            lines.append([
                row.name,
                *([_milliseconds(row, OURS), best.partition(", ")[2]] if best else ["WRONG", ""]),
                *(_milliseconds(row, peer) for peer in peers),
                *(str(ratio) if ratio else "-" for ratio in ratios),
                f"{row.case.target:.3g}",
                f"{max(row.errors.values(), default=0):.0e}",
            ])
        return lines

    def _columns(self, memory_bound: bool) -> list[tuple[str, Callable[[Row], str]]]:
        """Headings, and what stands below them; columns that would be empty are left out."""
        unit, limit = ("GB/s", "of copy") if memory_bound else ("GFLOP/s", "of peak")
        packed = any(FastconvPacked.name in row.seconds for row in self.rows)
        cold = any(row.cold_seconds for row in self.rows)
        peers = [rival for rival in self.rivals if rival.name != VectorisedNumPy.name]
        columns = [
            ("row", lambda row: row.name),
            (unit, partial(_rate_text, contender="fastconv")),
            ("95 %", lambda row: f"{row.rate().low / GIGA:.1f}-{row.rate().high / GIGA:.1f}"),
            ("out=", partial(_rate_text, contender=FastconvGivenOut.name)),
        ]
        if packed:
            columns.append(("packed", partial(_rate_text, contender=FastconvPacked.name)))
        if cold:
            columns.append(("cold", partial(_rate_text, contender="fastconv", cold=True)))
        columns.append((limit, lambda row: f"{self.share(row):.0%}"))
        columns += [(f"x {_title(rival)}", partial(_ratio_text, rival=rival)) for rival in self.rivals]
        if cold:
            columns += [(f"x {_title(peer)} cold", partial(_ratio_text, rival=peer, cold=True)) for peer in peers]
        columns.append(("x loops~", lambda row: f"{row.times_faster_than_loops():.2g}~".replace("e+0", "e")))
        columns.append(("error", partial(_error_text, contender="fastconv")))
        columns += [(f"error {_title(peer)}", partial(_error_text, contender=peer.name)) for peer in peers]
        return [*columns, ("algorithm", lambda row: row.algorithm or "-")]

    def _row_dict(self, row: Row) -> dict[str, Any]:
        timed = "fastconv" in row.seconds
        warm, cold = ({rival.name: row.times_faster(rival, cold) for rival in self.rivals} for cold in (False, True))
        return {
            "name": row.case.name,
            "op": row.op,
            "dtype": row.dtype,
            "order": row.order,
            "class": class_of(row.case, row.dtype),
            "family": row.case.family,
            "source": row.case.source,
            "flops": row.flops,
            "bytes": row.nbytes,
            "algorithm": row.algorithm,
            "seconds": median_intervals(row.seconds),
            "seconds_cold": median_intervals(row.cold_seconds),
            "rounds": len(row.seconds["fastconv"]) if timed else 0,
            "rate": row.rate()._asdict() if timed else None,
            "unit": "bytes/s" if row.case.memory_bound else "FLOP/s",
            "share_of_limit": self.share(row) if timed else None,
            "times_faster_than": {name: ratio._asdict() for name, ratio in warm.items() if ratio},
            "times_faster_than_cold": {name: ratio._asdict() for name, ratio in cold.items() if ratio},
            "loops_seconds_scaled": row.loops_seconds,
            "errors": row.errors,
            "wrong": row.wrong,
        }

    def _class_texts(self) -> list[str]:
        """What peers the classes of layers are how far ahead of, and the rows that are not."""
        rows = [self._row_dict(row) for row in self.rows]
        compared = comparisons(rows)
        if not compared:
            return []
        terms = [t for t in TERMS if any(c.terms == t for c in compared)]
        lines = [["class", "op", "rows", "of limit", *(f"x {t.title}" for t in terms)]]
        for line in summaries(rows):
            cells = (line.cell(t) for t in terms)
            lines.append([line.layer_class, line.op, str(line.rows), f"{line.share:.0%}", *cells])
        texts = [f"classes of layers: geomeans, and the target behind the stroke\n{table(lines)}"]
        if shares := double_shares(rows):
            texts.append(f"float64 has {geomean(shares.values()):.2f} of the share of peak that float32 has")
        short = [c for c in compared if c.short]
        texts.append(f"rows under {SHORT:.0%} of the target of their class: {len(short)}")
        texts += [f"  {c.row}: x {c.terms.peer} {c.ratio.median:.3g}, target {c.target:.3g}" for c in short]
        lost = [c for c in compared if c.lost]
        texts.append(f"rows lost to a peer: {len(lost)}")
        texts += [f"  {c.row}: x {c.terms.peer} {c.ratio}" for c in lost]
        return [texts[0], "\n".join(texts[1:])]

    def _summary_text(self) -> str:
        summary = self.summary()
        rows = f"{summary['rows']} row{'' if summary['rows'] == 1 else 's'}"
        lines = [f"{rows}, {summary['wrong']} with a wrong result"]
        for rival, suffix in product(self.rivals, ("", "_cold")):
            if ratio := summary.get(f"times_faster_than_{rival.name}{suffix}"):
                ops = ", ".join(f"{op} {value:.3g}" for op, value in ratio["geomean_by_op"].items())
                lines.append(
                    f"x {_title(rival)}{suffix.replace('_', ' ')}: geomean {ratio['geomean']:.3g} ({ops}); "
                    f"5th percentile {ratio['percentile_5']:.3g}; "
                    f"worst {Interval(**ratio['worst'])} in {ratio['worst_row']}; "
                    f"{len(ratio['lost'])} of {ratio['rows']} rows lost"
                )
        for key, title in (("share_of_fma_peak", "share of FMA peak"), ("share_of_copy_bandwidth", "share of copy")):
            if share := summary.get(key):
                lines.append(
                    f"{title}: geomean {share['geomean']:.1%}; worst {share['worst']:.1%} in {share['worst_row']}"
                )
        return "\n".join(lines)


def _milliseconds(row: NetworkRow, contender: str) -> str:
    best = row.best(contender)
    return f"{np.median(row.seconds[best]) * 1e3:.2f}" if best else "-"


def _title(rival: Contender) -> str:
    return TITLES.get(rival.name, rival.name)


def _rate_text(row: Row, contender: str, cold: bool = False) -> str:
    timed = row.cold_seconds if cold else row.seconds
    return f"{row.rate(contender, cold).median / GIGA:.1f}" if contender in timed else "-"


def _ratio_text(row: Row, rival: Contender, cold: bool = False) -> str:
    """The headline against NumPy is a round number; against a peer the interval decides who has won."""
    ratio = row.times_faster(rival, cold)
    if ratio is None:
        return "-"
    return f"{ratio.median:.3g}" if rival.name == VectorisedNumPy.name else str(ratio)


def _error_text(row: Row, contender: str) -> str:
    return f"{row.errors[contender]:.0e}" if contender in row.errors else "-"


def _full_name(row: Row) -> str:
    return f"{row.name}, {row.dtype}, {row.order}"
