"""A PNG that shows one image on its way through a network: input, filters, feature maps, probabilities.

Rows go from top to bottom as the data do. A column follows one filter: its weights, what it finds in the image, and
what ReLU and pooling leave of that. Needs matplotlib.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Row", "draw_network", "map_rows"]

COLUMNS = 8
GUIDE = """\N{BULLET} From top to bottom: every row is made from the row above it.
\N{BULLET} An arrow follows one filter: its weights, what it finds in the image, what is left of it.
\N{BULLET} Red is positive, white is zero, blue is negative; a row has one scale, darker is more."""


@dataclass
class Row:
    """One row of the picture: `maps` are arrays `(H, W)` or `(H, W, 3)` with a name each, or without names."""

    heading: str
    text: str
    maps: list[np.ndarray]
    names: list[str] | None = None
    goes_on: bool = True  # each map turns into the one below it


def map_rows(steps: Sequence[tuple[Any, np.ndarray]]) -> list[Row]:
    """The rows that show a network's steps.

    Parameters
    ----------
    steps : list of (layer, output)
        The layers in order, each with what it makes of one image, `(C, H, W)` as long as that is an image.

    Returns
    -------
    list of Row
        For the first convolution its filters; for every convolution, and the ReLU and max pooling behind it, the
        `COLUMNS` feature maps with the strongest response. Other layers have no row.
    """
    rows: list[Row] = []
    shown, convolutions = None, 0
    before: np.ndarray = np.empty(())
    for layer, output in steps:
        kind = type(layer).__name__ if output.ndim == 3 else None
        if kind == "Conv2d":
            convolutions += 1
            shown = _strongest(output)
            if convolutions == 1:
                rows.append(_filter_row(layer, shown))
            rows.append(_convolution_row(output, shown, convolutions))
        elif kind == "ReLU" and shown is not None:
            text = "Negative values become 0. Only what the filter found stays."
            rows.append(Row(f"ReLU\n{_counted(output)}", text, list(output[shown])))
        elif kind == "MaxPool2d" and shown is not None:
            window = "x".join(str(a // b) for a, b in zip(before.shape[1:], output.shape[1:], strict=True))
            text = f"The largest of each {window} pixels is kept: smaller, and small shifts matter less."
            rows.append(Row(f"max pooling\n{_counted(output)}", text, list(output[shown]), goes_on=False))
        before = output
    return rows


def _strongest(maps: np.ndarray) -> np.ndarray:
    """The channels of `(C, H, W)` with the largest mean after ReLU, in their own order."""
    return np.sort(np.argsort(-np.maximum(maps, 0).mean((1, 2)), kind="stable")[:COLUMNS])


def _counted(maps: np.ndarray) -> str:
    text = f"{len(maps)} maps of {maps.shape[1]}x{maps.shape[2]}"
    return f"{text}, {COLUMNS} shown" if len(maps) > COLUMNS else text


def _filter_row(layer: Any, shown: np.ndarray) -> Row:
    weight = np.asarray(layer.weight.value)[shown]
    if weight.shape[1] == 3:
        maps = list((0.5 + 0.5 * weight / np.abs(weight).max()).transpose(0, 2, 3, 1))
        text = "Weights for red, green and blue. Nobody drew them: training found them."
    else:
        maps = list(weight.mean(1))
        text = "Red weights look for bright pixels, blue ones for dark. Nobody drew them: training found them."
    heading = f"learned filters\n{weight.shape[2]}x{weight.shape[3]} weights each"
    return Row(heading, text, maps, [f"filter {k}" for k in shown])


def _convolution_row(output: np.ndarray, shown: np.ndarray, number: int) -> Row:
    source = "the image" if number == 1 else "all maps of the row above, through weights of its own for each"
    text = f"Each filter slides over {source}. Red: what it looks for is here; blue: the opposite."
    names = None if number == 1 else [f"map {k}" for k in shown]
    return Row(f"convolution {number}\n{_counted(output)}", text, list(output[shown]), names)


def draw_network(path: str | os.PathLike[str], image: np.ndarray, steps: Sequence[tuple[Any, np.ndarray]],
                 probabilities: np.ndarray, classes: Sequence[str], *, truth: int | None = None) -> None:
    """Draw the PNG.

    Parameters
    ----------
    path : str or path-like
    image : (C, H, W) array
        The image as people know it, before normalisation.
    steps : list of (layer, output)
        As in `map_rows`.
    probabilities : (K,) array
    classes : sequence of str
    truth : int, optional
        The right class.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing the picture needs matplotlib: pip install 'fastconv[demo]'") from error

    rows = map_rows(steps)
    figure = Figure(figsize=(12.5, 3.2 + 1.42 * len(rows)), facecolor="white")
    FigureCanvasAgg(figure)
    heights = [1.5, *[1.0] * len(rows), 1.25]
    grid = figure.add_gridspec(
        len(heights), 1 + COLUMNS, width_ratios=[2.55, *[1] * COLUMNS], height_ratios=heights,
        left=0.02, right=0.985, top=0.93, bottom=0.04, hspace=0.4, wspace=0.12,
    )
    answer = int(np.argmax(probabilities))
    title = f"How the network reads this image: {classes[answer]}, {probabilities[answer]:.1%} sure"
    if truth is not None:
        title += " (right)" if answer == truth else f" (wrong: it is {classes[truth]})"
    figure.suptitle(title, x=0.02, ha="left", fontsize=17, fontweight="bold")

    size = f"{image.shape[1]}x{image.shape[2]} pixels"
    _write_label(figure, grid[0, 0], 1, f"input\n{size}", "What the network gets to see.")
    _draw_input(figure.add_subplot(grid[0, 1:3]), image)
    _write_guide(figure.add_subplot(grid[0, 3:]))
    for number, row in enumerate(rows, 2):
        _write_label(figure, grid[number - 1, 0], number, row.heading, row.text)
        _draw_maps(figure, [grid[number - 1, column] for column in range(1, 1 + COLUMNS)], row)
    text = "A dense layer weighs the last maps, softmax turns the sums into probabilities."
    _write_label(figure, grid[-1, 0], len(rows) + 2, "class probabilities", text)
    _draw_probabilities(figure.add_subplot(grid[-1, 1:]), probabilities, classes, truth)
    figure.savefig(path, dpi=110, format="png")


