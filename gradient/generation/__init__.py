"""Generating text: the key-value cache, sampling, stopping, and the loop that joins them."""

from gradient.generation.beam_search import BeamSearch
from gradient.generation.caching import Caching
from gradient.generation.decoder import Decoder
from gradient.generation.drafts import Draft, Drafter, DraftModel, PromptLookup
from gradient.generation.generate import TextStream, generate, stream
from gradient.generation.language_model import LanguageModel
from gradient.generation.logits import (
    LogitsProcessor,
    Prefixes,
    bad_words,
    compose,
    logit_bias,
    min_new_tokens,
    min_p,
    no_repeat_ngram,
    presence_and_frequency_penalty,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
    typical_p,
)
from gradient.generation.options import GenerationOptions, Options
from gradient.generation.prefill import prefill
from gradient.generation.prompt_cache import PromptCache
from gradient.generation.result import Generation, Timings, TokenLogprob
from gradient.generation.sampling import Sampler, SamplingParams, processors
from gradient.generation.speculative import SpeculativeDecoder
from gradient.generation.stopping import StopStrings
from gradient.kv_cache import KVCache, PagePool

__all__ = [
    "BeamSearch",
    "Caching",
    "Decoder",
    "Draft",
    "DraftModel",
    "Drafter",
    "Generation",
    "GenerationOptions",
    "KVCache",
    "LanguageModel",
    "LogitsProcessor",
    "Options",
    "PagePool",
    "Prefixes",
    "PromptCache",
    "PromptLookup",
    "Sampler",
    "SamplingParams",
    "SpeculativeDecoder",
    "StopStrings",
    "TextStream",
    "Timings",
    "TokenLogprob",
    "bad_words",
    "compose",
    "generate",
    "logit_bias",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram",
    "prefill",
    "presence_and_frequency_penalty",
    "processors",
    "repetition_penalty",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
]
