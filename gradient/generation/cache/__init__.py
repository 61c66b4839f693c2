"""Key-value caches: one `KVCache`, made of a layout (where) and a storage (how)."""

from gradient.generation.cache.kv_cache import KVCache, Step

__all__ = ["KVCache", "Step"]
