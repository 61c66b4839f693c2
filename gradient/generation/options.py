"""The options of `generate`: default, meaning and limits of each."""

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypedDict, Unpack

from gradient.checks import Limit, Relation, boolean, check, integer, number, one_of, optional
from gradient.errors import TypeMismatch
from gradient.generation.cache_config import CacheConfig
from gradient.generation.declared import Option, declared_by
from gradient.generation.logits import LogitsProcessor, penalties, truncation
from gradient.generation.prefill import CHUNK
from gradient.generation.prompt_cache import PromptCache
from gradient.kv_cache import CACHE_DTYPES, LAYOUTS, is_cache_dtype
from gradient.models.causal_lm import CausalLM
from gradient.text import Tokenizer

__all__ = ["GenerationOptions", "Options"]

#: Options that constrain the text as a whole.
CONSTRAINTS = ("json_schema", "regex", "choices", "grammar")
#: Arguments of transformers' `generate` that are spelled otherwise here: {name: what to use}.
_ELSEWHERE = {
    "do_sample": "a temperature above 0 samples, and 0 (the default) takes the likeliest token",
    "max_length": "use max_new_tokens, which does not count the prompt",
    "stop_strings": "use stop",
    "streamer": "use lm.stream(...), which gives the text piece by piece",
    "stream": "use lm.stream(...), which gives the text piece by piece",
    "assistant_model": "use draft",
    "prompt_lookup_num_tokens": 'use draft="prompt_lookup"',
    "eos_token_id": "the tokens that end a text come with the model; stop takes further strings",
}


class HasModel(Protocol):
    """The attributes of a `LanguageModel` that a draft needs.

    A protocol, because the module of `LanguageModel` imports this one.
    """

    @property
    def model(self) -> CausalLM: ...

    @property
    def has_tokenizer(self) -> bool: ...

    @property
    def tokenizer(self) -> Tokenizer: ...


# ---- limits -------------------------------------------------------------------------------------


def _are_strings(value: Any) -> bool:
    strings = [value] if isinstance(value, str) else value
    return isinstance(strings, Sequence) and all(
        isinstance(string, str) and string for string in strings
    )


def _is_bias(value: Any) -> bool:
    # inf itself, or NaN, would leave no distribution to draw from.
    return isinstance(value, Mapping) and all(
        COUNT.holds(token) and isinstance(bias, Real) and bias < math.inf
        for token, bias in value.items()
    )


def _are_words(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(word, Sequence) and len(word) and all(COUNT.holds(token) for token in word)
        for word in value
    )


def _is_seed(value: Any) -> bool:
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    seeds = value if several else [value]
    return all(isinstance(seed, Integral) and not isinstance(seed, bool) for seed in seeds)


def _are_functions(value: Any) -> bool:
    return isinstance(value, Sequence) and all(map(callable, value))


def _is_draft(value: Any) -> bool:
    if isinstance(value, str):
        return value == "prompt_lookup"
    # A CausalLM may itself have a part named "model": LLaMA's decoder.
    network = value if isinstance(value, CausalLM) else getattr(value, "model", None)
    return isinstance(network, CausalLM)


COUNT = integer(0)
POSITIVE = Limit("a positive number", number(above=0, finite=True).holds)
SEED = Limit("an integer, or a list of them, one per row", _is_seed)
SCHEMA = Limit(
    "a JSON schema: a dict, JSON text or a pydantic model",
    lambda schema: isinstance(schema, Mapping | str) or hasattr(schema, "model_json_schema"),
)
SHARE = optional(number(above=0, at_most=1))
TEXT = optional(Limit("a non-empty string", lambda text: isinstance(text, str) and text != ""))
STRINGS = optional(Limit("non-empty strings", _are_strings))
CHOICES = Limit(
    "a list of non-empty strings, at least one",
    lambda some: bool(some) and not isinstance(some, str) and _are_strings(some),
)
LOGPROBS = Limit(
    "True or an integer of at least 0", lambda n: isinstance(n, bool) or COUNT.holds(n)
)

