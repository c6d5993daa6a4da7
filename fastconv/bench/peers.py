"""Optional rivals, one small class each. Adding one: a subclass of `Contender` and its line in `PEERS`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import per_axis
from .contenders import Contender, ContenderUnavailable
from .onnx_peers import OnnxRuntime, OpenVino
from .problems import Problem


class Torch(Contender):
    """PyTorch's CPU kernels in the memory order of the row, without autograd.

    In channels-last rows the weights are channels-last too, converted outside the clock, as
    `model.to(memory_format=torch.channels_last)` does. 1-D layers go through the 2-D kernels with a unit axis: it is
    what PyTorch does itself, but by hand it keeps the memory order.
    """

    name = "torch"

    def start(self, threads: int) -> None:
        try:
            import torch
        except ImportError:
            raise ContenderUnavailable("torch is not installed: pip install torch") from None
        self.torch = torch
        torch.set_num_threads(threads)

    def version(self) -> str:
        return self.torch.__version__

    def prepare(self, problem: Problem) -> Callable[[], Any] | None:
        arrays = {letter: self._tensor(array, problem) for letter, array in problem.operands.items()}
        prepare = {
            "conv": self._conv,
            "conv_transpose": self._conv_transpose,
            "max_pool": self._max_pool,
            "avg_pool": self._avg_pool,
            "relu": self._relu,
        }
        call = prepare[problem.case.family](problem, **arrays)

        def without_autograd():
            with self.torch.inference_mode():
                return call()

        return without_autograd

    def to_numpy(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(self.to_numpy(part) for part in result)
        return result.squeeze(2).numpy() if self._lifted and result.ndim == 4 else result.numpy()

    def _tensor(self, array: np.ndarray, problem: Problem) -> Any:
        self._lifted = array.ndim == 3
        tensor = self.torch.from_numpy(array)
        if self._lifted:
            tensor = tensor.unsqueeze(2)
        if problem.order == "channels_first":
            return tensor.contiguous()
        channels_last = {4: self.torch.channels_last, 5: self.torch.channels_last_3d}[tensor.ndim]
        return tensor.contiguous(memory_format=channels_last)

    def _geometry(self, value: int | tuple[int, ...], problem: Problem, unit: int) -> tuple[int, ...]:
        """One value per axis, `unit` on the axis that lifts a 1-D layer to 2-D."""
        spatial = per_axis(value, len(problem.case.x_shape) - 2)
        return (unit, *spatial) if self._lifted else spatial

    def _conv(self, problem: Problem, x=None, w=None, dy=None) -> Callable[[], Any]:
        case = problem.case
        stride = self._geometry(case.stride, problem, 1)
        padding = self._geometry(case.padding, problem, 0)
        dilation = self._geometry(case.dilation, problem, 1)
        if problem.op == "forward":
            function = {2: self.torch.conv2d, 3: self.torch.conv3d}[len(stride)]
            return lambda: function(x, w, None, stride, padding, dilation, case.groups)
        x = x if x is not None else self._unread(problem, case.x_shape)
        w = w if w is not None else self._unread(problem, case.w_shape)
        tail = ([w.shape[0]], stride, padding, dilation, False, (0,) * len(stride), case.groups)
        mask = [problem.op in (part, "backward") for part in ("dx", "dw", "db")]
        backward = self.torch.ops.aten.convolution_backward
        if problem.op == "backward":
            return lambda: backward(dy, x, w, *tail, mask)
        which = mask.index(True)
        return lambda: backward(dy, x, w, *tail, mask)[which]

    def _conv_transpose(self, problem: Problem, x, w, dy=None) -> Callable[[], Any]:
        case = problem.case
        padding, extra = (self._geometry(v, problem, 0) for v in (case.padding, case.output_padding))
        stride, dilation = (self._geometry(v, problem, 1) for v in (case.stride, case.dilation))
        tail = (stride, padding, dilation, True, extra, case.groups)
        if problem.op == "forward":
            return lambda: self.torch.convolution(x, w, None, *tail)
        backward, k = self.torch.ops.aten.convolution_backward, case.y_shape[1]
        return lambda: backward(dy, x, w, [k], *tail, [True] * 3)

    def _unread(self, problem: Problem, shape: tuple[int, ...]) -> Any:
        """An operand that PyTorch asks for and reads only the shape and memory format of."""
        return self._tensor(np.empty(shape, problem.dtype), problem)

    def _max_pool(self, problem: Problem, x, dy=None) -> Callable[[], Any]:
        kernel, stride, padding = self._window(problem)
        rank, aten = len(kernel), self.torch.ops.aten
        if problem.op == "forward" and not problem.case.variant:
            function = {2: self.torch.max_pool2d, 3: self.torch.max_pool3d}[rank]
            return lambda: function(x, kernel, stride, padding)
        forward = {2: aten.max_pool2d_with_indices, 3: aten.max_pool3d_with_indices}[rank]
        if problem.case.variant:
            return lambda: forward(x, kernel, stride, padding)[0]
        backward = {2: aten.max_pool2d_with_indices_backward, 3: aten.max_pool3d_with_indices_backward}[rank]
        _, indices = forward(x, kernel, stride, padding)
        return lambda: backward(dy, x, kernel, stride, padding, (1,) * rank, False, indices)

    def _avg_pool(self, problem: Problem, x=None, dy=None) -> Callable[[], Any]:
        kernel, stride, padding = self._window(problem)
        aten = self.torch.ops.aten
        if problem.op == "forward":
            function = {2: aten.avg_pool2d, 3: aten.avg_pool3d}[len(kernel)]
            return lambda: function(x, kernel, stride, padding)
        x = self._unread(problem, problem.case.x_shape)
        backward = {2: aten.avg_pool2d_backward, 3: aten.avg_pool3d_backward}[len(kernel)]
        return lambda: backward(dy, x, kernel, stride, padding, False, True, None)

    def _window(self, problem: Problem) -> tuple[tuple[int, ...], ...]:
        case = problem.case
        return tuple(
            self._geometry(v, problem, unit) for v, unit in ((case.kernel, 1), (case.stride, 1), (case.padding, 0))
        )

    def _relu(self, problem: Problem, x, dy=None) -> Callable[[], Any]:
        if problem.case.variant:
            out = self.torch.empty_like(x)
            return lambda: self.torch.clamp_min(x, 0, out=out)
        if problem.op == "forward":
            return lambda: self.torch.relu(x)
        return lambda: self.torch.ops.aten.threshold_backward(dy, x, 0)


PEERS: dict[str, type[Contender]] = {peer.name: peer for peer in (Torch, OnnxRuntime, OpenVino)}
