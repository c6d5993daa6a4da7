"""The roofline of a run as inline SVG: what the machine could do, and where every row is."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 1000, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50
GIGA = 1e9

Point = tuple[Mapping[str, Any], str, str]
"""A row of the JSON, its full name and its standing."""


def roofline(machine: Mapping[str, Any], points: Sequence[Point]) -> str:
    """Intensity in FLOP a byte against GFLOP/s, both axes logarithmic, one mark for every row."""
    peaks = {dtype: peak / GIGA for dtype, peak in machine["fma_peak"].items()}
    bandwidth = machine["copy_bandwidth"] / GIGA
    places = [(intensity(row), speed(row)) for row, _, _ in points]
    xs, ys = [x for x, _ in places] or [1.0], [y for _, y in places] or [1.0]
    ridge = max(peaks.values()) / bandwidth
    x_axis = _Axis(min(*xs, ridge) / 1.3, max(*xs, ridge) * 1.3, LEFT, WIDTH - RIGHT)
    y_axis = _Axis(min(ys) / 1.5, max(*ys, *peaks.values()) * 1.5, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x_axis, y_axis), *_roofs(peaks, bandwidth, x_axis, y_axis)]
    for (row, name, standing), (x, y) in zip(points, places, strict=True):
        parts.append(_mark(x_axis(x), y_axis(y), row, name, standing))
    title = f"Roofline: {len(points)} rows under a copy bandwidth of {bandwidth:.1f} GB/s and the FMA peak"
    return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="roof-title"><title id="roof-title">'
            f"{escape(title)}</title>{''.join(parts)}</svg>")


def intensity(row: Mapping[str, Any]) -> float:
    return row["flops"] / row["bytes"]


def speed(row: Mapping[str, Any]) -> float:
    """GFLOP/s, also of rows that are bound by memory."""
    return row["flops"] / row["seconds"]["fastconv"]["median"] / GIGA


class _Axis:
    """Places on a logarithmic axis."""

    def __init__(self, low: float, high: float, start: float, end: float):
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [10.0**n for n in range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]


def _grid(x_axis: _Axis, y_axis: _Axis) -> Iterable[str]:
    for value in x_axis.ticks():
        x = x_axis(value)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
    for value in y_axis.ticks():
        y = y_axis(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">FLOP a byte</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">GFLOP/s</text>'


def _roofs(peaks: Mapping[str, float], bandwidth: float, x_axis: _Axis, y_axis: _Axis) -> Iterable[str]:
    """The slope of the bandwidth, from where the plot begins, and each flat peak; their names stand in the corner."""
    first = max(x_axis.low, y_axis.low / bandwidth)
    for place, (dtype, peak) in enumerate(peaks.items(), 1):
        corners = [(first, first * bandwidth), (peak / bandwidth, peak), (x_axis.high, peak)]
        line = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in corners)
        label = escape(f"roof: {bandwidth:.1f} GB/s, {peak:.0f} GFLOP/s in {dtype}")
        yield f'<polyline class="roof" points="{line}"><title>{label}</title></polyline>'
        yield f'<text x="{LEFT + 12}" y="{TOP + 18 * place}">{label}</text>'


def _mark(x: float, y: float, row: Mapping[str, Any], name: str, standing: str) -> str:
    title = escape(f"{name}: {speed(row):.1f} GFLOP/s at {intensity(row):.3g} FLOP a byte, {standing}")
    if row["op"] == "forward":
        return f'<circle class="point {standing}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{title}</title></circle>'
    return (f'<rect class="point {standing}" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9">'
            f"<title>{title}</title></rect>")
