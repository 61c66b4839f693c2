"""Key-value caches: one `KVCache`, made of a layout (where) and a storage (how)."""

from gradient.kv_cache.cache import KINDS, CachedKeyValues, KVCache
from gradient.kv_cache.paged import PagePool
from gradient.kv_cache.storage import STORED, is_stored

__all__ = ["KINDS", "STORED", "KVCache", "PagePool", "CachedKeyValues", "is_stored"]
