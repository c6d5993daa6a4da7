"""Networks: layers, losses, optimizers, training, files.

``y = layer(x)`` is inference, ``y, backward = layer.forward(x)`` is training; `Module` says how the two go together.
"""

from .checkpoint import load_checkpoint, save_checkpoint
from .containers import Concat, Multiply, Residual, Sequential
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .folding import fold_batch_norm
from .inference import Evaluation, confusion_matrix, evaluate, predict, predict_proba
from .layers import (
    Dropout,
    Flatten,
    Hardswish,
    LeakyReLU,
    Linear,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .optim import SGD, Adam, AdamW, Optimizer
from .parameter import Parameter
from .plot import plot_training
from .pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    GlobalMaxPool,
    GlobalMinPool,
    GlobalSumPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    MinPool1d,
    MinPool2d,
    MinPool3d,
    SumPool1d,
    SumPool2d,
    SumPool3d,
)
from .registry import build, register
from .schedules import CosineLR, ExponentialLR, MultiStepLR, Schedule, StepLR, WarmupLR
from .serialize import load, load_model, read_metadata, save, save_model
from .summary import summary
from .train import History, Progress, fit

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d",
    "Adam", "AdamW", "AvgPool1d", "AvgPool2d", "AvgPool3d", "BCEWithLogitsLoss",
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Concat", "Conv1d", "Conv2d", "Conv3d",
    "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "CosineLR", "CrossEntropyLoss", "Dropout", "Evaluation",
    "ExponentialLR", "Flatten", "GlobalAvgPool", "GlobalMaxPool", "GlobalMinPool", "GlobalSumPool", "Hardswish",
    "History", "LeakyReLU", "Linear", "LogSoftmax", "Loss", "MSELoss", "MaxPool1d", "MaxPool2d", "MaxPool3d",
    "MinPool1d", "MinPool2d", "MinPool3d", "Module", "MultiStepLR", "Multiply", "Optimizer", "Parameter", "Progress",
    "ReLU", "ReLU6", "Residual", "SGD", "Schedule", "Sequential", "SiLU", "Sigmoid", "Softmax", "StepLR", "SumPool1d",
    "SumPool2d", "SumPool3d", "Tanh", "WarmupLR", "build", "confusion_matrix", "evaluate", "fit", "fold_batch_norm",
    "load", "load_checkpoint", "load_model", "plot_training", "predict", "predict_proba", "read_metadata", "register",
    "save", "save_checkpoint", "save_model", "summary",
]
