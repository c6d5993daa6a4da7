"""Convolution, pooling and ReLU kernels for NumPy arrays, forward and backward."""
from ._version import __version__ as __version__
from .conv import *
from .memory_order import *
from .pool import *
from .runtime import *
