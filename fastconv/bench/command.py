"""`fastconv bench`: its options, and the run from the first measurement to the report."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from .. import get_num_threads, threads
from ..console import Progress, table
from . import documents, machine, photographs
from .caches import CacheFlush
from .cases import Case
from .contenders import ContenderUnavailable, Fastconv, FastconvGivenOut, FastconvPacked, VectorisedNumPy
from .network_suite import run_networks
from .networks import NETWORKS
from .peers import PEERS
from .problems import DTYPES, OPS, ORDERS
from .report import Report
from .shapes import SUITE, select
from .suite import row_keys, run
from .timing import QUICK, Schedule

FILTERS = Schedule(row_seconds=1.0, settle_seconds=0.0)
"""Of `--filters`: SciPy takes a second for some rows."""

BUSY = 0.05
"""Of all CPUs: where others take more, figures can't be trusted. A BLAS thread that waits for its turn costs its rival
threads whole time slices, and a baseline that is slowed down flatters us."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0; 1 where a result was wrong or a row became slower than in the run to compare with; 2 where nothing
    could be run; 130 where the user cut the run short.
    """
    options = _parser().parse_args(argv)
    if options.list:
        print(_listing(options.rows))
        return 0
    try:
        for path in filter(None, (options.json, options.html, options.png)):
            if path != documents.STDOUT:
                _check_writable(path)  # better refused now than after the run
        old = documents.read(options.compare) if options.compare else None
        if options.filters:
            return _filters(options)
        if options.networks is not None and (options.html or options.png or old or options.from_run):
            raise Refusal("--networks goes with --threads, --against, --quick and --json alone")
        if options.from_run:
            run, code = documents.read(options.from_run), 0
        else:
            report, code = _measure(options)
            run = report.as_dict()
            if options.json != documents.STDOUT:
                print(report.text())
        return documents.deliver(run, old, options) or code
    except KeyboardInterrupt:
        print("fastconv bench: interrupted", file=sys.stderr)
        return 130
    except (Refusal, ContenderUnavailable, OSError, ValueError, ImportError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        print(f"fastconv bench: {f'{error.filename}: {error.strerror}' if named else error}", file=sys.stderr)
        return 2


def _filters(options: argparse.Namespace) -> int:
    """The rows of filters on photographs; they know no page, picture or comparison."""
    if options.html or options.png or options.compare or options.from_run:
        raise Refusal("--filters goes with --threads, --quick and --json alone")
    count = options.threads or get_num_threads()
    with threads(count):
        found = photographs.run(QUICK if options.quick else FILTERS)
        rows, interrupted = _collect(found, photographs.COUNT, lambda row: f"{row['name']}, {row['image']}")
        if options.json != documents.STDOUT:
            print(photographs.text(rows))
    if options.json:
        documents.write(options.json, {"rows": rows, "threads": count})
    return 130 if interrupted else int(any(row["wrong"] for row in rows))


class Refusal(Exception):
    """Nothing can be run, and why."""


def _measure(options: argparse.Namespace) -> tuple[Report, int]:
    """The report of a run, and its exit code."""
    networks = options.networks or ()
    keys = [] if networks else row_keys(options.rows, options.ops, options.dtype, options.order)
    if options.networks == () or not (keys or networks):
        raise Refusal("no row matches; see --list")
    ours = Fastconv(options.algorithm)
    rivals = (VectorisedNumPy(), *(PEERS[name]() for name in options.against))
    also_ours = [FastconvGivenOut(options.algorithm)]
    if any(rival.rival_of == FastconvPacked.name for rival in rivals):
        also_ours.append(FastconvPacked(options.algorithm))
    contenders = (ours, *also_ours, *rivals)
    count = options.threads or get_num_threads()
    for contender in contenders:
        contender.start(count)

    date = datetime.now(UTC).isoformat(timespec="seconds")
    schedule = QUICK if options.quick else Schedule(row_seconds=options.seconds)
    with threads(count):
        limits = machine.measure(count, options.dtype)
        neighbours = machine.Neighbours()
        flush = CacheFlush(count) if options.cold else None
        if networks:
            found, count = run_networks(networks, rivals, schedule), len(networks)
        else:
            found, count = run(keys, ours, contenders, schedule, flush), len(keys)
        rows, interrupted = _collect(found, count)
    if not rows and not networks:
        raise Refusal(f"algorithm {options.algorithm!r} can serve none of the rows")
    report = Report(
        machine=limits,
        date=date,
        disturbance=neighbours.cores(),
        versions={contender.name: contender.version() for contender in (ours, *rivals)},
        settings={"schedule": asdict(schedule), "quick": options.quick, "algorithm": options.algorithm},
        rivals=rivals,
        rows=() if networks else tuple(rows),
        networks=tuple(rows) if networks else (),
    )
    if report.disturbance is not None and report.disturbance > BUSY * limits.cores:
        taken = f"{report.disturbance:.2f} of {limits.cores} CPUs"
        print(f"fastconv bench: other work took {taken} meanwhile; don't quote this run", file=sys.stderr)
    return report, 130 if interrupted else int(any(row.wrong for row in rows))


def _collect(found: Iterable[Any], count: int, name: Callable[[Any], str] = attrgetter("name")) -> tuple[list, bool]:
    """The rows, and whether the user cut them short: what is done by then is still reported."""
    rows: list[Any] = []
    with Progress(count, "bench") as progress:
        try:
            for row in found:
                rows.append(row)
                progress.advance(name(row))
        except KeyboardInterrupt:
            return rows, True
    return rows, False


def _check_writable(path: Path) -> None:
    """Raise the OSError that writing to the path would; a file that isn't there yet is not left behind."""
    new = not path.exists()
    path.open("a").close()
    if new:
        path.unlink()


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastconv bench",
        description="Verify and time convolution, pooling and ReLU on layers of published networks, in turns with\n"
        "vectorised NumPy and, if asked, with other libraries.",
        epilog="""\
example:
  fastconv bench --against torch --rows "resnet.*3x3" --json run.json --html run.html
  fastconv bench --from run.json --compare older.json

Leave the machine alone while it runs. A full run takes some minutes; --quick is for a first look.

exit codes:
  0    done
  1    a result was wrong, or --compare found a row that is slower
  2    nothing was run; one line on stderr says why
  130  interrupted with Ctrl-C; the rows that were done by then are reported""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows", metavar="REGEX", type=_cases_of(SUITE), default=SUITE,
        help="rows with this in their name, e.g. 'resnet.*3x3'",
    )
    parser.add_argument("--ops", type=_list_of(OPS), default=OPS, help=f"of {','.join(OPS)} (default: all)")
    parser.add_argument(
        "--dtype", type=_list_of(DTYPES), default=("float32",), help="float32 (default), float64 or both"
    )
    parser.add_argument(
        "--order",
        type=_list_of(ORDERS),
        default=("channels_first",),
        help="channels_first (default), channels_last or both",
    )
    parser.add_argument(
        "--algorithm", default="auto", help="of the convolutions (default: auto); rows it can't serve are left out"
    )
    parser.add_argument("--threads", type=_threads, help="default: what the package would use")
    parser.add_argument("--against", type=_list_of(tuple(PEERS)), default=(), help=f"of {','.join(PEERS)}")
    parser.add_argument(
        "--networks", metavar="REGEX", type=_cases_of(NETWORKS), nargs="?", const="",
        help="in place of the rows, whole networks: LeNet-5 epoch and training step, ResNet-18 training step, "
        "MobileNet-v2 inference, or those with this in their name",
    )
    parser.add_argument("--cold", action="store_true", help="time every row with empty caches, too")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything measured to FILE; - is stdout")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page for the browser to FILE")
    parser.add_argument("--png", metavar="FILE", type=Path, help="write a picture to FILE; needs matplotlib")
    parser.add_argument(
        "--from", dest="from_run", metavar="RUN.json", type=Path, help="take a run from its JSON instead of measuring"
    )
    parser.add_argument(
        "--compare", metavar="OLD.json", type=Path, help="tell what moved since an older run; exit 1 if a row is slower"
    )
    parser.add_argument(
        "--seconds", metavar="S", type=_seconds, default=Schedule.row_seconds,
        help="about how long a row is timed (default: %(default)g); six rounds are the least, 25 the most",
    )
    parser.add_argument("--quick", action="store_true", help="six short rounds a row: not for quoting")
    parser.add_argument(
        "--filters", action="store_true", help="time filters on a photograph instead, against OpenCV and SciPy"
    )
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    return parser


def _list_of(names: Sequence[str]):
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(names) if text in ("all", "both") else tuple(text.split(","))
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(names)}")
        return tuple(dict.fromkeys(chosen))

    return parse


def _cases_of(cases: Iterable[Any]):
    def parse(pattern: str) -> tuple[Any, ...]:
        try:
            return select(pattern, cases)
        except re.error as error:
            raise argparse.ArgumentTypeError(f"{pattern!r} is not a regular expression: {error}") from None

    return parse


def _threads(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if not 1 <= count <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to 1024")
    return count


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


def _listing(cases: Sequence[Case]) -> str:
    rows = [["row", "x", "w", "MFLOP", "ops"]]
    for case in cases:
        shapes = (case.x_shape, getattr(case, "w_shape", ()))
        cells = ("x".join(map(str, shape)) or "-" for shape in shapes)
        rows.append([case.name, *cells, f"{case.flops / 1e6:.4g}", ",".join(case.ops)])
    return f"{table(rows)}\n{len(cases)} of {len(SUITE)} layers"
