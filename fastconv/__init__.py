"""Convolution, pooling and ReLU kernels for NumPy arrays, forward and backward."""
from ._version import __version__ as __version__
from .activation import *
from .conv import *
from .dense import *
from .im2col import *
from .losses import *
from .memory_order import *
from .runtime import *