# ---- the options --------------------------------------------------------------------------------

FORM = "The form of the text"
SPEED = "Speed and memory"


class SamplingOptions(TypedDict, total=False):
    """How the next token is chosen.

    Logits processors run in this order: those of the penalties (`logit_bias` to
    `min_new_tokens`), the user's own (`logits_processors`), those that choose what to sample from
    (`temperature` to `xtc_probability`). Within a group they run in the order of this class.
    """

    # fmt: off
    temperature: Annotated[float, Option(0.0,
        "divides the logits: below 1 favours likely tokens more, above 1 less; 0 is greedy "
        "decoding, which always takes the most probable token",
        number(0, finite=True), flag="--temperature -t", processor=truncation.temperature,
        neutral=1, sampling=True)]
    top_n_sigma: Annotated[float | None, Option(None,
        "sample from tokens whose logit is at most n standard deviations below the largest: "
        "the same tokens at any temperature (Tang et al. 2024)",
        optional(number(above=0, finite=True)), processor=truncation.top_n_sigma, sampling=True)]
    top_k: Annotated[int | None, Option(None,
        "sample from the k most probable tokens; 0: all",
        optional(COUNT), processor=truncation.top_k, neutral=0, sampling=True)]
    top_p: Annotated[float | None, Option(None,
        "sample from the smallest set of most probable tokens whose total probability reaches p "
        "(nucleus sampling, Holtzman et al. 2020)",
        SHARE, processor=truncation.top_p, neutral=1, sampling=True)]
    min_p: Annotated[float | None, Option(None,
        "sample from tokens whose probability is at least min_p times that of the most probable "
        "token (Nguyen et al. 2024)",
        optional(number(0, 1)), processor=truncation.min_p, neutral=0, sampling=True)]
    typical_p: Annotated[float | None, Option(None,
        "sample from the smallest set of tokens with total probability p whose information "
        "content is closest to the entropy (locally typical sampling, Meister et al. 2022)",
        SHARE, flag="--typical", processor=truncation.typical_p, neutral=1, sampling=True)]
    epsilon_cutoff: Annotated[float | None, Option(None,
        "sample from tokens of at least this probability (Hewitt et al. 2022); 0: all",
        optional(number(0, below=1)), processor=truncation.epsilon_cutoff, neutral=0,
        sampling=True)]
    eta_cutoff: Annotated[float | None, Option(None,
        "sample from tokens whose probability is at least the smaller of eta_cutoff and "
        "sqrt(eta_cutoff) * exp(-entropy) (Hewitt et al. 2022); 0: all",
        optional(number(0, below=1)), processor=truncation.eta_cutoff, neutral=0, sampling=True)]
    xtc_probability: Annotated[float, Option(0.0,
        "probability, at each step, of excluding top choices (XTC): of the tokens whose "
        "probability is at least xtc_threshold only the least probable stays",
        number(0, 1), processor=truncation.xtc, sampling=True,
        help_of_flag="probability, at each step, of excluding top choices (XTC): of the tokens "
        "whose probability is at least --xtc-threshold only the least probable stays")]
    xtc_threshold: Annotated[float, Option(0.1,
        "see xtc_probability; above 0.5 no token is excluded",
        number(0, 1),
        help_of_flag="see --xtc-probability; above 0.5 no token is excluded")]
    logit_bias: Annotated[Mapping[int, float] | None, Option(None,
        "{token id: value added to its logit}; -inf forbids a token",
        optional(Limit("{token id: number below inf}", _is_bias)),
        processor=penalties.logit_bias, neutral={},
        help_of_flag="a value added to the logit of a token id, such as 50256=-1.5; -inf forbids "
        "the token")]
    repetition_penalty: Annotated[float, Option(1.0,
        "divides positive logits, and multiplies negative ones, of tokens that are already in the "
        "prompt or the new text: above 1 makes them less likely (Keskar et al. 2019)",
        POSITIVE, processor=penalties.repetition_penalty)]
    frequency_penalty: Annotated[float, Option(0.0,
        "this times the number of times that a token was generated is subtracted from its logit; "
        "the prompt does not count (OpenAI's definition)",
        number(finite=True), processor=penalties.frequency_penalty)]
    presence_penalty: Annotated[float, Option(0.0,
        "subtracted once from the logit of each token that was generated; the prompt does not "
        "count (OpenAI's definition)",
        number(finite=True), processor=penalties.presence_penalty)]
    no_repeat_ngram_size: Annotated[int, Option(0,
        "no n-gram of this many tokens occurs twice in prompt and text; 0: no limit",
        COUNT, flag="--no-repeat-ngram", processor=penalties.no_repeat_ngram)]
    bad_words_ids: Annotated[Sequence[Sequence[int]] | None, Option(None,
        "token sequences that must not be generated, each a list of token ids",
        optional(Limit("lists of token ids, none of them empty", _are_words)),
        processor=penalties.bad_words, flag=None)]
    min_new_tokens: Annotated[int, Option(0,
        "the minimum number of tokens before an end-of-text token",
        COUNT, processor=penalties.min_new_tokens)]
    # fmt: on


