"""Whole networks as rows of the benchmark: an epoch, a training step, an inference."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..nn import (
    SGD,
    Adam,
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Module,
    Optimizer,
    ReLU,
    ReLU6,
    Residual,
    Sequential,
)

EPOCH, STEP, INFERENCE = "epoch", "training step", "inference"


@dataclass(frozen=True)
class NetworkCase:
    """A network, and what is done with it.

    Attributes
    ----------
    op
        One of `EPOCH` (uint8 images to float32, batch after batch; ours is `fastconv.nn.fit`), `STEP` and `INFERENCE`.
    samples
        Of an epoch; else those of the one batch.
    target
        Times faster than the best peer that this row should be.
    """

    network: str
    source: str
    op: str
    build: Callable[[np.random.Generator], Module]
    batch: int
    image: tuple[int, int, int]  # c h w
    classes: int
    target: float
    samples: int
    adam: bool = False  # else SGD with momentum

    @property
    def name(self) -> str:
        return f"{self.network} {self.op} b{self.batch}"

    def model(self) -> Module:
        """The same weights on each call; in inference with statistics as if it had been trained."""
        rng = np.random.default_rng(0)
        model = self.build(rng)
        if self.op == INFERENCE:
            for _, module in model.named_modules():
                if isinstance(module, BatchNorm2d):
                    module.running_mean[...] = rng.normal(0, 0.1, module.num_features)
                    module.running_var[...] = rng.uniform(0.5, 1.5, module.num_features)
        return model

    def optimizer(self, model: Module) -> Optimizer:
        return Adam(model, 1e-3) if self.adam else SGD(model, 0.01, momentum=0.9)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """(images, class numbers), the same on each call; an epoch's images are uint8, for `prepared`."""
        rng = np.random.default_rng(1)
        images = rng.integers(0, 256, (self.samples, *self.image), np.uint8)
        classes = rng.integers(0, self.classes, self.samples)
        return images if self.op == EPOCH else prepared(images), classes


def prepared(images: np.ndarray) -> np.ndarray:
    """uint8 as what the networks take: float32 from 0 to 1."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)


def lenet5(rng: np.random.Generator) -> Module:
    return Sequential(
        Conv2d(1, 6, 5, padding=2, rng=rng), ReLU(), MaxPool2d(2),
        Conv2d(6, 16, 5, rng=rng), ReLU(), MaxPool2d(2), Flatten(),
        Linear(400, 120, rng=rng), ReLU(), Linear(120, 84, rng=rng), ReLU(), Linear(84, 10, rng=rng),
    )


def _conv(rng, c: int, k: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[Module, Module]:
    conv = Conv2d(c, k, kernel, stride, kernel // 2, groups=groups, bias=False, rng=rng)
    return conv, BatchNorm2d(k)


def resnet18(rng: np.random.Generator) -> Module:
    """For 32x32 pictures: a 3x3 convolution in the place of the 7x7 one and the pooling."""
    modules, c = [*_conv(rng, 3, 64, 3), ReLU()], 64
    for k, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        body = Sequential(*_conv(rng, c, k, 3, stride), ReLU(), *_conv(rng, k, k, 3))
        shortcut = Sequential(*_conv(rng, c, k, 1, stride)) if stride > 1 else None
        modules += [Residual(body, shortcut), ReLU()]
        c = k
    return Sequential(*modules, GlobalAvgPool(), Flatten(), Linear(512, 10, rng=rng))


def mobilenet_v2(rng: np.random.Generator) -> Module:
    modules = [*_conv(rng, 3, 32, 3, 2), ReLU6()]
    modules += _inverted_residuals(rng, 32)
    return Sequential(*modules, *_conv(rng, 320, 1280, 1), ReLU6(), GlobalAvgPool(), Flatten(),
                      Linear(1280, 1000, rng=rng))


def _inverted_residuals(rng, c: int) -> Iterator[Module]:
    """Table 2 of the paper: expansion, channels, how many, stride of the first."""
    for expansion, k, count, first_stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                              (6, 160, 3, 2), (6, 320, 1, 1)):
        for stride in (first_stride, *(1,) * (count - 1)):
            wide = expansion * c
            expand = (*_conv(rng, c, wide, 1), ReLU6()) if expansion > 1 else ()
            body = Sequential(*expand, *_conv(rng, wide, wide, 3, stride, wide), ReLU6(), *_conv(rng, wide, k, 1))
            yield Residual(body) if stride == 1 and c == k else body
            c = k


LENET_SOURCE = "LeCun et al. 1998, figure 2, with ReLU and max pooling, on 28x28 images padded by 2"

NETWORKS = (
    NetworkCase("LeNet-5", LENET_SOURCE, EPOCH, lenet5, 128, (1, 28, 28), 10, 3.0, 40 * 128, adam=True),
    NetworkCase("LeNet-5", LENET_SOURCE, STEP, lenet5, 128, (1, 28, 28), 10, 3.0, 128, adam=True),
    NetworkCase("ResNet-18", "He et al. 2015, table 1 and section 4.2", STEP, resnet18, 64, (3, 32, 32), 10, 2.0, 64),
    NetworkCase("MobileNet-v2", "Sandler et al. 2018, table 2", INFERENCE, mobilenet_v2, 1, (3, 224, 224), 1000, 1.3,
                1),
)
