"""How far is `algorithm="auto"` from the best algorithm?

    python -m fastconv.bench.regret [--rows REGEX] [--random N] [--order ORDER] [--dtype DTYPE]

Every algorithm that can serve a problem is timed in turns with the others. The regret of a problem is the time of the
one that `auto` takes over that of the fastest, from the ratios within rounds; 1 where `auto` takes the fastest. The
problems are the convolutions of the suite for which there is a choice, and random 3x3 layers whose figures nothing was
tuned with.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..console import Progress, table
from .cases import ConvCase
from .contenders import Fastconv, algorithms
from .problems import DTYPES, ORDERS, Problem, make
from .shapes import select
from .timing import QUICK, Interval, Schedule, interleave, times_faster

OPS = ("forward", "dx", "dw")
SUITE_BOUND, RANDOM_BOUND, RANDOM_SHARE = 1.05, 1.15, 0.9
MOST_FLOPS = 8e9
SCHEDULE = Schedule(row_seconds=0.8)


@dataclass(frozen=True)
class Regret:
    """One problem: what `auto` takes, what is fastest, and how many times slower the first is."""

    name: str
    taken: str
    best: str
    ratio: Interval


def measure(problem: Problem, schedule: Schedule = SCHEDULE) -> Regret | None:
    """Time the algorithms in turns; None where there is no choice."""
    names = algorithms(problem)
    if len(names) < 2:
        return None
    seconds = interleave({name: Fastconv(name).prepare(problem) for name in names}, schedule)
    taken = Fastconv().plan(problem)
    best = min(names, key=lambda name: np.median(seconds[name]))
    name = f"{problem.name}, {problem.dtype}, {problem.order}"
    return Regret(name, taken, best, times_faster(seconds[best], seconds[taken]))


def random_cases(count: int, seed: int = 2026) -> Iterator[ConvCase]:
    """3x3 layers: batch, channels and size drawn evenly on a logarithmic scale, none too large to be timed quickly."""
    rng = np.random.default_rng(seed)
    while count:
        n, c, k, h, w = (int(np.exp(rng.uniform(0, np.log(most + 1)))) for most in (32, 600, 600, 150, 150))
        name = f"random 3x3 {c}-{k} {h}x{w} b{n}"
        case = ConvCase(name, "drawn at random", (n, c, h, w), (k, c, 3, 3), padding=1)
        if min(h, w) >= 4 and 1e6 <= case.flops <= MOST_FLOPS:
            count -= 1
            yield case


def report(title: str, found: Sequence[Regret], bound: float) -> str:
    """The share within `bound`, the geometric mean, and every problem beyond it."""
    beyond = sorted((r for r in found if r.ratio.median > bound), key=lambda r: -r.ratio.median)
    mean = np.exp(np.mean([np.log(r.ratio.median) for r in found]))
    text = f"{title}: {1 - len(beyond) / len(found):.1%} of {len(found)} within {bound - 1:.0%}; geomean {mean:.3f}"
    lines = [["beyond it", "auto", "best", "times slower"]]
    for r in beyond:
        lines.append([r.name, r.taken, r.best, f"{r.ratio.median:.2f} ({r.ratio.low:.2f}-{r.ratio.high:.2f})"])
    return f"{text}\n{table(lines)}" if beyond else text


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 where `auto` keeps its promise: within 5 % in the suite, within 15 % in 90 % of random layers."""
    parser = argparse.ArgumentParser(prog="python -m fastconv.bench.regret", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", metavar="REGEX", default="", help="rows of the suite (default: all)")
    parser.add_argument("--random", metavar="N", type=int, default=50, help="random layers (default: 50)")
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS)
    parser.add_argument("--order", choices=ORDERS, default=ORDERS[0])
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    parser.add_argument("--quick", action="store_true", help="six short rounds a problem")
    options = parser.parse_args(argv)
    schedule = QUICK if options.quick else SCHEDULE
    suite = [case for case in select(options.rows) if isinstance(case, ConvCase)]
    kept = True
    for title, cases, bound, share in (
        ("suite", suite, SUITE_BOUND, 1.0),
        ("random layers", list(random_cases(options.random)), RANDOM_BOUND, RANDOM_SHARE),
    ):
        problems = [(case, op) for case in cases for op in options.ops]
        found = []
        with Progress(len(problems), title) as progress:
            for case, op in problems:
                if regret := measure(make(case, op, options.dtype, options.order), schedule):
                    found.append(regret)
                progress.advance(case.name)
        if found:
            print(report(title, found, bound), flush=True)
            kept = kept and np.mean([r.ratio.median <= bound for r in found]) >= share
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
