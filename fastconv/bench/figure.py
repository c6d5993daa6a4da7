"""A run of the benchmark as a picture, by matplotlib: `fastconv bench --png`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .page import Judged, judge
from .roofline import intensity, speed
from .targets import TERMS, summaries

GIGA = 1e9
COLOURS = {"fine": "#0072b2", "short": "#e69f00", "lost": "#d55e00", "wrong": "#d55e00"}
PEER_COLOURS = ("#cc79a7", "#882255", "#009e73", "#56b4e9")
MARKS = {"forward": "o", "backward": "s"}


def draw(path: Path, run: Mapping[str, Any]) -> None:
    """The roofline, and the geometric means of the classes of layers against each peer.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("--png needs matplotlib: pip install 'fastconv[demo]'") from error
    compared = [line for line in summaries(run["rows"])[::-1] if line.ratios]
    heights = (6, 8) if compared else (6,)
    figure = Figure(figsize=(12, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    roof, *classes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    machine = run["machine"]
    figure.suptitle(f"fastconv bench, {run['date']}, {machine['cpu']}, {machine['isa']}, {machine['threads']} threads")
    _roofline(roof, machine, judge(run["rows"]))
    if compared:
        _classes(classes[0], compared)
    figure.savefig(path, format="png", dpi=100)


def _roofline(axes, machine: Mapping[str, Any], rows: Sequence[Judged]) -> None:
    timed = [each for each in rows if each.row["rate"]]
    bandwidth = machine["copy_bandwidth"] / GIGA
    ends = [min(intensity(each.row) for each in timed), max(intensity(each.row) for each in timed)]
    for dtype, peak in machine["fma_peak"].items():
        ridge = peak / GIGA / bandwidth
        corners = [min(ends[0], ridge), ridge, max(ends[1], ridge)]
        label = f"{bandwidth:.0f} GB/s, {peak / GIGA:.0f} GFLOP/s in {dtype}"
        axes.plot(corners, [min(x * bandwidth, peak / GIGA) for x in corners], color="black", label=label)
    for op in dict.fromkeys(each.row["op"] for each in timed):
        chosen = [each for each in timed if each.row["op"] == op]
        axes.scatter(
            [intensity(each.row) for each in chosen], [speed(each.row) for each in chosen], s=24, alpha=0.6,
            marker=MARKS.get(op, "^"), c=[COLOURS[each.standing] for each in chosen],
        )
        axes.scatter([], [], marker=MARKS.get(op, "^"), c="grey", label=op)
    axes.set(xscale="log", yscale="log", xlabel="FLOP a byte", ylabel="GFLOP/s",
             title="blue: fine; yellow: below target; orange: lost or wrong")
    axes.legend()


def _classes(axes, lines: Sequence[Any]) -> None:
    """How many times faster than each peer a class of layers is."""
    for place, (terms, colour) in enumerate(zip(TERMS, PEER_COLOURS, strict=True)):
        known = [(y, line) for y, line in enumerate(lines) if terms in line.ratios]
        if known:
            heights = [y + 0.3 - 0.2 * place for y, _ in known]
            axes.barh(heights, [line.ratios[terms] for _, line in known], 0.18, color=colour, label=terms.title)
            wanted = [(h, line.targets[terms]) for h, (_, line) in zip(heights, known, strict=True)
                      if terms in line.targets]
            axes.plot([t for _, t in wanted], [h for h, _ in wanted], "k|", markersize=9)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(lines)), [f"{line.layer_class} {line.op}" for line in lines])
    axes.set(xlabel="times faster, geometric mean; strokes: targets")
    axes.legend()
