"""Generating text: the key-value cache, sampling, stopping, and the loop that joins them."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.generation import logits as logits
from gradient.generation.beam_search import *
from gradient.generation.cache_config import *
from gradient.generation.decoder import *
from gradient.generation.drafts import *
from gradient.generation.generate import *
from gradient.generation.language_model import *
from gradient.generation.logits import *
from gradient.generation.options import *
from gradient.generation.prefill import *
from gradient.generation.prompt_cache import *
from gradient.generation.result import *
from gradient.generation.sampling import *
from gradient.generation.speculative import *
from gradient.generation.stop_strings import *
from gradient.kv_cache import KVCache as KVCache
from gradient.kv_cache import PagePool as PagePool

if not TYPE_CHECKING:  # checkers follow the stars
    __all__ = _public(globals())
    __dir__ = _shown(globals(), "logits")
