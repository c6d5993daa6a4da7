"""Convolution, pooling and ReLU kernels for NumPy arrays, forward and backward."""
from . import activation, conv, dense, filters, losses, memory_order, pool, runtime
from . import im2col as _im2col
from ._version import __version__ as __version__
from .activation import *
from .conv import *
from .dense import *
from .filters import *
from .im2col import *
from .losses import *
from .memory_order import *
from .pool import *
from .runtime import *

__all__ = [name for module in (conv, pool, activation, dense, losses, filters, _im2col, memory_order, runtime)
           for name in module.__all__]
