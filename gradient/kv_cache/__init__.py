"""KV caches: one class `KVCache`, with a layout (where a token is stored) and a codec (how)."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.kv_cache.cache import *
from gradient.kv_cache.dtypes import *
from gradient.kv_cache.paged import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())
