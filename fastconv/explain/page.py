"""One HTML file that opens from disk: the steps of `trace` as JSON, a style sheet and a script."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._kernels import _runtime
from .trace import Step

__all__ = ["PageTooLarge", "render", "write_page"]

MOST_BYTES = 24 * 1024 * 1024  # of the data: more than that, and a phone's browser gives up
SCRIPTS = ("model.js", "draw.js", "inspect.js", "rail.js", "play.js", "main.js")


class PageTooLarge(ValueError):
    """A network whose numbers would make a page that browsers can't open."""


def render(steps: Sequence[Step], *, classes: Sequence[str] = (), label: int | None = None,
           title: str = "How this network reads this image") -> str:
    """The page as text.

    Parameters
    ----------
    steps : sequence of Step
        As `trace` gives them.
    classes : sequence of str
        Names for the elements of the last step.
    label : int, optional
        The right class: the page then begins with its cross-entropy. Readers can choose another.
    title : str

    Returns
    -------
    str
        HTML without a reference to anything outside. All numbers are in it as float32.

    Raises
    ------
    PageTooLarge
        The weights and results take more than 24 MiB.
    ValueError
        `label` is none of the classes.
    """
    if label is not None and not 0 <= label < len(classes):
        raise ValueError(f"render: label: got {label}; expected 0 to {len(classes) - 1}")
    _check_size(steps)
    data = {
        "title": title, "version": __version__, "isa": _runtime.isa_in_use(), "classes": list(classes), "label": label,
        "steps": [_plain(step) for step in steps],
    }
    static = files(__package__) / "static"
    parts = {
        "title": html.escape(title),
        "style": (static / "page.css").read_text(encoding="utf-8"),
        # "</script>" in a name would end the element.
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "script": "\n".join((static / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    head, *rest = (static / "page.html").read_text(encoding="utf-8").split("@@")
    return head + "".join(parts.get(piece, piece) for piece in rest)


def write_page(path: str | os.PathLike[str], steps: Sequence[Step], **options: Any) -> None:
    """Write what `render` returns for the same arguments to a file."""
    Path(path).write_text(render(steps, **options), encoding="utf-8")


def _check_size(steps: Sequence[Step]) -> None:
    sizes = [4 * (step.values.size + sum(v.size for v in step.details.values() if isinstance(v, np.ndarray)))
             for step in steps]
    total, largest = sum(sizes) * 4 / 3, int(np.argmax(sizes))
    if total > MOST_BYTES:
        raise PageTooLarge(
            f"this network's page would take {total / 2**20:.0f} MiB, {sizes[largest] / sum(sizes):.0%} of that for "
            f"step {largest + 1} ({steps[largest].name}); at most {MOST_BYTES // 2**20} MiB are allowed. "
            "Explain a part of it: fastconv.explain.trace(model[:n], x)"
        )


def _plain(step: Step) -> dict[str, Any]:
    """A step fit for JSON: arrays as their shape and base64."""
    details = {name: _packed(value) if isinstance(value, np.ndarray) else value for name, value in step.details.items()}
    return {"kind": step.kind, "name": step.name, "sources": step.sources, **_packed(step.values), **details}


def _packed(array: np.ndarray) -> dict[str, Any]:
    data = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(array.shape), "data": base64.b64encode(data.tobytes()).decode("ascii")}
