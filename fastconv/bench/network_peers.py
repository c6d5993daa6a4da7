"""Who runs whole networks: this package, and the rivals with the same weights, translated module by module."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import channels_last, nn
from .networks import EPOCH, INFERENCE, NetworkCase, prepared
from .onnx_peers import IR_VERSION, OPSET, ModelRunner
from .peers import Torch
from .problems import ORDERS

Calls = dict[str, Callable[[], Any]]
"""By memory order. In inference a call returns the outputs; else it trains on, and returns the (mean) loss."""


def our_calls(case: NetworkCase) -> Calls:
    """Networks are folded, as ONNX Runtime and OpenVINO do by themselves, for inference alone."""
    return {order: _our_call(case, order) for order in ORDERS if case.op != EPOCH or order == ORDERS[0]}


def _our_call(case: NetworkCase, order: str) -> Callable[[], Any]:
    model, (x, y) = case.model(), case.data()
    if order == "channels_last":
        x = channels_last(x)
    if case.op == INFERENCE:
        folded = nn.fold_batch_norm(model)
        return lambda: folded(x)
    optimizer, loss = case.optimizer(model), nn.CrossEntropyLoss()
    if case.op == EPOCH:
        return lambda: nn.fit(model, x, y, epochs=1, batch_size=case.batch, optimizer=optimizer, shuffle=False,
                              transform=prepared).loss[0]

    def step() -> float:
        optimizer.zero_grad()
        outputs, backward = model.forward(x)
        value, loss_backward = loss.forward(outputs, y)
        backward(loss_backward(), need_input=False)
        optimizer.step()
        return value

    return step


def peer_calls(peer: Any, case: NetworkCase) -> Calls:
    """The calls of a rival that has been started, or none."""
    if isinstance(peer, Torch):
        return {order: _torch_call(peer.torch, case, order) for order in ORDERS}
    if isinstance(peer, ModelRunner) and case.op == INFERENCE:
        x, _ = case.data()
        y = np.full((case.batch, case.classes), np.nan, np.float32)
        return {ORDERS[0]: peer.compile(onnx_model(peer.onnx, case), x, y)}
    return {}


# ---------------------------------------------------------------- PyTorch

def _torch_call(torch: Any, case: NetworkCase, order: str) -> Callable[[], Any]:
    """Eager training, and inference by a traced, frozen and optimized graph."""
    memory_format = torch.channels_last if order == "channels_last" else torch.contiguous_format
    ours, (x, y) = case.model(), map(torch.from_numpy, case.data())
    model = torch_module(torch, ours)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in ours.state_dict().items()})
    model = model.to(memory_format=memory_format)
    if case.op != EPOCH:
        x = x.contiguous(memory_format=memory_format)
    if case.op == INFERENCE:
        traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model.eval(), x)))
        return lambda: traced(x).numpy()
    loss = torch.nn.CrossEntropyLoss()
    optimizer = (torch.optim.Adam(model.parameters(), 1e-3) if case.adam
                 else torch.optim.SGD(model.parameters(), 0.01, momentum=0.9))

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.detach()

    def epoch() -> float:
        total = torch.zeros(())
        for chosen in torch.arange(case.samples).split(case.batch):
            images = x[chosen].to(torch.float32).mul_(1 / 255).contiguous(memory_format=memory_format)
            total += step(images, y[chosen]) * len(chosen)
        return float(total) / case.samples

    return epoch if case.op == EPOCH else lambda: float(step(x, y))


def torch_module(torch: Any, module: nn.Module) -> Any:
    """The same module of PyTorch, with weights of its own."""
    def sequential(*modules):
        return torch.nn.Sequential(*(torch_module(torch, each) for each in modules))

    class Residual(torch.nn.Module):
        def __init__(self, body, shortcut):
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x):
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    make = {
        nn.Sequential: lambda m: sequential(*m),
        nn.Residual: lambda m: Residual(*(None if part is None else torch_module(torch, part)
                                          for part in (m.body, m.shortcut))),
        nn.Conv2d: lambda m: torch.nn.Conv2d(m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding,
                                             m.dilation, m.groups, m.bias is not None),
        nn.Linear: lambda m: torch.nn.Linear(m.in_features, m.out_features, m.bias is not None),
        nn.BatchNorm2d: lambda m: torch.nn.BatchNorm2d(m.num_features, m.eps, m.momentum),
        nn.MaxPool2d: lambda m: torch.nn.MaxPool2d(m.kernel_size, m.stride),
        nn.GlobalAvgPool: lambda m: torch.nn.AdaptiveAvgPool2d(1),
        nn.ReLU: lambda m: torch.nn.ReLU(inplace=True),
        nn.ReLU6: lambda m: torch.nn.ReLU6(inplace=True),
        nn.Flatten: lambda m: torch.nn.Flatten(),
    }
    return make[type(module)](module)


# ---------------------------------------------------------------- ONNX

def onnx_model(onnx: Any, case: NetworkCase) -> bytes:
    """A serialized ONNX model of the network in inference, `y` from `x`, with static shapes."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = _Graph(onnx)
    last = graph.add(case.model(), "x")
    graph.nodes.append(helper.make_node("Identity", [last], ["y"]))
    x = helper.make_tensor_value_info("x", float32, (case.batch, *case.image))
    y = helper.make_tensor_value_info("y", float32, (case.batch, case.classes))
    made = helper.make_graph(graph.nodes, "network", [x], [y], graph.constants)
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()


class _Graph:
    """Nodes and constants of a model that is being made."""

    def __init__(self, onnx: Any):
        self.onnx, self.nodes, self.constants = onnx, [], []

    def add(self, module: nn.Module, x: str) -> str:
        """Append a module that reads the tensor `x`; returns the name of its result."""
        match module:
            case nn.Sequential():
                for each in module:
                    x = self.add(each, x)
                return x
            case nn.Residual():
                shortcut = x if module.shortcut is None else self.add(module.shortcut, x)
                return self._node("Add", self.add(module.body, x), shortcut)
            case nn.Conv2d():
                pads = (module.padding,) * 4
                return self._node("Conv", x, *self._values(module.weight, module.bias), strides=module.stride,
                                  pads=pads, group=module.groups)
            case nn.BatchNorm2d():
                statistics = self._constant(module.running_mean), self._constant(module.running_var)
                return self._node("BatchNormalization", x, *self._values(module.weight, module.bias), *statistics,
                                  epsilon=module.eps)
            case nn.Linear():
                return self._node("Gemm", x, *self._values(module.weight, module.bias), transB=1)
            case nn.MaxPool2d():
                return self._node("MaxPool", x, kernel_shape=module.kernel_size, strides=module.stride)
            case nn.ReLU6():
                return self._node("Clip", x, self._constant(np.float32(0)), self._constant(np.float32(6)))
        plain = {nn.ReLU: "Relu", nn.GlobalAvgPool: "GlobalAveragePool", nn.Flatten: "Flatten"}
        return self._node(plain[type(module)], x)

    def _node(self, op: str, *inputs: str, **attributes) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [name], **attributes))
        return name

    def _constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _values(self, *parameters: nn.Parameter | None) -> list[str]:
        return [self._constant(p.value) for p in parameters if p is not None]
