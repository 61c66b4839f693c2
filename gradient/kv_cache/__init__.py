"""Key-value caches: one `KVCache`, made of a layout (where) and a codec (how)."""

from gradient.kv_cache.cache import KINDS, CachedKeyValues, CacheOptions, KVCache
from gradient.kv_cache.dtypes import STORED, is_stored
from gradient.kv_cache.paged import PagePool

__all__ = [
    "KINDS",
    "STORED",
    "CacheOptions",
    "CachedKeyValues",
    "KVCache",
    "PagePool",
    "is_stored",
]
