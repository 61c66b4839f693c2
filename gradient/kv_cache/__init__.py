"""Key-value caches: one `KVCache`, made of a layout (where) and a codec (how)."""

from gradient.kv_cache.cache import *
from gradient.kv_cache.dtypes import *
from gradient.kv_cache.paged import *
