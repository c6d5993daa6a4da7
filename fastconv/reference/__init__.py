"""The naive oracle: the functions of ``fastconv``, under the same names and signatures, in plain NumPy and float64.

Slow on purpose and as dull as possible; it shares no code with the fast package and exists so that tests and
benchmarks can hold the fast functions to it. It takes well-formed arguments for granted (checking them is the
wrappers' job), ignores ``algorithm`` and ``num_threads``, and doesn't keep the memory order of its operands.
"""
from . import activation, conv, dense, filters, losses, pool
from . import im2col as _im2col
from .activation import *
from .conv import *
from .dense import *
from .filters import *
from .im2col import *
from .losses import *
from .pool import *

__all__ = [name for module in (activation, conv, dense, filters, _im2col, losses, pool) for name in module.__all__]
