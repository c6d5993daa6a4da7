"""Who takes part: this package, the NumPy baseline, and the base class of every rival (see `peers`)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fastconv

from . import naive
from .cases import ConvCase
from .problems import Problem

CONV_OPS = {
    "forward": ("forward",),
    "dx": ("backward_input",),
    "dw": ("backward_weight",),
    "backward": ("backward_input", "backward_weight"),
}
"""The operations of the package that an op of the benchmark consists of; each chooses its own algorithm."""


MIRRORED_OPS = {"forward": ("backward_input",), "backward": ("forward", "backward_weight")}
"""The same for transposed convolution, as operations of the convolution that it mirrors."""


class ContenderUnavailable(Exception):
    """The contender can't take part here; the message is one sentence for the user."""


class Contender:
    """Somebody who can solve problems.

    `prepare` does what a user does once, outside the clock: convert the operands, run the forward pass whose indices a
    backward pass needs. The callable that it returns is what is timed and verified; its results are compared through
    `to_numpy`.
    """

    name: str
    rival_of = "fastconv"
    """The contender of ours that meets it on the same terms: ratios are taken against this one."""
    pause_seconds = 0.0
    """How long the turn of the next contender has to wait, because threads of this one are still spinning."""
    in_cold_rounds = True
    """Whether it takes part with empty caches, too."""

    def start(self, threads: int) -> None:
        """Load the library and give it `threads` threads; raise `ContenderUnavailable` where that is impossible."""

    def version(self) -> str:
        raise NotImplementedError

    def prepare(self, problem: Problem) -> Callable[[], Any] | None:
        """Return the call to be timed, None if this contender has nothing for the problem."""
        raise NotImplementedError

    def to_numpy(self, result: Any) -> Any:
        """The result as an array, or as a tuple of arrays where the problem has several parts."""
        return result


def geometry(case: ConvCase) -> dict[str, Any]:
    """The keyword arguments of every convolution function that describe the layer."""
    return {name: getattr(case, name) for name in ("stride", "padding", "dilation", "groups")}


def algorithms(problem: Problem) -> tuple[str, ...]:
    """The algorithms of the package that can serve all parts of a convolution problem."""
    case = problem.case
    first, *others = (
        fastconv.conv_algorithms(case.x_shape, case.w_shape, op=op, **geometry(case)) for op in CONV_OPS[problem.op]
    )
    return tuple(name for name in first if all(name in names for names in others))


