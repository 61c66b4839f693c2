"""The element types of tensors, and type promotion.

>>> gradient.promote_types(gradient.int64, gradient.float16)
gradient.float16
"""

from typing import TYPE_CHECKING

from gradient._exports import load as _load
from gradient._exports import on_demand as _on_demand
from gradient._exports import shown as _shown
from gradient.dtypes.dtype import *
from gradient.dtypes.dtype import BY_NUMPY as BY_NUMPY
from gradient.dtypes.dtype import HALF_PRECISION as HALF_PRECISION
from gradient.dtypes.dtype import bool_ as bool_
from gradient.dtypes.dtype import default_complex_dtype as default_complex_dtype
from gradient.dtypes.dtype import dtype_of as dtype_of
from gradient.dtypes.float8 import *
from gradient.dtypes.packed.base import PackedDType as PackedDType
from gradient.dtypes.promotion import *

if TYPE_CHECKING:
    from gradient.dtypes.packed import *
    from gradient.dtypes.packed.blocks import BlockDType as BlockDType
    from gradient.dtypes.packed.formats import PACKED as PACKED
else:
    _FILES = "gradient.dtypes.packed.blocks", "gradient.dtypes.packed.formats"
    _of_files = _on_demand(__name__, *_FILES)
    __dir__ = _shown(globals(), "PACKED", files=_FILES)

    def __getattr__(name: str) -> object:
        return _load(_FILES[1]).PACKED if name == "PACKED" else _of_files(name)
