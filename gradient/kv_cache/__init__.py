"""Key-value caches: one `KVCache`, made of a layout (where) and a codec (how)."""

from gradient.kv_cache.cache import LAYOUTS, CachedKeyValues, CacheOptions, KVCache
from gradient.kv_cache.dtypes import CACHE_DTYPES, is_cache_dtype
from gradient.kv_cache.paged import PagePool

__all__ = [
    "CACHE_DTYPES",
    "LAYOUTS",
    "CacheOptions",
    "CachedKeyValues",
    "KVCache",
    "PagePool",
    "is_cache_dtype",
]