def _write_label(figure: Any, cell: Any, number: int, heading: str, text: str) -> None:
    axes = figure.add_subplot(cell)
    axes.set_axis_off()
    first, *rest = heading.split("\n")
    lines = textwrap.wrap(text, 36)
    axes.text(0, 1, f"{number}  {first}", fontsize=12.5, fontweight="bold", va="top", transform=axes.transAxes)
    axes.annotate(
        "\n".join(rest + lines), (0, 1), xytext=(0, -19), textcoords="offset points", xycoords="axes fraction",
        va="top", fontsize=9.5, color="#333333", linespacing=1.25,
    )


def _write_guide(axes: Any) -> None:
    axes.set_axis_off()
    axes.text(0.02, 1, "How to read this picture", fontsize=12.5, fontweight="bold", va="top")
    axes.text(0.02, 0.8, GUIDE, fontsize=10.5, va="top", color="#333333", linespacing=1.5)


def _draw_input(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image[0] if len(image) == 1 else image.transpose(1, 2, 0), cmap="gray", interpolation="nearest")
    axes.set_anchor("W")
    _frame(axes)


def _draw_maps(figure: Any, cells: Any, row: Row) -> None:
    limit = max(float(np.max(np.abs(m))) for m in row.maps) or 1.0
    for index, (cell, values) in enumerate(zip(cells, row.maps, strict=False)):
        axes = figure.add_subplot(cell)
        axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        _frame(axes)
        if row.names:
            axes.set_title(row.names[index], fontsize=9, pad=3)
        if row.goes_on:
            arrow = "\N{BLACK DOWN-POINTING TRIANGLE}"
            axes.text(0.5, -0.05, arrow, fontsize=8, color="#999999", ha="center", va="top", transform=axes.transAxes)


def _draw_probabilities(axes: Any, probabilities: np.ndarray, classes: Sequence[str], truth: int | None) -> None:
    order = np.arange(len(classes)) if len(classes) <= 12 else np.sort(np.argsort(-probabilities, kind="stable")[:12])
    shown = probabilities[order]
    colours = ["#0569a8" if k == truth else "#c65f00" if k == np.argmax(probabilities) else "#999999" for k in order]
    bars = axes.bar(range(len(order)), shown, color=colours)
    axes.bar_label(bars, [f"{p:.1%}" for p in shown], fontsize=9, padding=2)
    names = [classes[k] if len(classes[k]) <= 12 else f"{classes[k][:10]}..." for k in order]
    axes.set_xticks(range(len(order)), names, fontsize=11)
    axes.set_ylim(0, 1.18)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)


def _frame(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
