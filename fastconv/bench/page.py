"""A run of the benchmark as one page of HTML that needs no network: `fastconv bench --html`.

`page.html` is the frame; here are its parts, from what `Report.as_dict` gives. A row's standing is "wrong", "lost",
"short" (below the target of its class) or "fine", by the rules of `targets`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from string import Template
from typing import Any

from .compare import Change, interval_text
from .compare import Comparison as RunComparison
from .roofline import roofline
from .targets import SHORT, TERMS, Comparison, comparisons, full_name, summaries
from .timing import Interval

JsonRow = Mapping[str, Any]
GIGA = 1e9
OURS = "fastconv"
STANDINGS = {"wrong": "wrong result", "lost": "lost to a peer", "short": "below its target", "fine": "fine"}
BAR_SHARE = 85
"""Per cent of the width that the longest bar takes: its figure stands behind it."""


@dataclass(frozen=True)
class Judged:
    """A row of the JSON with its standing and with its comparisons that miss something, worst first."""

    row: JsonRow
    standing: str
    missed: tuple[Comparison, ...]

    @property
    def name(self) -> str:
        return full_name(self.row)

    @property
    def badness(self) -> tuple[int, float]:
        """Sorts the worst rows first: by standing, then by the share of the target, or of a draw."""
        worst = min((_share_of_target(each) for each in self.missed), default=1.0)
        return list(STANDINGS).index(self.standing), worst


def judge(rows: Iterable[JsonRow]) -> list[Judged]:
    """Every row, worst first."""
    judged = []
    for row in rows:
        missed = sorted((each for each in comparisons([row]) if each.lost or each.short), key=_share_of_target)
        standing = "lost" if any(each.lost for each in missed) else "short" if missed else "fine"
        judged.append(Judged(row, "wrong" if row["wrong"] else standing, tuple(missed)))
    return sorted(judged, key=lambda each: each.badness)


def _share_of_target(each: Comparison) -> float:
    return each.ratio.median / (each.target or 1.0)


def page(run: Mapping[str, Any], comparison: RunComparison | None = None) -> str:
    """The whole page; with a comparison, what moved since an older run stands behind the worst rows."""
    rows = judge(run["rows"])
    parts = [
        _facts(run),
        _worst(rows),
        _moved(comparison) if comparison else "",
        _plot(run, rows),
        _classes(run["rows"]),
        _all_bars(run["rows"]),
        _table(rows, comparison),
    ]
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    subtitle = "Ratios are a rival's time over ours, with 95 % intervals; medians of interleaved rounds in one process."
    if run["settings"].get("quick"):
        subtitle = f"A quick run, not for quoting. {subtitle}"
    return template.substitute(date=escape(run["date"]), subtitle=subtitle, body="\n".join(filter(None, parts)))


# ------------------------------------------------------------------------------------------------------------ sections


def _facts(run: Mapping[str, Any]) -> str:
    machine, taken = run["machine"], run["cpus_taken_by_others"]
    facts = {
        "machine": f"{machine['cpu']}, {machine['cores']} CPUs, {machine['system']}",
        "instruction set": machine["isa"],
        "threads": str(machine["threads"]),
        **{f"FMA peak, {dtype}": f"{peak / GIGA:.0f} GFLOP/s" for dtype, peak in machine["fma_peak"].items()},
        "copy bandwidth": f"{machine['copy_bandwidth'] / GIGA:.1f} GB/s",
        "cache line between cores": f"{machine['ping_pong'] * 1e9:.0f} ns" if machine["ping_pong"] else "-",
        "date": run["date"],
        "CPUs taken by others": "unknown" if taken is None else f"{taken:.2f}",
        "Python": machine["python"],
        **run["versions"],
    }
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items())
    return f'<section aria-label="machine and versions"><dl class="facts">{items}</dl></section>'


def _moved(comparison: RunComparison) -> str:
    def lines(standing: str, changes: Sequence[Change]) -> list[list[str]]:
        return [
            [_head(c.row), _cell(f"{c.factor:.3g}", css=standing), *(_cell(interval_text(t)) for t in (c.new, c.old))]
            for c in changes
        ]

    heads = ("row", "times as long", "now", "before")
    slower, faster = lines("slower", comparison.slower), lines("faster", comparison.faster)
    caption = f"{len(comparison.changes)} rows in both runs; {comparison.noise_text()}."
    parts = [_grid(heads, slower, caption) if slower else f"<p>No row is slower. {caption}</p>"]
    if faster:
        parts.append(f"<details><summary>{len(faster)} rows are faster</summary>{_grid(heads, faster, '')}</details>")
    for which, names in (("old", comparison.only_old), ("new", comparison.only_new)):
        if names:
            parts.append(f"<p>{len(names)} rows only in the {which} run.</p>")
    return _section("What moved since the old run", "".join(parts))


def _worst(rows: Sequence[Judged]) -> str:
    bad = [each for each in rows if each.standing != "fine"]
    lines = []
    for each in bad:
        heading, standing = _head(each.name), _cell(STANDINGS[each.standing], css=each.standing)
        if each.row["wrong"]:
            why = "; ".join(f"{name}: {text}" for name, text in each.row["wrong"].items())
            lines.append([heading, _cell(why), _cell(""), _cell(""), standing])
        for missed in each.missed:
            target = "" if missed.target is None else f"{missed.target:.3g}"
            ratio = _cell(str(missed.ratio), missed.ratio.median)
            lines.append([heading, ratio, _cell(target), _cell(missed.terms.peer), standing])
    counts = {name: sum(each.standing == name for each in rows) for name in STANDINGS}
    summary = ", ".join(f"{counts[name]} {title}" for name, title in STANDINGS.items() if counts[name])
    caption = f"{summary}. Lost: the whole interval lies below 1. Below its target: less than {SHORT:.0%} of it."
    heads = ("row", "times faster", "target", "than", "standing")
    return _section("Worst rows", _grid(heads, lines, caption) if lines else f"<p>{caption}</p>")


def _plot(run: Mapping[str, Any], rows: Sequence[Judged]) -> str:
    points = [(each.row, each.name, each.standing) for each in rows if each.row["rate"]]
    caption = (
        "Every row: operations of the direct algorithm over bytes of operands and result, against operations a second. "
        "Above the roof are rows that stay in a cache, or whose algorithm saves multiplications. Circles: forward; "
        "squares: backward. Blue: fine; yellow: below target; orange: lost or wrong. Rest on a mark, or tap it, to "
        "see its name."
    )
    svg = roofline(run["machine"], points)
    plot = (f'<figure class="plot"><div class="wide">{svg}</div><p id="mark" role="status"></p>'
            f"<figcaption>{caption}</figcaption></figure>")
    return _section("Roofline", plot)


def _classes(rows: Sequence[JsonRow]) -> str:
    found = summaries(rows)
    terms = [t for t in TERMS if any(t in line.ratios for line in found)]
    if not terms:
        return ""
    lines = []
    for line in found:
        cells = []
        for t in terms:
            missed = t in line.ratios and line.ratios[t] < line.targets.get(t, 0.0)
            cells.append(_cell(line.cell(t), line.ratios.get(t, ""), "short" if missed else ""))
        counts = _cell(line.op), _cell(str(line.rows)), _cell(f"{line.share:.0%}")
        lines.append([_head(line.layer_class), *counts, *cells])
    heads = ("class", "op", "rows", "of limit", *(f"x {t.title}" for t in terms))
    return _section("Classes of layers", _grid(heads, lines, "Geometric means, and the target behind the stroke."))


def _all_bars(rows: Sequence[JsonRow]) -> str:
    """A chart for every op, memory order, dtype and kind of limit; the first one is open."""

    def key(row):
        return row["op"] != "forward", row["op"], row["dtype"], row["order"], row["unit"]

    timed = sorted((row for row in rows if row["rate"]), key=key)
    rivals = list(dict.fromkeys(name for row in timed for name in row["times_faster_than"]))
    charts = []
    for (_, op, dtype, order, unit), group in groupby(timed, key):
        limit = "convolutions" if unit == "FLOP/s" else "bound by memory"
        title = f"{op}, {dtype}, {order.replace('_', '-')}, {limit}"
        bars, opened = _bars(list(group), rivals, unit), "" if charts else " open"
        charts.append(f"<details{opened}><summary>{title}</summary>{bars}</details>")
    keys = [("ours", OURS), *((name, name) for name in rivals)]
    legend = "".join(f'<span><i class="c-{css}"></i>{escape(name)}</span>' for css, name in keys)
    return _section("Ours against each rival", f'<p class="key soft">{legend}</p>{"".join(charts)}')


def _bars(rows: Sequence[JsonRow], rivals: Sequence[str], unit: str) -> str:
    def rate(row, contender):
        return row["flops" if unit == "FLOP/s" else "bytes"] / row["seconds"][contender]["median"] / GIGA

    shown = [OURS, *rivals]
    longest = max(rate(row, name) for row in rows for name in shown if name in row["seconds"])
    parts = []
    for row in rows:
        bars = []
        for name in (name for name in shown if name in row["seconds"]):
            css, value = "ours" if name == OURS else name, rate(row, name)
            title = f"{name}: {value:.1f} G{unit.replace('bytes', 'B')}"
            bars.append(f'<div class="bar" title="{escape(title)}"><i class="c-{css}" style="width:'
                        f'{BAR_SHARE * value / longest:.1f}%"></i>{value:.0f}</div>')
        parts.append(f'<div>{escape(row["name"])}</div><div class="set">{"".join(bars)}</div>')
    return f'<div class="bars" role="group" aria-label="G{unit} of each contender">{"".join(parts)}</div>'


def _table(rows: Sequence[Judged], comparison: RunComparison | None) -> str:
    changes = {change.row: change for change in comparison.changes} if comparison else {}
    columns = _columns([each.row for each in rows], changes)
    heads = [f'<th scope="col"{css}><button type="button">{escape(name)}</button></th>' for name, css, _ in columns]
    lines, kinds = [], [_kinds(each) for each in rows]
    for each, values in zip(rows, kinds, strict=True):
        data = "".join(f' data-{key}="{escape(value)}"' for key, value in values.items())
        lines.append(f"<tr{data}>{''.join(cell(each) for _, _, cell in columns)}</tr>")
    table = (
        '<div class="wide tall" tabindex="0"><table id="rows">'
        f"{_caption('Worst first; press a heading to sort by it.')}"
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
    picks = [_pick(key, [values[key] for values in kinds]) for key in (kinds[0] if kinds else ())]
    find = '<label>find<input id="find" type="search" placeholder="resnet 3x3"></label>'
    count = '<span id="count" class="soft" role="status"></span>'
    return _section("All rows", f'<div class="controls">{find}{"".join(picks)}{count}</div>{table}')


def _kinds(each: Judged) -> dict[str, str]:
    """What rows are chosen by."""
    return {**{key: each.row[key] for key in ("op", "order", "dtype")}, "standing": each.standing}


def _columns(rows: Sequence[JsonRow], changes: Mapping[str, Change]) -> list[tuple[str, str, Callable[[Judged], str]]]:
    """Headings, their attributes, and what makes the cells below them."""

    def plain(key):
        return lambda each: _cell(str(each.row[key] or "-").replace("_", "-"), css="text")

    def rate(each):
        if not each.row["rate"]:
            return _cell("", "")
        value = each.row["rate"]["median"] / GIGA
        return _cell(f"{value:.1f} {'GFLOP/s' if each.row['unit'] == 'FLOP/s' else 'GB/s'}", value)

    def share(each):
        value = each.row["share_of_limit"]
        return _cell(f"{value:.0%}", value) if value else _cell("", "")

    def ratio(figures, peer):
        def cell(each):
            found = each.row[figures].get(peer)
            if not found:
                return _cell("", "")
            return _cell(str(Interval(**found)), found["median"], "lost" if found["high"] < 1 else "")

        return cell

    def change(each):
        found = changes.get(each.name)
        return _cell(f"{found.factor:.2f}", found.factor) if found else _cell("", "")

    def error(each):
        found = each.row["errors"].get(OURS)
        return _cell("", "") if found is None else _cell(f"{found:.0e}", found)

    text = ' class="text"'
    columns = [
        ("row", text, lambda each: _head(each.row["name"])),
        ("standing", text, lambda each: _cell(each.standing, css=f"text {each.standing}")),
        *((key, text, plain(key)) for key in ("op", "dtype", "order", "class")),
        ("speed", "", rate),
        ("of limit", "", share),
    ]
    for figures, suffix in (("times_faster_than", ""), ("times_faster_than_cold", " cold")):
        peers = dict.fromkeys(name for row in rows for name in row[figures])
        columns += [(f"x {peer}{suffix}", "", ratio(figures, peer)) for peer in peers]
    if changes:
        columns.append(("time now / before", "", change))
    return [*columns, ("error", "", error), ("algorithm", text, plain("algorithm")), ("source", text, plain("source"))]


# -------------------------------------------------------------------------------------------------------------- pieces


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _grid(heads: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    rows = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return (
        f'<div class="wide tall" tabindex="0"><table>{_caption(caption) if caption else ""}'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _caption(text: str) -> str:
    return f"<caption><span>{escape(text)}</span></caption>"


def _head(text: str) -> str:
    return f'<th scope="row">{escape(text)}</th>'


def _cell(text: str, value: float | str | None = None, css: str = "") -> str:
    """A cell that shows the text and is sorted by the value."""
    kind = f' class="{css}"' if css else ""
    sort = "" if value is None else f' data-value="{value}"'
    return f"<td{kind}{sort}>{escape(text)}</td>"


def _pick(key: str, values: Iterable[str]) -> str:
    names = map(escape, dict.fromkeys(values))
    options = "".join(f'<option value="{name}">{name.replace("_", "-")}</option>' for name in names)
    return f'<label>{key}<select data-key="{key}"><option value="">all</option>{options}</select></label>'
