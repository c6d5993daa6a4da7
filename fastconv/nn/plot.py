"""A training run as a picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from .train import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_training"]

# Blue and orange that colour-blind readers tell apart; the dashes do so without colours.
STYLES = {"": {"color": "#0569a8", "label": "training"},
          "val_": {"color": "#c65f00", "linestyle": "--", "label": "validation"}}


def plot_training(history: History, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw loss and accuracy of each epoch; needs matplotlib.

    Parameters
    ----------
    history : History
        What `fit` has returned.
    path : path, optional
        Where to save the picture; its ending chooses the format (``.png``, ``.svg``, ``.pdf``).

    Returns
    -------
    matplotlib.figure.Figure
        Two plots, or one where there is no accuracy. It belongs to no window: show it with a notebook's display.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    ValueError
        The history has no epoch in it.
    """
    if not len(history):
        raise ValueError("plot_training: history: got no epoch; expected at least one")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError as error:
        raise ImportError("plot_training needs matplotlib: pip install 'fastconv[demo]'") from error

    arrays = history.as_arrays()
    quantities = [name for name in ("loss", "accuracy") if not np.isnan(arrays[name]).all()]
    figure = Figure(figsize=(4.6 * len(quantities), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = np.arange(1, len(history) + 1)
    for axes, name in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities):
        for prefix, style in STYLES.items():
            values = arrays[prefix + name]
            if not np.isnan(values).all():
                axes.plot(epochs, values, marker="o" if len(epochs) < 30 else None, markersize=3.5, **style)
        axes.set_title(name, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False)
    if path is not None:
        figure.savefig(path, dpi=130)
    return figure
