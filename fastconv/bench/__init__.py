"""The benchmark suite: what `fastconv bench` runs.

- `shapes`: the layers, as data; `problems`: a layer with op, dtype and memory order, and its arrays
- `contenders`: this package and the NumPy baseline; `peers`, `onnx_peers`: optional rivals
- `naive`: the NumPy baseline; `loops`: plain Python
- `networks`: whole networks, `network_peers`: ours and the rivals', `network_suite`: verified and timed
- `verify`: is a result right, by sampled float64 dot products
- `timing`: interleaved rounds, medians, intervals; `caches`: empty caches
- `machine`: FMA peak, copy bandwidth, latency between two cores, measured by the run
- `targets`: classes of layers, and the ratios wanted of them
- `suite` joins them row by row; `report` writes text and JSON; `command` is the command line
- `documents`: what becomes of a run: JSON, `page` (with `roofline`), `figure`, `compare` with an older run
- `photographs`: filters against OpenCV and SciPy
- `document`: JSON as the page of the documentation; `regret`: how good `algorithm="auto"` is
"""


def main(argv: list[str] | None = None) -> int:
    """Run `fastconv bench` with these arguments (default: those of the process) and return its exit code."""
    from .command import main as run_command

    return run_command(argv)
