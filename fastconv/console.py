"""What the commands write to the terminal: a progress bar and tables of text."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Progress", "confusion_report", "table"]


class Progress:
    """A progress bar on stderr: tqdm's if that is installed, else a plain one; none where stderr is no terminal.

    It tells how long the rest will take. A context manager. `advance(note)` counts one more of `total` steps,
    `show(done, note)` says how many are done; `note` stands behind the bar. `write(line)` prints a line to stdout past
    the bar.
    """

    WIDTH = 30
    REDRAW_SECONDS = 0.1

    def __init__(self, total: int, label: str) -> None:
        self.total, self.label, self.done = total, label, 0
        self._begin = time.monotonic()
        self.visible = sys.stderr.isatty()
        self._tqdm: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Progress:
        if self.visible:
            try:
                from tqdm import tqdm
            except ImportError:
                pass
            else:
                self._tqdm = tqdm(total=self.total, desc=self.label, leave=False, miniters=1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
        else:
            self._clear()

    def advance(self, note: str = "") -> None:
        self.show(self.done + 1, note)

    def show(self, done: int, note: str = "") -> None:
        self.done = done
        if self._tqdm is not None:
            self._tqdm.set_postfix_str(note, refresh=False)
            self._tqdm.update(done - self._tqdm.n)
        elif self.visible and (done >= self.total or time.monotonic() - self._drawn >= self.REDRAW_SECONDS):
            self._drawn = time.monotonic()
            filled = self.WIDTH * done // self.total
            bar = "#" * filled + "." * (self.WIDTH - filled)
            self._clear()
            text = " ".join(filter(None, (f"{self.label} [{bar}] {done}/{self.total}", self._remaining(), note)))
            print(text, end="", file=sys.stderr, flush=True)

    def _remaining(self) -> str:
        """How long the rest should take, by the pace until now."""
        if not 0 < self.done < self.total:
            return ""
        seconds = round((time.monotonic() - self._begin) / self.done * (self.total - self.done))
        return f"{seconds // 60}:{seconds % 60:02d} left"

    def write(self, line: str) -> None:
        if self._tqdm is not None:
            self._tqdm.write(line)
        else:
            self._clear()
            print(line, flush=True)

    def _clear(self) -> None:
        if self.visible:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]], *, indent: str = "  ") -> str:
    """`rows` of text in columns, the first flush left and the others flush right; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append(indent + "  ".join(cells).rstrip())
    return "\n".join(lines)


def confusion_report(matrix: ArrayLike, classes: Sequence[str], *, most: int = 20) -> str:
    """The confusion matrix `(true, predicted)` as text; above `most` classes only the commonest mistakes."""
    counts = np.asarray(matrix)
    if len(classes) > most:
        return _commonest_mistakes(counts, classes, most)
    # Long names fit beside the rows; the columns then carry their numbers.
    short = max(map(len, classes)) <= 4
    heads = list(classes) if short else [str(i) for i in range(len(classes))]
    names = list(classes) if short else [f"{i} {name[:20]}" for i, name in enumerate(classes)]
    rows = [["", *heads]]
    rows += [[name, *(str(n) if n else "." for n in line)] for name, line in zip(names, counts, strict=True)]
    return "confusion matrix (rows: the truth, columns: the network's answer)\n" + table(rows)


def _commonest_mistakes(matrix: np.ndarray, classes: Sequence[str], most: int) -> str:
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:most]
    rows = [["truth", "answer", "times"]]
    for truth, answer in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[truth, answer]:
            rows.append([classes[truth], classes[answer], str(wrong[truth, answer])])
    return f"commonest mistakes among {len(classes)} classes\n" + table(rows)
