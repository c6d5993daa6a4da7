"""Rivals that run a model: ONNX Runtime and OpenVINO on one Conv node.

They see the weights before the clock starts and reorder them for their kernels, as our `pack_weight` does, and their
results land in a given array: they meet our packed calls with `out=`. Inference in float32, channels-first, is all
that they have on a CPU.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import per_axis
from .contenders import Contender, ContenderUnavailable, FastconvPacked
from .problems import Problem

OPSET, IR_VERSION = 17, 8
"""Old enough for every release of the two in use; Conv has not changed since opset 11."""


class ModelRunner(Contender):
    """What both share: which problems they can do, and the model."""

    rival_of = FastconvPacked.name

    def prepare(self, problem: Problem) -> Callable[[], Any] | None:
        if (problem.kind, problem.dtype, problem.order) != (("conv", "forward"), "float32", "channels_first"):
            return None
        return self.compile(conv_model(self.onnx, problem), problem.operands["x"], problem.new_result())

    def compile(self, model: bytes, x: np.ndarray, y: np.ndarray) -> Callable[[], np.ndarray]:
        """Return the call that computes `y` from `x` and returns it."""
        raise NotImplementedError


class OnnxRuntime(ModelRunner):
    """ONNX Runtime's CPU provider, input and output bound to our arrays.

    Its threads spin between calls, as they do by default, so that none of a turn's calls has to wake them. They go on
    for 30 ms after the last one, as long as the next contender settles: hence the pause. (`force_spinning_stop` would
    spare the next contender, too, but put a waking into every call.)
    """

    name = "onnxruntime"
    pause_seconds = 0.05

    def start(self, threads: int) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as missing:
            raise ContenderUnavailable(f"{missing.name} is not installed: pip install onnx onnxruntime") from None
        self.onnxruntime, self.onnx = onnxruntime, onnx
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        self.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL

    def version(self) -> str:
        return self.onnxruntime.__version__

    def compile(self, model: bytes, x: np.ndarray, y: np.ndarray) -> Callable[[], np.ndarray]:
        session = self.onnxruntime.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
        arrays = (x, y)  # the binding has their addresses alone

        def run():
            session.run_with_iobinding(binding)
            return arrays[1]

        return run


class OpenVino(ModelRunner):
    """OpenVINO's CPU device: one request on one stream, float32 arithmetic, tensors that share our arrays."""

    name = "openvino"

    def start(self, threads: int) -> None:
        try:
            import onnx
            import openvino
        except ImportError as missing:
            raise ContenderUnavailable(f"{missing.name} is not installed: pip install onnx openvino") from None
        self.openvino, self.onnx = openvino, onnx
        self.core = openvino.Core()
        self.config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }

    def version(self) -> str:
        return self.openvino.__version__.partition("-")[0]

    def compile(self, model: bytes, x: np.ndarray, y: np.ndarray) -> Callable[[], np.ndarray]:
        request = self.core.compile_model(self.core.read_model(model), "CPU", self.config).create_infer_request()
        request.set_input_tensor(self.openvino.Tensor(x, shared_memory=True))
        request.set_output_tensor(self.openvino.Tensor(y, shared_memory=True))
        arrays = (x, y)  # the tensors have their addresses alone

        def run():
            request.infer()
            return arrays[1]

        return run


def conv_model(onnx: Any, problem: Problem) -> bytes:
    """A serialized ONNX model: `y = Conv(x, w)` with `w` a constant and all shapes static."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    case = problem.case
    rank = len(case.x_shape) - 2
    padding = per_axis(case.padding, rank)
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        strides=per_axis(case.stride, rank),
        pads=padding + padding,
        dilations=per_axis(case.dilation, rank),
        group=case.groups,
    )
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", float32, case.x_shape)],
        [helper.make_tensor_value_info("y", float32, case.y_shape)],
        [onnx.numpy_helper.from_array(problem.operands["w"], "w")],
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()
