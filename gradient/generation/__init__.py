"""Generating text: the key-value cache, sampling, stopping, and the loop that joins them."""

from gradient.generation.cache import KVCache
from gradient.generation.decoder import Decoder
from gradient.generation.generate import decode, generate, stream
from gradient.generation.language_model import LanguageModel
from gradient.generation.result import Generation, Timings, TokenLogprob
from gradient.generation.sampling import (
    LogitsProcessor,
    Sampler,
    SamplingParams,
    compose,
    min_p,
    processors,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)
from gradient.generation.stopping import StopStrings

__all__ = [
    "Decoder",
    "Generation",
    "KVCache",
    "LanguageModel",
    "LogitsProcessor",
    "Sampler",
    "SamplingParams",
    "StopStrings",
    "Timings",
    "TokenLogprob",
    "compose",
    "decode",
    "generate",
    "min_p",
    "processors",
    "repetition_penalty",
    "stream",
    "temperature",
    "top_k",
    "top_p",
]
