"""What becomes of a run besides its text: JSON, a page, a picture, a comparison with an older one."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STDOUT = Path("-")
NEEDED = frozenset(("machine", "date", "cpus_taken_by_others", "versions", "settings", "rows"))
NEEDED_OF_ROWS = frozenset(
    ("name", "op", "dtype", "order", "class", "flops", "bytes", "seconds", "rate", "times_faster_than", "wrong")
)


def read(path: Path) -> dict[str, Any]:
    """A run as `fastconv bench --json` wrote it; ValueError where the file holds anything else."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    whole = isinstance(run, dict) and run.keys() >= NEEDED and isinstance(run["rows"], list)
    if not whole or not all(map(_is_row, run["rows"])):
        raise ValueError(f"{path}: not a run of fastconv bench --json")
    return run


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() >= NEEDED_OF_ROWS


def write(path: Path, run: Mapping[str, Any]) -> None:
    text = json.dumps(run, indent=1, allow_nan=False)
    if path == STDOUT:
        print(text)
    else:
        path.write_text(f"{text}\n", encoding="utf-8")


def deliver(run: Mapping[str, Any], old: Mapping[str, Any] | None, options: argparse.Namespace) -> int:
    """Write what the options ask for; 1 where a row is slower than in the old run, else 0."""
    comparison = None
    if old is not None:
        from .compare import compare

        comparison = compare(old, run)
        print(comparison.text(), file=sys.stderr if options.json == STDOUT else sys.stdout)
    if options.json:
        write(options.json, run)
    if options.html:
        from .page import page

        options.html.write_text(page(run, comparison), encoding="utf-8")
    if options.png:
        from .figure import draw

        draw(options.png, run)
    return int(comparison is not None and bool(comparison.slower))
