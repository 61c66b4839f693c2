"""What can be asked of a generation: every option, its default, its meaning and its limits."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol, TypedDict

from gradient.errors import TypeMismatch
from gradient.generation.caching import Caching
from gradient.generation.logits.processors import LogitsProcessor
from gradient.generation.prefill import CHUNK
from gradient.generation.prompt_cache import PromptCache
from gradient.generation.sampling import SamplingParams, is_count, misfits
from gradient.kv_cache import KINDS, STORED, is_stored
from gradient.models.causal_lm import CausalLM
from gradient.text import Tokenizer

#: Options that constrain the text as a whole.
CONSTRAINTS = ("json_schema", "regex", "choices", "grammar")
#: What transformers has under another name, or not as an option.
_ELSEWHERE = {
    "do_sample": "a temperature above 0 samples, and 0 (the default) takes the likeliest token",
    "max_length": "use max_new_tokens, which does not count the prompt",
    "stop_strings": "use stop",
    "streamer": "use lm.stream(...), which gives the text piece by piece",
    "assistant_model": "use draft",
    "prompt_lookup_num_tokens": 'use draft="prompt_lookup"',
    "eos_token_id": "the tokens that end a text come with the model; stop takes further strings",
}


class HasModel(Protocol):
    """What a `LanguageModel` has (which is defined later: it takes these options itself)."""

    @property
    def model(self) -> CausalLM: ...

    @property
    def tokenizer(self) -> Tokenizer | None: ...


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(SamplingParams):
    """Every option of `generate`, `stream` and `chat`; those of `SamplingParams` among them.

    Attributes:
        max_new_tokens: the most tokens to generate; None goes on until the context is full.
        seed: makes sampling repeatable; row i of a batch draws with seed + i, or seed[i] of a list.
        beyond_context: go on where a model with rotary positions was not trained: longer prompts
            are taken, and texts end after max_new_tokens alone. Expect nonsense there.
        stop: string(s) that end the text; nothing of them is given out.
        ignore_eos: go on after an end-of-text token, which then counts like any other.
        logprobs: report log-probabilities: True, or how many of the likeliest tokens to list.
        num_return_sequences: how many continuations of each prompt; they stand side by side in the
            list that `generate` returns. More than one needs beams, or a temperature.
        num_beams: more than 1 searches for the likeliest text with so many beams (`BeamSearch`)
            instead of taking the likeliest token each time. A stream then comes in one piece.
        length_penalty: with beams: scores of texts are divided by their length to this power.
        early_stopping: with beams, when to stop: True, False or "never"; see `BeamSearch`.
        json_schema: the text is to be a JSON document that fits this schema: a dict, JSON text, or
            a pydantic model. This and the next three need the `constraints` extra; one at a time.
        regex: the whole text is to match this regular expression (Rust's, without look-around).
        choices: the text is to be one of these.
        grammar: the text is to follow this grammar, in llguidance's variant of Lark's notation.
        draft: speculative decoding: a smaller model of the same vocabulary (a `LanguageModel`, or
            its `model`) that guesses tokens for this one to check, or "prompt_lookup", which
            guesses that the text repeats itself. The text is the same, up to rounding: see
            `SpeculativeDecoder`.
        max_draft_tokens: the most tokens to guess at once, from 1 to 32; fewer are tried where
            guesses fail.
        logits_processors: functions (logits (B, V), `Prefixes`) -> logits, applied after the
            penalties and before the temperature.
        cache: how keys and values are laid out: "static" (a buffer for each layer), "sliding"
            (layers with a window keep little more than that) or "paged" (pages that beams and
            equal prompts share).
        cache_dtype: what they are stored in: a float dtype's name, "int8" or "int4", or one for
            keys and one for values, as in "int8/int4"; None is the model's dtype.
        prompt_cache: a `PromptCache`: the prompt's beginning that it holds is not computed again,
            and afterwards it holds this text. It brings its own kind of cache.
        prefill_chunk: how many tokens of a prompt go through the model at once; None is all.
        use_cache: False computes every token anew at every step.
    """

    max_new_tokens: int | None = 256
    seed: int | Sequence[int] | None = None
    beyond_context: bool = False
    stop: str | Sequence[str] | None = None
    ignore_eos: bool = False
    logprobs: bool | int | None = None
    num_return_sequences: int = 1
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    json_schema: Any = None
    regex: str | None = None
    choices: Sequence[str] | None = None
    grammar: str | None = None
    draft: CausalLM | HasModel | Literal["prompt_lookup"] | None = None
    max_draft_tokens: int = 16
    logits_processors: Sequence[LogitsProcessor] = ()
    cache: str = "static"
    cache_dtype: str | None = None
    prompt_cache: PromptCache | None = None
    prefill_chunk: int | None = CHUNK
    use_cache: bool = True

    def problems(self) -> list[str]:
        """Return everything that is wrong with the values, and with their combination."""
        found = super().problems() + misfits(
            self,
            {
                "max_new_tokens": (
                    lambda n: n is None or is_count(n),
                    "an integer of at least 0, or None",
                ),
                "stop": (_are_strings, "non-empty strings"),
                "logprobs": (
                    lambda n: n is None or isinstance(n, bool) or is_count(n),
                    "True or an integer of at least 0",
                ),
                "num_return_sequences": (_is_positive, "an integer of at least 1"),
                "num_beams": (_is_positive, "an integer of at least 1"),
                "length_penalty": (_is_finite, "a finite number"),
                "regex": (_is_text, "a non-empty string"),
                "choices": (
                    lambda some: (
                        some is None
                        or (bool(some) and not isinstance(some, str) and _are_strings(some))
                    ),
                    "a list of non-empty strings, at least one",
                ),
                "grammar": (_is_text, "a non-empty string"),
                "draft": (_is_draft, 'a model, or "prompt_lookup"'),
                "max_draft_tokens": (
                    lambda count: _is_positive(count) and count <= 32,
                    "an integer from 1 to 32",
                ),
                "cache": (lambda kind: kind in KINDS, "one of " + ", ".join(KINDS)),
                "cache_dtype": (
                    lambda name: name is None or is_stored(name),
                    "one of " + ", ".join(STORED) + ", or two of them, for keys/values",
                ),
                "prompt_cache": (
                    lambda cache: cache is None or isinstance(cache, PromptCache),
                    "a PromptCache",
                ),
                "prefill_chunk": (
                    lambda n: n is None or _is_positive(n),
                    "an integer of at least 1, or None",
                ),
                "early_stopping": (
                    lambda when: isinstance(when, bool) or when == "never",
                    'True, False or "never"',
                ),
            },
        )
        return found or self._conflicts()

    def _conflicts(self) -> list[str]:
        found = []
        several, beams = self.num_return_sequences, self.num_beams
        if beams > 1 and self.temperature != 0:
            found.append(
                f"num_beams={beams} searches for the likeliest text: temperature must be 0, got "
                f"{self.temperature}"
            )
        elif 1 < beams < several:
            found.append(f"num_return_sequences={several} needs as many beams, got {beams}")
        elif several > 1 and beams == 1 and self.temperature == 0:
            found.append(
                f"num_return_sequences={several} needs num_beams, or a temperature above 0: the "
                f"likeliest tokens are the same each time"
            )
        if self.draft is not None and beams > 1:
            found.append(f"draft cannot be used with num_beams={beams}: it speeds up one text")
        asked = [name for name in CONSTRAINTS if getattr(self, name) is not None]
        if len(asked) > 1:
            found.append(f"{' and '.join(asked)} are given: one of them at a time")
        if asked and self.ignore_eos:
            found.append(f"{asked[0]} ends the text: ignore_eos cannot be set with it")
        chosen = self.cache != "static" or self.cache_dtype is not None or not self.use_cache
        if self.prompt_cache is not None and chosen:
            found.append(
                "prompt_cache is a cache of its own kind and dtype: leave out cache, cache_dtype "
                "and use_cache"
            )
        return found

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> GenerationOptions:
        """Return the options given by name.

        Raises:
            TypeMismatch: there is no option of such a name; the message names the nearest.
            ArgumentError: a value is out of range, or two do not go together: all listed.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                if name in _ELSEWHERE:
                    raise TypeMismatch(f"generate: there is no option {name!r}; {_ELSEWHERE[name]}")
                raise TypeMismatch(
                    f"generate: there is no option {name!r}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                    + f" (options: {', '.join(known)})"
                )
        return cls(**options)

    @property
    def caching(self) -> Caching:
        """Return what the options say of the cache."""
        return Caching(
            kind=self.cache,
            dtype=self.cache_dtype,
            prompt_cache=self.prompt_cache,
            chunk=self.prefill_chunk,
            use=self.use_cache,
        )

    @property
    def reported_logprobs(self) -> int | None:
        """Return how many of the likeliest tokens to report; None: no log-probabilities at all."""
        if self.logprobs is None or self.logprobs is False:
            return None
        return 0 if self.logprobs is True else int(self.logprobs)


class Options(TypedDict, total=False):
    """`GenerationOptions` as keyword arguments, for type checkers and editors.

    (A test holds that names and types are the same: no annotation derives one from the other.)
    """

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float] | None
    no_repeat_ngram_size: int
    bad_words_ids: Sequence[Sequence[int]] | None
    min_new_tokens: int
    max_new_tokens: int | None
    seed: int | Sequence[int] | None
    beyond_context: bool
    stop: str | Sequence[str] | None
    ignore_eos: bool
    logprobs: bool | int | None
    num_return_sequences: int
    num_beams: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    json_schema: Any
    regex: str | None
    choices: Sequence[str] | None
    grammar: str | None
    draft: CausalLM | HasModel | Literal["prompt_lookup"] | None
    max_draft_tokens: int
    logits_processors: Sequence[LogitsProcessor]
    cache: str
    cache_dtype: str | None
    prompt_cache: PromptCache | None
    prefill_chunk: int | None
    use_cache: bool


def _are_strings(value: Any) -> bool:
    strings = [value] if isinstance(value, str) else [] if value is None else value
    return isinstance(strings, Sequence) and all(
        isinstance(string, str) and string for string in strings
    )


def _is_positive(value: Any) -> bool:
    return is_count(value) and value >= 1


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def _is_draft(value: Any) -> bool:
    if isinstance(value, str):
        return value == "prompt_lookup"
    # A CausalLM may itself have a part named "model": LLaMA's decoder.
    network = value if isinstance(value, CausalLM) else getattr(value, "model", None)
    return value is None or isinstance(network, CausalLM)
