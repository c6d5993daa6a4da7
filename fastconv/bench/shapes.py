"""The rows of the benchmark as data: layers of published networks, under the names that their papers give them.

A new row is one line in a table below.
"""

import re
from collections.abc import Iterable
from typing import Any

from .cases import ActivationCase, Case, ConvCase, ConvTransposeCase, PoolCase, per_axis


def _network(name: str, source: str, batch: int, layers: Iterable[tuple]) -> tuple[ConvCase, ...]:
    """Cases from lines `(layer, (c, *spatial), k, kernel, {geometry})`; an int kernel is square."""
    cases = []
    for layer, chw, k, kernel, geometry in layers:
        c, *spatial = chw
        taps = per_axis(kernel, len(spatial))
        w_shape = (k, c // geometry.get("groups", 1), *taps)
        cases.append(ConvCase(f"{name} {layer} b{batch}", source, (batch, *chw), w_shape, **geometry))
    return tuple(cases)


def _pad(padding: int, stride: int = 1, groups: int = 1) -> dict[str, int]:
    return {"padding": padding, "stride": stride, "groups": groups}


LENET5 = _network(
    "LeNet-5",
    "LeCun et al. 1998, figure 2 (C3 connected in full)",
    64,
    [
        ("C1 5x5", (1, 32, 32), 6, 5, {}),
        ("C3 5x5", (6, 14, 14), 16, 5, {}),
        ("C5 5x5", (16, 5, 5), 120, 5, {}),
    ],
)

RESNET50 = _network(
    "ResNet-50",
    "He et al. 2015, table 1 (the stride of a stage in its first 3x3, as in torchvision)",
    1,
    [
        ("conv1 7x7 s2", (3, 224, 224), 64, 7, _pad(3, stride=2)),
        ("conv2_1 1x1 64-64", (64, 56, 56), 64, 1, {}),
        ("conv2_1 3x3", (64, 56, 56), 64, 3, _pad(1)),
        ("conv2_1 1x1 64-256", (64, 56, 56), 256, 1, {}),
        ("conv3_1 3x3 s2", (128, 56, 56), 128, 3, _pad(1, stride=2)),
        ("conv3_1 shortcut 1x1 s2", (256, 56, 56), 512, 1, _pad(0, stride=2)),
        ("conv3_2 1x1 512-128", (512, 28, 28), 128, 1, {}),
        ("conv3_2 3x3", (128, 28, 28), 128, 3, _pad(1)),
        ("conv4_2 1x1 1024-256", (1024, 14, 14), 256, 1, {}),
        ("conv4_2 3x3", (256, 14, 14), 256, 3, _pad(1)),
        ("conv5_2 3x3", (512, 7, 7), 512, 3, _pad(1)),
        ("conv5_2 1x1 512-2048", (512, 7, 7), 2048, 1, {}),
    ],
)

RESNET50_TRAINING = _network(
    "ResNet-50",
    RESNET50[0].source,
    32,
    [
        ("conv3_2 3x3", (128, 28, 28), 128, 3, _pad(1)),
        ("conv4_2 3x3", (256, 14, 14), 256, 3, _pad(1)),
    ],
)

RESNEXT50 = _network(
    "ResNeXt-50 32x4d",
    "Xie et al. 2016, table 1 (the second block of each stage)",
    1,
    [
        ("conv2_2 3x3 g32", (128, 56, 56), 128, 3, _pad(1, groups=32)),
        ("conv3_2 3x3 g32", (256, 28, 28), 256, 3, _pad(1, groups=32)),
        ("conv4_2 3x3 g32", (512, 14, 14), 512, 3, _pad(1, groups=32)),
        ("conv5_2 3x3 g32", (1024, 7, 7), 1024, 3, _pad(1, groups=32)),
    ],
)

VGG16 = _network(
    "VGG-16",
    "Simonyan and Zisserman 2014, table 1, column D",
    1,
    [
        ("conv1_1 3x3", (3, 224, 224), 64, 3, _pad(1)),
        ("conv1_2 3x3", (64, 224, 224), 64, 3, _pad(1)),
        ("conv2_1 3x3", (64, 112, 112), 128, 3, _pad(1)),
        ("conv3_2 3x3", (256, 56, 56), 256, 3, _pad(1)),
        ("conv4_2 3x3", (512, 28, 28), 512, 3, _pad(1)),
        ("conv5_1 3x3", (512, 14, 14), 512, 3, _pad(1)),
    ],
)

MOBILENET_V1 = _network(
    "MobileNet-v1",
    "Howard et al. 2017, table 1 (layer numbers as in Keras)",
    1,
    [
        ("conv1 3x3 s2", (3, 224, 224), 32, 3, _pad(1, stride=2)),
        ("dw1 3x3", (32, 112, 112), 32, 3, _pad(1, groups=32)),
        ("pw1 1x1 32-64", (32, 112, 112), 64, 1, {}),
        ("dw2 3x3 s2", (64, 112, 112), 64, 3, _pad(1, stride=2, groups=64)),
        ("pw3 1x1 128-128", (128, 56, 56), 128, 1, {}),
        ("dw5 3x3", (256, 28, 28), 256, 3, _pad(1, groups=256)),
        ("dw7 3x3", (512, 14, 14), 512, 3, _pad(1, groups=512)),
        ("pw7 1x1 512-512", (512, 14, 14), 512, 1, {}),
        ("pw13 1x1 1024-1024", (1024, 7, 7), 1024, 1, {}),
    ],
)

MOBILENET_V2 = _network(
    "MobileNet-v2",
    "Sandler et al. 2018, table 2 (blocks numbered as in Keras): the dense layers",
    1,
    [
        ("block1 expand 1x1 16-96", (16, 112, 112), 96, 1, {}),
        ("block1 project 1x1 96-24", (96, 56, 56), 24, 1, {}),
        ("block7 expand 1x1 64-384", (64, 14, 14), 384, 1, {}),
        ("block7 project 1x1 384-64", (384, 14, 14), 64, 1, {}),
        ("block14 expand 1x1 160-960", (160, 7, 7), 960, 1, {}),
        ("last 1x1 320-1280", (320, 7, 7), 1280, 1, {}),
    ],
)

UNET = _network(
    "U-Net",
    "Ronneberger et al. 2015, figure 1: 572x572, no padding",
    1,
    [
        ("down1_1 3x3", (1, 572, 572), 64, 3, {}),
        ("down1_2 3x3", (64, 570, 570), 64, 3, {}),
        ("bottom_1 3x3", (512, 32, 32), 1024, 3, {}),
        ("up3_1 3x3 512-256", (512, 104, 104), 256, 3, {}),
        ("segmentation 1x1 64-2", (64, 388, 388), 2, 1, {}),
    ],
)

UNET_3D = _network(
    "U-Net 3-D",
    "Cicek et al. 2016, figure 2: 132x132x116 voxels, no padding; the two layers of the third level",
    1,
    [
        ("down3_1 3x3x3 128-128", (128, 26, 30, 30), 128, 3, {}),
        ("down3_2 3x3x3 128-256", (128, 24, 28, 28), 256, 3, {}),
    ],
)

DEEPLAB_V3 = _network(
    "DeepLab-v3",
    "Chen et al. 2017, figure 5: 513x513, output stride 16",
    1,
    [
        ("block4 3x3 d2", (512, 33, 33), 512, 3, {"padding": 2, "dilation": 2}),
        ("ASPP 3x3 d12", (2048, 33, 33), 256, 3, {"padding": 12, "dilation": 12}),
    ],
)

SMALL_IMAGES = (
    *_network(
        "MNIST network",
        "the two convolutions of the usual first example, 28x28 digits, padded",
        64,
        [("conv1 3x3 1-32", (1, 28, 28), 32, 3, _pad(1)), ("conv2 3x3 32-64", (32, 14, 14), 64, 3, _pad(1))],
    ),
    *_network("CIFAR network", "a 3x3 layer on 32x32 pictures", 64, [("3x3 64-64", (64, 32, 32), 64, 3, _pad(1))]),
)
"""Training on small pictures, where batches are large and layers small."""

FEW_CHANNELS = _network(
    "few channels",
    "3x3 layers of small networks and of the outer levels of U-shaped ones",
    1,
    [
        (f"3x3 {channels}-{channels} {size}x{size}", (channels, size, size), channels, 3, _pad(1))
        for channels in (16, 32)
        for size in (56, 112)
    ],
)

GROUPS = _network(
    "groups",
    "one layer with more and more groups: time should fall with the operations",
    1,
    [(f"3x3 g{groups}", (256, 28, 28), 256, 3, _pad(1, groups=groups)) for groups in (4, 8, 16)],
)

CLIFFS = (
    *_network("cliff", "few channels: less than one vector", 32, [("5x5 8-8 28x28", (8, 28, 28), 8, 5, _pad(2))]),
    *_network("cliff", "few channels, many pixels", 1, [("3x3 3-16 320x320", (3, 320, 320), 16, 3, _pad(1))]),
    *_network("cliff", "hardly more pixels than taps", 1, [("3x3 512-512 4x4", (512, 4, 4), 512, 3, _pad(1))]),
    *_network("cliff", "multiples of no vector", 1, [("3x3 9-21 56x56", (9, 56, 56), 21, 3, _pad(1))]),
)
"""Shapes of no network: where libraries are known to fall off from their usual speed."""

M5_AUDIO = _network(
    "M5 raw audio",
    "Dai et al. 2016, table 1: four seconds at 8 kHz",
    8,
    [
        ("conv1 80 s4", (1, 32000), 128, 80, _pad(38, stride=4)),
        ("conv2 3", (128, 2000), 128, 3, _pad(1)),
        ("conv3 3", (128, 500), 256, 3, _pad(1)),
        ("conv4 3", (256, 125), 512, 3, _pad(1)),
    ],
)

C3D = _network(
    "C3D",
    "Tran et al. 2014, figure 3: 16 frames of 112x112",
    1,
    [
        ("conv1a 3x3x3", (3, 16, 112, 112), 64, 3, _pad(1)),
        ("conv3a 3x3x3", (128, 8, 28, 28), 256, 3, _pad(1)),
        ("conv4b 3x3x3", (512, 4, 14, 14), 512, 3, _pad(1)),
    ],
)

DEPTHWISE = (
    *(
        case
        for batch in (1, 16)
        for case in _network(
            "EfficientNet-B0",
            "Tan and Le 2019, table 1: the first 5x5 layers of stages 4 and 6",
            batch,
            [
                ("stage4 dw 5x5 s2", (144, 56, 56), 144, 5, _pad(2, stride=2, groups=144)),
                ("stage6 dw 5x5", (480, 14, 14), 480, 5, _pad(2, groups=480)),
            ],
        )
    ),
    *(
        case
        for batch in (1, 16)
        for case in _network(
            "ConvNeXt-T",
            "Liu et al. 2022, figure 4: the block of the first stage",
            batch,
            [("stage1 dw 7x7", (96, 56, 56), 96, 7, _pad(3, groups=96))],
        )
    ),
    *_network("MobileNet-v1", MOBILENET_V1[0].source, 16, [("dw5 3x3", (256, 28, 28), 256, 3, _pad(1, groups=256))]),
    *(
        case
        for batch in (1, 16)
        for case in _network(
            "depthwise",
            "two filters a channel, as in Chollet 2017's depth multiplier",
            batch,
            [("3x3 m2 64-128", (64, 56, 56), 128, 3, _pad(1, groups=64))],
        )
    ),
    *_network(
        "depthwise",
        "1-D, as in Wu et al. 2019 (kernels to 31)",
        1,
        [("15 256-256 1000", (256, 1000), 256, 15, _pad(7, groups=256))],
    ),
    *_network(
        "depthwise",
        "1-D, as in Wu et al. 2019 (kernels to 31)",
        8,
        [("15 256-256 4096", (256, 4096), 256, 15, _pad(7, groups=256))],
    ),
)

SOUND = tuple(
    case
    for batch in (1, 16)
    for case in (
        *_network(
            "FastSpeech 2",
            "Ren et al. 2020, table of hyper-parameters: the first convolution of a block, 500 frames",
            batch,
            [("block conv1 9", (256, 500), 1024, 9, _pad(4))],
        ),
        *_network(
            "spectrogram",
            "windows of 25 ms every 10 ms of ten seconds at 16 kHz, 201 frequencies",
            batch,
            [("400 s160", (1, 160000), 201, 400, _pad(0, stride=160))],
        ),
    )
)

LONG_KERNELS = (
    *_network(
        "reverb",
        "an impulse response of half a second over three seconds of sound at 8 kHz",
        1,
        [("4000 1-1", (1, 24000), 1, 4000, _pad(2000))],
    ),
    *_network(
        "long convolution",
        "a kernel as long as the sequence, as in Romero et al. 2021 (CKConv)",
        1,
        [("dw 1024 64-64 1024", (64, 1024), 64, 1024, _pad(512, groups=64))],
    ),
    *_network(
        "RepLKNet-31B",
        "Ding et al. 2022, table 1: the large kernel of stage 2",
        1,
        [("stage2 dw 29x29", (256, 28, 28), 256, 29, _pad(14, groups=256))],
    ),
)

VOLUMES = tuple(
    case
    for batch in (1, 4)
    for case in _network(
        "volume",
        "3x3x3 of a small volume; the first layer of R3D-18 (Tran et al. 2018) on 16 frames of 112x112",
        batch,
        [
            ("3x3x3 32-64", (32, 16, 40, 40), 64, 3, _pad(1)),
            ("stem 3x7x7 s2", (3, 16, 112, 112), 64, (3, 7, 7), {"stride": (1, 2, 2), "padding": (1, 3, 3)}),
        ],
    )
)


def _up(name, source, x_shape, k, kernel, stride, padding) -> ConvTransposeCase:
    taps = per_axis(kernel, len(x_shape) - 2)
    return ConvTransposeCase(f"{name} b{x_shape[0]}", source, x_shape, (x_shape[1], k, *taps), stride, padding)


TRANSPOSED = (
    _up("U-Net up2 2x2 s2 256-128", UNET[0].source, (1, 256, 32, 32), 128, 2, 2, 0),
    _up("U-Net up4 2x2 s2 128-64", UNET[0].source, (1, 128, 196, 196), 64, 2, 2, 0),
    *(
        _up(
            "DCGAN up2 4x4 s2 512-256",
            "Radford et al. 2015, figure 1, with 4x4 kernels as in PyTorch's example",
            (batch, 512, 8, 8),
            256,
            4,
            2,
            1,
        )
        for batch in (1, 64)
    ),
    *(_up("HiFi-GAN up1 16 s8 512-256", "Kong et al. 2020, V1", (batch, 512, 100), 256, 16, 8, 4) for batch in (1, 16)),
    *(
        _up(
            "vocoder 512 s256 256-1",
            "from frames to samples in one layer, as an inverse STFT",
            (batch, 256, 160),
            1,
            512,
            256,
            128,
        )
        for batch in (1, 8)
    ),
    _up("U-Net 3-D up1 2x2x2 s2 64-32", UNET_3D[0].source, (1, 64, 8, 24, 24), 32, 2, 2, 0),
    _up("U-Net 3-D up3 2x2x2 s2 256-256", UNET_3D[0].source, (1, 256, 18, 20, 20), 256, 2, 2, 0),
)

POOLS = (
    PoolCase("LeNet-5 S2 avg 2x2 b64", LENET5[0].source, (64, 6, 28, 28), 2, 2, family="avg_pool"),
    PoolCase("ResNet-50 pool1 max 3x3 s2 b1", RESNET50[0].source, (1, 64, 112, 112), 3, 2, 1),
    PoolCase("ResNet-50 pool1 max 3x3 s2 b32", RESNET50[0].source, (32, 64, 112, 112), 3, 2, 1),
    PoolCase("VGG-16 pool1 max 2x2 b1", VGG16[0].source, (1, 64, 224, 224), 2, 2),
    PoolCase("VGG-16 pool1 max 2x2 b8", VGG16[0].source, (8, 64, 224, 224), 2, 2),
    PoolCase("M5 raw audio pool1 max 4 b8", M5_AUDIO[0].source, (8, 128, 8000), 4, 4),
    *(
        PoolCase(f"{size} {family.removesuffix('_pool')} {name} b{shape[0]}", source, shape, *window, family=family)
        for size, source, shape in (
            ("AlexNet conv1", "Krizhevsky et al. 2012, figure 2 (both halves)", (2, 96, 55, 55)),
            ("VGG-16 conv2", "Simonyan and Zisserman 2014, table 1, column D", (12, 128, 112, 112)),
        )
        for name, window in (("2x2 s2", (2, 2)), ("3x3 s2", (3, 2, 1)), ("3x3 s1", (3, 1, 1)))
        for family in ("max_pool", "avg_pool")
    ),
    PoolCase("AlexNet conv1 max 2x2 s2, indices b2", "as above", (2, 96, 55, 55), 2, 2, variant="indices"),
    PoolCase("VGG-16 conv2 max 2x2 s2, indices b12", "as above", (12, 128, 112, 112), 2, 2, variant="indices"),
    PoolCase("C3D pool1 max 1x2x2 b1", C3D[0].source, (1, 64, 16, 112, 112), (1, 2, 2), (1, 2, 2)),
)

ACTIVATIONS = (
    ActivationCase("ResNet-50 conv2_1 relu b1", RESNET50[0].source, (1, 64, 56, 56)),
    ActivationCase("ResNet-50 conv1 relu b32", RESNET50[0].source, (32, 64, 112, 112)),
    ActivationCase("VGG-16 conv3_2 relu b1", VGG16[0].source, (1, 256, 56, 56)),
    ActivationCase("VGG-16 conv3_2 relu out= b1", VGG16[0].source, (1, 256, 56, 56), variant="out"),
    ActivationCase("ResNet-50 conv1 relu out= b32", RESNET50[0].source, (32, 64, 112, 112), variant="out"),
)

SUITE: tuple[Case, ...] = (
    *LENET5,
    *RESNET50,
    *RESNET50_TRAINING,
    *RESNEXT50,
    *VGG16,
    *MOBILENET_V1,
    *MOBILENET_V2,
    *UNET,
    *DEEPLAB_V3,
    *M5_AUDIO,
    *C3D,
    *UNET_3D,
    *SMALL_IMAGES,
    *FEW_CHANNELS,
    *GROUPS,
    *CLIFFS,
    *DEPTHWISE,
    *SOUND,
    *LONG_KERNELS,
    *VOLUMES,
    *TRANSPOSED,
    *POOLS,
    *ACTIVATIONS,
)


def select(pattern: str = "", cases: Iterable[Any] = SUITE) -> tuple[Any, ...]:
    """Those of the cases whose name has a word beginning with the regular expression, case ignored, in their order.

    At the beginning of a word, so that `lenet` isn't found in MobileNet.
    """
    wanted = re.compile(rf"\b(?:{pattern})", re.IGNORECASE)
    return tuple(case for case in cases if wanted.search(case.name))
