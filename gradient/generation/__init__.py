"""Generating text: the key-value cache, sampling, stopping, and the loop that joins them."""

from gradient.generation import logits
from gradient.generation.beam_search import BeamSearch
from gradient.generation.cache_config import CacheConfig
from gradient.generation.decoder import Decoder
from gradient.generation.drafts import Draft, Drafter, DraftModel, PromptLookup
from gradient.generation.generate import TextStream, generate, stream
from gradient.generation.language_model import LanguageModel
from gradient.generation.logits import *  # noqa: F403
from gradient.generation.options import GenerationOptions, Options
from gradient.generation.prefill import prefill
from gradient.generation.prompt_cache import PromptCache
from gradient.generation.result import Generation, Timings, TokenLogprob
from gradient.generation.row import StopStrings
from gradient.generation.sampling import Sampler, processors
from gradient.generation.speculative import SpeculativeDecoder
from gradient.kv_cache import KVCache, PagePool

__all__ = [
    "BeamSearch",
    "CacheConfig",
    "Decoder",
    "Draft",
    "DraftModel",
    "Drafter",
    "Generation",
    "GenerationOptions",
    "KVCache",
    "LanguageModel",
    "Options",
    "PagePool",
    "PromptCache",
    "PromptLookup",
    "Sampler",
    "SpeculativeDecoder",
    "StopStrings",
    "TextStream",
    "Timings",
    "TokenLogprob",
    "generate",
    "prefill",
    "processors",
    "stream",
]
__all__ += logits.__all__