class StreamOptions(SamplingOptions, total=False):
    """The options of `stream`, which generates one text."""

    # fmt: off
    max_new_tokens: Annotated[int | None, Option(256,
        "the maximum number of tokens to generate; None: until the context is full",
        optional(COUNT), flag="--max-new-tokens -n", panel=FORM,
        help_of_flag="the maximum number of tokens to generate")]
    logits_processors: Annotated[Sequence[LogitsProcessor], Option((),
        "functions (logits (B, V), `Prefixes`) -> logits, applied after the penalties and "
        "before the temperature",
        Limit("a list of functions of logits and prefixes", _are_functions), flag=None)]
    seed: Annotated[int | Sequence[int] | None, Option(None,
        "seed of the random numbers: the same seed gives the same text. Row i of a batch uses "
        "seed + i; a list gives each row its own. None: a seed that differs between processes, "
        "reported as the result's `seed`. At temperature 0 it has no effect",
        optional(SEED),
        help_of_flag="seed of the random numbers: the same seed gives the same text. By default "
        "it differs between runs, and --json reports it. At temperature 0 it has no effect")]
    num_beams: Annotated[int, Option(1,
        "number of beams; above 1: beam search for the most probable text, at temperature 0. A "
        "stream then comes in one piece",
        integer(1), flag="--beams")]
    length_penalty: Annotated[float, Option(1.0,
        "beam search divides scores by length ** length_penalty: above 0 favours longer texts",
        number(finite=True))]
    early_stopping: Annotated[bool | Literal["never"], Option(False,
        'when beam search stops: True, False or "never"; see `BeamSearch`',
        Limit('True, False or "never"', lambda when: isinstance(when, bool) or when == "never"),
        flag=None)]
    logprobs: Annotated[bool | int | None, Option(None,
        "report log-probabilities: True, or how many of the most probable tokens to list",
        optional(LOGPROBS),
        help_of_flag="report the log-probability of each token, and of this many of the most "
        "probable ones")]
    stop: Annotated[str | Sequence[str] | None, Option(None,
        "a string, or several, that ends the text; it is not part of the result",
        STRINGS, panel=FORM)]
    ignore_eos: Annotated[bool, Option(False,
        "treat an end-of-text token like any other and go on",
        boolean, panel=FORM)]
    beyond_context: Annotated[bool, Option(False,
        "go on beyond the context length that a model with rotary positions was trained for, "
        "where it writes nonsense",
        boolean, panel=FORM)]
    json_schema: Annotated[Mapping[str, object] | str | type | None, Option(None,
        "the text must be a JSON document that fits this schema (in Python: a dict, JSON text "
        "or a pydantic model). Only one of json_schema, regex, choices and grammar can be given; "
        "all need the `constraints` extra",
        optional(SCHEMA), panel=FORM,
        help_of_flag="the text must be a JSON document that fits this schema. Only one of "
        "--json-schema, --regex, --choice and --grammar can be given; all need the extra "
        "`constraints` (see gradient doctor)")]
    regex: Annotated[str | None, Option(None,
        "the whole text must match this regular expression (Rust's syntax, no look-around)",
        TEXT, panel=FORM)]
    choices: Annotated[Sequence[str] | None, Option(None,
        "the text must be one of these",
        optional(CHOICES), flag="--choice", panel=FORM,
        help_of_flag="the text must be this; given several times, one of them")]
    grammar: Annotated[str | None, Option(None,
        "the text must follow this grammar, in llguidance's variant of Lark's notation",
        TEXT, panel=FORM)]
    draft: Annotated[CausalLM | HasModel | Literal["prompt_lookup"] | None, Option(None,
        "speculative decoding: a smaller model of the same vocabulary that drafts tokens for "
        'this one to verify, or "prompt_lookup", which drafts from earlier repetitions in the '
        "text. The text is the same, up to rounding: see `SpeculativeDecoder`",
        optional(Limit('a model, or "prompt_lookup"', _is_draft)), panel=SPEED,
        help_of_flag="speculative decoding: a smaller model of the same vocabulary that drafts "
        "tokens for this one to verify, or prompt_lookup, which drafts from earlier repetitions "
        "in the text. The text is the same, up to rounding")]
    max_draft_tokens: Annotated[int, Option(16,
        "the maximum number of tokens to draft at once; fewer where drafts are rejected",
        integer(1, 32), flag=None)]
    cache: Annotated[str, Option("static",
        'layout of the KV cache: "static" (a buffer for each layer), "sliding" (layers with a '
        'window keep little more than the window) or "paged" (pages, which beams and rows with '
        "a common prompt share)",
        one_of(*LAYOUTS), panel=SPEED)]
    cache_dtype: Annotated[str | None, Option(None,
        'dtype of the stored keys and values: a float dtype, "int8" or "int4"; "int8/int4" '
        "means int8 keys and int4 values; None is the model's dtype",
        optional(Limit(
            f"one of {', '.join(CACHE_DTYPES)}, or two of them, for keys/values", is_cache_dtype)),
        panel=SPEED,
        help_of_flag='dtype of the stored keys and values: a float dtype, "int8" or "int4"; '
        '"int8/int4" means int8 keys and int4 values; by default the model\'s dtype')]
    prompt_cache: Annotated[PromptCache | None, Option(None,
        "a `PromptCache`: tokens at the start of the prompt that it holds are not computed again; "
        "afterwards it holds this text. It has its own layout and dtype",
        optional(Limit("a PromptCache", lambda cache: isinstance(cache, PromptCache))),
        flag=None)]
    prefill_chunk: Annotated[int | None, Option(CHUNK,
        "how many tokens of a prompt go through the model at once; None: all",
        optional(integer(1)), flag=None)]
    use_cache: Annotated[bool, Option(True,
        "False: no KV cache, every step computes all tokens again",
        boolean, flag=None)]
    compile: Annotated[bool | None, Option(None,
        "record a decoding step once, then replay it without Python between its operations: the "
        "same text, in less time. None: only where the text, or many like it, may be long enough "
        "to pay for it",
        optional(boolean), flag=None, panel=SPEED)]
    # fmt: on