class Fastconv(Contender):
    """Plain calls of the public functions; every call returns a fresh array."""

    name = "fastconv"

    def __init__(self, algorithm: str = "auto"):
        self.algorithm = algorithm

    def version(self) -> str:
        return fastconv.__version__

    def prepare(self, problem: Problem) -> Callable[..., Any] | None:
        """None where a named algorithm can't serve; the number of threads is that of the surrounding `threads`."""
        case, operands = problem.case, problem.operands
        rank = f"{len(case.x_shape) - 2}d"
        if case.family == "conv":
            return self._conv(problem, rank) if self._serves(problem) else None
        if case.family == "conv_transpose":
            return self._conv_transpose(problem, rank)
        if case.family == "max_pool":
            return self._max_pool(problem, rank)
        if case.family == "avg_pool":
            return self._avg_pool(problem, rank)
        forward = getattr(fastconv, case.family)
        backward = getattr(fastconv, f"{case.family}_backward")
        if case.variant:
            out = problem.new_result()
            return lambda: forward(operands["x"], out=out)
        if problem.op == "forward":
            return lambda **out: forward(operands["x"], **out)
        return lambda **out: backward(operands["dy"], operands["x"], **out)

    def plan(self, problem: Problem) -> str:
        """The algorithm that the timed call takes, by the package's own account; empty where there is no choice.

        That of dx and that of dw, where `backward` takes different ones.
        """
        case = problem.case
        if case.family not in ("conv", "conv_transpose"):
            return ""
        ops = CONV_OPS[problem.op]
        if case.family == "conv_transpose":
            case, ops = case.mirror, MIRRORED_OPS[problem.op]
        choice = {"dtype": problem.dtype, "memory_order": problem.order, "algorithm": self.algorithm}
        plans = [fastconv.explain_conv(case.x_shape, case.w_shape, op=op, **choice, **geometry(case)) for op in ops]
        return "+".join(dict.fromkeys(plan.algorithm for plan in plans))

    def _serves(self, problem: Problem) -> bool:
        if self.algorithm in ("auto", "direct"):
            return True
        return self.algorithm in algorithms(problem)

    def _conv(self, problem: Problem, rank: str) -> Callable[..., Any]:
        operands = problem.operands
        arguments = geometry(problem.case) | {"algorithm": self.algorithm}
        if problem.op == "forward":
            function, args = f"conv{rank}", (operands["x"], operands["w"])
        elif problem.op == "dx":
            function, args = f"conv{rank}_backward_input", (operands["dy"], operands["w"], problem.result_shape)
        elif problem.op == "dw":
            function, args = f"conv{rank}_backward_weight", (operands["dy"], operands["x"], problem.result_shape)
        else:
            function, args = f"conv{rank}_backward", (operands["dy"], operands["x"], operands["w"])
        call = getattr(fastconv, function)
        return lambda **out: call(*args, **arguments, **out)

    def _conv_transpose(self, problem: Problem, rank: str) -> Callable[..., Any]:
        operands, case = problem.operands, problem.case
        arguments = geometry(case) | {"output_padding": case.output_padding, "algorithm": self.algorithm}
        name, letters = f"conv_transpose{rank}", "xw"
        if problem.op == "backward":
            name, letters = f"{name}_backward", ("dy", "x", "w")
        call, args = getattr(fastconv, name), [operands[letter] for letter in letters]
        return lambda **out: call(*args, **arguments, **out)

    def _max_pool(self, problem: Problem, rank: str) -> Callable[..., Any]:
        case, x = problem.case, problem.operands["x"]
        window = (case.kernel, case.stride, case.padding)
        forward = getattr(fastconv, f"max_pool{rank}")
        if case.variant:
            return lambda **out: forward(x, *window, return_indices=True, **out)[0]
        if problem.op == "forward":
            return lambda **out: forward(x, *window, **out)
        backward = getattr(fastconv, f"max_pool{rank}_backward")
        _, indices = forward(x, *window, return_indices=True)
        return lambda **out: backward(problem.operands["dy"], x, *window, indices=indices, **out)

    def _avg_pool(self, problem: Problem, rank: str) -> Callable[..., Any]:
        case = problem.case
        window = (case.kernel, case.stride, case.padding)
        if problem.op == "forward":
            forward = getattr(fastconv, f"avg_pool{rank}")
            return lambda **out: forward(problem.operands["x"], *window, **out)
        backward = getattr(fastconv, f"avg_pool{rank}_backward")
        return lambda **out: backward(problem.operands["dy"], case.x_shape, *window, **out)


class FastconvGivenOut(Fastconv):
    """The same calls writing into one array again and again: what is left when no result costs page faults."""

    name = "fastconv out="

    def prepare(self, problem: Problem) -> Callable[[], Any] | None:
        case = problem.case
        takes_out = case.family in ("conv", "conv_transpose") or (problem.op == "forward" and case.variant != "out")
        call = super().prepare(problem) if takes_out else None
        if call is None:
            return None
        out = problem.new_result()
        return lambda: call(out=out)


class FastconvPacked(Fastconv):
    """Weights packed beforehand, results into a given array: a network in inference. Forward convolutions only."""

    name = "fastconv packed"

    def prepare(self, problem: Problem) -> Callable[[], Any] | None:
        if problem.kind != ("conv", "forward") or not self._serves(problem):
            return None
        spread = {name: value for name, value in geometry(problem.case).items() if name != "padding"}
        shape = problem.case.x_shape
        packed = fastconv.pack_weight(problem.operands["w"], **spread, input_shape=shape, algorithm=self.algorithm)
        call = super().prepare(replace(problem, operands={**problem.operands, "w": packed}))
        out = problem.new_result()
        return lambda: call(out=out)


class VectorisedNumPy(Contender):
    """The naive baseline that people write: `sliding_window_view` and `tensordot`, multi-threaded where the BLAS is.

    OpenBLAS's idle threads were seen to spin for 105 ms after the last call: hence the pause. Without it, the two
    threads of whoever came next ran on one CPU, at half their speed.
    """

    name = "numpy"
    pause_seconds = 0.12
    in_cold_rounds = False  # no column shows it, and its pauses would take half of the time

    def start(self, threads: int) -> None:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            self.blas_threads = "all"
        else:
            threadpool_limits(threads, user_api="blas")
            self.blas_threads = str(threads)

    def version(self) -> str:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{np.__version__} ({blas['name']} {blas.get('version', '')}, threads: {self.blas_threads})"

    def prepare(self, problem: Problem) -> Callable[[], Any]:
        return naive.vectorised(problem)
