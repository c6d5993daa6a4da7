"""The documentation's table: one or several runs of `fastconv bench --json` as a page of Markdown.

    python -m fastconv.bench.document RUN.json ... --reasons docs/benchmark-reasons.toml > docs/benchmarks.md

Runs may differ in rows, dtypes, memory orders and peers. A row that several have is taken from the first, with those
peers of the others that are missing there. What the figures can't say, why a row misses its target, stands in the file
of reasons, which no run changes.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

from .targets import (
    SHORT,
    TERMS,
    ClassSummary,
    Comparison,
    Terms,
    comparisons,
    double_shares,
    full_name,
    geomean,
    summaries,
)
from .timing import Interval

JsonRow = Mapping[str, Any]
GIGA = 1e9
PEERS = tuple(dict.fromkeys(terms.peer for terms in TERMS))

HEAD = f"""\
# Benchmarks

Written by `python -m fastconv.bench.document` from the JSON of `fastconv bench`;
[benchmarks/README.md](../benchmarks/README.md) tells what is measured and why it is fair. Ratios are the peer's time
over ours, from interleaved rounds in one process, with their 95 % intervals: plain calls against PyTorch in the same
memory order, weights packed beforehand against ONNX Runtime and OpenVINO. `backward` is dx, dw and db in one call.
Shares above 100 % of the FMA peak come from algorithms that save multiplications; operations are counted as the direct
algorithm's. `of limit` is the share of the FMA peak, or of the copy bandwidth in classes that memory bounds.