class Options(StreamOptions, total=False):
    """The options of `generate` and `chat`, which may return several texts for a prompt."""

    # fmt: off
    num_return_sequences: Annotated[int, Option(1,
        "number of continuations for each prompt, side by side in the returned list. More than "
        "one needs num_beams, or a temperature above 0",
        integer(1),
        help_of_flag="number of continuations. More than one needs --beams, or a temperature "
        "above 0")]
    # fmt: on


@declared_by(Options)
class GenerationOptions:
    """The options of `generate`, complete and checked.

    Raises:
        ArgumentError: values are out of range, or cannot be combined; the message lists them all.
    """

    temperature: float
    top_n_sigma: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    xtc_probability: float
    xtc_threshold: float
    logit_bias: Mapping[int, float] | None
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    no_repeat_ngram_size: int
    bad_words_ids: Sequence[Sequence[int]] | None
    min_new_tokens: int
    max_new_tokens: int | None
    logits_processors: Sequence[LogitsProcessor]
    seed: int | Sequence[int] | None
    num_beams: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    logprobs: bool | int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool
    beyond_context: bool
    json_schema: Mapping[str, object] | str | type | None
    regex: str | None
    choices: Sequence[str] | None
    grammar: str | None
    draft: CausalLM | HasModel | Literal["prompt_lookup"] | None
    max_draft_tokens: int
    cache: str
    cache_dtype: str | None
    prompt_cache: PromptCache | None
    prefill_chunk: int | None
    use_cache: bool
    compile: bool | None
    num_return_sequences: int

    relations: ClassVar[tuple[Relation, ...]] = (
        Relation(
            ("num_beams", "temperature"),
            lambda beams, temperature: beams == 1 or temperature == 0,
            "num_beams={num_beams} searches for the likeliest text: temperature must be 0, got "
            "{temperature}",
        ),
        Relation(
            ("num_return_sequences", "num_beams"),
            lambda several, beams: beams == 1 or several <= beams,
            "num_return_sequences={num_return_sequences} needs as many beams, got {num_beams}",
        ),
        Relation(
            ("num_return_sequences", "num_beams", "temperature"),
            lambda several, beams, temperature: several == 1 or beams > 1 or temperature > 0,
            "num_return_sequences={num_return_sequences} needs num_beams, or a temperature above "
            "0: the likeliest tokens are the same each time",
        ),
        Relation(
            ("draft", "num_beams"),
            lambda draft, beams: draft is None or beams == 1,
            "draft cannot be used with num_beams={num_beams}: it speeds up one text",
        ),
        *(
            Relation(
                (one, other),
                lambda one, other: one is None or other is None,
                f"{one} and {other} are given: one of them at a time",
            )
            for one, other in itertools.combinations(CONSTRAINTS, 2)
        ),
        *(
            Relation(
                (name, "ignore_eos"),
                lambda constraint, ignored: constraint is None or not ignored,
                f"{name} ends the text: ignore_eos cannot be set with it",
            )
            for name in CONSTRAINTS
        ),
        Relation(
            ("prompt_cache", "cache", "cache_dtype", "use_cache"),
            lambda kept, *own: kept is None or own == ("static", None, True),
            "prompt_cache is a cache of its own kind and dtype: leave out cache, cache_dtype and "
            "use_cache",
        ),
    )

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[Options]) -> None: ...

    def __post_init__(self) -> None:
        check("options", self)

    @classmethod
    def of(cls, options: StreamOptions) -> "GenerationOptions":
        """Return the options given by name.

        Raises:
            TypeMismatch: there is no option of this name; the message suggests a similar one.
            ArgumentError: as in the class.
        """
        known = list(Options.__annotations__)
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
    def cache_config(self) -> CacheConfig:
        """Return the options that concern the cache."""
        return CacheConfig(
            kind=self.cache,
            dtype=self.cache_dtype,
            prompt_cache=self.prompt_cache,
            chunk=self.prefill_chunk,
            use=self.use_cache,
            compile=self.compile,
        )

    @property
    def reported_logprobs(self) -> int | None:
        """Return how many of the most probable tokens to report; None: no log-probabilities."""
        if self.logprobs is None or self.logprobs is False:
            return None
        return 0 if self.logprobs is True else int(self.logprobs)
