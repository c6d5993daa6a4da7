"""Every argument rule and every output-size formula of the package.

Messages read ``function: argument: what came; what was expected``. Shapes leave this module with three
spatial axes: a 1-D or 2-D operation is a 3-D one whose outer axes have extent 1.
"""
from .arrays import *
from .conv import *
from .elementwise import *
from .photo import *
from .pool import *