A class reaches its target where the geometric mean does (bold where it doesn't) and no row stays below {SHORT:.0%} of
it. A row is lost where its whole interval against some peer lies below 1."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastconv.bench.document", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json")
    parser.add_argument("--reasons", type=Path, metavar="FILE.toml", help="why rows miss their targets")
    options = parser.parse_args(argv)
    runs = [json.loads(path.read_text()) for path in options.runs]
    reasons = Reasons(tomllib.loads(options.reasons.read_text()).get("reason", ()) if options.reasons else ())
    print(document(runs, reasons))
    for pattern in reasons.unused():
        print(f"{options.reasons}: {pattern!r} meets no row that misses its target", file=sys.stderr)
    return 0


class Reasons:
    """Why rows miss their targets: a list of `{"rows": shell pattern, "why": text}`, of which the first counts."""

    def __init__(self, entries: Iterable[Mapping[str, str]] = ()):
        self.entries = list(entries)
        self.used: set[str] = set()

    def of(self, row: str) -> str:
        """The reason for a row, "not known" where no pattern meets its full name."""
        for entry in self.entries:
            if fnmatchcase(row, entry["rows"]):
                self.used.add(entry["rows"])
                return entry["why"]
        return "not known"

    def unused(self) -> list[str]:
        return [entry["rows"] for entry in self.entries if entry["rows"] not in self.used]


def document(runs: Sequence[Mapping[str, Any]], reasons: Reasons) -> str:
    """The page, from what `Report.as_dict` wrote."""
    rows = join(runs)
    compared = comparisons(rows)
    parts = [
        HEAD,
        f"## Runs\n\n{_runs(runs)}",
        f"## Classes of layers\n\n{_classes(rows, compared)}",
        f"## Rows that miss their target\n\n{_short(compared, reasons)}",
        f"## Rows lost\n\n{_lost(compared, reasons)}",
        *_all_rows(rows),
    ]
    return "\n\n".join(parts)


def join(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all runs, each once; those that were wrong and so have no times are left out."""
    joined: dict[str, dict[str, Any]] = {}
    for row in (row for run in runs for row in run["rows"] if row["rate"]):
        first = joined.setdefault(full_name(row), dict(row))
        for figures in ("times_faster_than", "times_faster_than_cold", "errors", "seconds", "seconds_cold"):
            first[figures] = row[figures] | first[figures]
    return list(joined.values())


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    lines = [["date", "machine", "FMA peak", "copy", "cache line between cores", "CPUs taken by others", "versions"]]
    for run in runs:
        machine, taken = run["machine"], run["cpus_taken_by_others"]
        lines.append(
            [
                run["date"],
                f"{machine['cpu']}, {machine['cores']} CPUs, {machine['threads']} threads, {machine['isa']}, "
                f"{machine['system']}, Python {machine['python']}",
                ", ".join(f"{peak / GIGA:.0f} GFLOP/s {dtype}" for dtype, peak in machine["fma_peak"].items()),
                f"{machine['copy_bandwidth'] / GIGA:.1f} GB/s",
                f"{machine['ping_pong'] * 1e9:.0f} ns",
                "unknown" if taken is None else f"{taken:.2f}",
                ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
            ]
        )
    return _table(lines)


def _classes(rows: Sequence[JsonRow], compared: Sequence[Comparison]) -> str:
    terms = [t for t in TERMS if any(c.terms == t for c in compared)]
    lines = [["class", "op", "rows", "of limit", *(f"x {t.title}" for t in terms)]]
    for line in summaries(rows):
        cells = (_class_cell(line, t) for t in terms)
        lines.append([line.layer_class, line.op, str(line.rows), f"{line.share:.0%}", *cells])
    text = _table(lines)
    if shares := double_shares(rows):
        text += f"\n\nOther rows in float64 have {geomean(shares.values()):.2f} of the share of peak of float32."
    return text


def _class_cell(line: ClassSummary, terms: Terms) -> str:
    missed = terms in line.ratios and line.ratios[terms] < line.targets.get(terms, 0.0)
    return f"**{line.cell(terms)}**" if missed else line.cell(terms)


def _short(compared: Sequence[Comparison], reasons: Reasons) -> str:
    short = [c for c in compared if c.short]
    lines = [["row", "peer", "ratio", "target", "reason"]]
    lines += [[c.row, c.terms.peer, str(c.ratio), f"{c.target:.3g}", reasons.of(c.row)] for c in short]
    return f"Below {SHORT:.0%} of the target of their class: {len(short)} of {len(compared)} comparisons." + (
        f"\n\n{_table(lines)}" if short else ""
    )


def _lost(compared: Sequence[Comparison], reasons: Reasons) -> str:
    lost = [c for c in compared if c.lost]
    lines = [["row", "peer", "ratio", "reason"]]
    lines += [[c.row, c.terms.peer, str(c.ratio), reasons.of(c.row)] for c in lost]
    return _table(lines) if lost else "None."


def _all_rows(rows: Sequence[JsonRow]) -> list[str]:
    """A section for every dtype, memory order and kind of limit."""

    def key(row):
        return row["dtype"], row["order"], row["unit"]

    sections = []
    for (dtype, order, unit), group in groupby(sorted(rows, key=key), key):
        kind = "convolutions" if unit == "FLOP/s" else "bound by memory"
        chosen = list(group)
        columns = [(head, cell) for head, cell in _columns(unit) if any(cell(row) != "-" for row in chosen)]
        lines = [[head for head, _ in columns], *([cell(row) for _, cell in columns] for row in chosen)]
        sections.append(f"## All rows: {dtype}, {order.replace('_', '-')}, {kind}\n\n{_table(lines)}")
    return sections


def _columns(unit: str) -> list[tuple[str, Callable[[JsonRow], str]]]:
    """Headings, and what stands below them; "-" where a row has nothing there."""

    def rate(contender, seconds="seconds"):
        def cell(row):
            work = row["flops" if unit == "FLOP/s" else "bytes"]
            return f"{work / row[seconds][contender]['median'] / GIGA:.1f}" if contender in row[seconds] else "-"

        return cell

    def of(figures, name, text):
        return lambda row: text(row[figures][name]) if name in row[figures] else "-"

    def ratio(found):
        return str(Interval(**found))

    return [
        ("row", lambda row: f"{row['name']} {row['op']}"),
        ("class", lambda row: row["class"] or "-"),
        ("GFLOP/s" if unit == "FLOP/s" else "GB/s", rate("fastconv")),
        ("out=", rate("fastconv out=")),
        ("packed", rate("fastconv packed")),
        ("cold", rate("fastconv", "seconds_cold")),
        ("of peak" if unit == "FLOP/s" else "of copy", lambda row: f"{row['share_of_limit']:.0%}"),
        *((f"x {peer}", of("times_faster_than", peer, ratio)) for peer in PEERS),
        *((f"x {peer} cold", of("times_faster_than_cold", peer, ratio)) for peer in PEERS),
        ("x NumPy", of("times_faster_than", "numpy", lambda ratio: f"{ratio['median']:.3g}")),
        ("error", of("errors", "fastconv", "{:.0e}".format)),
        *((f"error {peer}", of("errors", peer, "{:.0e}".format)) for peer in PEERS),
        ("algorithm", lambda row: row["algorithm"] or "-"),
    ]


def _table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is the heading."""
    heading, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([heading, f"|{'---|' * len(lines[0])}", *body])


if __name__ == "__main__":
    sys.exit(main())
