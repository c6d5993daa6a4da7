"""Images in, arrays out: IDX files, the bundled digits, folders of pictures, `.npz`; normalisation and augmentation.

Images are `uint8` arrays of shape `(N, C, H, W)` until `Normalisation` makes them `float32`; labels are `int64`
class numbers of shape `(N,)`. What `open_...` gives reads its samples when they are asked for: it is indexed like an
array, by slices and arrays of indices, and goes into `nn.fit` in an array's place.
"""

from .. import idx
from ..idx import *
from . import augment, folders, lazy, pictures
from .augment import *
from .folders import *
from .lazy import *
from .pictures import *

__all__ = [name for module in (augment, folders, idx, lazy, pictures) for name in module.__all__]
