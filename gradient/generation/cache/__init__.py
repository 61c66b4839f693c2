"""Key-value caches: one `KVCache`, made of a layout (where) and a storage (how)."""

from gradient.generation.cache.kv_cache import KINDS, KVCache, Step
from gradient.generation.cache.paged import PagePool
from gradient.generation.cache.storage import STORED, is_stored

__all__ = ["KINDS", "STORED", "KVCache", "PagePool", "Step", "is_stored"]
